"""Who may import whom, what an import must not load, and how long it may take."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as PillowImage

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


LATER = HEAVY | {"scipy.stats", "scipy.optimize", "torch._dynamo", "numba", "sympy"}
"""Modules that a command loads when it needs them, and not before."""


def loaded_by(command: list[str], folder: Path) -> tuple[int, set[str]]:
    """Exit code of a command in a new interpreter, and all modules that it loaded."""
    program = (
        "import os, sys, json\n"
        f"os.chdir({str(folder)!r}); sys.path.append({str(ROOT)!r})\n"
        "from semcom.cli import main\n"
        f"code = main({command!r})\n"
        "print(); print(json.dumps([code, sorted(sys.modules)]))"
    )
    code, names = json.loads(run(program))
    return code, set(names)


def test_send_loads_what_it_needs(tmp_path: Path) -> None:
    photo = PillowImage.effect_noise((64, 48), 60).convert("RGB")
    photo.save(tmp_path / "photo.png")
    code, names = loaded_by(["send", "photo.png", "--snr", "5", "--scheme", "deepjscc"], tmp_path)
    assert code == 0
    assert not LATER & names
    learned = ["send", "photo.png", "--snr", "5", "--scheme", "learned+ldpc", "--rho", "1/2"]
    code, names = loaded_by(learned, tmp_path)
    assert code == 0
    assert LATER & names == {"numba"}
    assert not {name for name in names if name.startswith("compressai.")}


@pytest.mark.parametrize(
    "command",
    [
        ["--version"],
        ["sned"],
        ["send", "nowhere.png", "--snr", "5"],
        ["send", "photo.png", "--snr", "abc"],
        ["sweep", "--data", "nowhere", "--out", "r"],
        ["plot", "nowhere"],
        ["report", "nowhere"],
        ["export", "nowhere"],
        ["realism", "nowhere"],
        ["text", "compress", "nowhere.txt"],
        ["completion", "bash"],
    ],
    ids=" ".join,
)
def test_what_needs_no_torch_does_not_load_it(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    _, names = loaded_by(command, tmp_path)
    assert not {"torch", "numpy", "PIL"} & names


def test_the_range_coder_is_that_of_its_package() -> None:
    program = (
        "from semcom.codecs.learned import range_coder\n"
        "ours = range_coder().RansEncoder()\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "import compressai.ans\n"
        "print(isinstance(ours, compressai.ans.RansEncoder))"
    )
    assert run(program) == "True"


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
