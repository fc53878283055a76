"""Docstrings stand alone: a documentation site sorts by name, so no docstring may lean on its neighbour."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    str(path.relative_to(ROOT)) for package in ("channels", "semcom") for path in (ROOT / package).rglob("*.py")
)

# Modules whose docstrings are still to be rewritten. Only ever shorten this list.
PENDING: frozenset[str] = frozenset()

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


@pytest.mark.parametrize("module", [module for module in MODULES if module not in PENDING])
def test_docstrings_stand_alone(module: str) -> None:
    """Every public name has a docstring that a reader understands without its surroundings."""
    assert list(faults((ROOT / module).read_text())) == []


def test_pending_modules_are_pending() -> None:
    """A module leaves the list as soon as its docstrings stand alone, and no entry outlives its file."""
    unfinished = {module for module in MODULES if any(faults((ROOT / module).read_text()))}
    assert set(PENDING) <= unfinished


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def f():\n    pass", "no docstring"),
        ('def f():\n    """Canonical spelling."""', "too short"),
        ('class A:\n    """A class with a docstring."""\n    def f(self):\n        """That of the channel."""', "leans"),
        ('def f():\n    """The same for a whole batch of items."""', "leans"),
        ('def f():\n    """None: this channel has no pilots at all."""', "leans"),
        ('class A(Protocol):\n    """A protocol of two halves."""\n    def f(self, x) -> int:\n        """Count the uses of x."""', "without Args"),
        ('class A(Protocol[X]):\n    """A protocol of two halves."""\n    def f(self) -> int:\n        """Count the uses of it."""', "without Returns"),
        ('class A(Protocol):\n    """A protocol of two halves."""\n    def __call__(self, x): ...', "no docstring"),
    ],
)
def test_faults_are_found(source: str, fault: str) -> None:
    """Each kind of fault is reported."""
    assert any(fault in found for found in faults(dedent(source)))


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
