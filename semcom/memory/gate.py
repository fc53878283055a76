"""Gate of a memory: retrieve, generate or ask again, decided by the energy of what was received."""

import math
from dataclasses import dataclass
from enum import Enum

from semcom.errors import InvalidOption

STALE = 1.5
"""Largest allowance for stale patterns, in multiples of the number N of observed values (see `Gate`).

Where the noise is the measured error of a codec, the energy of stored photographs reached 2.2 N, since that
error varies from picture to picture.
"""


class Decision(Enum):
    """What a receiver with a memory does with an observation.

    RETRIEVE: the observation is in the memory. GENERATE: it is not, use what was decoded or a prior alone.
    RETRANSMIT: noise hides the difference, ask for more.
    """

    RETRIEVE = "retrieve"
    GENERATE = "generate"
    RETRANSMIT = "retransmit"


def columns_of(decision: Decision) -> dict[str, float]:
    """Columns of a record that say what was decided.

    Args:
        decision: The decision.

    Returns:
        "retrieved", "generated" and "retransmit": 1 for the decision, 0 for the other two.

    Example:
        >>> columns_of(Decision.GENERATE)
        {'retrieved': 0.0, 'generated': 1.0, 'retransmit': 0.0}
    """
    names = {
        "retrieved": Decision.RETRIEVE,
        "generated": Decision.GENERATE,
        "retransmit": Decision.RETRANSMIT,
    }
    return {name: float(decision is meant) for name, meant in names.items()}


@dataclass(frozen=True)
class Gate:
    """Threshold on the energy of an observation y = A x + n of N values in white noise of variance 1.

    Let e = min over i of |y - A rho_i|^2, at pattern i, S = |A (rho_i - mean)|^2, and d the number of
    patterns. If x is rho_i, e has the mean N and the standard deviation sqrt(2 N); if it is no stored
    pattern, the mean is about N + S. With z standard deviations and a share t of S by which patterns
    may be stale,

        limit = N + z sqrt(2 N) + 2 log d + min(t S, STALE N)
        RETRANSMIT if N + S - z sqrt(2 N + 4 S) < limit, else RETRIEVE if e <= limit, else GENERATE

    The threshold needs no data: neither of pictures in the memory nor of others. What was decoded has an
    error of about N in these units, so that a stale pattern much worse than that is not shown.

    Args:
        tolerance: t, from 0 to 1. Of 96 photographs that are not stored, none had an excess
            below 0.59 S with DeepJSCC from -5 dB on, or below 1.07 S with SoftCast.
        deviations: z, above 0; 2 misses at most 2.3 % of stored patterns by chance.

    Raises:
        InvalidOption: A number is out of range.
    """

    tolerance: float = 0.3
    deviations: float = 2.0

    def __post_init__(self) -> None:
        if not (0 <= self.tolerance <= 1 and 0 < self.deviations < math.inf):
            raise InvalidOption(
                f"gate of tolerance {self.tolerance:g}, {self.deviations:g} deviations: from 0 to 1, above 0"
            )

    def limit(self, values: int, signal: float, patterns: int) -> float:
        """Largest energy at which an observation counts as a stored pattern.

        Args:
            values: N, number of observed real values, at least 1.
            signal: S, energy of the nearest pattern in units of the noise variance, at least 0.
            patterns: d, number of patterns, at least 1.

        Returns:
            Limit of e in units of the noise variance.
        """
        chance = self.deviations * math.sqrt(2 * values)
        return values + chance + 2 * math.log(patterns) + min(self.tolerance * signal, STALE * values)

    def decide(self, energy: float, values: int, signal: float, patterns: int) -> Decision:
        """Decide on one observation.

        Args:
            energy: e, squared distance to the nearest pattern in units of the noise variance, at least 0.
            values: N, number of observed real values, at least 1.
            signal: S, energy of the nearest pattern in units of the noise variance, at least 0.
            patterns: d, number of patterns, at least 1.

        Returns:
            The decision.
        """
        limit = self.limit(values, signal, patterns)
        unrelated = values + signal - self.deviations * math.sqrt(2 * values + 4 * signal)
        if unrelated < limit:
            return Decision.RETRANSMIT
        return Decision.RETRIEVE if energy <= limit else Decision.GENERATE
