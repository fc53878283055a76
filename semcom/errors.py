"""Errors that a user can cause. Each message is one line that names the value, the limit and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class SemcomError(Exception):
    """Base class of all typed errors of this package."""


class InvalidSource(SemcomError, ValueError):
    """An item that cannot be used: unreadable, wrong shape, not finite, or out of range."""


class InvalidOption(SemcomError, ValueError):
    """An argument or option outside its valid range."""


class InsufficientMemory(SemcomError, MemoryError):
    """Work that needs more memory than this process may still use."""


class UnknownName(SemcomError, KeyError):
    """A name that no scheme, channel, codec, receiver, metric or network has."""

    def __str__(self) -> str:
        """Message of the error, without the quotes that KeyError adds."""
        return str(self.args[0])


class BudgetTooSmall(SemcomError):
    """A budget of channel uses too small for any transmission; a sweep records an outage.

    Args:
        message: What is too small, and what to do.
        needed_bits: Length of the smallest payload in bits; 0 if it is not known.
    """

    def __init__(self, message: str, needed_bits: int = 0) -> None:
        super().__init__(message)
        self.needed_bits = needed_bits


class BudgetExceeded(SemcomError):
    """A transmission that spends more channel uses or energy than allowed: a defect of the scheme."""


class FaultyTransmission(SemcomError):
    """A transmission whose symbols or observations violate the protocol: a defect of the scheme."""


class CorruptPayload(SemcomError):
    """Bytes that a source codec cannot decode."""


class FaultyCodec(SemcomError):
    """A codec that decodes its own bytes to something other than an item of the right shape."""


class FaultyReceiver(SemcomError):
    """A receiver that returns something other than an item of the shape that was sent."""


class FaultyMetric(SemcomError):
    """A metric whose value is not one finite number."""


class MissingWeights(SemcomError):
    """Network weights that are absent, damaged, or fail their checksum."""


class MissingPackage(SemcomError, ImportError):
    """An optional package that is not installed; the message has the command that installs it."""


class UnsuitableEvidence(SemcomError):
    """An observation that a receiver cannot use: of another kind, or with unknown noise."""


class TrainingDiverged(SemcomError):
    """A training run whose loss or weights are no longer finite."""


class StoreError(SemcomError):
    """A result store that is in use, belongs to another experiment, or cannot be read or written."""


class SweepError(SemcomError):
    """A batch of a sweep that could not be finished; the message names the batch."""


class MalformedPlan(SemcomError, ValueError):
    """A plan of sub-questions that cannot be followed: a cycle, an unknown number, no step, or too many."""


class Infeasible(SemcomError, ValueError):
    """Constraints that cannot be satisfied, such as a distortion below the minimum."""


class NotConverged(SemcomError):
    """An optimisation that stopped before it reached its tolerance.

    Args:
        message: One line.
        solution: Best solution so far, for callers that solve many points at once.
    """

    def __init__(self, message: str, solution: object = None):
        super().__init__(message)
        self.solution = solution


class PayloadTooLarge(SemcomError):
    """A payload that exceeds the embedding capacity of a host image."""


class CorruptStego(SemcomError):
    """An image that contains no hidden payload, or was changed after embedding."""


def reason_of(error: BaseException) -> str:
    r"""First line of the message of a foreign exception, or its type if it has no message.

    Args:
        error: Any exception.

    Returns:
        One line.

    Example:
        >>> reason_of(OSError("truncated\nat byte 7")), reason_of(EOFError())
        ('truncated', 'EOFError')
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def closest(name: str, known: Iterable[str]) -> str:
    """Known names similar to a misspelt one in any case, as the end of an error message.

    Args:
        name: The unknown name.
        known: All known names.

    Returns:
        End of a sentence; empty if no name is similar.

    Example:
        >>> closest("softcats", ["SoftCast", "deepjscc"])
        '; did you mean SoftCast?'
    """
    spelled: dict[str, str] = {}
    for other in known:
        spelled.setdefault(other.casefold(), other)
    near = [spelled[key] for key in get_close_matches(name.casefold(), list(spelled), n=3, cutoff=0.5)]
    return f"; did you mean {', '.join(near)}?" if near else ""
