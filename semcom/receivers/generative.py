"""The receiver around every method with a prior: from evidence to a picture, between mean and sample."""

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
    """A way to draw x0 given evidence, network call by network call."""

    @property
    def name(self) -> str:
        """Of the paper."""
        ...

    @property
    def schedule(self) -> Schedule:
        """Its noise levels."""
        ...

    @property
    def nfe(self) -> int:
        """Network calls of one sample, vector-Jacobian products counted as calls."""
        ...

    @property
    def noise(self) -> Noise:
        """What it can use of a measured error."""
        ...

    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """An estimate of x0 in [-1, 1] per level, the last of them the sample."""
        ...


@dataclass(frozen=True, eq=False)
class Generative:
    """Refines what arrived with a prior: mean + knob (average of samples - mean).

    With knob 1 and one sample it shows a draw from the posterior, as the method understands it; with knob 0
    the mean: the decoded picture itself if there is one (in its cells, where the method uses them), else the
    method's first estimate, which is the posterior mean with `Posterior` only. The squared error is
    D* (1 + knob^2) with that of the mean, D*: more than the least at its realism, which takes the optimal
    transport of the mean in place of the sample (`semcom.theory.perception_distortion`). The average of n
    samples is like knob 1 / sqrt(n). Evidence without noise is kept: the picture has |A x - y| < 1e-5. An
    item that was lost is a sample of the prior; its record says outage.

    Args:
        method: Draws samples.
        knob: 0 to 1.
        samples: To average, each from noise of its own.
        tables: Errors of decoded pictures by code; those shipped if none are given.
        progress: Called with the network calls done and planned of the item.

    Raises:
        InvalidOption: Out of range.

    Reference:
        Freirich, Michaeli and Meir, A theory of the distortion-perception tradeoff in Wasserstein space,
        NeurIPS 2021.
    """

    method: Method
    knob: float = 1.0
    samples: int = 1
    tables: Mapping[str, ErrorTable] = field(default_factory=shipped_tables, repr=False)
    progress: Callable[[int, int], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not (0 <= self.knob <= 1 and 1 <= self.samples <= MAX_SAMPLES):
            raise InvalidOption(
                f"knob {self.knob:g}, {self.samples} samples: from 0 to 1, and 1..{MAX_SAMPLES}"
            )

    @property
    def name(self) -> str:
        """Canonical spelling: method, steps, and what is not at its default."""
        parts = [self.method.name, str(self.method.schedule.steps)]
        if self.knob != 1 or self.samples != 1:
            parts.append(f"{self.knob:g}")
        if self.samples != 1:
            parts.append(str(self.samples))
        return ":".join(parts)

    @property
    def nfe(self) -> int:
        """Network calls per item."""
        return self.samples * self.method.nfe

    def __call__(
        self, observation: Observation[Tensor], shape: tuple[int, ...], rng: Streams
    ) -> Float[Tensor, "1 3 height width"]:
        """The picture between mean and sample, in [0, 1]."""
        evidence = in_prior_units(observation, shape, self.method.name, self.method.noise, self.tables)
        first, total = evidence.guess, torch.zeros(())
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
    """A picture near another, in [0, 1] and with A x = y within 5e-6, for evidence without noise.

    Args:
        x_hat: The picture.
        evidence: y and A, in the units of the prior.

    Returns:
        The picture of `semcom.cells.Cells.settled`.
    """
    exactly = Cells(evidence.operator, evidence.y.double(), evidence.y.double())
    return to_picture(exactly.settled(2 * x_hat - 1, -1.0, 1.0)).to(x_hat)
