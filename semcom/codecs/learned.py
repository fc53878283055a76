"""Learned codec: a trained network, and a range coder that turns its integers into bytes."""

import math
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from semcom.codecs.codec import Quality
from semcom.codecs.hyperprior import (
    BLOCK,
    LEVELS,
    LEVELS_PER_OCTAVE,
    LOG2_SCALE_MIN,
    SETTINGS,
    MeanScaleHyperprior,
    decided,
)
from semcom.codecs.still import SCALES, enlarge, pixels_of, reduced_size, shrink
from semcom.errors import CorruptPayload, InvalidOption
from semcom.modalities.image import from_pixels, to_pixels

PRECISION = 16  # bits of the frequencies in the range coder
HEADER_BYTES = 3
LEAST_BLOCKS = 4  # of a side; smaller pictures are padded: the networks know none that is all border

Integers = Int[np.ndarray, "..."]


@dataclass(frozen=True)
class LearnedCodec:
    """Learned source codec: a mean-scale hyperprior whose latents are entropy-coded to bytes.

    The payload is one byte for scale and setting, a checksum of 16 bits over the network's parameters and all
    integers, and one stream of the range coder; the size of the picture is not in it. The decoder computes
    exactly (see `semcom.codecs.hyperprior`), so that integers and pixels are equal with any number of threads
    and on any machine. The checksum detects a decoder that gets other integers anyway, and one with another
    network, even if that differs in the synthesis alone. The encoder's transform is in float32.

    Args:
        network: Trained network, for instance `zoo.load("learned")`.
    """

    network: MeanScaleHyperprior
    _exact: MeanScaleHyperprior = field(init=False, repr=False, compare=False)
    _parameters_crc: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exact", self.network.in_fixed_point())
        object.__setattr__(self, "_parameters_crc", _crc_of(self._exact))

    @property
    def name(self) -> str:
        """Canonical name of the codec: "learned"."""
        return self.network.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """All qualities, coarse to fine: scale 1/8 first, settings in rising order within a scale."""
        return tuple(Quality(scale, setting) for scale in SCALES for setting in range(SETTINGS))

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "1 3 height width"], quality: Quality) -> bytes:
        """Encode an image [1, 3, height, width] in [0, 1] as header and stream.

        Args:
            x: Image in [0, 1], [1, 3, height, width].
            quality: One of `qualities`.

        Returns:
            The payload.

        Raises:
            InvalidOption: The quality does not exist.
        """
        if quality.scale not in SCALES or not 0 <= quality.setting < SETTINGS:
            raise InvalidOption(
                f"{quality} of {self.name}: scale must be one of {SCALES}, setting in 0..{SETTINGS - 1}"
            )
        coder = _Encoder()
        self._encode(from_pixels(shrink(pixels_of(x), quality.scale)), quality.setting, coder)
        head = SCALES.index(quality.scale) * SETTINGS + quality.setting
        return bytes([head]) + coder.checksum(self._parameters_crc).to_bytes(2, "big") + coder.stream()

    @torch.no_grad()
    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Float[Tensor, "1 3 height width"]:
        """Decode a payload to an image in [0, 1].

        Args:
            payload: Bytes from `encode`.
            shape: Shape of the image, (1, 3, height, width).

        Returns:
            The image.

        Raises:
            CorruptPayload: The header is invalid, or the checksum does not match: the payload is damaged, or
                made with another network.
        """
        if len(payload) < HEADER_BYTES or payload[0] >= len(SCALES) * SETTINGS:
            raise CorruptPayload(f"{self.name} payload of {len(payload)} bytes has no valid header")
        place, setting = divmod(payload[0], SETTINGS)
        size = (shape[-1], shape[-2])
        width, height = reduced_size(size, SCALES[place])
        coder = _Decoder(payload[HEADER_BYTES:], self._most_integers((height, width)))
        x = self._decode((height, width), setting, coder)
        if coder.checksum(self._parameters_crc) != int.from_bytes(payload[1:HEADER_BYTES], "big"):
            raise CorruptPayload(
                f"{self.name} payload of {len(payload)} bytes fails its checksum (damage or another network)"
            )
        pixels = to_pixels(x[:, :, :height, :width])
        return from_pixels(enlarge(pixels, size))

    def scale(self, payload: bytes, shape: tuple[int, ...]) -> int:
        """Downscaling factor in the header of a payload; raises `CorruptPayload` without a valid header."""
        if len(payload) < HEADER_BYTES or payload[0] >= len(SCALES) * SETTINGS:
            raise CorruptPayload(f"{self.name} payload of {len(payload)} bytes has no valid header")
        return SCALES[payload[0] // SETTINGS]

    def _most_integers(self, size: tuple[int, int]) -> int:
        rows, columns = map(_blocks, size)
        config = self.network.config
        side = config["side"] * math.ceil(rows / 4) * math.ceil(columns / 4)
        return config["coefficients"] * rows * columns + side

    def _encode(self, x: Tensor, setting: int, coder: "_Encoder") -> None:
        rows, columns = map(_blocks, x.shape[2:])
        padding = (0, columns * BLOCK - x.shape[3], 0, rows * BLOCK - x.shape[2])
        number = torch.tensor([setting])
        y = self.network.analyse(F.pad(x, padding, mode="replicate"), number)
        z = self.network.hyper_analysis(y, number).double()
        mean, log2_scale = (p.expand_as(z) for p in self._exact.prior_of(number, torch.float64))
        z_hat = mean + coder.put(z - mean, log2_scale)
        y_hat = torch.zeros_like(y, dtype=torch.float64)
        for first, last, mask, mean, log2_scale in self._passes(z_hat, y_hat, number):
            residual = y[0, first:last, mask].double() - mean
            y_hat[0, first:last, mask] = mean + coder.put(residual, log2_scale)

    def _decode(self, size: tuple[int, int], setting: int, coder: "_Decoder") -> Tensor:
        rows, columns = map(_blocks, size)
        number = torch.tensor([setting])
        mean, log2_scale = self._exact.prior_of(number, torch.float64)
        shape = (-1, -1, math.ceil(rows / 4), math.ceil(columns / 4))
        mean, log2_scale = mean.expand(shape), log2_scale.expand(shape)
        z_hat = mean + coder.get(log2_scale)
        y_hat = torch.zeros(1, self.network.config["coefficients"], rows, columns, dtype=torch.float64)
        for first, last, mask, mean, log2_scale in self._passes(z_hat, y_hat, number):
            y_hat[0, first:last, mask] = mean + coder.get(log2_scale)
        return self._exact.synthesise(y_hat, number).float()

    def _passes(
        self, z_hat: Tensor, y_hat: Tensor, setting: Tensor
    ) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
        """Group, blocks, means and scales [group, blocks], one pass after the other."""
        for p in self._exact.passes(z_hat, y_hat, setting):
            mask = p.mask[0, 0] > 0
            yield p.first, p.last, mask, p.mean[0][:, mask], p.log2_scale[0][:, mask]


def _blocks(extent: int) -> int:
    return max(math.ceil(extent / BLOCK), LEAST_BLOCKS)


class _Encoder:
    """Collector of integers and their tables; the stream is made at the end, as the coder works backwards."""

    def __init__(self) -> None:
        self._symbols: list[Integers] = []
        self._levels: list[Integers] = []

    def put(self, values: Tensor, log2_scale: Tensor) -> Tensor:
        """Decide on integers and code those that may differ from 0; returns what the decoder will get."""
        levels = levels_of(log2_scale)
        reach = torch.tensor(reaches())[levels]
        rounded = decided(values, log2_scale).clamp(-reach, reach)
        coded = levels > 0
        self._symbols.append(rounded[coded].int().numpy())
        self._levels.append(levels[coded].int().numpy())
        return rounded * coded

    def checksum(self, start: int) -> int:
        """Checksum of 16 bits over all integers, continued from the CRC-32 of the parameters."""
        return _checksum(self._symbols, start)

    def stream(self) -> bytes:
        """Range coder stream of all integers."""
        symbols, levels = np.concatenate(self._symbols), np.concatenate(self._levels)
        tables, sizes, offsets = tables_up_to(int(levels.max(initial=0)))
        return (
            range_coder()
            .RansEncoder()
            .encode_with_indexes(symbols.tolist(), levels.tolist(), tables, sizes, offsets)
        )


class _Decoder:
    """Integers of a stream in the order in which they were coded.

    A stream is continued with zeros, since the range coder does not check the end. It reads two words of 4
    bytes at the start, and at most one per integer.
    """

    def __init__(self, stream: bytes, most_integers: int) -> None:
        self._coder = range_coder().RansDecoder()
        self._coder.set_stream(stream + bytes(4 * most_integers + 16))
        self._symbols: list[Integers] = []

    def get(self, log2_scale: Tensor) -> Tensor:
        """Integers of these scales, in its shape."""
        levels = levels_of(log2_scale)
        coded = levels > 0
        asked = levels[coded].int().numpy()
        tables, sizes, offsets = tables_up_to(int(asked.max(initial=0)))
        found = self._coder.decode_stream(asked.tolist(), tables, sizes, offsets)
        self._symbols.append(np.array(found, dtype=np.int32))
        symbols = torch.zeros(levels.shape, dtype=torch.float64)
        symbols[coded] = torch.tensor(found, dtype=torch.float64)
        return symbols

    def checksum(self, start: int) -> int:
        """Checksum of 16 bits over all integers, continued from the CRC-32 of the parameters."""
        return _checksum(self._symbols, start)


def range_coder() -> ModuleType:
    """CompressAI's range coder: a compiled module, loaded without its package, whose import takes seconds."""
    return _compiled("compressai.ans")


@cache
def _compiled(name: str) -> ModuleType:
    """A compiled module inside a package, which is not imported; the one in use if it is loaded already."""
    if name in sys.modules:
        return sys.modules[name]
    package, _, _ = name.partition(".")
    folder = find_spec(package)
    found = folder and PathFinder.find_spec(name, folder.submodule_search_locations)
    if not found or not found.loader:
        return import_module(name)  # raises what is wrong
    module = module_from_spec(found)
    found.loader.exec_module(module)
    sys.modules.pop(name, None)  # the package, if it is ever imported, is to find it by itself
    return module


def levels_of(log2_scale: Tensor) -> Tensor:
    """Convert scales to indices of frequency tables; at index 0 the integer is certainly 0, and is not coded.

    Args:
        log2_scale: Log2 of the scale of the logistic distribution, in quantiser steps.

    Returns:
        Indices, at least 0, same shape.
    """
    return torch.round((log2_scale - LOG2_SCALE_MIN) * LEVELS_PER_OCTAVE).clamp(0, LEVELS - 1).long()


@cache
def reaches() -> tuple[int, ...]:
    """Largest integer of each frequency table; beyond it lies less than 2^-16 of the distribution."""
    scales = (2 ** (LOG2_SCALE_MIN + level / LEVELS_PER_OCTAVE) for level in range(LEVELS))
    return tuple(math.ceil(12 * scale) + 1 for scale in scales)


@cache
def frequencies(level: int) -> list[int]:
    """Cumulative frequencies of the integers -reach .. reach, then of an escape that never occurs.

    Args:
        level: Index of the table, at least 1.

    Returns:
        Cumulative frequencies.
    """
    reach = reaches()[level]
    scale = 2 ** (LOG2_SCALE_MIN + level / LEVELS_PER_OCTAVE)
    edges = np.arange(-reach - 0.5, reach + 1) / (2 * scale)
    mass = np.diff(np.tanh(edges)) / 2
    return [
        *_compiled("compressai._CXX").pmf_to_quantized_cdf((mass / mass.sum()).tolist(), PRECISION),
        1 << PRECISION,
    ]


@cache
def tables_up_to(level: int) -> tuple[list[list[int]], list[int], list[int]]:
    """Frequency tables up to a level: cumulative frequencies, lengths and smallest integers.

    Args:
        level: Index of the last table.

    Returns:
        Three lists, one entry per table.
    """
    tables = [frequencies(number) for number in range(level + 1)]
    return tables, [len(table) for table in tables], [-reach for reach in reaches()[: level + 1]]


def _checksum(symbols: list[Integers], start: int) -> int:
    return zlib.crc32(np.concatenate(symbols).astype("<i4").tobytes(), start) & 0xFFFF


def _crc_of(network: MeanScaleHyperprior) -> int:
    """CRC-32 of all parameters and buffers in float64, in the order of their names."""
    crc = 0
    for name, value in sorted(network.state_dict().items()):
        crc = zlib.crc32(value.detach().cpu().double().contiguous().numpy().tobytes(), crc)
        crc = zlib.crc32(name.encode(), crc)
    return crc
