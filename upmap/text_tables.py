"""Tables as text: aligned columns for a terminal, and Markdown."""

from collections.abc import Sequence

from upmap.errors import printable

__all__ = ["align_columns", "markdown_table"]

Rows = Sequence[Sequence[str]]


def align_columns(rows: Rows, *, left: int = 1, has_header: bool = True) -> str:
    r"""Rows of cells as lines of aligned columns.

    Cells may hold names from files: what does not print is escaped, so that none can act on a
    terminal or stand for another row.

    Args:
        rows: The cells of each row, equally many in all.
        left: The number of columns that are flush left; the others are flush right.
        has_header: Whether the first row is a header, under which a rule is drawn.

    >>> print(align_columns([["class", "AP"], ["cat", "0.5"]]), end="")
    class   AP
    -----  ---
    cat    0.5
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = _column_widths(rows)
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    if has_header:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"


def markdown_table(rows: Rows) -> str:
    """A Markdown table whose columns are aligned in its source, too.

    Args:
        rows: The cells of each row, equally many in all; the first row is the header.

    >>> print(markdown_table([["a", "b"], ["1", "22"]]), end="")
    | a | b  |
    |---|----|
    | 1 | 22 |
    """
    widths = _column_widths(rows)
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def _column_widths(rows: Rows) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
