"""Who may import whom, what an import must not load, and how long it may take."""

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = {
    *("diffusers", "compressai", "lpips", "torchmetrics", "matplotlib", "pandas", "pyarrow", "skimage"),
    *("torchvision", "av", "pillow_heif"),
}


def run(program: str) -> str:
    """Last line that the program prints in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.splitlines()[-1]


def loaded_after(statement: str) -> tuple[set[str], float]:
    """Top-level modules in a new interpreter after a statement, and the CPU time beyond its dependencies'."""
    seconds, names = json.loads(
        run(
            "import sys, time, json, torch, scipy.special, numba, PIL.Image, typer\n"
            "start = time.process_time()\n"
            f"{statement}\n"
            "names = {name.split('.')[0] for name in sys.modules}\n"
            "print(json.dumps([time.process_time() - start, sorted(names)]))"
        )
    )
    return set(names), seconds


def test_imports_are_light() -> None:
    names, seconds = loaded_after(
        "import semcom, channels, semcom.cli, semcom.names, semcom.sending, semcom.sweep\n"
        "import semcom.summary, semcom.quickstart"
    )
    assert not HEAVY & names
    assert seconds < 1.5  # CPU time, which other load on the machine does not change much


def test_public_names_are_loaded_when_used() -> None:
    assert run("import sys, semcom; print('torch' in sys.modules)") == "False"
    assert run("import semcom; print(all(getattr(semcom, name) for name in semcom.__all__))") == "True"


def test_help_needs_no_torch() -> None:
    program = "import sys, time; from semcom.cli import main; main(['--help']); print({})"
    assert run(program.format("'torch' in sys.modules")) == "False"
    assert float(run(program.format("time.process_time()"))) < 1


def test_channels_never_import_semcom() -> None:
    names, _ = loaded_after(
        "import importlib, pkgutil, channels\n"
        "for module in pkgutil.walk_packages(channels.__path__, 'channels.'):\n"
        "    importlib.import_module(module.name)"
    )
    assert "channels" in names
    assert "semcom" not in names


def test_nothing_imports_upwards_or_scripts() -> None:
    allowed = {"channels": {"semcom", "scripts", "tests"}, "semcom": {"scripts", "tests"}}
    for package, forbidden in allowed.items():
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                else:
                    continue
                assert not {name.split(".")[0] for name in names} & forbidden, path
