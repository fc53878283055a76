"""Reversible hiding at the limit H(r) - H(p): recursive code construction with the best stego laws."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from semcom.errors import CorruptStego, InvalidOption, PayloadTooLarge
from semcom.hiding import ans
from semcom.hiding.laws import Bits, Design, Laws, design, to_bytes, transition
from semcom.hiding.method import Hidden
from semcom.hiding.pixels import Layer, Planes, layer, layer_numbers

REACHES = (1, 2, 3, 5, 8, 12, 18, 27, 40, 60)
SATURATED = 22  # the class of pixels whose neighbours are all 0, or all 255; others are 0..21
CLASSES = 23
FIXED_BYTES = 13  # layer, site, state
ATTEMPTS, FITS = 12, 3  # embeddings in all, and those among which the best is taken
SLACK_BITS = 128  # for the state of the coder, and chance
DEVIATIONS = 6.0


@dataclass(frozen=True)
class Recursive:
    """Prediction errors of a checkerboard through the best reversible test channels.

    Pixels are sorted into classes by the complexity of their surroundings, a factor of 2 each. Errors of a
    class have law p; they become errors of law r, and hide log2 p(x) / r(y) bits each. The laws r minimise
    the squared error over all classes at the total rate, at one price per nat, which leaves pixels in rough
    surroundings alone. The monotone coupling takes p to r; it is the optimal plan for squared errors.

    With a weight gamma, laws minimise squared error + gamma KL(r || p) at the rate instead: at equal payload
    the histogram of prediction errors stays nearer to that of the host, at a higher squared error. It is the
    multiplier of a bound on KL(r || p), of the mean over classes.

    Errors beyond -T..T, and pixels predicted within T of 0 or 255, are kept out, both of which the extractor
    sees as well: no location map is needed. Where all four neighbours are 0 (255), values 0..2T (255-2T..255)
    are the symbols of a class of their own.

    Args:
        kl_weight: gamma, in squared levels per nat, not negative.

    Reference:
        Kalker and Willems, DSP 2002; Zhang, Hu, Li and Yu, IEEE Trans. Image Processing 22(7), 2013. Blocks
        of one symbol, by an asymmetric numeral system: Townsend, Bird and Barber, Practical lossless
        compression with latent variables using bits back coding, ICLR 2019.
    """

    kl_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.kl_weight < math.inf:
            raise InvalidOption(f"kl_weight {self.kl_weight:g}: not negative, and finite")

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return "recursive" + (f":{self.kl_weight:g}" if self.kl_weight else "")

    @property
    def number(self) -> int:
        """In the header."""
        return 0

    def hide(self, planes: Planes, reserved: int, message: bytes) -> Hidden:
        """Laws are designed on the host, then on what the embedder meets, until the message fits."""
        words = ans.to_words(message)
        wanted = 32.0 * len(words) + SLACK_BITS
        symbols = _symbols_of(planes, reserved)
        plan = _first_design(symbols, wanted, self.kl_weight)
        best: tuple[_Pass, Laws] | None = None
        least, fits = math.inf, 0
        counts: np.ndarray | None = None  # halfway from round to round: laws and what they lead to may swing
        for _ in range(ATTEMPTS):
            done = _embed(planes, reserved, plan.laws, words)
            if not done.left:
                cost = _cost(planes, done, plan.laws, self.kl_weight)
                if cost < least:
                    best, least = (done, plan.laws), cost
                fits += 1
                if fits == FITS:
                    break
            elif np.isinf(wanted):
                break
            else:
                wanted *= 1.001 + done.left / max(len(words), 1)
            reach = plan.laws.reach
            met = _counts(done.met, reach)
            counts = met if counts is None or counts.shape != met.shape else (counts + met) // 2
            plan = design(counts, wanted, self.kl_weight)
            if plan.bits < wanted:
                if best is not None:
                    break
                wanted = np.inf
                plan = _widest_design(planes, reserved, words)
        if best is None:
            raise PayloadTooLarge(f"{len(message)} bytes")
        done, laws = best
        fixed = bytes([done.layer]) + done.site.to_bytes(4, "big") + done.state.to_bytes(8, "big")
        used = sum(int(of_class.sum()) for of_class in done.used.values())
        return Hidden(done.planes, fixed + to_bytes(laws.bits(CLASSES)), used, _theory_bits(done, laws))

    def reveal(self, planes: Planes, reserved: int, header: bytes, length: int) -> tuple[bytes, Planes]:
        """Layers and pixels in the opposite order."""
        if len(header) < FIXED_BYTES:
            raise CorruptStego("the picture's header is cut off; get it again, without any change to it")
        laws = Laws.read(Bits(header[FIXED_BYTES:]), CLASSES)
        state = int.from_bytes(header[5:FIXED_BYTES], "big")
        numbers = list(layer_numbers(planes))
        if header[0] >= len(numbers) or not ans.LEAST_STATE <= state < ans.LEAST_STATE << ans.WORD:
            raise CorruptStego("the picture's header is damaged; get it again, without any change to it")
        planes = planes.copy()
        source, target = laws.tables()
        stack = np.zeros(-(-length // 4), dtype=np.int64)
        size = 0
        for number in reversed(range(header[0] + 1)):
            part = _part(layer(planes, *numbers[number], reserved), laws)
            ends = int.from_bytes(header[1:5], "big") if number == header[0] else len(part.symbols)
            if ends > len(part.symbols):
                raise CorruptStego("the picture's header is damaged; get it again, without any change to it")
            if len(source):
                state, size, _ = ans.transcode(
                    part.symbols, part.rows, target, source, state, stack, size, ends - 1, -1
                )
            if size < 0:
                break
            part.write(planes)
        if size != len(stack) or state != ans.LEAST_STATE:
            raise CorruptStego("the picture was changed since it was made; get it again, without any change")
        return ans.from_words(stack, length), planes

    def capacity_bytes(self, planes: Planes, reserved: int) -> int:
        """Of random bits, less six deviations; the laws are then uniform."""
        words = np.random.default_rng(0).integers(0, 1 << 32, planes.size // 4 + 64)
        plan = _widest_design(planes, reserved, words)
        done = _embed(planes, reserved, plan.laws, words)
        symbols = sum(int(of_class.sum()) for of_class in done.used.values())
        bits = 32 * (len(words) - done.left) - SLACK_BITS - DEVIATIONS * math.sqrt(symbols)
        return max(int(bits / 8), 0)


@dataclass(frozen=True, eq=False)
class _Part:
    """Symbols of one layer, and what is needed to put them back."""

    index: np.ndarray
    symbols: np.ndarray
    rows: np.ndarray
    zero: np.ndarray
    sign: np.ndarray

    def write(self, planes: Planes) -> None:
        """The symbols as pixels; those outside the alphabet have not changed either."""
        planes.reshape(-1)[self.index] = (self.zero + self.sign * self.symbols).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Pass:
    """What one embedding came to."""

    planes: Planes
    layer: int
    site: int
    state: int
    left: int
    met: tuple[Layer, ...]
    used: dict[int, np.ndarray]


def _classes(of: Layer) -> np.ndarray:
    """Bit length of the complexity, or `SATURATED`."""
    lengths = np.frexp(of.complexity.astype(np.float64))[1].astype(np.int32)
    return np.where(of.low | of.high, SATURATED, lengths).astype(np.int32)


def _placed(of: Layer, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols, with the values that are symbol 0 and the signs: value = zero + sign * symbol."""
    zero = np.where(of.low, 0, np.where(of.high, 255, of.prediction - reach))
    sign = np.where(of.high, -1, 1)
    return (of.value - zero) * sign, zero, sign


