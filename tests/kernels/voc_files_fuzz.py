"""Hostile and odd VOC files for their readers, the same for the tests and the sanitizers.

`python -m tests.kernels.voc_files_fuzz FOLDER N` writes N files of each kind into a folder.
"""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "ANNOTATION",
    "IMAGES",
    "ODD",
    "ODD_RESULTS",
    "ORDINARY",
    "ORDINARY_RESULTS",
    "RESULTS",
    "SPELLINGS",
    "TEXTS",
    "flipped",
    "mutate",
    "mutate_results",
    "truncated",
]

ANNOTATION = """<?xml version="1.0" encoding="utf-8"?>
<annotation verified="yes">
\t<folder>VOC &amp; more</folder>
\t<owner><name>n\u00e9</name></owner>
\t<size><width>100</width><height>80</height><depth>3</depth></size><!-- [two] -->
\t<object>
\t\t<name>c\u00e4t</name>
\t\t<difficult>1</difficult>
\t\t<bndbox><xmin>1.5</xmin><ymin>2</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>
\t\t<part><name>head</name><bndbox><xmin>3</xmin></bndbox></part>
\t</object>
\t<object><bndbox><ymax>9e1</ymax><xmax>8</xmax><ymin>-1</ymin><xmin>7</xmin></bndbox>
\t\t<difficult/><name> person </name></object>
</annotation>
""".encode()
IMAGES = {
    "000001": 0,
    "000002": 1,
    "b\u00e9": 2,
    "a b": 3,
    "x\u00a0y": 4,
    "": 5,
    "-1": 6,
    "c\x0b": 7,
}
RESULTS = "000001 0.5 1 2.25 30 4e1\nb\u00e9\t1e-3  -1 2 3 4\r\n\n 000002 1 1 1 1 1 ".encode()

