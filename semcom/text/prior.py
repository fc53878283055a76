"""Texts without source and channel code: uncoded token bits, and a language model at the receiver."""

import math
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from channels import Constellation, Received
from channels.header import ControlHeader, uses_for_budget
from semcom.errors import InvalidOption
from semcom.modalities.text import TextShape
from semcom.observation import Decoded, Observation
from semcom.text.exact import BYTES, ExactModel
from semcom.text.lm import LanguageModel, load
from semcom.transmission import ChannelKnowledge, Csit, Modulated, Sent, nothing_sent

BEAM = 8
WINDOW = 14.0
"""Hypotheses whose log likelihood is below the best one by more than this many nats are dropped."""
COUNT_BITS = 11
"""Bits of the header, which tells the number of symbols."""
BYTE_LOG_PROBABILITY = -24 * math.log(2)  # as in entropy coding
QPSK = Constellation(4)


@dataclass(frozen=True)
class LanguagePrior:
    """Uncoded transmission of token numbers, with a language model as the prior of the receiver.

    A text is split into tokens x_t of V kinds: the vocabulary, and 256 bytes for what it cannot represent.
    Each is sent as a label of ceil(log2 V) bits by QPSK without any source or channel code. Labels of
    frequent tokens differ in many bits (`symbol_labels`). The bits of the text are repeated and interleaved
    until all channel uses are spent; a header tells the number of tokens. The receiver looks for

        argmax over tokens of  sum_t [alpha log p(x_t | x_<t) + sum_j log p(y_tj | bit j of the label of x_t)]

    by a beam search, where y_tj is what was received for bit j of token t, all repetitions together. With
    alpha = 0 it makes hard decisions, the most probable label of each token by itself. The text that comes
    out is always shown; nothing checks it.

    Args:
        model: Name of the language model, see `semcom.text.lm.load`.
        alpha: Weight of the language model, at least 0; 1 is the maximum a posteriori estimate.
        beam: Most hypotheses kept, at least 1.
        weights: Digest of the weights, part of the definition.
        device: Device of the model.

    Raises:
        InvalidOption: `alpha` or `beam` is out of range.

    Reference:
        Wang et al., "Large language model enabled semantic communication systems", arXiv 2407.14112.
    """

    model: str = "smollm2"
    alpha: float = 1.0
    beam: int = BEAM
    weights: str = ""
    device: str = field(default="cpu", compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise InvalidOption(f"weight {self.alpha:g} of the language model: give a number of at least 0")
        if self.beam < 1:
            raise InvalidOption(f"a beam of {self.beam} hypotheses: give at least 1")

    @property
    def name(self) -> str:
        """Canonical name, for instance "lm-prior:smollm2" or "lm-prior:smollm2:0:1"."""
        rest = "" if (self.alpha, self.beam) == (1.0, BEAM) else f":{self.alpha:g}:{self.beam}"
        return f"lm-prior:{self.model}{rest}"

    @property
    def csit(self) -> Csit:
        """Always "none": there is nothing to adapt."""
        return "none"

    def send(self, x: str, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Send the labels of the tokens, repeated to fill the channel uses."""
        model = self._model()
        symbols = model.split(x)
        labels = symbol_labels(model.symbols)
        width = labels.shape[1]
        header, free = self._header(uses)
        if len(symbols) >= 1 << COUNT_BITS or len(symbols) > model.most:
            return nothing_sent(
                f"{len(symbols)} tokens: at most {min(model.most, 2047)} are sent uncoded; split the text"
            )
        if not symbols or len(symbols) * width > 2 * free:
            return nothing_sent(
                f"{len(symbols)} tokens of {width} bits do not fit {uses} channel uses; raise rho"
            )
        bits = labels[symbols]
        places = _places(len(symbols) * width, 2 * free)
        sent = torch.zeros(1, uses, dtype=torch.complex64)
        sent[:, header.positions()] = header.encode(len(symbols))
        sent[:, header.payload_positions()] = QPSK.modulate(bits.flatten()[places][None])
        return Sent(sent, (Modulated(QPSK, uses),), {"payload_bits": float(len(symbols) * width)})

    def receive(self, received: Received, shape: TextShape, uses: int) -> list[Observation[str]]:
        """Decode every reception by a beam search; an item is lost only if its header is out of range."""
        return [self._observed(received.item(i)) for i in range(received.y.shape[0])]

    def _observed(self, received: Received) -> Observation[str]:
        model = self._model()
        width = symbol_labels(model.symbols).shape[1]
        header, free = self._header(received.y.shape[1])
        count = int(header.decode(_at(received, header.positions())))
        if not 0 < count * width <= 2 * free or count > model.most:
            return Observation(None)
        llr = QPSK.exact_llr(_at(received, header.payload_positions()))[0].double()
        places = _places(count * width, 2 * free)
        total = torch.zeros(count * width, dtype=torch.float64).index_add(0, places, llr).view(count, width)
        symbols = beam_search(model, total, self.alpha, self.beam)
        text = model.join(symbols)
        return Observation(text, (Decoded(text),))

    def _header(self, uses: int) -> tuple[ControlHeader, int]:
        """Header, and channel uses that it leaves."""
        size = min(uses_for_budget(uses), uses)
        return ControlHeader(COUNT_BITS, size, uses), uses - size

    def _model(self) -> ExactModel:
        return _loaded(self.model, self.device)


@lru_cache(maxsize=2)
def symbol_labels(symbols: int) -> UInt8[Tensor, "symbols width"]:
    """Labels of symbols in bits, so that those with small numbers differ in many bits.

    The label of number n is the sum modulo 2 of the words of a basis where n has ones. The j-th word is the
    first of all that are farthest from every sum of the words before it, so that the first 2^j numbers form
    linear codes, one inside the other, of the largest distances that this greedy choice finds: for 16 bits
    16, 8, 8, 8, 8, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2 and 1. Numbers of byte-pair encodings rise as tokens become
    rarer, so that the words a language model has to choose among are seldom neighbours.

    Args:
        symbols: Number of symbols, at least 2.

    Returns:
        Bits, 0 or 1, most significant first; all labels are different.

    Reference:
        Conway and Sloane, "Lexicographic codes: error-correcting codes from game theory", IEEE Trans.
        Information Theory 32(3), 1986.
    """
    width = (symbols - 1).bit_length()
    words = torch.arange(1 << width)
    distance = torch.stack([words >> j & 1 for j in range(width)]).sum(0)  # to the code so far, at first {0}
    labels = torch.zeros_like(words)
    for j in range(width):
        word = int(distance.argmax())
        labels ^= (words >> j & 1) * word
        distance = distance.minimum(distance[words ^ word])
    return (labels[:symbols, None] >> torch.arange(width - 1, -1, -1) & 1).to(torch.uint8)


def symbol_log_likelihoods(llr: Float[Tensor, "count width"], symbols: int) -> Float[Tensor, "count symbols"]:
    """Log likelihood of every symbol from log-likelihood ratios of the bits of its label.

    Args:
        llr: log P(b=0) / P(b=1) of each bit, most significant first.
        symbols: Number of symbols.

    Returns:
        sum_j log p(bit j), in nats.
    """
    zero = torch.nn.functional.logsigmoid(llr)
    ones = symbol_labels(symbols).to(llr.dtype)
    return zero.sum(1, keepdim=True) - llr @ ones.T  # log p(1) = log p(0) - llr


def symbol_log_priors(logits: Float[Tensor, "count vocabulary"]) -> Float[Tensor, "count symbols"]:
    """Logarithm of the probability of every symbol from the logits of a language model, in nats.

    Args:
        logits: Logits of the tokens of the vocabulary.

    Returns:
        log p of the tokens, and `BYTE_LOG_PROBABILITY` for each of the 256 bytes behind them, in float64.
    """
    bytes_ = torch.full((len(logits), BYTES), BYTE_LOG_PROBABILITY, dtype=torch.float64)
    return torch.cat((logits.double().log_softmax(-1), bytes_), 1)


@torch.no_grad()
def beam_search(
    model: ExactModel, llr: Float[Tensor, "count width"], alpha: float = 1.0, beam: int = BEAM
) -> list[int]:
    """Most probable symbols given log-likelihood ratios of their bits and a language model.

    Args:
        model: Language model with its symbols.
        llr: log P(b=0) / P(b=1) of each bit of each symbol, most significant first.
        alpha: Weight of the language model, at least 0.
        beam: Most hypotheses kept.

    Returns:
        One symbol per row of `llr`.
    """
    channel = symbol_log_likelihoods(llr, model.symbols)
    if alpha == 0:
        return channel.argmax(1).tolist()
    steps = model.steps(1)
    scores = torch.zeros(1, dtype=torch.float64)
    paths: list[list[int]] = [[]]
    for step, heard in enumerate(channel):
        total = scores[:, None] + heard + alpha * symbol_log_priors(torch.from_numpy(steps.logits))
        best, places = total.flatten().topk(min(beam, total.numel()))
        kept = best >= best[0] - WINDOW
        best, places = best[kept], places[kept]
        rows, symbols = (places // total.shape[1]).tolist(), (places % total.shape[1]).tolist()
        paths = [[*paths[row], symbol] for row, symbol in zip(rows, symbols, strict=True)]
        scores = best
        if step + 1 < len(channel):
            steps.select(rows)
            steps.feed(symbols)
    return paths[0]


@lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> ExactModel:
    """The model in single precision: nothing here has to be reproduced elsewhere to the bit."""
    lm: LanguageModel = load(name, device)
    return ExactModel(lm)


@cache
def _places(bits: int, slots: int) -> Tensor:
    """Bit that each slot carries: all bits repeated in turn, in a fixed pseudorandom order of slots."""
    order = torch.randperm(slots, generator=torch.Generator().manual_seed(0))
    return (torch.arange(slots) % bits)[order]


def _at(received: Received, positions: Any) -> Received:
    y, h = received.y[:, positions], received.h.expand_as(received.y)[:, positions]
    return Received(y, h, received.noise_var.expand(received.y.shape)[:, positions])
