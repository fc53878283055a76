"""Remaining time of a sweep, from the measured costs of its finished batches."""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable
from statistics import median

RECENT = 32  # batches of a kind whose cost is remembered


class Forecast:
    """Forecast of the time that remaining batches take on several workers.

    seconds left = sum over kinds of (median cost per unit of the kind) x (units left) / (mean busy workers)

    A kind is a scheme on a channel at a rho, since schemes differ in cost by factors of a thousand; a unit is
    one source value at one SNR. A kind of which nothing is finished costs as much as the others of its
    scheme, a scheme of which nothing is finished as much as the mean of the others.

    Args:
        work: Scheme, channel and rho, and units of every batch.
        workers: Number of processes, at least 1.
    """

    def __init__(self, work: "Iterable[tuple[tuple[Hashable, ...], float]]", workers: int) -> None:
        self._left: dict[tuple[Hashable, ...], float] = defaultdict(float)
        self._costs: dict[tuple[Hashable, ...], deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))
        self._workers = workers
        self._busy, self._start = 0.0, 0.0
        for kind, units in work:
            self._left[kind] += units

    def finished(self, kind: tuple[Hashable, ...], units: float, seconds: float, now: float) -> None:
        """Take note of a finished batch.

        Args:
            kind: Scheme, channel and rho.
            units: Source values times SNRs, above 0.
            seconds: Time that its worker took.
            now: Time on a clock that only goes forward, in seconds.
        """
        if not self._busy:
            self._start = now - seconds
        self._busy += seconds
        self._left[kind] = max(self._left[kind] - units, 0.0)
        self._costs[kind].append(seconds / units)

    def seconds_left(self, now: float) -> float | None:
        """Expected time until the last batch is finished.

        Args:
            now: Time on the clock of `finished`, in seconds.

        Returns:
            Seconds; None before the first batch is finished.
        """
        if not self._costs:
            return None
        cost = {kind: median(costs) for kind, costs in self._costs.items()}
        of_scheme: dict[Hashable, list[float]] = defaultdict(list)
        for kind, value in cost.items():
            of_scheme[kind[0]].append(value)
        scheme_cost = {scheme: sum(values) / len(values) for scheme, values in of_scheme.items()}
        unknown = sum(scheme_cost.values()) / len(scheme_cost)
        total = sum(
            units * cost.get(kind, scheme_cost.get(kind[0], unknown)) for kind, units in self._left.items()
        )
        elapsed = now - self._start
        busy = min(self._busy / elapsed, self._workers) if elapsed > 0 else self._workers
        return total / busy
