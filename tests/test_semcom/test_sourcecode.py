"""Code that is not ours is part of what records are made with: edited code is measured again."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from toys import picture

from channels import AWGN
from semcom import names, provenance
from semcom.cli import main
from semcom.metrics import PSNR
from semcom.modalities import IMAGE
from semcom.provenance import canonical, fingerprint
from semcom.results import ResultStore
from semcom.sourcecode import source_digest

CODEC = '''
from dataclasses import dataclass
from strangers.levels import STEP
from semcom.codecs import Quality
from semcom.errors import CorruptPayload
import torch

@dataclass(frozen=True)
class Mean:
    """The mean colour of a picture."""
    name: str = "mean"
    qualities: tuple = (Quality(1, 0),)

    def encode(self, x, quality):
        return bytes(int(v * 255) // STEP for v in x.mean((0, 2, 3)))

    def decode(self, payload, shape):
        if len(payload) != 3:
            raise CorruptPayload("three bytes expected")
        return (torch.tensor(list(payload)) * STEP / 255).float()[None, :, None, None].expand(shape).clone()

MEAN = Mean()
'''
METRIC = '''
from dataclasses import dataclass

@dataclass(frozen=True)
class Largest:
    """Largest error."""
    name: str = "largest"
    unit: str = ""
    higher_is_better: bool = False

    def fits(self, shape):
        return True

    def __call__(self, x_hat, x):
        return float((x_hat - x).abs().max())

LARGEST = Largest()
'''
CHANNEL = '''
from dataclasses import dataclass
from channels import AWGN

@dataclass(frozen=True)
class Plain:
    """White noise."""
    name: str = "plain"

    def draw(self, uses, snr_db, rng):
        return AWGN().draw(uses, snr_db, rng)

    def apply(self, x, state):
        return AWGN().apply(x, state)

    def overhead(self, uses):
        return 0

    def data_uses(self, total):
        return total

PLAIN = Plain()
'''


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "strangers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "codec.py").write_text(CODEC)
    (package / "metric.py").write_text(METRIC)
    (package / "channel.py").write_text(CHANNEL)
    (package / "levels.py").write_text("from .deeper import STEP\n")
    (package / "deeper.py").write_text("STEP = 32\n")
    (package / "unused.py").write_text("x = 1\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    IMAGE.write(picture("toy", 24, 32).x, photos / "toy.png")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield package
    forget()


def forget() -> None:
    """As a new process: nothing of the package is imported."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("strangers", "mine", "helper"):
            del sys.modules[name]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    os.utime(path, (1e9, path.stat().st_mtime + 2))  # Python and this package tell versions by time
    forget()


def sweep(*arguments: str) -> int:
    schemes = ["--schemes", "strangers.codec:MEAN+ldpc:mcs3,softcast", "--data", "photos", "--out", "out"]
    return main(["sweep", *schemes, "--snr", "20", "--rho", "1/4", "--metrics", "psnr_db", *arguments])


def values(folder: Path, superseded: bool = False) -> dict[str, list[float]]:
    with ResultStore(folder / "records.sqlite", read_only=True) as store:
        found: dict[str, list[float]] = {}
        for record in store.records(superseded):
            found.setdefault(record.scheme, []).append(record.numbers["psnr_db"])
        return found


