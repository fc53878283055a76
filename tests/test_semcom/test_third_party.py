"""Parts of third parties, a file each and unknown to this package, at the command line.

The contract tests run over the same parts, see `tests/instances.py`.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from toys import picture

from channels.errors import ChannelError
from semcom import names
from semcom.cli import main
from semcom.results import ResultStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The parts of `tests/guests` outside this repository, as `visitors`, beside a folder of sounds."""
    shutil.copytree(ROOT / "tests" / "guests", tmp_path / "visitors")
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for pitch in (3, 5):
        time = np.arange(600)
        wavfile.write(sounds / f"tone{pitch}.wav", 8000, (9000 * np.sin(time / pitch)).astype(np.int16))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in list(sys.modules):
        if name.partition(".")[0] == "visitors":
            del sys.modules[name]


WITH_GUESTS = [
    "--modality",
    "visitors.modality:WAVEFORM",
    "--metrics",
    "visitors.metric:ROUGHNESS",
]


def test_a_sound_is_sent(guests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["send", "sounds/tone3.wav", "--scheme", "visitors.codec:COARSE+ldpc:mcs9", "--snr", "20"]
    arguments += ["--channel", "visitors.channel:HUM", "--rho", "12", "--out", "received.wav", "--json"]
    assert main([*arguments, *WITH_GUESTS]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["modality"] == "waveform"
    assert record["channel"] == "hum"
    assert record["scheme"] == "coarse+ldpc:mcs9"
    assert record["channel_uses"] == record["budget_uses"] == 12 * 600
    received = wavfile.read("received.wav")[1].astype(int)
    sent = wavfile.read("sounds/tone3.wav")[1]
    assert record["roughness"] == pytest.approx(np.abs(received - sent).mean())
    assert record["roughness"] < 300


def test_sounds_are_swept_plotted_reported(guests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schemes = "visitors.codec:COARSE+ldpc:mcs9,visitors.codec:COARSE+ldpc:mcs9+visitors.receiver:SMOOTHING"
    arguments = ["sweep", "--data", "sounds", "--schemes", schemes, "--channels", "visitors.channel:HUM"]
    arguments += ["--snr", "-5,20", "--rho", "12", "--keep", "--out", "out"]
    assert main([*arguments, *WITH_GUESTS]) == 0
    with ResultStore(guests / "out" / "records.sqlite", read_only=True) as store:
        records, columns = store.frame(), store.columns()
    assert len(records) == 2 * 2 * 2
    assert set(records["scheme"]) == {"coarse+ldpc:mcs9", "coarse+ldpc:mcs9+smoothing"}
    assert columns["roughness"].unit == "levels"
    assert columns["roughness"].higher_is_better is False
    lost = records[records["outage"] == 1]
    assert set(lost["snr_db"]) == {-5.0}
    assert len(list((guests / "out" / "pictures").rglob("*.wav"))) == 8 + 2  # received and sent
    assert main(["plot", "out"]) == 0
    assert list((guests / "out" / "figures").glob("roughness*.svg"))
    assert main(["report", "out"]) == 0
    page = (guests / "out" / "report.html").read_text()
    assert "roughness" in page
    assert "coarse+ldpc:mcs9+smoothing" in page
    assert main(["export", "out"]) == 0
    assert "roughness" in (guests / "out" / "records.csv").read_text()


def test_the_scheme_of_the_front_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of the README runs as it stands there."""
    (block,) = re.findall(r"```python\n(# mine\.py.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "mine.py").write_text(block)
    from semcom.modalities import IMAGE

    IMAGE.write(picture("toy", 24, 32).x, tmp_path / "photo.png")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ["send", "photo.png", "--scheme", "mine:REPEATED", "--snr", "20", "--rho", "1", "--json"]
    assert main([*arguments, "--metrics", "psnr_db"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert not record["outage"]
    assert record["psnr_db"] > 20
    del sys.modules["mine"]


def test_a_name_of_ours_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "usurper.py").write_text(
        "from dataclasses import replace\nfrom semcom import names\n"
        "OURS = replace(names.scheme('softcast'), name='avif+ldpc:csit-average')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from semcom.modalities import IMAGE

    IMAGE.write(picture("toy", 24, 32).x, tmp_path / "photo.png")
    assert main(["send", str(tmp_path / "photo.png"), "--scheme", "usurper:OURS", "--snr", "20"]) == 2
    assert "calls itself avif+ldpc:csit-average, which is a scheme of this package" in capsys.readouterr().err
    del sys.modules["usurper"]


def test_a_channel_that_is_not_hashable_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions about channels are kept by channel: told when it is named, not when a link is planned."""
    (tmp_path / "loose_channels.py").write_text(
        "from dataclasses import dataclass, field\n"
        "from channels import AWGN\n"
        "class Inner:\n"
        "    name, draw, apply = 'loose', AWGN().draw, AWGN().apply\n"
        "    overhead, data_uses = AWGN().overhead, AWGN().data_uses\n"
        "@dataclass\n"
        "class Loose(Inner):\n"
        "    taps: list = field(default_factory=list)\n"
        "@dataclass(frozen=True)\n"
        "class Frozen(Inner):\n"
        "    taps: list = field(default_factory=list)\n"
        "LOOSE, FROZEN, TIGHT = Loose(), Frozen(), Inner()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("LOOSE", "FROZEN"):
        with pytest.raises(ChannelError, match=r"^channel loose \((Loose|Frozen)\) is not hashable"):
            names.channel(f"loose_channels:{name}")
    assert names.channel("loose_channels:TIGHT").name == "loose"