def _inside(of: Layer, reach: int) -> np.ndarray:
    """Pixels whose every symbol is a value of 0..255."""
    return of.low | of.high | ((of.prediction >= reach) & (of.prediction <= 255 - reach))


def _part(of: Layer, laws: Laws) -> _Part:
    symbols, zero, sign = _placed(of, laws.reach)
    row_of = np.full(CLASSES, -1, dtype=np.int32)
    row_of[list(laws.classes)] = range(len(laws.classes))
    rows = np.where(_inside(of, laws.reach), row_of[_classes(of)], -1).astype(np.int32)
    return _Part(of.index, symbols.astype(np.int32), rows, zero, sign)


def _symbols_of(planes: Planes, reserved: int) -> tuple[Layer, ...]:
    return tuple(layer(planes, color, parity, reserved) for color, parity in layer_numbers(planes))


def _counts(layers: tuple[Layer, ...], reach: int) -> Int[np.ndarray, "classes symbols"]:
    width = 2 * reach + 1
    counts = np.zeros(CLASSES * width, dtype=np.int64)
    for of in layers:
        symbols, _, _ = _placed(of, reach)
        inside = _inside(of, reach) & (symbols >= 0) & (symbols < width)
        places = _classes(of)[inside] * width + symbols[inside]
        counts += np.bincount(places, minlength=len(counts))
    return counts.reshape(CLASSES, width)


