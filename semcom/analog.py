"""Joint source-channel coding by a network: images to symbols and back."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from channels import Channel, Received, SnrDb, Streams, transmit
from channels.symbols import average_power, unpack
from semcom.budget import Budget
from semcom.errors import BudgetTooSmall
from semcom.jscc.jscc import DeepJSCC
from semcom.transmission import (
    Concealment,
    Csit,
    Nonlinear,
    Observation,
    Origin,
    Sent,
    lost,
    nothing_sent,
    observe_images,
)

LEAST_NOISE_VAR = 1e-12  # per real value


@dataclass(frozen=True)
class Analog:
    """DeepJSCC: one network maps pixels to channel symbols, another maps what arrives to pixels.

    Args:
        network: Encoder and decoder.
        csit: "average" gives the encoder the average SNR.
        concealment: What is shown if the budget has no room for the network's symbols.
    """

    network: DeepJSCC
    csit: Csit = "none"
    concealment: Concealment = "mean-color"

    @property
    def name(self) -> str:
        """Canonical spelling."""
        return self.network.name + (":csit-average" if self.csit == "average" else "")

    def prepare(
        self,
        x: Float[Tensor, "1 3 height width"],
        budget: Budget,
        channel: Channel,
        csit_snr_db: float | None,
    ) -> Sent:
        """Encode with the network."""
        shape = tuple(x.shape)
        try:
            with torch.no_grad():
                symbols = self.network.encode(x, channel.data_uses(budget.channel_uses), csit_snr_db)
        except BudgetTooSmall as error:
            return nothing_sent(shape, str(error))
        peak = symbols.abs().square().max() / average_power(symbols).clamp_min(1e-30)
        papr_db = 10 * torch.log10(peak).item()
        uses = symbols.shape[1]
        return Sent(symbols, uses + channel.overhead(uses), shape, info={"papr_db": papr_db})

    def deliver(self, sent: Sent, channel: Channel, snr_db: SnrDb, rng: Streams) -> Observation:
        """Channel, then the decoder network, item by item: results do not depend on the batch."""
        if sent.cause:
            return lost(sent, self.concealment, rng.batch)
        uses = sent.symbols.shape[1]
        received = transmit(channel, sent.symbols.expand(rng.batch, -1), snr_db, rng.fork("channel"))
        with torch.no_grad():
            images = [self.network.decode(received.item(i), sent.shape) for i in range(rng.batch)]
        energy = average_power(sent.symbols) * uses + channel.overhead(uses)
        effective_db = effective_snr_db(received)
        per_value = torch.full((rng.batch,), math.log2(uses / math.prod(sent.shape)))
        origin = Origin(self.network.name, torch.stack((per_value, effective_db), 1))
        info = {"effective_snr_db": effective_db}
        observation = observe_images(sent, images, energy.expand(rng.batch), self.concealment, info, origin)
        if self.csit != "none":  # the receiver does not know for which SNR the picture was encoded
            return observation
        encoded = tuple(self._explained(received.item(i), uses) for i in range(rng.batch))
        return replace(observation, evidence=(replace(observation.evidence[0], encoded=encoded),))

    def _explained(self, received: Received, uses: int) -> Nonlinear:
        """What was received as a function of the picture: h E(x) over the deviation of the noise."""
        scale = (received.noise_var / 2).clamp_min(LEAST_NOISE_VAR).rsqrt()

        def measurement(x: Tensor) -> Tensor:
            return unpack(received.h * self.network.encode(x, uses, None) * scale)

        return Nonlinear(unpack(received.y * scale), measurement)


def effective_snr_db(received: Received) -> Float[Tensor, " batch"]:
    """SNR of the Gaussian channel of equal capacity: 1 + SNR is the geometric mean of 1 + |h|^2 / N0."""
    snr = received.h.abs().square() / received.noise_var
    return 10 * torch.log10(torch.expm1(torch.log1p(snr).mean(1)).clamp_min(1e-10))
