"""Language models in double precision whose symbol frequencies are the same integers everywhere."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from semcom.errors import InvalidOption
from semcom.surroundings import library_defaults
from semcom.text.lm import LanguageModel, load
from semcom.text.rangecoder import LEAST_BITS

GRID = 256
"""Steps of the grid of logits per nat; costs about 6e-5 bits per token."""
OFFSETS = 4
"""Number of grids, shifted by a quarter of a step each, from which the encoder chooses."""
MARGIN = 1e-11
"""Distance of all logits from the next step of the grid, in nats, that the encoder insists on. Logits in
double precision by prefill and step by step, or by kernels of other processors, differ by up to about 1e-13.
"""
BYTES = 256
"""Symbols behind the vocabulary, one per byte, for characters that the tokenizer cannot represent."""
PROBE = 4  # tokens whose frequencies are part of the fingerprint


@dataclass(frozen=True, eq=False)
class ExactModel:
    """A language model whose next-symbol frequencies are reproducible integers.

    Logits z are computed in double precision and put on a grid, q = floor(256 z + offset / 4). Symbol i gets
    the frequency max(1, round(2^s exp((q_i - max q) / 256))), s = 24 for vocabularies below 65,280. Since
    rounding errors are far below a step of the grid, prefill and step-by-step inference, batches, threads and
    vector units give the same integers, unless a logit lies within the error of a step: the encoder chooses
    one of four grids for which none lies within `MARGIN`.

    Args:
        lm: Language model in double precision, prepared by `exact`.
    """

    lm: LanguageModel

    @property
    def symbols(self) -> int:
        """Number of symbols: the vocabulary and 256 bytes."""
        return self.lm.vocabulary + BYTES

    @property
    def scale_bits(self) -> int:
        """Exponent s of the frequency 2^s of the most probable symbol."""
        return min(24, LEAST_BITS - self.symbols.bit_length())

    @property
    def start(self) -> int:
        """Token in front of every packet."""
        return _start(self.lm)

    @property
    def most(self) -> int:
        """Largest number of symbols that fit into the context window behind the start token."""
        return self.lm.window - 1

    def split(self, text: str) -> list[int]:
        """Represent a text by symbols: tokens, and bytes where the tokenizer does not reproduce a character.

        Args:
            text: Any text.

        Returns:
            Numbers below `symbols`.
        """
        tokens = self.lm.encode(text)
        if self.lm.decode(tokens) == text:
            return tokens
        found: list[int] = []
        for run, representable in _runs(self.lm, text):
            tokens = self.lm.encode(run) if representable else []
            if not representable or self.lm.decode(tokens) != run:
                tokens = [self.lm.vocabulary + byte for byte in run.encode("utf-8")]
            found += tokens
        return found

    def join(self, symbols: Sequence[int]) -> str:
        """Text of symbols made by `split`; of others some text, possibly with U+FFFD.

        Args:
            symbols: Numbers below `symbols`.

        Returns:
            The text.
        """
        parts: list[str] = []
        for is_bytes, run in _alike(symbols, self.lm.vocabulary):
            if is_bytes:
                parts.append(bytes(s - self.lm.vocabulary for s in run).decode("utf-8", "replace"))
            else:
                parts.append(self.lm.decode(run))
        return "".join(parts)

    def read(self, symbols: Sequence[int]) -> list[int]:
        """Tokens that the model reads: the symbol itself, or the start token in place of a byte."""
        stand_in = self.start
        return [s if s < self.lm.vocabulary else stand_in for s in symbols]

    @torch.no_grad()
    @library_defaults()
    def prefill(self, symbols: Sequence[int]) -> Float[Tensor, "length vocabulary"]:
        """Logits of each symbol given those before it, in one pass.

        Args:
            symbols: At most `most` numbers below `symbols`, at least one.

        Returns:
            Logits in double precision.

        Raises:
            InvalidOption: There are more symbols than fit the context window.
        """
        ids = torch.tensor([[self.start, *self.read(symbols[:-1])]])
        return self.lm.logits(ids)[0].double().cpu()

    def frequencies(self, logits: NDArray[np.float64], offset: int) -> NDArray[np.int64]:
        """Integer frequencies of all symbols.

        Args:
            logits: Logits of the vocabulary, the last axis.
            offset: Grid, below `OFFSETS`.

        Returns:
            Frequencies, at least 1, one per symbol on the last axis.
        """
        table = _table(self.scale_bits)
        steps = np.floor(logits * GRID + offset / OFFSETS)
        below = np.minimum(steps.max(-1, keepdims=True) - steps, len(table) - 1).astype(np.int64)
        found = np.ones((*logits.shape[:-1], self.symbols), np.int64)
        found[..., : logits.shape[-1]] = table[below]
        return found

    def safe_offset(self, logits: NDArray[np.float64]) -> int | None:
        """First grid for which no logit lies within `MARGIN` of a step.

        Args:
            logits: Logits of all symbols of a packet, [length, vocabulary].

        Returns:
            Number of the grid; None if there is none.
        """
        least = logits.max(-1, keepdims=True) - (len(_table(self.scale_bits)) + 2) / GRID
        quarters = logits[logits >= least] * (GRID * OFFSETS)  # below that the frequency is 1 in any case
        nearest = np.rint(quarters)
        close = nearest[np.abs(quarters - nearest) < MARGIN * GRID * OFFSETS].astype(np.int64)
        bad = set((-close % OFFSETS).tolist())
        return next((offset for offset in range(OFFSETS) if offset not in bad), None)

    @torch.no_grad()
    @library_defaults()
    def steps(self, rows: int) -> "Stepper":
        """Begin step-by-step inference of several texts at once.

        Args:
            rows: Number of texts.

        Returns:
            State whose `logits` are those of the first symbols.
        """
        return Stepper(self, rows)

    @property
    def fingerprint(self) -> bytes:
        """Two bytes that tell models and arithmetics apart: SHA-256 of weights, tokenizer and probe."""
        return _fingerprint(self)


class Stepper:
    """Step-by-step inference of several texts with a cache of keys and values.

    Args:
        model: The model.
        rows: Number of texts.
    """

    def __init__(self, model: ExactModel, rows: int):
        self._model = model
        self._cache: Any = None
        self.logits = self._forward([model.start] * rows)

    @torch.no_grad()
    @library_defaults()
    def feed(self, symbols: Sequence[int]) -> None:
        """Append one symbol to every text; `logits` are those of the next one afterwards.

        Args:
            symbols: One number below `symbols` per row.
        """
        self.logits = self._forward(self._model.read(symbols))

    def select(self, rows: Sequence[int]) -> None:
        """Go on with some of the texts, each possibly several times; `logits` are stale until `feed`.

        Args:
            rows: Numbers of the texts.
        """
        chosen: Any = torch.tensor(rows, device=self._model.lm.device)
        self._cache.reorder_cache(chosen)

    @torch.no_grad()
    def _forward(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        lm = self._model.lm
        ids: Int[Tensor, "rows 1"] = torch.tensor([[token] for token in tokens], device=lm.device)
        logits, self._cache = lm.step(ids, self._cache)
        return logits[:, -1].double().cpu().numpy()


def exact(name: str, device: str = "cpu") -> ExactModel:
    """Load a language model for entropy coding: in double precision throughout.

    Normalisation and rotary positions, which the library computes in single precision whatever the weights,
    are replaced by the same formulas in double precision.

    Args:
        name: Name, folder or GGUF file, see `semcom.text.lm.load`.
        device: Device of the weights.

    Returns:
        The model; the last two are kept.

    Raises:
        MissingPackage: A package is not installed.
        MissingWeights: The model is absent or damaged.
        InvalidOption: The model has layers that are not known to be exact.
    """
    return _kept(name, device)


@lru_cache(maxsize=2)
def _kept(name: str, device: str) -> ExactModel:
    return prepared(load(name, device, "float64"))


@library_defaults()
def prepared(lm: LanguageModel) -> ExactModel:
    """Replace single precision inside a model of double precision.

    Args:
        lm: The model; it is changed.

    Returns:
        The exact model.

    Raises:
        InvalidOption: The weights are not in double precision, or a layer is of unknown form.
    """
    if lm.model.dtype != torch.float64:
        raise InvalidOption(f"{lm.name} in {lm.model.dtype}: entropy coding needs float64")
    lm.model.set_attn_implementation("sdpa")
    for name, layer in list(lm.model.named_modules()):
        kind = type(layer).__name__
        new = None
        if kind.endswith("RMSNorm"):
            new = _Norm(
                layer.weight, float(vars(layer).get("variance_epsilon", vars(layer).get("eps", 1e-6)))
            )
            x = torch.linspace(-2, 2, 3 * len(layer.weight), dtype=torch.float64, device=lm.device).view(
                3, -1
            )
            alike = torch.allclose(new(x), layer(x), rtol=1e-5, atol=1e-5)
        elif kind.endswith("RotaryEmbedding"):
            new = _Rotary(layer)
            x, places = torch.zeros(1, 1, dtype=torch.float64), torch.arange(64)[None]
            x, places = x.to(lm.device), places.to(lm.device)
            alike = all(
                torch.allclose(ours, theirs, rtol=0, atol=1e-4)
                for ours, theirs in zip(new(x, places), layer(x, places), strict=True)
            )
        if new is not None:
            if not alike:
                raise InvalidOption(
                    f"{lm.name}: its {kind} has another form; choose a model like Llama or GPT-2"
                )
            parent, _, own = name.rpartition(".")
            setattr(lm.model.get_submodule(parent), own, new)
    return ExactModel(lm)


class _Norm(nn.Module):
    """Root mean square normalisation, w x / sqrt(mean x^2 + epsilon), in the precision of x."""

    def __init__(self, weight: nn.Parameter, epsilon: float):
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon))


class _Rotary(nn.Module):
    """Cosines and sines of rotary positions in double precision."""

    def __init__(self, theirs: Any):
        super().__init__()
        inverse = theirs.inv_freq.double()
        if vars(theirs).get("rope_type") == "default":  # again, since single precision differs by processor
            base = float(theirs.config.rope_parameters["rope_theta"])
            power = torch.arange(len(inverse), dtype=torch.float64, device=inverse.device) / len(inverse)
            inverse = base**-power
        self.inverse, self.scaling = inverse, float(vars(theirs).get("attention_scaling", 1.0))

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angle = position_ids[:, :, None].double() * self.inverse
        angle = torch.cat((angle, angle), -1)
        return (angle.cos() * self.scaling).to(x.dtype), (angle.sin() * self.scaling).to(x.dtype)


@cache
def _table(scale_bits: int) -> NDArray[np.int64]:
    """Frequencies by distance from the largest logit in steps of the grid; the last one is 1."""
    count = math.ceil(GRID * scale_bits * math.log(2)) + 1
    return np.array([max(1, round(2**scale_bits * math.exp(-j / GRID))) for j in range(count)], np.int64)


@lru_cache(maxsize=4)
def _start(lm: LanguageModel) -> int:
    return lm.start  # asks for the whole vocabulary


@lru_cache(maxsize=4)
def _fingerprint(model: ExactModel) -> bytes:
    steps = model.steps(1)
    for i in range(PROBE):
        steps.feed([(1237 * i + 61) % model.lm.vocabulary])
    offset = model.safe_offset(steps.logits)
    found = hashlib.sha256(model.lm.digest.encode())
    found.update(model.frequencies(steps.logits, offset or 0).tobytes())
    return found.digest()[:2]


def _runs(lm: LanguageModel, text: str) -> Iterator[tuple[str, bool]]:
    """Runs of characters, and whether the tokenizer represents each of their characters."""
    fine = {c: lm.decode(lm.encode(c)) == c for c in set(text)}
    start = 0
    for i in range(1, len(text) + 1):
        if i == len(text) or fine[text[i]] != fine[text[start]]:
            yield text[start:i], fine[text[start]]
            start = i


def _alike(symbols: Sequence[int], vocabulary: int) -> Iterator[tuple[bool, list[int]]]:
    """Runs of tokens and of bytes."""
    start = 0
    for i in range(1, len(symbols) + 1):
        if i == len(symbols) or (symbols[i] < vocabulary) != (symbols[start] < vocabulary):
            yield symbols[start] >= vocabulary, list(symbols[start:i])
            start = i
