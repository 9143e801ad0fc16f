"""The arms of a comparison: an upsampling operator, and options of it.

An arm is written as the operator's name, followed by its options as a table of TOML if it has any:
`bilinear`, `transposed{bilinear_init=true}`, `carafe{kernel=3,compressed=32}`.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upmap.console import suggest
from upmap.options import describe_value
from upmap.segmentation.upsampling import UPSAMPLERS

__all__ = ["Arm", "parse_arm", "parse_arms"]

ARM = re.compile(r"(?P<operator>\w+)\s*(?P<options>\{.*\})?", re.ASCII | re.DOTALL)
OTHER = re.compile(r"[^A-Za-z0-9.]+")  # what names of folders do without


@dataclass(frozen=True, slots=True)
class Arm:
    """An operator with options.

    Attributes:
        name: How it is written.
        operator: A key of UPSAMPLERS.
        options: Further arguments of the operator.
    """

    name: str
    operator: str
    options: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """A name for its folder: transposed-bilinear_init-true."""
        return OTHER.sub("-", self.name.replace("_", "\0")).replace("\0", "_").strip("-")


def parse_arm(text: str) -> Arm:
    """The arm that `text` describes.

    Raises:
        ValueError: If there is no such operator, or its options are no table of TOML.

    >>> parse_arm("transposed{bilinear_init=true}").options
    {'bilinear_init': True}
    """
    match = ARM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected OPERATOR or OPERATOR{{KEY=VALUE}}, not {describe_value(text)}")
    operator, options = match["operator"], match["options"] or "{}"
    if operator not in UPSAMPLERS:
        hint = suggest(operator, UPSAMPLERS)
        known = ", ".join(UPSAMPLERS)
        raise ValueError(f"must be among {known}, not {describe_value(operator)}{hint}")
    try:
        values = tomllib.loads(f"options = {options}")["options"]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{operator}: {describe_value(options)} is no TOML: {error}") from None
    return Arm(text.strip(), operator, values)


def parse_arms(texts: Sequence[str], baseline: str) -> tuple[Arm, ...]:
    """The arms that `texts` describe.

    Args:
        texts: See `parse_arm`.
        baseline: The one that must be among them.

    Raises:
        ValueError: If one cannot be parsed, two are alike, or the baseline is missing.
    """
    arms = tuple(parse_arm(text) for text in texts)
    if baseline not in [arm.name for arm in arms] or len({arm.folder for arm in arms}) < len(arms):
        raise ValueError(f"must be different, {baseline} among them")
    return arms