# What may stand where a number stands; Python is to judge each as the native readers do.
SPELLINGS = (
    *("0", "-0", "1", "1.0", "1e3", "1E+2", "-1e-2", "0.1", "0.0000", "123456789012345678", "0e5"),
    *("-0.0", "007", "00", "+1", "1.", ".5", "-.5", "-", "+", ".", "", "1e", "1e+", "e5", "1e5.0"),
    *("9007199254740993", "9007199254740992.5", "18446744073709551616", "0.30000000000000004"),
    *("1e149", "1e150", "1.0000000000000001e150", "-1e150", "1e151", "1e308", "1e309", "-1e999"),
    *("1e-400", "5e-324", "2.4703282292062327e-324", "2.2250738585072011e-308", "4.9e-324"),
    *("1e999999999999999999999", "1e-999999999999999999999", "0e99999999999999999999"),
    *("1" * 400, "1" * 5000, "0." + "0" * 400 + "1", "0." + "1" * 800, "1" + "0" * 30 + ".5"),
    *("2147483648", "2147483648.5", "2147483649", "0.9", "-0.1", "8.5e22", "1e22", "1e23"),
    *("inf", "-inf", "Infinity", "nan", "NaN", "-nan", "0x10", "1_0", "_1", "1_", "1,5", "1 2"),
    *("\u0661", "\uff11", "1\u00a0", "\u00a01", "\u30001", "1\x00", "1\x0b", "1\x1c", "1f", "1d0"),
    *(
        "0." + "9" * 17,
        "1e0005",
        "1e-0005",
        "7.2057594037927933e16",
        "0.1" + "0" * 40,
        "--1",
        "1e1e1",
    ),
)
# What may stand where text stands.
TEXTS = (
    *(
        "",
        " ",
        "\n\t",
        "1",
        " 1 ",
        "x",
        "a b",
        "a\r\nb",
        "\r",
        "\r\n1\r\n",
        "a\rb",
        "&amp;",
        "&lt;x",
    ),
    *("&quot;", "&apos;", "&gt;", "&am;", "&", "&#49;", "&#x31;", "&#0;", "&undefined;", "&amp"),
    *(
        "<!-- c -->1",
        "1<!-- c -->",
        "1<!--c-->2",
        "<!---->",
        "<!--->",
        "<!-- a -- b -->",
        "<!-- -->x",
    ),
    *("<!-- \u00e9]]>&<x> -->", "<!-", "<![CDATA[1]]>", "<?pi x?>", "<?xml version='1.0'?>", "]]>"),
    *(
        "]]",
        "]>",
        "]]]>",
        "]]<!-- -->>",
        "a>b",
        "<",
        "</",
        "<1/>",
        "<b/>",
        "1<b/>",
        "<b/>1",
        "<b>1</b>",
    ),
    *("<b>1</b>2", "<name>x</name>", "<xmin>4</xmin>", "<bndbox><xmin>4</xmin></bndbox>", "<b />"),
    *("<bndbox><ymax>99</ymax><name>z</name></bndbox>", "<object><name>q</name></object>"),
    *(
        "<size><width>9</width></size>",
        "<b><c></b></c>",
        "<b",
        "<b a>",
        "<b a=1>",
        "<b/ >",
        "< b/>",
    ),
    *("<b a='1'/>", '<b a = "1" >2</b>', "<b a='1' a='2'/>", "<b a='1' c='2'/>", "<b a='<'/>"),
    *("<b a='&amp;'/>", "<b a='&x;'/>", "<b a='1'c='2'/>", "<b a='\n]]>\u00e9'/>", "<b a='\x01'/>"),
    *(
        "<b\n/>",
        "<b></b >",
        "<b></ b>",
        "<b></b x>",
        "<x:y/>",
        "<:/>",
        "<-b/>",
        "<b-.1/>",
        "<\u00e9/>",
    ),
    *(
        "<b xmlns='u' />",
        "<b xml:lang='e'/>",
        "<xmlns:x/>",
        "\u00a0",
        "\u00a0x",
        "x\u3000",
        "\u2028x",
    ),
    *("\u732b", "\u30c4", "x\u0085", "\u1680x", "\u200b", "\ufeff", "\ufeffx", "\ufffd", "\ufffe"),
    *("\uffff", "\U0001f600", "\U0001fffe", "\ud800", "\udfff", "\x00", "\x01", "\x0b", "\x0c"),
    *("\x1f", "\x7f", "\x80", "\x9f", "<!DOCTYPE a>", "<!ENTITY a 'b'>", "%a;", "<b>" * 300),
    *("<b>" * 90 + "</b>" * 90, "<b>" * 150 + "</b>" * 150, "x" * 70_000),
)
PLAIN = ANNOTATION.decode().partition("\n")[2]
LAUGHS = '<!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
# Whole annotations that the native reader is to take.
ORDINARY = (
    ANNOTATION,
    PLAIN.encode(),
    b"\xef\xbb\xbf" + ANNOTATION,
    ANNOTATION.replace(b"\n", b"\r\n"),
    b"<annotation/>",
    b"<annotation>\n</annotation>",
    b"\n <!-- a --> <annotation>x</annotation> <!-- b -->\n",
    *(
        f"{declaration}{PLAIN}".encode()
        for declaration in (
            '<?xml version="1.0"?>',
            '<?xml version="1.0" ?>',
            "<?xml version='1.0' encoding='utf-8'?>\n",
            '<?xml version="1.0" encoding="UTF-8" ?>',
        )
    ),
)
# Whole annotations that expat reads, or refuses, in its own way.
ODD = (
    *(
        b"",
        b" ",
        b"\n\n",
        b"x",
        b"<",
        b"<a/>",
        b"<annotation>",
        b"</annotation>",
        b"\x00",
        b"<!---->",
    ),
    *(b"<annotations/>", b"<Annotation/>", b"<annotation/><annotation/>", b"<annotation/>x"),
    *(
        b"<annotation/>\x00",
        b"<annotation/>" + b"\x00" * 100,
        b"\x00<annotation/>",
        b"<annotation/>\n",
    ),
    *(b"<annotation><object/></annotation>", b"<annotation><size/></annotation>"),
    *(
        b"\xef\xbb\xbf" * 2 + b"<annotation/>",
        b"\xef\xbb\xbf",
        b"\xef\xbb",
        b" <?xml version='1.0'?><a/>",
    ),
    *(
        f"{LAUGHS}{PLAIN}".encode(),
        f"<?xml version='1.0'?>{LAUGHS}<annotation>&b;</annotation>".encode(),
    ),
    *(
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-32"),
    ),
    *(PLAIN.encode("latin-1"), b"<annotation>" * 100_000, b"<annotation a='" + b"x" * 70_000),
    *(
        f"<?xml version={version} ?>{PLAIN}".encode("latin-1")
        for version in (
            '"1.0" encoding="latin-1"',
            '"1.0" encoding="iso-8859-1"',
            "'1.0' encoding='us-ascii'",
            '"1.0" encoding="utf-16"',
            '"1.0" encoding="klingon"',
        )
    ),
    *(
        f"<?xml version={version}?>{PLAIN}".encode()
        for version in (
            '"1.1"',
            '"1.0"encoding="utf-8"',
            "'1.0\"",
            '"1.0" encoding="utf8"',
            '"1.0"  encoding="utf-8"',
            '"1.0" standalone="yes"',
            '"1.0" encoding="utf-8" standalone="no"',
            '"1.0" encoding=""',
        )
    ),
)
ORDINARY_RESULTS = (
    RESULTS,
    b"",
    b"\n \n",
    b"\xef\xbb\xbf" + RESULTS,
    RESULTS.replace(b"\n", b"\r\n"),
    b"000001 0.99 1.000000 46.103302 353.0 500.000000\n" * 3,
)
ODD_RESULTS = (
    *(b"x", b"000001", b"000001 1 2 3 4", b"000001 1 2 3 4 5 6", b"000003 1 2 3 4 5", b"\xef\xbb"),
    *(
        b"000001 1 2 3 4 5\x00",
        b"\x00",
        b"000001 1 2\n3 4 5",
        b"000001 1 2 3 4 5\r000001 1 2 3 4 5",
    ),
    *(b"000001\x0b1 2 3 4 5", b"000001 1\x0c2 3 4 5", b"000001 1 2 3 4 5\x1c\n", b"a b 1 2 3 4"),
    *(
        b"a b 1 2 3 4 5",
        "x\u00a0y 1 2 3 4 5".encode(),
        "x\u00a0y 2 3 4 5".encode(),
        b"\x0b 1 2 3 4 5",
    ),
    *(
        "000001\u00a01 2 3 4 5".encode(),
        "000001 1 2 3 4 5\u2028".encode(),
        b" 1 2 3 4 5",
        b"-1 1 2 3 4 5",
    ),
    *(
        b"b\xe9 1 2 3 4 5",
        b"b\xc3 1 2 3 4 5",
        b"000001 1 2 3 4 5\x85000002 1 2 3 4 5",
        b"c\x0b 1 2 3 4 5",
    ),
    *(
        b"000001 1 2 3 4 5 # why",
        b"000001,1,2,3,4,5",
        b"000001 1 2 3 4 5\n\xff",
        RESULTS.decode().encode("utf-16"),
    ),
    *(b"\xef\xbb\xbf" * 2 + RESULTS, b"000001 " * 50_000, b"1" * 100_000, b"000001 1 2 3 4 -"),
)


