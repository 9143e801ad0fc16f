"""What a comparison compares: names with options, such as upsampling operators.

They are written as the name, followed by options as a table of TOML if there are any: `bilinear`,
`transposed{bilinear_init=true}`, `carafe{kernel=3,compressed=32}`.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upmap.console import suggest
from upmap.options import describe_value

__all__ = ["Variant", "parse_variant", "parse_variants"]

VARIANT = re.compile(r"(?P<name>\w+)\s*(?P<options>\{.*\})?", re.ASCII | re.DOTALL)
OTHER = re.compile(r"[^\w.]+", re.ASCII)  # what names of folders do without


@dataclass(frozen=True, slots=True)
class Variant:
    """A name with options.

    Attributes:
        text: How it is written.
        name: The name.
        options: The options.
    """

    text: str
    name: str
    options: Mapping[str, Any]

    @property
    def slug(self) -> str:
        """A name for its files: transposed-bilinear_init-true."""
        return OTHER.sub("-", self.text).strip("-")


def parse_variant(text: str, known: Iterable[str]) -> Variant:
    """The variant that `text` describes.

    Args:
        text: NAME or NAME{KEY=VALUE,KEY=VALUE}.
        known: The names that there are.

    Raises:
        ValueError: If there is no such name, or the options are no table of TOML.

    >>> parse_variant("transposed{bilinear_init=true}", ["transposed"]).options
    {'bilinear_init': True}
    """
    match = VARIANT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be NAME or NAME{{KEY=VALUE}}, not {describe_value(text)}")
    name, options = match["name"], match["options"] or "{}"
    names = list(known)
    if name not in names:
        among = ", ".join(names)
        raise ValueError(f"must be among {among}, not {describe_value(name)}{suggest(name, names)}")
    try:
        values = tomllib.loads(f"options = {options}")["options"]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{describe_value(options)} of {name} is no TOML: {error}") from None
    return Variant(text.strip(), name, values)


def parse_variants(texts: Sequence[str], known: Iterable[str]) -> tuple[Variant, ...]:
    """The variants that `texts` describe.

    Args:
        texts: See `parse_variant`.
        known: The names that there are.

    Raises:
        ValueError: If one cannot be parsed, there is none, or two are alike.
    """
    names = list(known)
    variants = tuple(parse_variant(text, names) for text in texts)
    if not 0 < len({variant.slug for variant in variants}) == len(variants):
        raise ValueError("must be different, and at least one")
    return variants
