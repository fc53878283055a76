"""Guests: a modality, codec, channel, receiver and metric, a file each, unknown to this package."""

import json
import re
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

FILES = {
    "modality": '''
import hashlib
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from scipy.io import wavfile
from semcom.errors import InvalidSource
from semcom.modalities import Item

@dataclass(frozen=True)
class Waveform:
    """Sound of one track, 16 bits: numpy int16 [samples]."""
    name: str = "waveform"
    suffixes: frozenset = frozenset({".wav"})
    saved_suffix: str = ".wav"
    writable: frozenset = frozenset({".wav"})

    def read(self, path):
        rate, x = wavfile.read(path)
        return Item(f"{Path(path).stem}-{self.digest(x)}", self.check(x), self)

    def write(self, x, path):
        wavfile.write(path, 8000, x)

    def check(self, x):
        if not (isinstance(x, np.ndarray) and x.ndim == 1 and x.dtype == np.int16 and len(x)):
            raise InvalidSource("sound of another form; expected int16 [samples]")
        return x

    def dims(self, x):
        return len(x)

    def shape(self, x):
        return ("samples", len(x))

    def cover(self, shape):
        return np.zeros(shape[1], np.int16)

    def digest(self, x):
        return hashlib.blake2b(x.tobytes(), digest_size=4).hexdigest()

WAVEFORM = Waveform()
''',
    "codec": '''
import zlib
from dataclasses import dataclass
import numpy as np
from semcom.codecs import Fitted, Quality
from semcom.errors import BudgetTooSmall, CorruptPayload

@dataclass(frozen=True)
class Coarse:
    """Samples without their low bits, as many as fit, deflated."""
    name: str = "coarse"
    qualities: tuple = tuple(Quality(1, kept) for kept in range(2, 17))

    def encode(self, x, quality):
        kept = (x >> (16 - quality.setting)).astype(np.int16)
        return bytes([quality.setting]) + zlib.compress(kept.tobytes(), 9)

    def decode(self, payload, shape):
        try:
            kept = np.frombuffer(zlib.decompress(payload[1:]), np.int16)
        except zlib.error as error:
            raise CorruptPayload(str(error)) from None
        if len(kept) != shape[1]:
            raise CorruptPayload("sound of another length")
        return (kept.astype(np.int32) << (16 - payload[0])).astype(np.int16)

    def fit(self, x, max_bits):
        for quality in reversed(self.qualities):
            payload = self.encode(x, quality)
            if 8 * len(payload) <= max_bits:
                return Fitted(payload, quality, self.decode(payload, ("samples", len(x))))
        raise BudgetTooSmall(f"coarse needs more than {max_bits} bits; raise rho")

COARSE = Coarse()
''',
    "channel": '''
from dataclasses import dataclass
from channels import AWGN

@dataclass(frozen=True)
class Hum:
    """White noise, under a name of its own."""
    name: str = "hum"

    def draw(self, uses, snr_db, rng):
        return AWGN().draw(uses, snr_db, rng)

    def apply(self, x, state):
        return AWGN().apply(x, state)

    def overhead(self, uses):
        return 0

    def data_uses(self, total):
        return total

HUM = Hum()
''',
    "receiver": '''
from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Smoothing:
    """A moving mean of three samples."""
    name: str = "smoothing"

    def __call__(self, observation, shape, rng):
        if observation.shown is None:
            return None
        x = np.pad(observation.shown.astype(np.int32), 1, mode="edge")
        return ((x[:-2] + x[1:-1] + x[2:]) // 3).astype(np.int16)

SMOOTHING = Smoothing()
''',
    "metric": '''
from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Roughness:
    """Mean absolute difference in levels."""
    name: str = "roughness"
    unit: str = "levels"
    higher_is_better: bool = False

    def fits(self, shape):
        return shape[0] == "samples"

    def __call__(self, x_hat, x):
        return float(np.abs(x_hat.astype(np.int32) - x).mean())

ROUGHNESS = Roughness()
''',
}


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of guests beside a folder of sounds."""
    package = tmp_path / "guests"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, content in FILES.items():
        (package / f"{name}.py").write_text(content)
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for pitch in (3, 5):
        time = np.arange(600)
        wavfile.write(sounds / f"tone{pitch}.wav", 8000, (9000 * np.sin(time / pitch)).astype(np.int16))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in list(sys.modules):
        if name.partition(".")[0] == "guests":
            del sys.modules[name]


WITH_GUESTS = [
    "--modality",
    "guests.modality:WAVEFORM",
    "--metrics",
    "guests.metric:ROUGHNESS",
]


def test_a_sound_is_sent(guests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["send", "sounds/tone3.wav", "--scheme", "guests.codec:COARSE+ldpc:mcs9", "--snr", "20"]
    arguments += ["--channel", "guests.channel:HUM", "--rho", "12", "--out", "received.wav", "--json"]
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
    schemes = "guests.codec:COARSE+ldpc:mcs9,guests.codec:COARSE+ldpc:mcs9+guests.receiver:SMOOTHING"
    arguments = ["sweep", "--data", "sounds", "--schemes", schemes, "--channels", "guests.channel:HUM"]
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
