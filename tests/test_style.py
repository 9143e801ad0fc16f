"""The style rules that can be counted, over all packages of upmap and its C++.

`python tests/test_style.py` prints every offender by file and line. The rules:

participles
    No function is named by a past participle: `read_labels`, not `labels_read` or `checked`. The
    words of a name are what lies between its underscores. It offends if its first word is a
    participle, or its last while its first is not one of VERBS (`device_called` offends,
    `check_unlisted` does not). A participle is a word in IRREGULAR, or one that ends in "ed" and is
    not in NOT_PARTICIPLES; with or without a prefix of PREFIXES (`unbuilt`). Exempt are questions
    (first word in QUESTIONS: `is_sorted`), names with double underscores, and properties of two
    words or more (`undefined_classes`: an adjective and its noun); a property that is a bare
    participle offends. Words whose participle is the verb itself (`read`, `set`, `split`) pass.
banned names
    No variable, parameter or attribute of a class is called by one of BANNED, which say nothing.
    Each scope counts a name once. In C++ each line that uses such an identifier counts.
long functions
    No function has more than 40 lines, its docstring and its signature not counted.
positional parameters
    No function takes more than five positional parameters, `self` not counted.
namesakes
    No public function has the name of its module, and no package exports a function under the name
    of one of its modules: `import package.module as m` would give the function.
macros
    No identifier in C++ is one of MACROS, which headers of other systems define.
long lines
    No line of C++ is longer than 100 columns; ruff and clang-format hold the others, but
    clang-format does not break comments.

The bodies of Triton kernels are exempt from the two rules on size. ALLOWED lists the names that may
stay, with reasons.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "upmap"
KERNEL_BODIES = "triton_kernels.py"
MAX_LINES = 40
MAX_POSITIONAL = 5
MAX_COLUMNS = 100


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BANNED = words("found given made mine most one rest some told wanted")
QUESTIONS = words("are can did has have is must needs should was were")
VERBS = words("check drop find mark raise refuse reject report skip validate warn")
PREFIXES = ("mis", "out", "over", "pre", "re", "un", "under")
# Participles of irregular verbs; not those that are the verb itself or a noun of the field (read,
# set, split, cut, left, ground, bound).
IRREGULAR = words("""
    begun bent bought broken brought built caught chosen dealt done drawn driven fallen fed felt
    forgotten found frozen given gone grown had held hidden kept known laid led lent lit lost made
    meant met paid proven risen said seen sent shaken shown sold sought spent spoken stolen struck
    swept taken taught thrown told torn understood won worn woven written
""")
NOT_PARTICIPLES = words("""
    bed bleed breed embed exceed feed hundred need proceed red seed shed shred sled speed succeed
""")
# Macros of math.h and limits.h (musl), windows.h, termios.h and complex.h, and those that GCC
# defines by itself.
MACROS = words("""
    ABSOLUTE CONST DELETE DIFFERENCE DOMAIN ECHO ERROR FALSE FAR HUGE I IGNORE IN INFINITE NEAR
    NO_ERROR OPAQUE OPTIONAL OUT OVERFLOW PAGESIZE PAGE_SIZE PLOSS RELATIVE SING STRICT THIS TLOSS
    TRANSPARENT TRUE UNDERFLOW VOID far interface linux near small unix
""")

# Offenders that there still are, for each rule: these numbers may only shrink.
REMAINING = {
    "participles": 15,
    "banned names": 192,
    "long functions": 0,
    "positional parameters": 4,
    "namesakes": 3,
    "macros": 0,
    "long lines": 0,
}

# Names that may stay, with reasons.
ALLOWED = {
    "participles": {
        "paired_difference": "the name of the statistic",
        "_transposed_k2s2": "the name of the operator: a transposed convolution",
        "_transposed_k3s2": "the name of the operator: a transposed convolution",
    },
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Offender(NamedTuple):
    """A place that breaks a rule.

    Attributes:
        path: Of the file, relative to the checkout.
        line: From 1.
        name: The name that offends.
    """

    path: str
    line: int
    name: str


def python_files() -> list[Path]:
    """upmap's modules, by the folders that its links lead to."""
    folders = [path.resolve() for path in PACKAGE.iterdir() if path.is_dir()]
    modules = [*PACKAGE.glob("*.py")]
    return sorted(modules + [path for folder in folders for path in folder.rglob("*.py")])


def cpp_files() -> list[Path]:
    """The C++ of the kernels and of their tests."""
    folders = (ROOT / "kernels", ROOT / "tests")
    endings = (".cpp", ".hpp", ".inc")
    return sorted(p for folder in folders for p in folder.rglob("*") if p.suffix in endings)


