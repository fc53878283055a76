"""Codec consistency: a diffusion sampler whose samples are encoded to the received bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from channels import Streams
from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.receivers.conditioning import conditioned_white
from semcom.receivers.evidence import Noise, PriorEvidence
from semcom.samplers import Matched, Schedule, start


@dataclass(frozen=True, eq=False)
class Consistency:
    """DiffPIR whose estimates are projected onto the quantisation cells of the received JPEG payload.

        x1 = argmin |y - A x0|^2 / noise_std^2 + (lambda / sigma^2) |x0 - D(x, sigma)|^2
        x0_hat = x1 + B+ (clamp(B x1, low, high) - B x1)
        x' = x0_hat + sigma' (sqrt(1 - zeta) (x - x0_hat) / sigma + sqrt(zeta) z)

    Operator B and the bounds come from the coefficients of the payload. The last estimate is also projected
    onto the box [-bound, bound]. Encoding the sample yields the received coefficients, up to the rounding of
    8-bit pictures: each of its coefficients is within 1e-5 of its cell, in units of pictures in [0, 1],
    wherever cells and box have a common interior (see `Cells.settled`; at quantiser steps of about one level
    they may not, since rounding moves saturated colours out of the box). The guess is projected onto the same
    convex set, so that pictures at every knob and averages of samples are consistent as well.

    It is not a posterior sampler. It has the bias of DiffPIR, uses the bytes twice (for the measured error
    and for the cells), and moves everything outside of a cell to its boundary. Example:
    x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value is known to be in [0.5, 1.5], observed as 1 with noise_std
    12^-1/2. The posterior has means .921 and .737, variances .077 and .409; the samples have .916 and .537,
    .054 and .468 in 100 steps, .927 and .689, .057 and .399 in 1000 steps. For a lost item it samples from
    the prior.

    Args:
        denoiser: Denoiser of the prior.
        schedule: Noise levels, one network call each.
        strength: lambda, weight of the prior, above 0.
        zeta: Fraction of the noise power that is redrawn in every step, 0 to 1.
        bound: Bound on the absolute values of a sample, above 0; 1 for pictures, infinite for unbounded data.

    Raises:
        InvalidOption: A parameter is out of range.
        UnsuitableEvidence: The evidence has no quantisation cells; raised by `estimates`.

    Reference:
        Zhu, Zhang, Liang, Cao, Wen, Timofte and Van Gool, Denoising diffusion models for plug-and-play image
        restoration, CVPR workshops 2023, algorithm 1. Projection on the cells of a DCT quantiser: Zakhor,
        Iterative procedures for reduction of blocking effects in transform image coding, IEEE Trans. Circuits
        Syst. Video Technol. 2, 1992.
    """

    denoiser: Denoiser
    schedule: Schedule = Matched(8)
    strength: float = 1.0
    zeta: float = 0.3
    bound: float = 1.0

    def __post_init__(self) -> None:
        if not (self.strength > 0 and 0 <= self.zeta <= 1 and self.bound > 0):
            raise InvalidOption(
                f"strength {self.strength}, zeta {self.zeta}, bound {self.bound}: above 0, 0 to 1, above 0"
            )

    @property
    def name(self) -> str:
        """Name of the method, always "consistency"."""
        return "consistency"

    @property
    def nfe(self) -> int:
        """Network calls per sample, one per noise level."""
        return self.schedule.steps

    @property
    def noise(self) -> Noise:
        """Noise model that the method uses: "cells"."""
        return "cells"

    @torch.no_grad()
    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """Yield x0_hat, an estimate of x0, at every level; only the last one is in the box.

        Raises:
            UnsuitableEvidence: The evidence has no quantisation cells.
        """
        if evidence.cells is None and evidence.observed:
            raise UnsuitableEvidence(
                f"{self.name} needs quantised coefficients, which only the payloads of JPEG tell; "
                "choose jpeg as the codec, or ddrm or diffpir as the receiver"
            )
        x, sigmas = start(self.schedule, evidence.guess, evidence.spread, evidence.y, shape, rng)
        for i, (sigma, following) in enumerate(pairwise(sigmas)):
            x0 = self.denoiser(x, sigma.expand(len(x)))
            x0 = conditioned_white(x0, sigma**2 / self.strength, evidence)
            if evidence.cells is not None:
                x0 = (
                    evidence.cells.inside(x0)
                    if following > 0
                    else evidence.cells.settled(x0, -self.bound, self.bound).to(x0)
                )
            yield x0
            kept = (1 - self.zeta) ** 0.5 * (x - x0) / sigma
            z = rng.normal(f"{self.name} {i}/{self.schedule.steps}", shape[1:])
            x = x0 + following * (kept + self.zeta**0.5 * z)
