"""Reversible hiding at the limit H(r) - H(p): recursive code construction with the best stego laws."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semcom.errors import CorruptStego, InvalidOption, PayloadTooLarge
from semcom.hiding import ans
from semcom.hiding.census import CLASSES, Census, Counts, census, classes, inside, placed
from semcom.hiding.design import Design, Histogram, design, reaches_for, widest_reaches
from semcom.hiding.laws import REACHES, Bits, ClassLaws, Tables, read_laws, tables, to_bytes, written
from semcom.hiding.method import Hidden
from semcom.hiding.pixels import Layer, Planes, layer, layer_numbers

FIXED_BYTES = 13  # layer, site, state
ATTEMPTS, FITS = 12, 2  # embeddings in all, and those among which the best is taken
SLACK_BITS = 128  # reserve for the state of the coder, and for chance
DEVIATIONS = 6.0


@dataclass(frozen=True)
class Recursive:
    """Reversible hiding in prediction errors by recursive code construction with optimal stego laws.

    Pixels are sorted into classes by the complexity of their surroundings, a factor of 2 each. The errors of
    a class follow a law p; they are replaced by errors of a law r and hide log2 p(x) / r(y) bits each. The
    laws r minimise the squared error over all classes at the total rate, with one price per nat, which leaves
    pixels in rough surroundings unchanged. The monotone coupling takes p to r; it is the optimal plan for
    squared errors. The price includes what changes of the first layer add to the errors of the second.

    With a weight gamma, the laws minimise squared error + gamma N KL(R || P) at the rate instead, P and R
    being the histograms of all N prediction errors in host and finished picture: at equal payload, the
    histogram stays nearer to that of the host, at a higher squared error. Gamma is the multiplier of a bound
    on KL(R || P). Some classes then give back to a value what others took from it.

    Errors beyond -T..T, T being chosen per class, and pixels predicted within T of 0 or 255 are excluded; the
    extractor sees both as well, so that no location map is needed. Where all four neighbours are 0 (255),
    values 0..2T (255-2T..255) are the symbols of a class of their own.

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
        """Name of the method in tables: "recursive", or for instance "recursive:10" with a weight."""
        return "recursive" + (f":{self.kl_weight:g}" if self.kl_weight else "")

    @property
    def number(self) -> int:
        """Number of the method in the header of a stego picture."""
        return 0

    def hide(self, planes: Planes, reserved: int, message: bytes, before: bytes = b"") -> Hidden:
        """Hide a message: design laws on the host, then on what the embedder meets, until it fits."""
        words = ans.to_words(message)
        wanted = 32.0 * len(words) + SLACK_BITS
        met = census(_layers(planes, reserved))
        weight = None
        if before:
            reaches = {of.number: of.reach for of in read_laws(Bits(before[FIXED_BYTES:]), CLASSES)}
        else:
            reaches, weight = reaches_for(met, wanted)
        host = whole = _errors(planes)
        shown = met
        best: tuple[_Pass, tuple[ClassLaws, ...]] | None = None
        least, fits = math.inf, 0
        for attempt in range(ATTEMPTS):
            bound = Histogram(self.kl_weight, host, whole, shown) if self.kl_weight else None
            plan = design(met, reaches, wanted, bound, weight)
            if plan.bits < wanted:
                if best is not None:
                    break
                plan = _widest_design(planes, reserved, words)
                wanted = math.inf
            done = _embed(planes, reserved, plan.laws, words)
            whole = _errors(done.planes)
            if not done.left:
                cost = _cost(planes, done.planes) + self.kl_weight * _divergence(whole, host)
                if cost < least:
                    best, least = (done, plan.laws), cost
                fits += 1
                if fits == FITS:
                    break
            elif math.isinf(wanted):
                break
            else:
                wanted *= 1.001 + done.left / max(len(words), 1)
            # From the third on halfway from round to round: laws and what they lead to may swing.
            shown, weight = done.stego, plan.weight
            met = met.halfway(done.met) if attempt else done.met
            if not attempt and not before:
                reaches, weight = reaches_for(met, wanted)
        if best is None:
            raise PayloadTooLarge(f"{len(message)} bytes")
        done, laws = best
        fixed = bytes([done.layer]) + done.site.to_bytes(4, "big") + done.state.to_bytes(8, "big")
        return Hidden(
            done.planes,
            fixed + to_bytes(written(laws, CLASSES)),
            sum(int(hosts.sum()) for hosts, _ in done.used),
            sum(_total_bits(stegos) - _total_bits(hosts) for hosts, stegos in done.used),
        )

    def reveal(self, planes: Planes, reserved: int, header: bytes, length: int) -> tuple[bytes, Planes]:
        """Recover message and host planes, undoing layers and pixels in reverse order."""
        if len(header) < FIXED_BYTES:
            raise CorruptStego("the picture's header is cut off; get it again, without any change to it")
        laws = read_laws(Bits(header[FIXED_BYTES:]), CLASSES)
        state = int.from_bytes(header[5:FIXED_BYTES], "big")
        numbers = list(layer_numbers(planes))
        if header[0] >= len(numbers) or not ans.LEAST_STATE <= state < ans.LEAST_STATE << ans.WORD:
            raise CorruptStego("the picture's header is damaged; get it again, without any change to it")
        planes = planes.copy()
        source, target = tables(laws)
        stack, size = np.zeros(-(-length // 4) + _headroom(planes), dtype=np.int64), 0
        for number in reversed(range(header[0] + 1)):
            part = _part(layer(planes, *numbers[number], reserved), laws)
            ends = int.from_bytes(header[1:5], "big") if number == header[0] else len(part.symbols)
            if ends > len(part.symbols):
                raise CorruptStego("the picture's header is damaged; get it again, without any change to it")
            if laws:
                state, size, _ = ans.transcode(
                    part.symbols, part.rows, target, source, state, stack, size, ends - 1, -1
                )
            if size < 0:
                break
            part.write(planes)
        if size != -(-length // 4) or state != ans.LEAST_STATE:
            raise CorruptStego("the picture was changed since it was made; get it again, without any change")
        return ans.from_words(stack, length), planes

    def capacity_bytes(self, planes: Planes, reserved: int) -> int:
        """Capacity in bytes for random bits with uniform laws, less six standard deviations."""
        words = np.random.default_rng(0).integers(0, 1 << 32, planes.size // 4 + 64)
        plan = _widest_design(planes, reserved, words)
        done = _embed(planes, reserved, plan.laws, words)
        symbols = sum(int(hosts.sum()) for hosts, _ in done.used)
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
    """What one embedding came to.

    Args:
        planes: Changed.
        layer, site, state: Where the message ended, and the coder's state there.
        left: Words of the message that found no room.
        met, stego: All pixels before they were changed, and after, by what predicted them then.
        used: Counts of host and stego symbols per class in use, of pixels that took part.
    """

    planes: Planes
    layer: int
    site: int
    state: int
    left: int
    met: Census
    stego: Census
    used: tuple[tuple[Counts, Counts], ...]


def _part(of: Layer, laws: Sequence[ClassLaws]) -> _Part:
    row_of, reach_of = np.full(CLASSES, -1, dtype=np.int32), np.zeros(CLASSES, dtype=np.int32)
    for row, of_class in enumerate(laws):
        row_of[of_class.number], reach_of[of_class.number] = row, of_class.reach
    number = classes(of)
    reach = reach_of[number]
    zero, sign = placed(of, reach)
    rows = np.where(inside(of, reach), row_of[number], -1).astype(np.int32)
    return _Part(of.index, ((of.value - zero) * sign).astype(np.int32), rows, zero, sign)


def _layers(planes: Planes, reserved: int = 0) -> list[Layer]:
    return [layer(planes, color, parity, reserved) for color, parity in layer_numbers(planes)]


def _headroom(planes: Planes) -> int:
    """Stack words that classes with negative hidden information may push: 16 bits per symbol."""
    return planes.size * ans.PRECISION // ans.WORD


def _errors(planes: Planes) -> Counts:
    """Of a whole picture."""
    return census(_layers(planes)).errors


def _widest_design(planes: Planes, reserved: int, words: np.ndarray) -> Design:
    """Design with uniform laws and the alphabets that hold the most of these words."""
    host = census(_layers(planes, reserved))
    plans: list[Design] = []
    tried: list[dict[int, int]] = []
    for most in REACHES:
        reaches = widest_reaches(host, most)
        if reaches in tried:
            continue
        tried.append(reaches)
        plan = design(host, reaches, math.inf, None, None)
        met = _embed(planes, reserved, plan.laws, words).met
        plans.append(design(met, widest_reaches(met, most), math.inf, None, None))
    return min(plans, key=lambda plan: _embed(planes, reserved, plan.laws, words).left)


def _embed(planes: Planes, reserved: int, laws: Sequence[ClassLaws], words: np.ndarray) -> _Pass:
    planes = planes.copy()
    source, target = tables(laws)
    stack = np.concatenate([words, np.zeros(_headroom(planes), dtype=np.int64)])
    size, state = len(words), ans.LEAST_STATE
    ended: tuple[int, int] | None = None
    met: list[Layer] = []
    shown: list[Layer] = []
    used = np.zeros((2, *source.shape), dtype=np.int64)
    for number, (color, parity) in enumerate(layer_numbers(planes)):
        of = layer(planes, color, parity, reserved)
        met.append(of)
        if ended is None and laws:
            part = _part(of, laws)
            before = part.symbols.copy()
            state, size, site = ans.transcode(
                part.symbols, part.rows, source, target, state, stack, size, 0, len(before)
            )
            if size < 0:
                raise AssertionError("the coder's stack ran over or out")
            part.write(planes)
            of = dataclasses.replace(of, value=(part.zero + part.sign * part.symbols).astype(np.int32))
            for side, symbols in zip(used, (before, part.symbols), strict=True):
                side += _histogram(symbols[:site], part.rows[:site], source)
            if size == 0:
                ended = number, site
        shown.append(of)
    last, site = ended if ended is not None else (0, 0)
    return _Pass(
        planes, last, site, int(state), int(size), census(met), census(shown), tuple(zip(*used, strict=True))
    )


def _histogram(symbols: np.ndarray, rows: np.ndarray, bounds: Tables) -> Tables:
    """Of the symbols that have a frequency, row by row."""
    width = bounds.shape[1]
    lengths = (np.diff(bounds, axis=1) > 0).sum(1)
    takes_part = (rows >= 0) & (symbols >= 0) & (symbols < lengths[rows])
    places = (rows * width + symbols)[takes_part]
    return np.bincount(places, minlength=bounds.size).reshape(bounds.shape)


def _cost(before: Planes, after: Planes) -> float:
    """Squared error."""
    return float(np.square(before.astype(np.int32) - after).sum())


def _divergence(finished: Counts, host: Counts) -> float:
    """N KL(finished || host), in nats, of counts raised by 1/2."""
    r, p = finished + 0.5, host + 0.5
    return float((r * np.log(r / p)).sum())


def _total_bits(counts: Counts) -> float:
    """Of n symbols, n H(counts / n)."""
    positive = counts[counts > 0]
    return float((positive * np.log2(positive.sum() / positive)).sum())