def functions(tree: ast.AST) -> Iterator[Function]:
    """All functions and methods, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def is_property(function: Function) -> bool:
    """Whether a decorator makes it a property."""
    return any(
        ast.unparse(decorator).rpartition(".")[2] in ("property", "cached_property")
        for decorator in function.decorator_list
    )


def is_participle(word: str) -> bool:
    """Whether a word of a name counts as a past participle."""
    stems = {word, *(word.removeprefix(prefix) for prefix in PREFIXES)}
    if stems & NOT_PARTICIPLES:
        return False
    return word.endswith("ed") or bool(stems & IRREGULAR)


def is_named_by_participle(name: str, *, in_property: bool = False) -> bool:
    """Whether a function of that name breaks the rule."""
    parts = [part for part in name.lower().split("_") if part]
    if name.startswith("__") or not parts or parts[0] in QUESTIONS:
        return False
    if in_property and len(parts) > 1:
        return False
    return is_participle(parts[0]) or (parts[0] not in VERBS and is_participle(parts[-1]))


def participles(tree: ast.Module, path: str) -> Iterator[Offender]:
    for function in functions(tree):
        if is_named_by_participle(function.name, in_property=is_property(function)):
            yield Offender(path, function.lineno, function.name)


def bound_names(scope: ast.AST) -> Iterator[tuple[int, str]]:
    """The names that a scope binds, with lines; those of scopes within it not."""
    if isinstance(scope, Function | ast.Lambda):
        arguments = scope.args
        extra = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra):
            yield argument.lineno, argument.arg
    nodes = list(ast.iter_child_nodes(scope))
    while nodes:
        node = nodes.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.lineno, node.name
        nodes.extend(ast.iter_child_nodes(node))


def banned_names(tree: ast.Module, path: str) -> Iterator[Offender]:
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for scope in ast.walk(tree):
        if isinstance(scope, scopes):
            first: dict[str, int] = {}
            for line, name in sorted(bound_names(scope)):
                first.setdefault(name.strip("_").lower(), line)
            yield from (Offender(path, first[name], name) for name in sorted(first.keys() & BANNED))


def long_functions(tree: ast.Module, path: str) -> Iterator[Offender]:
    for function in functions(tree):
        body = function.body
        if ast.get_docstring(function) is not None:
            body = body[1:]
        lines = (function.end_lineno or 0) - body[0].lineno + 1 if body else 0
        if lines > MAX_LINES and Path(path).name != KERNEL_BODIES:
            yield Offender(path, function.lineno, f"{function.name} ({lines} lines)")


def positional_parameters(tree: ast.Module, path: str) -> Iterator[Offender]:
    for function in functions(tree):
        arguments = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        count = len(arguments) - (arguments[:1] in (["self"], ["cls"]))
        if count > MAX_POSITIONAL and Path(path).name != KERNEL_BODIES:
            yield Offender(path, function.lineno, f"{function.name} ({count})")


def namesakes(tree: ast.Module, path: str) -> Iterator[Offender]:
    file = ROOT / path
    own = file.parent.name if file.name == "__init__.py" else file.stem
    siblings = {module.stem for module in file.parent.glob("*.py")}
    siblings |= {package.parent.name for package in file.parent.glob("*/__init__.py")}
    for node in tree.body:
        if isinstance(node, Function) and node.name == own != "main":
            yield Offender(path, node.lineno, node.name)
        elif isinstance(node, ast.ImportFrom) and file.name == "__init__.py":
            module = (node.module or "").rpartition(".")[2]
            names = {alias.asname or alias.name for alias in node.names}
            if module != own:  # `from package import module` gives the module itself
                yield from (Offender(path, node.lineno, n) for n in sorted(names & siblings))


PYTHON_RULES = {
    "participles": participles,
    "banned names": banned_names,
    "long functions": long_functions,
    "positional parameters": positional_parameters,
    "namesakes": namesakes,
}
CPP_TEXT = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"\((?:.*?)\)"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""", re.DOTALL
)


def cpp_code(text: str) -> str:
    """C++ without comments and literals, line for line; and without `#if` and its like."""
    code = CPP_TEXT.sub(lambda match: "\n" * match[0].count("\n"), text)
    return re.sub(r"^[ \t]*#.*$", "", code, flags=re.MULTILINE)


def identifiers(names: frozenset[str], text: str, path: str) -> Iterator[Offender]:
    """The lines of C++ that use one of `names` as an identifier, a trailing underscore or not."""
    for line, code in enumerate(cpp_code(text).splitlines(), 1):
        used = {word for word in re.findall(r"\b[A-Za-z]\w*", code) if word.rstrip("_") in names}
        yield from (Offender(path, line, word) for word in sorted(used))


def long_lines(text: str, path: str) -> Iterator[Offender]:
    for line, code in enumerate(text.splitlines(), 1):
        if len(code) > MAX_COLUMNS:
            yield Offender(path, line, f"{len(code)} columns")