@pytest.mark.parametrize(
    ("file", "old", "new"), [("codec.py", "* STEP / 255", "* STEP / 510"), ("deeper.py", "32", "64")]
)
def test_an_edited_codec_is_measured_again(
    strangers: Path,
    file: str,
    old: str,
    new: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whether the codec itself changes, or a module that a module imports which it imports."""
    assert sweep() == 0
    assert "2 new records" in capsys.readouterr().out
    before = values(Path("out"))
    assert sweep() == 0
    assert "0 new records" in capsys.readouterr().out
    edit(strangers / "unused.py", "1", "2")
    assert sweep() == 0
    assert "0 new records" in capsys.readouterr().out
    edit(strangers / file, old, new)
    assert sweep() == 0
    assert "1 new records" in capsys.readouterr().out, "those of the shipped scheme are still good"
    after = values(Path("out"))
    assert after["softcast"] == before["softcast"]
    assert after["mean+ldpc:mcs3"] != before["mean+ldpc:mcs3"]
    assert sorted(values(Path("out"), superseded=True)["mean+ldpc:mcs3"]) == sorted(
        before["mean+ldpc:mcs3"] + after["mean+ldpc:mcs3"]
    )
    (told,) = [r.getMessage() for r in caplog.records if "measured again" in r.getMessage()]
    assert "mean+ldpc:mcs3 has another definition, code or version than before" in told
    assert "its 1 earlier records are kept apart" in told


@pytest.mark.parametrize(
    ("option", "guest", "file", "old"),
    [
        ("--metrics", "strangers.metric:LARGEST", "metric.py", "max()"),
        ("--channels", "strangers.channel:PLAIN", "channel.py", "return 0"),
    ],
)
def test_an_edited_metric_or_channel_is_refused(
    strangers: Path, option: str, guest: str, file: str, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records name their metrics and channels, so two definitions cannot lie in one folder."""
    assert sweep(option, guest) == 0
    edit(strangers / file, old, f"{old} + 0")
    assert sweep(option, guest) == 2
    told = capsys.readouterr().err
    assert "or its code was edited; give it another name, or use another folder" in told
    assert sweep(option, guest, "--out", "other") == 0


def test_the_digest_is_that_of_every_folder(
    strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fingerprint(import_module("strangers.codec").MEAN)
    assert "strangers.codec.Mean@" in canonical(import_module("strangers.codec").MEAN)
    shutil.copytree(strangers, tmp_path / "elsewhere" / "strangers")
    shutil.rmtree(strangers)
    forget()
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    again = import_module("strangers.codec")
    assert "elsewhere" in str(again.__file__)
    assert fingerprint(again.MEAN) == first


def test_a_single_module_is_covered_with_its_folder(strangers: Path, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def half(x):\n    return x / 2\n")
    (tmp_path / "mine.py").write_text(
        "class A:\n    def f(self, x):\n        from helper import half\n        return half(x)\n"
    )
    before = source_digest(import_module("mine").A)
    edit(tmp_path / "helper.py", "2", "3")
    assert source_digest(import_module("mine").A) != before


def test_a_class_is_covered_with_those_it_inherits_from(strangers: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from strangers.codec import Mean\n\nclass Own(Mean):\n    pass\n")
    before = source_digest(import_module("mine").Own)
    edit(strangers / "deeper.py", "32", "33")
    assert source_digest(import_module("mine").Own) != before


def test_code_without_a_file_is_told_apart_by_its_instructions() -> None:
    """As in a notebook, or at the prompt."""

    def defined(text: str) -> type:
        scope: dict[str, object] = {"__name__": "__notebook__"}
        exec(text, scope)
        found = scope["A"]
        assert isinstance(found, type)
        return found

    text = "class A:\n    def f(self, x):\n        return x * 1.3\n"
    assert source_digest(defined(text)) == source_digest(defined(text))
    assert source_digest(defined(text)) != source_digest(defined(text.replace("1.3", "2.0")))
    assert source_digest(defined(text)) != source_digest(defined(text.replace("* 1.3", "+ 1.3")))


def test_libraries_and_this_package_are_known_by_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_digest(torch.nn.Conv2d) == source_digest(AWGN) == source_digest(ast.AST) == ""
    things = (AWGN(), PSNR(), names.scheme("softcast"))
    before = list(map(fingerprint, things))
    monkeypatch.setattr(provenance, "package_version", lambda: "9.9")
    assert all(a != b for a, b in zip(before, map(fingerprint, things), strict=True))


def test_records_of_another_version_are_refused_in_one_line(
    strangers: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep() == 0
    made_with = provenance.package_version()
    monkeypatch.setattr(provenance, "package_version", lambda: "9.9")
    monkeypatch.setattr("semcom.sweep.package_version", lambda: "9.9")
    assert sweep() == 2
    told = capsys.readouterr().err
    assert f"the records were made with semcom {made_with}, and this is 9.9" in told
    assert "use another folder, or the earlier version" in told
    assert main(["plot", "out"]) == 0, "they are read as ever"


@pytest.mark.slow
def test_shipped_schemes_have_the_same_fingerprints_after_a_reinstall(tmp_path: Path) -> None:
    """The package copied to another folder, as a reinstallation does."""
    root = Path(__file__).parents[2]
    for package in ("semcom", "channels"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import semcom; from semcom import names; from semcom.provenance import fingerprint\n"
        "print([fingerprint(names.scheme(n)) for n in ('softcast', 'jpeg+ldpc', 'deepjscc+ddrm')])"
    )
    printed = []
    for folder in (root, tmp_path):
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONPYCACHEPREFIX": str(tmp_path / "pyc")}
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        printed.append(run.stdout)
    assert printed[0] == printed[1]
    assert printed[0].count(",") == 2