def mutate(seed: int) -> bytes:
    """An annotation with some values replaced, and elements doubled, moved or dropped."""
    generator = random.Random(seed)
    size = {"width": "100", "height": "80"}
    rate = generator.choice((0.003, 0.02))
    objects = [_object(generator, rate) for _ in range(generator.randrange(4))]
    parts = [_element("size", _elements(size, generator, rate), generator, rate), *objects]
    generator.shuffle(parts)
    return _element("annotation", "\n".join(parts), generator, rate).encode(
        "utf-8", "surrogatepass"
    )


def mutate_results(seed: int) -> bytes:
    """A results file with some words replaced, doubled or dropped."""
    generator = random.Random(seed)
    lines = []
    for _ in range(generator.randrange(6)):
        words = [generator.choice(("000001", "000002", "b\u00e9"))]
        words += [f"{generator.uniform(-9, 999):.{generator.randrange(9)}f}" for _ in range(5)]
        for i in range(len(words)):
            if generator.random() < 0.03:
                words[i] = generator.choice(SPELLINGS)
        if generator.random() < 0.02:
            words.append("1")
        lines.append(generator.choice((" ", " ", "\t", "  ")).join(words))
    end = generator.choice(("\n", "\n", "\r\n", " \n", "\n\n"))
    return (end.join(lines) + generator.choice(("", end))).encode("utf-8", "surrogatepass")


