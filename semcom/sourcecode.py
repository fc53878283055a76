"""Digests of the source code of classes and functions that other packages, scripts and notebooks define."""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

OURS = ("channels", "semcom")
"""Packages of this distribution, known by its version."""

LIBRARIES = frozenset(
    {
        *("PIL", "accelerate", "av", "compressai", "diffusers", "einops", "jaxtyping", "lpips", "matplotlib"),
        *("numba", "numpy", "pandas", "pillow_heif", "safetensors", "scipy", "skimage", "torch"),
        *("torch_fidelity", "torchmetrics", "torchvision", "transformers", "vmaf_torch", "pycvvdp", "cv2"),
    }
)
"""Packages whose versions are logged with every run."""

SUFFIXES = (".py", ".so", ".pyd")


def source_digest(thing: type | FunctionType) -> str:
    """Digest of the code that defines a class or function, and of all modules beside it that this code uses.

    These are the module, the modules of the same top-level package (or, for a script or a single module, of
    the same folder) that it imports, and those that they import in turn. The classes that a class inherits
    from are covered in the same way. The digest depends on the names and contents of the files, and not on
    where they lie. Other files, such as tables and weights, are not covered.

    Args:
        thing: A class, or a function of a module.

    Returns:
        16 hexadecimal digits; empty for Python's own code, this package and well-known libraries such as
        torch, which are known by their versions.
    """
    line = thing.__mro__ if isinstance(thing, type) else (thing,)
    digests: dict[str, bytes] = {}
    for each in line:
        if not _is_known(each.__module__):
            digests |= _of_module(each)
    if not digests:
        return ""
    text = b"".join(name.encode() + b"\0" + digests[name] for name in sorted(digests))
    return hashlib.sha256(text).hexdigest()[:16]


def _is_known(module: str) -> bool:
    top = module.partition(".")[0]
    return top in OURS or top in LIBRARIES or (top in sys.stdlib_module_names and top != "__main__")


def _of_module(thing: type | FunctionType) -> dict[str, bytes]:
    """Digests of the module of a class or function, and of the modules it uses, by name."""
    module = sys.modules.get(thing.__module__)
    path = _file(module)
    if module is None or path is None:  # a notebook, or a prompt
        code = hashlib.sha256("\n".join(_instructions(thing)).encode())
        return {thing.__qualname__: code.digest()}
    name = module.__spec__.name if module.__spec__ is not None else path.stem
    folder = path.parents[name.count(".") + (path.stem == "__init__")]
    alone = "site-packages" in folder.parts or "dist-packages" in folder.parts
    top = name.partition(".")[0]
    digests: dict[str, bytes] = {}
    todo = [(name, path)]
    while todo:
        name, path = todo.pop()
        if name in digests:
            continue
        digests[name], used = _read(path, path.stat().st_mtime_ns, path.stat().st_size, name)
        for other in used:
            if (other.partition(".")[0] == top or not alone) and not _is_known(other):
                todo += [(other, found) for found in _files(folder, other)]
    return digests


def _file(module: ModuleType | None) -> Path | None:
    name = getattr(module, "__file__", None)
    return Path(name).resolve() if name and Path(name).is_file() else None


def _files(folder: Path, name: str) -> Iterator[Path]:
    """File of a module or package below a folder, if there is one."""
    path = folder.joinpath(*name.split("."))
    yield from (path.with_name(path.name + suffix) for suffix in SUFFIXES if _is_file(path, suffix))
    yield from (path / f"__init__{suffix}" for suffix in SUFFIXES if (path / f"__init__{suffix}").is_file())


def _is_file(path: Path, suffix: str) -> bool:
    return path.with_name(path.name + suffix).is_file()


@lru_cache(maxsize=1024)
def _read(path: Path, mtime_ns: int, size: int, name: str) -> tuple[bytes, tuple[str, ...]]:
    """Digest of a file, and all names that it may import; time and size only serve as keys of the cache."""
    content = path.read_bytes()
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    used: set[str] = set()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # compiled code
        tree = ast.Module([], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            used.update({base, *(f"{base}.{alias.name}" for alias in node.names)} - {""})
    parents = {other[:dot] for other in used | {name} for dot, sign in enumerate(other) if sign == "."}
    return hashlib.sha256(content).digest(), tuple(sorted(used | parents))


def _instructions(thing: object) -> Iterator[str]:
    """Bytecode, constants and names of a function, or of all functions of a class."""
    if isinstance(thing, type):
        for name, value in sorted(vars(thing).items()):
            yield name
            yield from _instructions(value)
    elif isinstance(thing, property):
        yield from _instructions(thing.fget)
    elif isinstance(thing, staticmethod | classmethod):
        yield from _instructions(thing.__func__)
    elif isinstance(thing, FunctionType):
        yield from _instructions(thing.__code__)
        yield repr(thing.__defaults__)
    elif isinstance(thing, CodeType):
        yield f"{thing.co_code.hex()} {thing.co_names}"
        for constant in thing.co_consts:
            yield from _instructions(constant)
    elif isinstance(thing, bool | int | float | str | bytes):
        yield repr(thing)
