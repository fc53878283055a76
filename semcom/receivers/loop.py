"""Encoder in the loop: finds the picture whose encoded symbols explain the received ones."""

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

NEGLIGIBLE = 1e-12  # relative energy of the residual at which the solver stops


@dataclass(frozen=True, eq=False)
class EncoderInTheLoop:
    """DiffPIR whose data step is a Gauss-Newton step through the encoder: y = M(x0) + n with n ~ N(0, I).

        x0_hat = D + v J* (v J J* + 1)^-1 (y - M(D)),  J = dM/dx at D = D(x, sigma),  v = sigma^2
        x' = x0_hat + sigma' (x - x0_hat) / sigma

    M is the encoder of a joint source-channel code followed by the channel gain known to the receiver. The
    method uses the received symbols directly, and no decoder or measured error of one, except that it starts
    from the decoded picture. The inverse is computed by conjugate gradients, with one product by J and one by
    J* per step. For a lost item it samples from the prior.

    It is not a posterior sampler: for linear M it equals `DiffPIR` without fresh noise. Example:
    x0 ~ N(0, [[1, .8], [.8, 1]]) whose first value is observed as 1 with noise_std 0.3. The posterior has
    means .917 and .734, variances .083 and .413; the samples have .909 and .331, .069 and .671 in 100 steps,
    .911 and .331, .075 and .694 in 1000 steps.

    Args:
        denoiser: Denoiser of the prior.
        schedule: Noise levels, 3 + 2 `solver_steps` network calls each.
        solver_steps: Conjugate gradient steps per noise level, at least 1.

    Raises:
        InvalidOption: `solver_steps` is smaller than 1.
        UnsuitableEvidence: The evidence has no symbols of a joint source-channel code; raised by `estimates`.

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
        """Name of the method, always "loop"."""
        return "loop"

    @property
    def nfe(self) -> int:
        """Network calls per sample: 3 + 2 `solver_steps` per noise level.

        They are one call of the prior, one of the encoder, two Jacobian products per solver step, and one
        final product.
        """
        return (3 + 2 * self.solver_steps) * self.schedule.steps

    @property
    def noise(self) -> Noise:
        """Noise model that the method uses: "symbols"."""
        return "symbols"

    @torch.no_grad()
    def estimates(self, evidence: PriorEvidence, shape: tuple[int, ...], rng: Streams) -> Iterator[Tensor]:
        """Yield x0_hat, the result of the Gauss-Newton step, at every level, not clipped.

        Raises:
            UnsuitableEvidence: The evidence has no symbols of a joint source-channel code.
        """
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
        """Gauss-Newton step from D(x, sigma) to x0_hat."""
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