def truncated(data: bytes) -> Iterator[bytes]:
    """`data` cut at every byte."""
    return (data[:length] for length in range(len(data)))


def flipped(data: bytes, seed: int) -> bytes:
    """`data` with a few bytes changed: any byte, or one that means something in these files."""
    generator = random.Random(seed)
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 5))):
        place = generator.randrange(len(changed))
        if generator.random() < 0.5:
            changed[place] = generator.choice(
                b"<>/!-&;]='\" 0123456789.-+eE\t\r\n\x00\x0b\x7f\xff\xc3\xa0"
            )
        else:
            changed[place] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _object(generator: random.Random, rate: float) -> str:
    left, top = generator.randrange(50), generator.randrange(50)
    sides = {"xmin": left, "ymin": top, "xmax": left + 5.5, "ymax": top + generator.choice((0, 9))}
    fields = {"name": generator.choice(("cat", "dog", "h\u00fchn")), "difficult": "01"[left % 2]}
    words = {side: str(value) for side, value in sides.items()}
    bndbox = _element("bndbox", _elements(words, generator, rate), generator, rate)
    return _element("object", _elements(fields, generator, rate) + bndbox, generator, rate)


def _elements(fields: dict[str, str], generator: random.Random, rate: float) -> str:
    items = [item for item in fields.items() if generator.random() > rate]
    items += [item for item in items if generator.random() < rate]
    generator.shuffle(items)
    return "".join(_element(name, word, generator, rate) for name, word in items)


def _element(name: str, content: str, generator: random.Random, rate: float) -> str:
    if generator.random() < rate:
        content = generator.choice((generator.choice(SPELLINGS), generator.choice(TEXTS)))
    if generator.random() < rate:
        content = generator.choice(
            (f"{generator.choice(TEXTS)}{content}", content + generator.choice(TEXTS))
        )
    if generator.random() < rate:
        return f"<{name}/>"
    attribute = generator.choice((" a='1'", " ", ' b = "x"')) if generator.random() < rate else ""
    space = generator.choice(("", "", " ", "\n\t", "\r\n"))
    return f"<{name}{attribute}>{space}{content}{space}</{name}>"


def main(folder: Path, count: int) -> None:
    """Writes `count` mutated and `count` flipped files of each kind, and all other cases."""
    numbers = [
        f"000001 1 {spelling} 2 3 4".encode("utf-8", "surrogatepass") for spelling in SPELLINGS
    ]
    cases = {
        "annotations": [*ORDINARY, *ODD, *truncated(ANNOTATION)],
        "results": [*ORDINARY_RESULTS, *ODD_RESULTS, *numbers, *truncated(RESULTS)],
    }
    for seed in range(count):
        cases["annotations"] += [mutate(seed), flipped(ANNOTATION, seed)]
        cases["results"] += [mutate_results(seed), flipped(RESULTS, seed)]
    for kind, files in cases.items():
        (folder / kind).mkdir(parents=True)
        for i, data in enumerate(files):
            (folder / kind / f"{i:06d}").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
