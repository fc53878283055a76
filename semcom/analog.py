"""Learned joint source-channel coding as a transmission: a network maps pictures to symbols and back."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from channels import Received
from channels.spreading import despread, spread
from channels.symbols import average_power, unpack
from semcom.errors import BudgetTooSmall
from semcom.jscc.jscc import DeepJSCC
from semcom.modalities.image import Image
from semcom.observation import Decoded, Nonlinear, Observation, Origin
from semcom.transmission import ChannelKnowledge, Csit, Sent, nothing_sent

LEAST_NOISE_VAR = 1e-12  # lower bound of the noise variance per real value


@dataclass(frozen=True)
class Analog:
    """Transmission by DeepJSCC: an encoder network maps pixels to channel symbols, a decoder maps them back.

        x -> E(x) -> U E(x) -> channel -> y -> `despread` -> D

    The network's symbols are whitened by a unitary transform U over all of them (`channels.spreading`). Those
    of networks that send the strongest coefficients first have a peak-to-average power ratio of 20 to 38 dB,
    those of the network of 2019 one of 13 to 15 dB: an amplifier that clips at 6 dB would cost the former 5
    to 14 dB of PSNR. On a channel of constant gain U changes nothing else. Under fading and packet loss the
    decoder gets all symbols with the same noise, as in its training on AWGN.

    Args:
        network: Encoder and decoder.
        csit: "average" gives the encoder the average SNR, "none" does not.
        device: Device of the network ("cpu", "cuda"); symbols and pictures are passed on the CPU.
    """

    network: DeepJSCC
    csit: Csit = "none"
    device: str = field(default="cpu", compare=False)

    @property
    def name(self) -> str:
        """Canonical name, for instance "deepjscc" or "deepjscc:csit-average"."""
        return self.network.name + (":csit-average" if self.csit == "average" else "")

    def send(self, x: Image, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Encode a picture by the network; the record gets the peak-to-average power ratio "papr_db"."""
        snr_db = None if known is None else known.snr_db
        try:
            with torch.no_grad():
                symbols = spread(self.network.encode(x.to(self.device), uses, snr_db).cpu())
        except BudgetTooSmall as error:
            return nothing_sent(str(error))
        return Sent(symbols, info={"papr_db": papr_db(symbols)})

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Image]]:
        """Decode the receptions by the network one at a time, so that results do not depend on the batch."""
        return [self._observed(received.item(i), shape) for i in range(received.y.shape[0])]

    def _observed(self, received: Received, shape: tuple[int, ...]) -> Observation[Image]:
        heard = despread(received)
        effective_db = effective_snr_db(heard).item()
        with torch.no_grad():
            picture = self.network.decode(_on(heard, self.device), shape).cpu()
        uses = received.y.shape[1]
        origin = Origin(self.network.name, (math.log2(uses / math.prod(shape)), effective_db))
        # With CSIT the encoder depends on an SNR that the receiver does not know, so that M is unknown to it.
        symbols = self._explained(received, uses) if self.csit == "none" else None
        evidence = Decoded(picture, origin=origin, symbols=symbols)
        return Observation(picture.clamp(0, 1), (evidence,), {"effective_snr_db": effective_db})

    def _explained(self, received: Received, uses: int) -> Nonlinear:
        """Received symbols as nonlinear evidence of the picture: M(x) = h U E(x) / (noise deviation)."""
        scale = (received.noise_var / 2).clamp_min(LEAST_NOISE_VAR).rsqrt()

        def measurement(x: Tensor) -> Tensor:
            encoded = self.network.encode(x.to(self.device), uses, None).to(received.h.device)
            return unpack(received.h * spread(encoded) * scale)

        return Nonlinear(unpack(received.y * scale), measurement)


def papr_db(symbols: Tensor) -> float:
    """Peak-to-average power ratio of symbols, max |x|^2 / mean |x|^2 in dB.

    Args:
        symbols: Complex symbols, [1, uses].

    Returns:
        Ratio in dB, at least 0 unless all symbols are 0.
    """
    peak = symbols.abs().square().max() / average_power(symbols).clamp_min(1e-30)
    return 10 * torch.log10(peak).item()


def effective_snr_db(received: Received) -> Float[Tensor, " batch"]:
    """Effective SNR: that of the AWGN channel with the same mean capacity per use.

        log2(1 + SNR_eff) = mean over uses of log2(1 + |h|^2 / N0)

    Args:
        received: Batch of receptions with h and N0, [batch, uses].

    Returns:
        Effective SNR in dB, [batch], at least -100.
    """
    snr = received.h.abs().square() / received.noise_var
    return 10 * torch.log10(torch.expm1(torch.log1p(snr).mean(1)).clamp_min(1e-10))


def _on(received: Received, device: str) -> Received:
    return Received(received.y.to(device), received.h.to(device), received.noise_var.to(device))
