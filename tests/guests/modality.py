"""Sound, as a modality of somebody else."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from semcom.errors import InvalidSource
from semcom.files import replacing
from semcom.modalities import Item, named
from semcom.modalities.modality import check_writable, existing_file

Sound = NDArray[np.int16]


@dataclass(frozen=True)
class Waveform:
    """Sound of one track at 8 kHz: int16 [samples]."""

    name: str = "waveform"
    suffixes: frozenset[str] = frozenset({".wav"})
    saved_suffix: str = ".wav"
    writable: frozenset[str] = frozenset({".wav"})

    def read(self, path: Path) -> Item[Sound]:
        path = existing_file(path, "sound")
        try:
            _, x = wavfile.read(path)
        except ValueError as error:
            raise InvalidSource(f"{path}: {error}") from None
        return named(path.stem, x, self)

    def write(self, x: Sound, path: Path) -> None:
        check_writable(path, self)
        with replacing(path) as part:
            wavfile.write(part, 8000, x)

    def check(self, x: Sound) -> Sound:
        if not (isinstance(x, np.ndarray) and x.ndim == 1 and x.dtype == np.int16 and len(x)):
            raise InvalidSource("sound of another form; expected int16 [samples]")
        return x

    def dims(self, x: Sound) -> int:
        return len(x)

    def shape(self, x: Sound) -> tuple[str, int]:
        return ("samples", len(x))

    def cover(self, shape: tuple[str, int]) -> Sound:
        return np.zeros(shape[1], np.int16)

    def digest(self, x: Sound) -> str:
        return hashlib.blake2b(x.tobytes(), digest_size=4).hexdigest()


WAVEFORM = Waveform()
