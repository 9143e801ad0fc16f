"""Progress bars on stderr, drawn by tqdm where stderr is a terminal."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["open_bar", "track_progress"]

Item = TypeVar("Item")


def track_progress(
    items: Iterable[Item], description: str, *, total: int, show: bool
) -> Iterable[Item]:
    """`items`, with a progress bar.

    Args:
        items: What is iterated over.
        description: The words before the bar.
        total: The number of items.
        show: Whether to draw a bar; none is drawn where stderr is no terminal.
    """
    if not show:
        return items
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, desc=description, total=total, disable=None, leave=False)
    return bar


@contextmanager
def open_bar(description: str, *, total: int, show: bool) -> Iterator[Callable[[], object]]:
    """A progress bar whose steps are not the items of a loop; gives a function to call after each.

    Args:
        description: The words before the bar.
        total: The number of steps.
        show: Whether to draw a bar; none is drawn where stderr is no terminal.
    """
    if not show:
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(desc=description, total=total, disable=None, leave=False) as bar:
        yield bar.update
