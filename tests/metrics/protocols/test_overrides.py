"""--iou, --max-dets and --set as changes of a protocol."""

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest

from upmap.errors import InputError
from upmap.metrics import COCO, PROTOCOLS, VOC2007, VOC2010, AreaRange, Protocol
from upmap.metrics.protocols.overrides import override_protocol, override_setting

FIELDS = [field.name for field in fields(Protocol) if field.name not in ("name", "metrics")]
# COCO with a finite range in place of VOC's infinite one, which TOML writes as `inf`, too.
OTHER = replace(COCO, area_ranges=(AreaRange("tiny", 0, 99),), strict=True, max_dets=(7, 8))


def as_toml(value: Any) -> str:
    """The value as TOML; of what protocols hold, only infinity differs from JSON."""
    return json.dumps(value).replace("Infinity", "inf")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("source", [VOC2007, OTHER], ids=["voc2007", "other"])
def test_every_field_can_be_set_to_the_value_that_another_protocol_has(
    field: str, source: Protocol
) -> None:
    value = getattr(source, field)
    for protocol in PROTOCOLS.values():
        changed = override_setting(protocol, f"{field}={as_toml(value)}")
        assert changed == replace(protocol, **{field: value})


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("recall_points=all", "recall_points", None),
        ("max_dets=all", "max_dets", (math.inf,)),
        ("iou_thresholds=0.7", "iou_thresholds", (0.7,)),
        ("recall_points=1", "recall_points", (1,)),
        ("ties=image", "ties", "image"),
        ('ties="image"', "ties", "image"),
        ("epsilon=1e-9", "epsilon", 1e-9),
    ],
)
def test_a_bare_word_a_single_value_and_all_stand_for_what_they_mean(
    setting: str, field: str, value: object
) -> None:
    for protocol in (VOC2010, COCO):
        assert override_setting(protocol, setting) == replace(protocol, **{field: value})


def test_settings_come_after_the_flags_and_the_last_of_a_field_counts() -> None:
    settings = ["iou_thresholds=[0.1]", "strict=true", "iou_thresholds=[0.2]"]
    changed = override_protocol(COCO, iou=(0.5, 0.6), max_dets=20, settings=settings)
    assert changed == replace(COCO, iou_thresholds=(0.2,), max_dets=(1, 10, 20), strict=True)


def test_without_changes_the_protocol_stays_the_same() -> None:
    assert override_protocol(COCO) is COCO


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("strict", "--set takes FIELD=VALUE with a field of pixels, "),
        ("=1", "--set takes FIELD=VALUE"),
        ("name=mine", "--set takes FIELD=VALUE"),
        ("metrics=[]", "--set takes FIELD=VALUE"),
        ("pixels=all", "--set pixels: expected one of inclusive, continuous, corners, got all"),
        ("max_dets=[]", "--set max_dets: max_dets must ascend"),
        ("strict=1", "--set strict: "),
        ("epsilon=" + "9" * 5000, "--set epsilon: "),
        ("epsilon=" + "[" * 5000, "--set epsilon: "),
        ("epsilon=1\nstrict=true", "--set epsilon: "),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_field(setting: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        override_setting(COCO, setting)
    assert str(error.value).startswith(message)
