"""Errors a user can cause. Each message is one line that names the value, the limit and the cure."""


class SemcomError(Exception):
    """Base of all typed errors of this package."""


class InvalidSource(SemcomError, ValueError):
    """An image that cannot be used: unreadable, wrong shape, not finite, out of range."""


class InvalidOption(SemcomError, ValueError):
    """An argument outside its range."""


class UnknownName(SemcomError, KeyError):
    """No scheme, channel, codec or metric of that name."""

    def __str__(self) -> str:
        """The message, without the quotes of KeyError."""
        return str(self.args[0])


class BudgetTooSmall(SemcomError):
    """Nothing that the transmitter can make fits the channel uses allowed; a sweep records an outage."""


class BudgetExceeded(SemcomError):
    """Symbols of more channel uses or energy than allowed: a defect of the transmission."""


class FaultyTransmission(SemcomError):
    """A transmission whose symbols or observations are not what they must be."""


class CorruptPayload(SemcomError):
    """Bytes that no image can be decoded from."""


class FaultyCodec(SemcomError):
    """A codec that decodes its own bytes to something that is no image of that shape."""


class FaultyReceiver(SemcomError):
    """A receiver that shows something that is no item of the shape that was sent."""


class FaultyMetric(SemcomError):
    """A metric whose value is not one finite number."""


class MissingWeights(SemcomError):
    """Weights that are absent, or that fail their check."""


class UnsuitableEvidence(SemcomError):
    """An observation that a receiver cannot use: of another kind, or of unknown noise."""


class TrainingDiverged(SemcomError):
    """A training whose loss is not finite any more."""


class StoreError(SemcomError):
    """A result store that is in use, of another experiment, or unreadable."""


class SweepError(SemcomError):
    """A batch of a sweep that could not be finished; the message names it."""


class Infeasible(SemcomError, ValueError):
    """Constraints that nothing can meet, such as a distortion below the least possible."""


class NotConverged(SemcomError):
    """An optimisation that stopped short of its tolerance.

    Args:
        message: One line.
        solution: What was found nevertheless, by those who solve many points at once.
    """

    def __init__(self, message: str, solution: object = None):
        super().__init__(message)
        self.solution = solution


class PayloadTooLarge(SemcomError):
    """Bytes that a host picture has no room for."""


class CorruptStego(SemcomError):
    """A picture that hides nothing, or that was changed since."""


def reason_of(error: BaseException) -> str:
    r"""The first line of what an error of another library says, or its type if it says nothing.

    Example:
        >>> reason_of(OSError("truncated\nat byte 7")), reason_of(EOFError())
        ('truncated', 'EOFError')
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