CPP_RULES: dict[str, Callable[[str, str], Iterator[Offender]]] = {
    "banned names": partial(identifiers, BANNED),
    "macros": partial(identifiers, MACROS),
    "long lines": long_lines,
}


def offenders(rule: str) -> list[Offender]:
    """All that break a rule and are not allowed to."""
    places: list[Offender] = []
    if rule in PYTHON_RULES:
        for file in python_files():
            tree = ast.parse(file.read_text("utf-8"))
            places += PYTHON_RULES[rule](tree, file.relative_to(ROOT).as_posix())
    if rule in CPP_RULES:
        for file in cpp_files():
            places += CPP_RULES[rule](file.read_text("utf-8"), file.relative_to(ROOT).as_posix())
    allowed = ALLOWED.get(rule, {})
    return [place for place in places if place.name.split()[0] not in allowed]


def listing(places: list[Offender]) -> str:
    """A line for each offender, which editors can follow."""
    return "\n".join(f"{place.path}:{place.line}: {place.name}" for place in places)


@pytest.mark.parametrize("rule", REMAINING)
def test_no_more_places_break_the_rule(rule: str) -> None:
    places = offenders(rule)
    assert len(places) <= REMAINING[rule], f"{rule}: {len(places)}\n{listing(places)}"


@pytest.mark.parametrize("rule", ALLOWED)
def test_what_is_allowed_still_exists_and_has_a_reason(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = ALLOWED[rule]
    monkeypatch.setitem(ALLOWED, rule, {})
    names = {place.name.split()[0] for place in offenders(rule)}
    assert allowed.keys() <= names
    assert all(allowed.values())


@pytest.mark.parametrize(
    ("name", "offends"),
    [
        ("checked", True),
        ("_opened", True),
        ("chosen", True),
        ("unbuilt", True),
        ("rewritten", True),
        ("inferred_image_set", True),
        ("device_called", True),
        ("read_labels", False),
        ("seed", False),
        ("embed", False),
        ("split", False),
        ("check_unlisted", False),
        ("is_sorted", False),
        ("__getattr__", False),
        ("area", False),
    ],
)
def test_a_past_participle_is_known_by_its_ending_or_from_the_list(
    name: str, offends: bool
) -> None:
    assert is_named_by_participle(name) is offends


def test_a_property_may_be_an_adjective_and_its_noun_but_no_bare_participle() -> None:
    assert not is_named_by_participle("undefined_classes", in_property=True)
    assert is_named_by_participle("accumulated", in_property=True)


BROKEN = """
from package import thing
def named(a, b, c, d, e, f, *, g):
    '''Long.'''
    found = [one for one in a]
    with b as made:
        given = lambda told: told
    def inner():
        for rest, (most, x) in c:
            found: int = 1
def thing(self, a, b, c, d, e): pass
"""


def test_every_way_to_bind_a_banned_name_counts_once_in_a_scope() -> None:
    names = [place.name for place in banned_names(ast.parse(BROKEN), "package/thing.py")]
    assert names.count("found") == 2
    assert set(names) == words("found one made given told rest most")
    assert len(names) == 8


def test_sizes_leave_out_docstrings_signatures_and_self() -> None:
    tree = ast.parse(BROKEN)
    assert [p.name for p in positional_parameters(tree, "x.py")] == ["named (6)"]
    body = "    pass\n" * (MAX_LINES + 1)
    long = ast.parse(f"def f(\n  a,\n  b,\n):\n    '''One.\n\n    Two.\n    '''\n{body}")
    assert [p.name for p in long_functions(long, "x.py")] == [f"f ({MAX_LINES + 1} lines)"]
    assert list(long_functions(long, KERNEL_BODIES)) == []
    fits = ast.parse(f"def f():\n    '''One.'''\n{body[: -len('    pass') - 1]}")
    assert list(long_functions(fits, "x.py")) == []


def test_a_function_may_not_have_the_name_of_its_module() -> None:
    tree = ast.parse("def boxes(): ...\ndef _tables(): ...\n")
    assert [p.name for p in namesakes(tree, "detection/boxes.py")] == ["boxes"]
    exported = ast.parse("from upmap.metrics.scores import evaluate, Curve")
    assert [p.name for p in namesakes(exported, "metrics/__init__.py")] == ["evaluate"]


def test_comments_and_literals_of_cpp_are_not_identifiers() -> None:
    comments = "// HUGE\n/* TRUE\n */ "
    literals = """auto a = "FALSE \\" IN"; char c = '"';\n"""
    code = comments + literals + "#if OUT\nint HUGE = TRUE_;\n"
    places = list(identifiers(MACROS, code, "x.cpp"))
    assert places == [Offender("x.cpp", 5, "HUGE"), Offender("x.cpp", 5, "TRUE_")]


if __name__ == "__main__":
    for rule in REMAINING:
        places = offenders(rule)
        print(f"{rule}: {len(places)}\n{listing(places)}\n")
