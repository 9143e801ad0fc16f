"""Changes of a protocol that a command line asks for: --iou, --max-dets and --set FIELD=VALUE."""

import math
from collections.abc import Iterable
from dataclasses import fields, replace

from upmap.errors import InputError
from upmap.metrics.protocols.coco import COCO
from upmap.metrics.protocols.protocol import CHOICES, Protocol

__all__ = ["override_protocol", "override_setting"]

ALL = {"recall_points": None, "max_dets": [math.inf]}  # what --set FIELD=all means
# The fields that are lists; COCO has a value for each of them.
LISTS = {field.name for field in fields(COCO) if isinstance(getattr(COCO, field.name), tuple)}


def override_protocol(
    protocol: Protocol,
    *,
    iou: tuple[float, ...] = (),
    max_dets: int | None = None,
    settings: Iterable[str] = (),
) -> Protocol:
    """The protocol with the changes of a command line, in this order.

    Args:
        protocol: The protocol to change.
        iou: IoU thresholds, ascending; empty to keep its own.
        max_dets: The last cap; None to keep it.
        settings: See `override_setting`.

    Raises:
        InputError: If a setting is wrong.

    >>> override_protocol(COCO, iou=(0.5,), max_dets=20, settings=["strict=true"]).max_dets
    (1, 10, 20)
    """
    if iou:
        protocol = replace(protocol, iou_thresholds=iou)
    if max_dets is not None:
        protocol = protocol.with_max_dets(max_dets)
    for setting in settings:
        protocol = override_setting(protocol, setting)
    return protocol


def override_setting(protocol: Protocol, setting: str) -> Protocol:
    """The protocol with one field changed.

    Args:
        protocol: The protocol to change.
        setting: `FIELD=VALUE`; the value is written as in TOML or as a bare word. `all` is every
            recall point or detection, and a single value makes a list of one.

    Raises:
        InputError: If there is no such field, or it cannot have this value.

    >>> override_setting(COCO, "max_dets=5").max_dets
    (5,)
    """
    import msgspec

    name, sign, text = setting.partition("=")
    names = [field.name for field in fields(Protocol) if field.name not in ("name", "metrics")]
    if name not in names or not sign:
        raise InputError(f"--set takes FIELD=VALUE with a field of {', '.join(names)}")
    value = _parse_value(name, text)
    try:
        if name in CHOICES and value not in CHOICES[name]:
            raise ValueError(f"expected one of {', '.join(CHOICES[name])}, got {text}")
        return msgspec.convert({**msgspec.to_builtins(protocol), name: value}, Protocol)
    except (ValueError, OverflowError, msgspec.ValidationError) as error:
        raise InputError(f"--set {name}: {error}") from None


def _parse_value(name: str, text: str) -> object:
    import tomllib

    if text == "all" and name in ALL:
        return ALL[name]
    value: object = text  # a bare word
    try:
        document = tomllib.loads(f"value = {text}")
    except ValueError:  # also of an integer of thousands of digits
        pass
    except RecursionError:
        raise InputError(f"--set {name}: nested too deeply") from None
    else:
        if len(document) == 1:  # otherwise the text has line ends, and keys of its own
            value = document["value"]
    return [value] if name in LISTS and not isinstance(value, list) else value
