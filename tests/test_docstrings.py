"""Docstrings stand alone: a documentation site sorts by name, so no docstring may lean on its neighbour."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("channels", "semcom")
MODULES = sorted(
    str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)

# An opening whose noun stands in another docstring, or a fragment that says what something is not.
LEANING = re.compile(
    r"(That|Those) (of|in|which)\b|Of (the|a|an|its|their|all)\b|The (same|former|latter|other)\b|As\b|None\b"
    r"|Likewise\b|Its?\b|All of (them|it)\b|Both\b|Nothing\b|Theirs?\b"
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def faults(source: str) -> Iterator[str]:
    """What is wrong with the docstrings of a module's public classes, functions and methods."""
    for name, node, protocol in _public(ast.parse(source)):
        text = ast.get_docstring(node)
        if text is None:
            yield f"{name}: no docstring"
            continue
        first = text.splitlines()[0]
        if len(first.split()) <= 3:
            yield f"{name}: {first!r} is too short to stand alone"
        if LEANING.match(first):
            yield f"{name}: {first!r} leans on something outside of it"
        for line in re.findall(r"^    [a-z_][\w, ]*: (.+)", text, re.MULTILINE):
            if LEANING.match(line):
                yield f"{name}: argument {line!r} leans on something outside of it"
        if protocol and isinstance(node, Function):
            yield from _sections(name, node, text)


def _public(module: ast.Module) -> Iterator[tuple[str, ast.ClassDef | Function, bool]]:
    """Qualified name and node of every public definition, and whether it is a method of a protocol."""
    for node in module.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node, False
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node, False
            protocol = any("Protocol" in ast.unparse(base).split("[")[0].split(".") for base in node.bases)
            for method in node.body:
                if isinstance(method, Function) and (
                    not method.name.startswith("_") or (protocol and method.name == "__call__")
                ):
                    yield f"{node.name}.{method.name}", method, protocol


def _sections(name: str, node: Function, text: str) -> Iterator[str]:
    """Sections that the docstring of a protocol's method lacks; a property needs none."""
    if any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
        return
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    if any(argument.arg not in ("self", "cls") for argument in arguments) and "\nArgs:\n" not in text:
        yield f"{name}: a protocol's method without Args"
    returned = ast.unparse(node.returns) if node.returns else "None"
    if returned != "None" and not re.search(r"\n(Returns|Yields):\n", text):
        yield f"{name}: a protocol's method without Returns"


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_stand_alone(module: str) -> None:
    """Every public name has a docstring that a reader understands without its surroundings."""
    assert list(faults((ROOT / module).read_text())) == []


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        ("Canonical spelling.", "too short"),
        ("That of the wrapped channel.", "leans"),
        ("The same for a whole batch of items.", "leans"),
        ("None: this channel has no pilots.", "leans"),
        ("Its average power per channel use.", "leans"),
    ],
)
def test_docstrings_that_do_not_stand_alone_are_found(docstring: str, fault: str) -> None:
    """Short and leaning summaries of functions, classes and methods are reported."""
    for source in (
        f'def f():\n    """{docstring}"""',
        f'class A:\n    """{docstring}"""',
        f'class A:\n    """A class that is documented."""\n\n    def f(self):\n        """{docstring}"""',
    ):
        assert any(fault in found for found in faults(source))


@pytest.mark.parametrize("base", ["Protocol", "Protocol[X]", "Base, typing.Protocol"])
@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ('def f(self, x) -> int:\n        """Count the uses of x."""', "without Args"),
        ('def f(self) -> int:\n        """Count the uses of all."""', "without Returns"),
        ("def __call__(self, x): ...", "no docstring"),
        ("def f(self): ...", "no docstring"),
    ],
)
def test_methods_of_protocols_have_sections(base: str, method: str, fault: str) -> None:
    """Methods of protocols lack neither docstring nor Args nor Returns."""
    found = list(faults(f'class A({base}):\n    """A protocol of two halves."""\n\n    {method}'))
    assert any(fault in line for line in found)


def test_arguments_that_do_not_stand_alone_are_found() -> None:
    """An argument is described by a noun, not by a fragment that leans on the argument's name."""
    source = (
        'def f(rho):\n    """Count the uses of a budget.\n\n    Args:\n        rho: Of the budget.\n    """'
    )
    assert any("argument" in fault for fault in faults(source))


def test_a_good_docstring_has_no_fault() -> None:
    """A protocol's method with all sections passes, and so do private names."""
    source = '''
    class Channel(Protocol):
        """A medium for complex symbols."""

        @property
        def name(self) -> str:
            """Canonical name, as accepted on the command line."""

        def draw(self, uses: int) -> Tensor:
            """Draw the noise of a transmission.

            Args:
                uses: Channel uses, at least 0.

            Returns:
                Noise samples [uses].
            """

        def _private(self): ...
    '''
    assert list(faults(dedent(source))) == []
