"""The encoder in the loop: the picture whose transmission explains what was received."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from channels import Streams
from semcom.denoisers import Denoiser
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.observation import Nonlinear
from semcom.operators import Linearised
from semcom.receivers.evidence import Noise, PriorEvidence
from semcom.samplers import Matched, Schedule, ddim_step, start

NEGLIGIBLE = 1e-12  # energy of a residual, relative, at which nothing is left to do


@dataclass(frozen=True, eq=False)
class EncoderInTheLoop:
    """DiffPIR whose data step is a Gauss-Newton step through the encoder: y = M(x0) + n with white n.

        x0_hat = D + v J* (v J J* + 1)^-1 (y - M(D)),  J = dM/dx at D = D(x, sigma),  v = sigma^2
        x' = x0_hat + sigma' (x - x0_hat) / sigma

    M sends a picture through the encoder of a joint code and the channel as the receiver knows it, without
    noise, so that no decoder, and nothing measured of one, stands between the symbols and the prior. The
    inverse is by conjugate gradients, each step a product with J and one with J*. Starts from the decoded
    picture. A lost item is a sample of the prior.

    It is no posterior sampler: with a linear M it is `DiffPIR` without fresh noise. Of
    x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value was observed as 1 with noise 0.3 (true: means .917 and
    .734, variances .083 and .413) it gets .909 and .331, .069 and .671 in 100 steps, .911 and .331, .075 and
    .694 in 1000.

    Args:
        denoiser: The prior.
        schedule: Of noise levels.
        solver_steps: Of conjugate gradients.

    Raises:
        InvalidOption: Fewer than 1 solver step.
        UnsuitableEvidence: What was received is not explained by an encoder.

    Reference:
        Wang, Dai, Tan, Qin, Xu, Niu and Zhang, DiffCom: channel received signal is a natural condition to
        guide diffusion posterior sampling, IEEE J. Sel. Areas Commun. 2025 (the encoder in the loop, by
        gradient steps); Nocedal and Wright, Numerical optimization, 2006, 10.3 (Gauss-Newton).
    """

    denoiser: Denoiser
    schedule: Schedule = Matched(8, 2.0)
    solver_steps: int = 4

    def __post_init__(self) -> None:
        if self.solver_steps < 1:
            raise InvalidOption(f"{self.solver_steps} solver steps: at least 1")

    @property
    def name(self) -> str:
        """What it does."""
        return "loop"

    @property
    def nfe(self) -> int:
        """Per level one call of the prior, one of the encoder, and two products per solver step and one."""
        return (3 + 2 * self.solver_steps) * self.schedule.steps

    @property
    def noise(self) -> Noise:
        """That of the symbols."""
        return "symbols"

    @torch.no_grad()
    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """x0_hat at every level, not clipped."""
        if evidence.observed and evidence.symbols is None:
            raise UnsuitableEvidence(
                f"{self.name} needs symbols of a joint code without knowledge at the transmitter "
                "and with a table of its errors (deepjscc, deepjscc-perceptual); choose ddrm or diffpir"
            )
        x, sigmas = start(self.schedule, evidence.guess, evidence.spread, evidence.y, shape, rng)
        for sigma, following in pairwise(sigmas):
            x0 = self.denoiser(x, sigma.expand(len(x)))
            if evidence.symbols is not None:
                x0 = self._explained(x0, float(sigma**2), evidence.symbols)
            yield x0
            x = ddim_step(x, x0, sigma, following, 0.0, None)

    def _explained(self, x0: Tensor, variance: float, symbols: Nonlinear) -> Tensor:
        """x0_hat."""
        jacobian = Linearised(symbols.measurement, x0)
        residual = symbols.y - jacobian.value
        u = torch.zeros_like(residual)
        direction, energy = residual, residual.square().sum()
        enough = NEGLIGIBLE * energy
        for _ in range(self.solver_steps):
            if energy <= enough:
                break
            through = variance * jacobian.A(jacobian.adjoint(direction)) + direction
            step = energy / (direction * through).sum()
            u = u + step * direction
            residual = residual - step * through
            following = residual.square().sum()
            direction, energy = residual + following / energy * direction, following
        return x0 + variance * jacobian.adjoint(u)