def _widest_design(planes: Planes, reserved: int, words: np.ndarray) -> Design:
    """Uniform laws, with the reach that holds most of these words."""
    layers = _symbols_of(planes, reserved)
    plans: list[Design] = []
    for reach in REACHES:
        plan = design(_counts(layers, reach), np.inf, 0.0)
        met = _embed(planes, reserved, plan.laws, words).met
        plans.append(design(_counts(met, reach), np.inf, 0.0))
    return min(plans, key=lambda plan: _embed(planes, reserved, plan.laws, words).left)


def _first_design(layers: tuple[Layer, ...], wanted: float, kl_weight: float) -> Design:
    """With the reach that costs least, or that promises most."""
    plans = [design(_counts(layers, reach), wanted, kl_weight, bisections=7) for reach in REACHES]
    fitting = [plan for plan in plans if plan.bits >= wanted]
    if fitting:
        return min(fitting, key=lambda plan: plan.cost)
    return max(plans, key=lambda plan: plan.bits)


def _embed(planes: Planes, reserved: int, laws: Laws, words: np.ndarray) -> _Pass:
    planes = planes.copy()
    source, target = laws.tables()
    stack, size, state = words.copy(), len(words), ans.LEAST_STATE
    ended: tuple[int, int] | None = None
    met: list[Layer] = []
    used = {k: np.zeros(2 * laws.reach + 1, dtype=np.int64) for k in range(len(laws.classes))}
    for number, (color, parity) in enumerate(layer_numbers(planes)):
        of = layer(planes, color, parity, reserved)
        met.append(of)
        part = _part(of, laws)
        if ended is not None or not len(source):
            continue
        before = part.symbols.copy()
        state, size, site = ans.transcode(
            part.symbols, part.rows, source, target, state, stack, size, 0, len(before)
        )
        if size < 0:
            raise AssertionError("the coder's stack ran over or out")
        part.write(planes)
        for k, histogram in used.items():
            hosts = before[:site][part.rows[:site] == k]
            hosts = hosts[(hosts >= 0) & (hosts < len(histogram))]
            histogram += np.bincount(hosts, minlength=len(histogram))
        if size == 0:
            ended = number, site
    last, site = ended if ended is not None else (0, 0)
    return _Pass(planes, last, site, int(state), int(size), tuple(met), used)


def _cost(before: Planes, done: _Pass, laws: Laws, kl_weight: float) -> float:
    """Squared error, and the weighted divergence of the classes."""
    total = float(np.square(before.astype(np.int32) - done.planes).sum())
    for row, (p, r) in enumerate(zip(*laws.tables(), strict=True)):
        hosts = done.used[row]
        shown = hosts @ transition(p, r)
        both = (hosts > 0) & (shown > 0)
        total += kl_weight * float((shown[both] * np.log(shown[both] / hosts[both])).sum())
    return total


def _theory_bits(done: _Pass, laws: Laws) -> float:
    """Of n symbols met, n (H(r) - H(p))."""
    total = 0.0
    for row, (p, r) in enumerate(zip(*laws.tables(), strict=True)):
        hosts = done.used[row]
        total += _total_bits(hosts @ transition(p, r)) - _total_bits(hosts)
    return total


def _total_bits(counts: np.ndarray) -> float:
    """Of n symbols, n H(counts / n)."""
    positive = counts[counts > 0]
    return float((positive * np.log2(positive.sum() / positive)).sum())
