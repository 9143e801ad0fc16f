"""Hostile and odd files of delimited text for their readers, the same for tests and sanitizers.

`python -m tests.kernels.delimited_fuzz FOLDER N` writes N mutated and N flipped files in a folder.
"""

import json
import random
import sys
from pathlib import Path

from tests.kernels.voc_files_fuzz import SPELLINGS, flipped, truncated

__all__ = ["CSV", "JSON_LINES", "ODD", "ORDINARY", "flipped", "mutate", "truncated"]

CSV = (
    "image,x,score,note\na.jpg,1.5,0.25,\nb\u00e9.jpg,-2e3,0.125,y\r\n\n"
    '"c, d.jpg","1,5",,"say ""hi"""\na.jpg,nan,1,x\n'
).encode()
JSON_LINES = (
    b'{"image": "a", "x": 1, "score": 0.5, "box": [1, 2, 3, 4.5]}\n'
    b'{"x": null, "image": 7, "score": 1e-3, "box": null, "other": {"y": [1]}}\r\n\n'
    b'{"image": "a", "x": -2.5, "score": 1}\n'
)
ORDINARY = (
    b"image,x,score\na,1,2\nb,3,4\n",
    b"image;x;score\na;1,5;2\nb;3;4,25",
    b"image\tx\tscore\na\t1\t2\r\nb\t3\t\r\n",
    b"\xef\xbb\xbfimage,x,score\na,1,2\n",
    b'"image","x","score"\n"a","1","2"\n"a b",3,4\n',
    b"image,x,score\na,,\nb,nan,NULL\n",
    b"image,x,score\n",
    b"image,x,score\n\n \n\na,1,2\n",
)
ODD = (
    b"image,x,score\na,+1,.5\nb,1.,2\n",
    b"image,x,score\na,1,2,\nb,3,4, ,\n",
    b"image,x,score\na,1\n",
    b"image,x,score\na,1,2,3\n",
    b'image,x,score\n"a\nb",1,2\nc,3,4\n',
    b'image,x,score\n"a""b",1,2\nc,3,4\n',
    b'image,x,score\na"b,1,2\nc,3,4\n',
    b'image,x,score\n"a"b,1,2\n',
    b'image,x,score\n"a,1,2\n',
    b'"ima\nge",x,score\na,1,2\n',
    b"image,x,score\ra,1,2\rb,3,4\r",
    b"image,x,score\na\x00,1,2\nb,3,4\n",
    b"image,x,score\n\xff,1,2\nb,3,4\n",
    b"image,x,\xff\na,1,2\n",
    b"image,x,x\na,1,2\n",
    b"image,x,score\na,1_0,2\n",
    b"image,x,score\na,inf,-Infinity\n",
    b"image,x,score\na,1e999,1e-999\n",
    b"image,x,score\n,,\n,1,\n",
    b'image,x,score\na,"1,234.5",2\n',
    b'image,x,score\na,"1,2,3",2\n',
    "image,x,score\na,1\u00a0,2\n".encode(),
    b"image,x,score\n" + b"a" * 200_000 + b",1,2\n",
    b"image,x,score\na," + b"1" * 100_000 + b",2\n",
    b"\n" * 1000 + b"image,x,score\na,1,2\n",
    b"",
    b"\xef\xbb\xbf",
    b"\x00",
    b'{"image": "a", "x": "5", "score": true}\n',
    b'{"image": 4.0, "x": 5, "score": 1}\n{"image": 99999999999999999999, "x": 1}\n',
    b'{"im\\u0061ge": "a", "x": 5}\n{"image": "\\ud83d\\ude00", "x": 1}\n',
    b'{"image": "\\ud800", "x": 1}\n',
    b'{"image": "a", "x": 1} {"image": "b"}\n',
    b'{"image": "a", "x": [1]}\n',
    b'{"image": "a", "x": 1, "x": 2}\n',
    b'{"image": "a"\n, "x": 1}\n',
    b"[1]\n",
    b'{"a": ' + b"[" * 2000 + b"\n",
    b'{"image": "a", "box": [1, 2, 3]}\n',
    b'{"image": "a", "box": [1, 2, 3, null]}\n',
    b'{"image": "a", "x": NaN, "score": -Infinity}\n',
)


def mutate(seed: int) -> bytes:
    """A file with some values replaced."""
    generator = random.Random(seed)
    return generator.choice((_mutate_csv, _mutate_json))(generator)


def _mutate_csv(generator: random.Random) -> bytes:
    separator = generator.choice(",,;\t")
    rows = [["image", "x", "score", "note"]]
    for _ in range(generator.randrange(6)):
        row = [f"{generator.randrange(5)}.jpg", f"{generator.uniform(-9, 9):.3f}", "0.5", ""]
        for i in range(4):
            if generator.random() < 0.06:
                row[i] = generator.choice((*SPELLINGS, '"', '"a', '"1,5"', "1,5", separator, "\n"))
        rows.append(row)
    end = generator.choice(("\n", "\n", "\r\n", "\n\n", " \n"))
    return end.join(map(separator.join, rows)).encode("utf-8", "surrogatepass")


def _mutate_json(generator: random.Random) -> bytes:
    lines = []
    for i in range(generator.randrange(6)):
        record = {"image": i, "x": 1.5, "score": 0.5, "box": [1, 2, 3, i / 7]}
        if generator.random() < 0.3:
            other = generator.choice((None, "a", "", True, [1], {}, "5", 2**70, [1, 2, 3, "4"]))
            record[generator.choice(list(record))] = other
        lines.append(json.dumps(record))
    return generator.choice(("\n", "\r\n", "\n\n")).join(lines).encode()


def main(folder: Path, count: int) -> None:
    """Writes `count` mutated and `count` flipped files, and all other cases."""
    cases = [*ORDINARY, *ODD, *truncated(CSV), *truncated(JSON_LINES)]
    for seed in range(count):
        cases += [mutate(seed), flipped((CSV, JSON_LINES)[seed % 2], seed)]
    folder.mkdir(parents=True)
    for i, data in enumerate(cases):
        (folder / f"{i:06d}").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
