"""Hostile and odd JSON for the readers of COCO files, the same for the tests and the sanitizers.

`python -m tests.kernels.coco_json_fuzz FOLDER N` writes N files of each kind into a folder.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "INSTANCES",
    "RESULTS",
    "SPELLINGS",
    "flipped",
    "mutate",
    "spelled",
    "truncated",
    "wrong_first",
]

INSTANCES: dict[str, Any] = {
    "info": {"year": 2017, "notes": ["\u00e9\U0001f600", None, True, {"deep": [[], {}]}]},
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80},
        {"id": 2, "file_name": "b\u00e9.jpg"},
    ],
    "annotations": [
        {
            "segmentation": [[1, 2.5, -3, 4e1]],
            "id": 7,
            "image_id": 1,
            "category_id": 3,
            "bbox": [0.5, 1, 20.25, 30],
            "area": 600.125,
            "iscrowd": 0,
        },
        {
            "segmentation": {"counts": [1, 2], "size": [80, 100]},
            "id": 8,
            "image_id": 2,
            "category_id": 3,
            "bbox": [5, 5, 1e1, 2.5e-1],
            "area": None,
            "iscrowd": True,
            "difficult": 1,
        },
    ],
    "categories": [{"id": 3, "name": "c\u00e4t"}],
}
RESULTS: list[dict[str, Any]] = [
    {"image_id": 1, "category_id": 3, "bbox": [1.5, 2, 3, 4], "score": 0.5},
    {"image_id": 2, "category_id": 3, "bbox": [-1, 2e0, 3, 4], "score": 1e-3, "more": 'x\\y"z'},
]
# What may stand where a value stands; json is to judge each as the native reader does.
SPELLINGS = (
    *("0", "-0", "1", "1.0", "1e3", "1E+2", "-1e-2", "0.1", "123456789012345678", "0e5", "-0.0"),
    *("9007199254740993", "9007199254740993.0", "9223372036854775807", "9223372036854775808"),
    *(
        "-9223372036854775808",
        "-9223372036854775809",
        "1" * 400,
        "1" * 5000,
        "0." + "0" * 400 + "1",
    ),
    *("1e308", "1e309", "-1e999", "1e-400", "5e-324", "2.4703282292062327e-324", "4.9e-324"),
    *(
        "1e999999999999",
        "1e-999999999999",
        "0e999999999999",
        "0." + "1" * 800,
        "1" + "0" * 30 + ".5",
    ),
    *("0.30000000000000004", "179769313486231580793728971405301e276", "2.2250738585072011e-308"),
    *("9007199254740992.5", "8.5e22", "1e22", "1e23", "7.2057594037927933e16", "00", "01", "-"),
    *("+1", "1.", ".5", "1e", "1e+", "0x10", "1_0", "NaN", "Infinity", "-Infinity", "-NaN", "nul"),
    *("1.Infinity", "1eInfinity", "--Infinity", "-", "Infin", "-Infinityx", "NaNa", "1NaN"),
    *("true", "false", "null", "True", '""', '"1"', '"\\u0031"', '"\\ud83d\\ude00"', '"\\ud83d"'),
    *('"\\ude00"', '"\\ud83d\\u0041"', '"\\ud83dx"', '"\\u12"', '"\\uzzzz"', '"\\x"', '"\\', '"'),
    *('"\t"', '"\x00"', '"\x7f"', '"\\b\\f\\n\\r\\t\\/\\"\\\\"', '"\u00ff\u0800\uffff\U0010ffff"'),
    *("[]", "{}", "[1,2,3,4]", "[1,2,3]", "[1,2,3,4,5]", "[1,2,3,null]", "[1,2,3,1e999]", "[1,]"),
    *("[1,2,3,4.]", "[ 1 , 2\n,\t3 ,\r4 ]", '{"a":1,}', '{"a"}', "{1:2}", '{"a":1 "b":2}', "[,]"),
    *(
        "[" * 600 + "]" * 600,
        "[" * 400 + "]" * 400,
        '{"a":' * 700,
        "[1 2]",
        "",
        " ",
        "\x0b1",
        "\xa01",
    ),
)


def mutate(seed: int) -> tuple[bytes, bytes]:
    """Instances and results with some values replaced, keys doubled, escaped or dropped."""
    generator = random.Random(seed)
    return spelled(INSTANCES, generator).encode(), spelled(RESULTS, generator).encode()


def spelled(value: Any, generator: random.Random, rate: float = 0.02) -> str:
    """`value` as JSON in odd but mostly legal spelling, each value replaced at `rate`."""
    if generator.random() < rate:
        return generator.choice(SPELLINGS)
    space = generator.choice(("", "", "", " ", "\n", "\r\t"))
    if isinstance(value, dict):
        items = [(key, item) for key, item in value.items() if generator.random() > rate]
        doubled = [item for item in items if generator.random() < 2 * rate]
        generator.shuffle(items)
        parts = [
            f"{_key(key, generator)}{space}:{space}{spelled(item, generator, rate)}"
            for key, item in doubled + items
        ]
        return f"{{{space}{f'{space},{space}'.join(parts)}{space}}}"
    if isinstance(value, list):
        return f"[{space}{f'{space},{space}'.join(spelled(v, generator, rate) for v in value)}]"
    return json.dumps(value, ensure_ascii=generator.random() < 0.5)


def truncated(data: bytes) -> Iterator[bytes]:
    """`data` cut at every byte."""
    return (data[:length] for length in range(len(data)))


def flipped(data: bytes, seed: int) -> bytes:
    """`data` with a few bytes changed: any byte, or one that means something in JSON."""
    generator = random.Random(seed)
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 5))):
        place = generator.randrange(len(changed))
        if generator.random() < 0.5:
            changed[place] = generator.choice(b'[]{},:"\\ 0123456789.-+eEtfnu\n\x00\xff\xc3')
        else:
            changed[place] ^= 1 << generator.randrange(8)
    return bytes(changed)


def wrong_first(wrong: int, right: int) -> bytes:
    """Results of which the first are no records, and much shorter than one, and the others are."""
    record = json.dumps(RESULTS[0])
    return f"[{'1,' * wrong}{','.join([record] * right)}]".encode()


def _key(key: str, generator: random.Random) -> str:
    if generator.random() < 0.03:
        return generator.choice((f'"{key}x"', '""', '"\\ud800"', '"id"', '"bbox"', "1", f'"{key}'))
    letters = [f"\\u{ord(c):04x}" if generator.random() < 0.02 else c for c in key]
    return f'"{"".join(letters)}"'


def main(folder: Path, count: int) -> None:
    """Writes `count` mutated and `count` flipped files of each kind, and all truncations."""
    texts = (json.dumps(INSTANCES, ensure_ascii=False), json.dumps(RESULTS, ensure_ascii=False))
    for name, text, part in zip(("instances", "results"), texts, (0, 1), strict=True):
        (folder / name).mkdir(parents=True)
        cases = [*truncated(text.encode())]
        for seed in range(count):
            cases += [mutate(seed)[part], flipped(text.encode(), seed)]
        for i, data in enumerate(cases):
            (folder / name / f"{i:06d}.json").write_bytes(data)
    for wrong, right in ((500, 50), (5000, 5000)):
        file = folder / "results" / f"wrong-{wrong}-{right}.json"
        file.write_bytes(wrong_first(wrong, right))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
