"""What receivers with a prior make of an observation first: evidence in the units of the prior."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from semcom.errors import UnsuitableEvidence
from semcom.operators import Operator
from semcom.transmission import Observation


@dataclass(frozen=True, eq=False, slots=True)
class PriorEvidence:
    """y = A x + noise for x in [-1, 1].

    Args:
        y: In these units.
        operator: A.
        noise_std: Per real value of y and item; infinite where the item was lost.
    """

    y: Tensor
    operator: Operator
    noise_std: Float[Tensor, " batch"]


def in_prior_units(observation: Observation, receiver: str) -> PriorEvidence:
    """The only piece of evidence, from pictures in [0, 1] to x in [-1, 1]: 2 y - A 1, and twice the noise.

    Args:
        observation: What arrived.
        receiver: For the message.

    Raises:
        UnsuitableEvidence: More or less than one piece of evidence, or noise that nobody has measured.
    """
    if len(observation.evidence) != 1:
        raise UnsuitableEvidence(
            f"{receiver} takes one piece of evidence, the observation has {len(observation.evidence)}"
        )
    (evidence,) = observation.evidence
    if bool(evidence.noise_std.isnan().any()):
        raise UnsuitableEvidence(
            f"{receiver} needs the noise of the evidence, which nobody has measured here"
        )
    ones = torch.ones(observation.shape, dtype=evidence.y.dtype, device=evidence.y.device)
    y = 2 * evidence.y - evidence.operator.A(ones)
    return PriorEvidence(y, evidence.operator, 2 * evidence.noise_std)


def to_picture(x: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1], clipped."""
    return ((x + 1) / 2).clamp(0, 1)


def per_item(values: Shaped[Tensor, " batch"], like: Tensor) -> Tensor:
    """[batch, 1, 1, ...] beside a tensor of items."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
