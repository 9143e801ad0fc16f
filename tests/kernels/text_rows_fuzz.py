"""Hostile and odd files of rows for their readers, the same for the tests and the sanitizers.

`python -m tests.kernels.text_rows_fuzz FOLDER N` writes N mutated and N flipped files in a folder.
"""

import random
import sys
from pathlib import Path

from tests.kernels.voc_files_fuzz import SPELLINGS, flipped, truncated

__all__ = ["LAYOUTS", "ODD", "ORDINARY", "ROWS", "flipped", "mutate", "truncated"]

ROWS = (
    "car 0.5 0.25 0.125 1e-1 0.75\nb\u00e9 1 2\r\nimagesource:x y\n\n car 3 4 difficult \n".encode()
)
NUMBERS = b"0 0.5 0.25 0.125 0.75\n14 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8\r\n"
# What RowLayout takes.
LAYOUTS = (
    {},
    {"name_column": 0, "keywords": {"difficult": 1.0}, "skipped_prefixes": ("imagesource:",)},
    {"name_column": 2},
)
ORDINARY = (
    NUMBERS,
    b"",
    b"\n \n\t\r\n",
    b"\xef\xbb\xbf" + NUMBERS,
    NUMBERS.replace(b"\r\n", b"\r"),
    b"1 0.471781 0 13 174 244\n" * 3,
    b"0 0.5 0.5 1 1",
    b"0\t0.5\x0b0.5\x0c1 1\n",
)
ODD = (
    *(
        b"x",
        b"\x00",
        b"1 \x00",
        b"1\x002",
        b"1 2\x00\n3",
        b"\xef\xbb",
        b"\xef\xbb\xbf" * 2 + NUMBERS,
    ),
    *(b"1\x1c2", b"1 2\x85", "1\u00a02".encode(), "1 2\u2028 3".encode(), b"1,2,3", b"1;2"),
    *(
        b"b\xe9 1 2",
        b"b\xc3 1 2",
        b"caf\xc3\xa9 1 2",
        b"\xed\xa0\x80 1 2",
        b"car",
        b"car 1",
        b"1 2 car",
    ),
    *(NUMBERS.decode().encode("utf-16"), NUMBERS.decode().encode("utf-32"), b"1 " * 50_000),
    *(b"1" * 100_000, b"\r" * 1000, b"\n\r\n\r\r\n1", b"\x7f 1", b"\x01 1 2", b"difficult", b"1 -"),
    *(
        b"imagesource:",
        b"imagesource:\x00\xff\n1 2",
        b"imagesource:\r\n",
        b"nan inf -inf",
        b"1 NaN",
    ),
)


def mutate(seed: int) -> bytes:
    """A file with some words replaced, doubled or dropped."""
    generator = random.Random(seed)
    lines = []
    for _ in range(generator.randrange(6)):
        words = [str(generator.randrange(80))]
        count = generator.choice((4, 5, 8))
        words += [f"{generator.uniform(-1, 2):.{generator.randrange(9)}f}" for _ in range(count)]
        for i in range(len(words)):
            if generator.random() < 0.03:
                words[i] = generator.choice((*SPELLINGS, "car", "difficult", "imagesource:"))
        lines.append(generator.choice((" ", " ", "\t", "  ")).join(words))
    end = generator.choice(("\n", "\n", "\r\n", "\r", " \n", "\n\n"))
    return (end.join(lines) + generator.choice(("", end))).encode("utf-8", "surrogatepass")


def main(folder: Path, count: int) -> None:
    """Writes `count` mutated and `count` flipped files, and all other cases."""
    spelled = [f"0 {word} 1".encode("utf-8", "surrogatepass") for word in SPELLINGS]
    cases = [*ORDINARY, *ODD, *spelled, *truncated(ROWS)]
    for seed in range(count):
        cases += [mutate(seed), flipped(ROWS, seed)]
    folder.mkdir(parents=True)
    for i, data in enumerate(cases):
        (folder / f"{i:06d}").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
