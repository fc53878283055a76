"""Transmission of a smaller picture in place of the whole one: its range space, to be refined by a prior."""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from channels import Channel, SnrDb, Streams
from semcom.budget import Budget
from semcom.errors import InvalidOption
from semcom.operators import BlockMean
from semcom.transmission import Csit, Linear, Observation, Origin, Sent, Transmission


@dataclass(frozen=True)
class Reduced:
    """Sends the means of blocks of pixels, with all channel uses of the whole picture.

    What arrives is evidence y = A x + noise with A the block mean: `direct` repeats the means, receivers with
    a prior fill in the rest.

    Args:
        transmission: Of the smaller picture.
        size: Side of the blocks in pixels, at least 2.

    Raises:
        InvalidOption: A smaller size.

    Reference:
        Yilmaz et al., High perceptual quality wireless image delivery with denoising diffusion models,
        INFOCOM workshops 2024.
    """

    transmission: Transmission
    size: int = 2

    def __post_init__(self) -> None:
        if self.size < 2:
            raise InvalidOption(f"blocks of {self.size}x{self.size} pixels: at least 2x2")

    @property
    def name(self) -> str:
        """Canonical spelling."""
        code, colon, csit = self.transmission.name.partition(":")
        return f"{code}-range{'' if self.size == 2 else self.size}{colon}{csit}"

    @property
    def csit(self) -> Csit:
        """As of the smaller picture."""
        return self.transmission.csit

    def prepare(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
    ) -> Sent:
        """Reduce, then encode."""
        operator = BlockMean(self.size, *x.shape[2:])
        sent = self.transmission.prepare(operator.A(x), budget, channel, csit_snr_db)
        return replace(sent, shape=tuple(x.shape), content=sent)

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        """Deliver the smaller picture."""
        small: Sent = sent.content
        observation = self.transmission.deliver(small, channel, snr_db, rng)
        operator = BlockMean(self.size, *sent.shape[2:])
        evidence = tuple(
            Linear(part.y, operator, part.noise_std, self._origin(part)) for part in observation.evidence
        )
        return replace(observation, evidence=evidence, shape=(rng.batch, *sent.shape[1:]))

    def _origin(self, evidence: Linear) -> Origin | None:
        """Errors of smaller pictures are measured apart: they hold more detail per pixel."""
        origin = evidence.origin
        return None if origin is None else Origin(f"{origin.code}/{self.size}", origin.point)


@dataclass(frozen=True)
class ReducedAtLowRate:
    """Means of blocks where channel uses are few, the whole picture elsewhere: a size per operating point.

    The size follows from rho, which the receiver knows, and costs nothing. With a prior at the receiver and
    `deepjscc`, 4x4 was found to have less LPIPS at about the PSNR of the whole picture at rho = 1/768, and to
    cost PSNR from 1/192 on, on validation photographs (`scripts/search_range.py`).

    Args:
        transmission: Of the picture or the smaller picture.
        size: Side of the blocks in pixels, at least 2.
        below: rho up to which they are sent.

    Raises:
        InvalidOption: A smaller size.
    """

    transmission: Transmission
    size: int = 4
    below: float = 1 / 384

    def __post_init__(self) -> None:
        Reduced(self.transmission, self.size)

    @property
    def name(self) -> str:
        """Canonical spelling."""
        code, colon, csit = self.transmission.name.partition(":")
        return f"{code}-range-by-rho{colon}{csit}"

    @property
    def csit(self) -> Csit:
        """As of the picture."""
        return self.transmission.csit

    def prepare(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
    ) -> Sent:
        """Choose, then encode."""
        chosen = self._at(budget.rho)
        sent = chosen.prepare(x, budget, channel, csit_snr_db)
        return replace(sent, content=(chosen, sent))

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        """Deliver what was chosen."""
        chosen, inner = sent.content
        return chosen.deliver(inner, channel, snr_db, rng)

    def _at(self, rho: float) -> Transmission:
        return Reduced(self.transmission, self.size) if rho <= self.below else self.transmission
