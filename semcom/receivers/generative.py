"""Receiver with a prior: runs a sampling method on the evidence, and interpolates between mean and sample."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from channels import Streams
from semcom.calibration import ErrorTable, shipped_tables
from semcom.cells import Cells
from semcom.errors import InvalidOption
from semcom.observation import Observation
from semcom.receivers.evidence import Noise, PriorEvidence, in_prior_units, to_picture
from semcom.samplers import Schedule

MAX_SAMPLES = 1000


@runtime_checkable
class Method(Protocol):
    """A method of sampling x0 from a diffusion prior given evidence (DDRM, DPS and others)."""

    @property
    def name(self) -> str:
        """Name of the method ("ddrm"), as in names of receivers."""
        ...

    @property
    def schedule(self) -> Schedule:
        """Schedule of the noise levels at which the network is called."""
        ...

    @property
    def nfe(self) -> int:
        """Network calls per sample, at least 1; a vector-Jacobian product counts as one call."""
        ...

    @property
    def noise(self) -> Noise:
        """Noise model that the method uses: "white", "colored", "cells" or "symbols"."""
        ...

    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """Sample x0 given evidence, one noise level at a time.

        Args:
            evidence: Linear evidence of x0 in [-1, 1].
            shape: Shape of x0, (1, 3, height, width) for a picture.
            rng: Random numbers of the sampler.

        Yields:
            One estimate of x0 per noise level, of the given shape, not necessarily clipped; the last one is
            the sample.

        Raises:
            UnsuitableEvidence: The method cannot use evidence of this kind.
        """
        ...


@dataclass(frozen=True, eq=False)
class Generative:
    """Receiver with a diffusion prior, with a trade-off between distortion and realism.

        x_hat = mean + knob (average of samples - mean)

    Knob 1 with one sample shows a sample from the posterior as modelled by the method. Knob 0 shows the mean:
    the decoded picture if there is one (moved into its quantisation cells if the method uses them), otherwise
    the first estimate of the method, which is the posterior mean only for `Posterior`. The squared error is
    D* (1 + knob^2), where D* is that of the mean. This is more than the least squared error at the same
    realism, which requires the optimal transport map of the mean instead of a sample
    (`semcom.theory.perception_distortion`). The average of n samples has the squared error of knob 1 /
    sqrt(n). For noiseless evidence the picture satisfies |A x - y| < 1e-5. For a lost item a sample from the
    prior is shown, and the record still counts an outage.

    Args:
        method: Sampling method.
        knob: Trade-off, 0 (least distortion) to 1 (most realism).
        samples: Number of independent samples to average, 1 to 1000.
        tables: Measured error tables of decoders, by name; by default those of the package.
        prior: Name of the method's prior with its digest, see `semcom.names.receiver`; empty for the prior of
            this package. The fingerprint contains the prior itself instead.
        progress: Called with the number of network calls done and the total number for the item.

    Raises:
        InvalidOption: `knob` or `samples` is out of range.

    Reference:
        Freirich, Michaeli and Meir, A theory of the distortion-perception tradeoff in Wasserstein space,
        NeurIPS 2021.
    """

    method: Method
    knob: float = 1.0
    samples: int = 1
    tables: Mapping[str, ErrorTable] = field(default_factory=shipped_tables, repr=False)
    prior: str = field(default="", compare=False)
    progress: Callable[[int, int], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not (0 <= self.knob <= 1 and 1 <= self.samples <= MAX_SAMPLES):
            raise InvalidOption(
                f"knob {self.knob:g}, {self.samples} samples: from 0 to 1, and 1..{MAX_SAMPLES}"
            )

    @property
    def name(self) -> str:
        """Canonical name: method, steps, and non-default knob, samples and prior, e.g. "ddrm:100:0.5"."""
        parts = [self.method.name, str(self.method.schedule.steps)]
        if self.knob != 1 or self.samples != 1:
            parts.append(f"{self.knob:g}")
        if self.samples != 1:
            parts.append(str(self.samples))
        return ":".join(parts) + (f"@{self.prior}" if self.prior else "")

    @property
    def nfe(self) -> int:
        """Network calls per item, those of all samples together."""
        return self.samples * self.method.nfe

    def __call__(
        self, observation: Observation[Tensor], shape: tuple[int, ...], rng: Streams
    ) -> Float[Tensor, "1 3 height width"]:
        """Sample a picture from the posterior, and interpolate between mean and sample.

        Args:
            observation: Observation of the picture.
            shape: Shape of the picture, (1, 3, height, width).
            rng: Random numbers of the sampler.

        Returns:
            The picture, [1, 3, height, width] in [0, 1].

        Raises:
            UnsuitableEvidence: The method cannot use this evidence.
        """
        evidence = in_prior_units(observation, shape, self.method.name, self.method.noise, self.tables)
        first, total = evidence.guess, torch.zeros((), dtype=torch.float32)
        calls = 0
        for i in range(self.samples):
            stream = rng.fork(f"sample {i}")
            sample = None
            for sample in self.method.estimates(evidence, shape, stream):
                first = sample if first is None else first
                calls += self.method.nfe // self.method.schedule.steps
                if self.progress is not None:
                    self.progress(min(calls, self.nfe), self.nfe)
            assert sample is not None
            total = total + sample
        assert first is not None
        mean = to_picture(first)
        x_hat = (mean + self.knob * (to_picture(total / self.samples) - mean)).clamp(0, 1)
        return settled(x_hat, evidence) if evidence.observed and evidence.noise_std == 0 else x_hat


def settled(x_hat: Tensor, evidence: PriorEvidence) -> Tensor:
    """Move a picture to a nearby one in [0, 1] with |A x - y| < 5e-6, for noiseless evidence.

    Args:
        x_hat: Picture in [0, 1], [1, 3, height, width].
        evidence: Observation y and operator A in the units of the prior.

    Returns:
        The nearby picture, found by `semcom.cells.Cells.settled`, [1, 3, height, width].
    """
    exactly = Cells(evidence.operator, evidence.y.double(), evidence.y.double())
    return to_picture(exactly.settled(2 * x_hat - 1, -1.0, 1.0)).to(x_hat)
