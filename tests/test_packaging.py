"""What a wheel of this package holds: the tree as it is, and nothing of a former build."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from semcom import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = ("channels", "semcom")


@pytest.mark.slow
def test_a_wheel_holds_the_tree_and_no_former_build(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    tree = tmp_path / "tree"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
        stale = tree / "build" / "lib" / package / "deleted.py"
        stale.parent.mkdir(parents=True)
        stale.write_text("raise ImportError\n")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tree / name)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=tree, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"semcom-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
        metadata = {Path(name).name for name in file.namelist() if ".dist-info/" in name}
    there = {
        path.relative_to(tree).as_posix()
        for package in PACKAGES
        for path in (tree / package).rglob("*")
        if path.is_file()
    }
    assert held == there
    assert {"semcom/weights/manifest.json", "semcom/py.typed", "channels/py.typed"} <= held
    assert {Path(name).suffix for name in held} >= {".py", ".safetensors", ".json", ".md"}
    assert {"LICENSE", "entry_points.txt"} <= metadata
