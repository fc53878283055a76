"""Codec consistency: a diffusion sampler whose sample codes to the very bytes that arrived."""

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
    """DiffPIR with every estimate moved into the cells of the quantiser, the last one into the box as well.

        x1 = argmin |y - A x0|^2 / noise_std^2 + (lambda / sigma^2) |x0 - D(x, sigma)|^2
        x0_hat = x1 + B+ (clamp(B x1, low, high) - B x1)
        x' = x0_hat + sigma' (sqrt(1 - zeta) (x - x0_hat) / sigma + sqrt(zeta) z)

    with B and the bounds from the coefficients of a JPEG payload. The sample, in [-bound, bound], codes to
    the coefficients that arrived, up to the rounding of 8-bit pictures: each of its coefficients is within
    1e-5 of its cell, in units of pictures in [0, 1], wherever cells and box meet in more than their ends
    (`Cells.settled`; they need not at steps of a level or so, where rounding takes saturated colours out of
    the box). The guess is moved into the same convex set, so that every knob and every average of samples
    keeps to it.

    It is no posterior sampler: it has the bias of DiffPIR, uses the bytes twice, once for the measured error
    and once for the cells, and puts what a cell cuts off on the cell's edge. Of x0 ~ N(0, [[1, .8], [.8, 1]])
    whose first value is known to be in [0.5, 1.5], taken as 1 with noise_std 12^-1/2 (true: means .921 and
    .737, variances .077 and .409) it gets .916 and .537, .054 and .468 in 100 steps, .927 and .689, .057 and
    .399 in 1000. A lost item is a sample of the prior.

    Args:
        denoiser: The prior.
        schedule: Of noise levels, each a network call.
        strength: lambda, above 0: trust in the prior.
        zeta: Part of the noise's power that is drawn anew, 0 to 1.
        bound: Of the values of a sample, above 0; 1 for pictures, infinite for data without bounds.

    Raises:
        InvalidOption: A parameter out of range.
        UnsuitableEvidence: What arrived has no cells.

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
        """What its samples have."""
        return "consistency"

    @property
    def nfe(self) -> int:
        """One call per level."""
        return self.schedule.steps

    @property
    def noise(self) -> Noise:
        """Of any color, and cells."""
        return "cells"

    @torch.no_grad()
    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """x0_hat at every level; only the last one is in the box."""
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
