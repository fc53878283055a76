"""The thing that is compared: a transmission and a receiver."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from channels import Channel, SnrDb, Streams
from semcom.budget import Budget
from semcom.errors import BudgetExceeded, FaultyReceiver, InvalidOption, InvalidSource
from semcom.sources import check_image
from semcom.transmission import Observation, Transmission

ENERGY_TOLERANCE = 1e-4  # relative; float32 sums over 10^5 symbols


@runtime_checkable
class Receiver(Protocol):
    """From an observation to an image, and nothing else."""

    @property
    def name(self) -> str:
        """Canonical spelling ("direct", "ddnm")."""
        ...

    def __call__(self, observation: Observation, rng: Streams) -> Float[Tensor, "batch 3 height width"]:
        """Image in [0, 1]."""
        ...


@runtime_checkable
class CallsNetwork(Protocol):
    """A receiver whose network calls are recorded."""

    @property
    def nfe(self) -> int:
        """Network calls per item, vector-Jacobian products counted as calls."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What a scheme made of one image, per batch element.

    Args:
        x_hat: The image shown.
        channel_uses: Spent.
        energy: Spent, at most `channel_uses`.
        info: Numbers for the records; "outage" is always there.
        causes: Why nothing was sent; empty if something was.
    """

    x_hat: Float[Tensor, "batch 3 height width"]
    channel_uses: Int[Tensor, " batch"]
    energy: Float[Tensor, " batch"]
    info: Mapping[str, Float[Tensor, " batch"]]
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Scheme:
    """Transmission plus receiver, under the name it has in tables and figures. It never owns a channel.

    Args:
        name: As on the command line.
        transmission: Source image to observation.
        receiver: Observation to image.
    """

    name: str
    transmission: Transmission
    receiver: Receiver

    def transmit(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        snr_db: SnrDb,
        rng: Streams,
    ) -> Outcome:
        """Send one image to every element of `rng`, at its SNR, and check what was spent.

        Args:
            x: One image in [0, 1]; sent in single precision and without its gradient.
            budget: Channel uses allowed.
            channel: The medium.
            snr_db: One for all, or one per element of `rng`.
            rng: Noise and fading, by item id.

        Raises:
            BudgetExceeded: More channel uses or energy were spent than allowed.
            FaultyReceiver: What the receiver shows is not finite, or of another shape.
            InvalidSource: Not one image.
            InvalidOption: An SNR is NaN, or the number of SNRs is not that of the elements of `rng`.
        """
        if check_image(x).shape[0] != 1:
            raise InvalidSource(f"batch of {x.shape[0]} images: a scheme sends one at a time")
        x = x.detach().float()
        snrs = torch.as_tensor(snr_db, dtype=torch.float32).reshape(-1)
        if snrs.numel() == 1:
            snrs = snrs.expand(rng.batch)
        if snrs.numel() != rng.batch:
            raise InvalidOption(f"{snrs.numel()} SNRs for {rng.batch} items; give one, or one per item")
        if snrs.isnan().any():
            raise InvalidOption("SNR of nan dB; give a number")
        if self.transmission.csit == "none":
            return self._send(x, budget, channel, snrs, rng, None)
        parts: list[tuple[list[int], Outcome]] = []
        for snr in snrs.unique().tolist():
            index = (snrs == snr).nonzero().flatten().tolist()
            parts.append((index, self._send(x, budget, channel, snrs[index], rng.select(index), snr)))
        return _merge(parts)

    def _send(
        self,
        x: Tensor,
        budget: Budget,
        channel: Channel,
        snr_db: Tensor,
        rng: Streams,
        csit_snr_db: float | None,
    ) -> Outcome:
        sent = self.transmission.prepare(x, budget, channel, csit_snr_db)
        observation = self.transmission.deliver(sent, channel, snr_db, rng)
        _check(observation, budget, self.name)
        x_hat = self.receiver(observation, rng.fork("receiver"))
        if tuple(x_hat.shape) != observation.shape or not x_hat.isfinite().all():
            wrong = int((~x_hat.isfinite()).sum())
            raise FaultyReceiver(
                f"{self.name}: its receiver shows {list(x_hat.shape)} with {wrong} values not finite, "
                f"expected {list(observation.shape)} with none; mend it"
            )
        info = dict(observation.info)
        if isinstance(self.receiver, CallsNetwork):
            info["nfe"] = torch.full((rng.batch,), float(self.receiver.nfe))
        causes = (sent.cause,) * rng.batch
        return Outcome(x_hat, observation.channel_uses, observation.energy, info, causes)


def _check(observation: Observation, budget: Budget, name: str) -> None:
    uses = int(observation.channel_uses.max())
    if uses > budget.channel_uses:
        raise BudgetExceeded(f"{name} spent {uses} channel uses, allowed are {budget.channel_uses}")
    energy = float((observation.energy / observation.channel_uses.clamp_min(1)).max())
    if not energy <= 1 + ENERGY_TOLERANCE:  # NaN included
        raise BudgetExceeded(f"{name} spent energy {energy:.5f} per channel use, allowed is 1")


def _merge(parts: list[tuple[list[int], Outcome]]) -> Outcome:
    """Put the outcomes of parts of a batch back in order."""
    order = torch.tensor([i for index, _ in parts for i in index]).argsort()
    outcomes = [outcome for _, outcome in parts]
    causes = [cause for outcome in outcomes for cause in outcome.causes]
    keys = sorted({key for outcome in outcomes for key in outcome.info})
    missing = {
        key: [o.info.get(key, torch.full(o.energy.shape, torch.nan)) for o in outcomes] for key in keys
    }
    return Outcome(
        torch.cat([o.x_hat for o in outcomes])[order],
        torch.cat([o.channel_uses for o in outcomes])[order],
        torch.cat([o.energy for o in outcomes])[order],
        {key: torch.cat(values)[order] for key, values in missing.items()},
        tuple(causes[i] for i in order.tolist()),
    )
