"""DDRM, DiffPIR and DPS as deepinv has them, with exact denoisers of two priors, for tests to compare with.

Run:     python tests/golden/make_deepinv_receivers.py   (its own environment: deepinv == 0.5.0)
Writes:  deepinv_receivers.npz beside this file

Pictures of 3x8x8 values in [-1, 1]; deepinv sees them in [0, 1], with half the noise. Per case there are
means and variances of `count` samples drawn by deepinv, and a few samples for which its normal numbers were
replaced by those of `noise_seed`, so that another implementation can follow the same path step by step.
All is computed in double precision, also where deepinv names float32.

What deepinv does differently from the papers, and what is done about it:

- DDRM divides all its noise by sqrt(2). Moments are kept as they come out: with a Gaussian prior the sampler
  is linear, so that the mean is right and the variance half of what it should be. Paths get sqrt(2) times
  the noise. It starts at the data, in [0, 1] and with their noise taken from that of the level, and adds 1e-6
  to all gains; paths start at noise alone, and nothing is added.
- DiffPIR's lambda is twice a strength of the prior in consistent units: it takes levels in [-1, 1] but the
  noise in [0, 1], a factor 1/4, and 1 / (2 rho) for the proximal step of half a square, a factor 2. It ends
  with x at the last level, noise included, times sqrt(abar), which is divided out here. The noise of the
  data is taken from that of its start, which is put back in paths.
- DPS multiplies its gradient by half the variance of the step, which the paper does not. `PaperStep` has a
  weight that undoes it. Its data term clips to [-1, 1] what is in [0, 1]; these priors do not reach that.
"""

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from deepinv.optim.data_fidelity import L2
from deepinv.physics import DecomposablePhysics, GaussianNoise, Inpainting
from deepinv.sampling import DDRM, DPS, DiffPIR, DPSDataFidelity
from torch import Tensor

SHAPE = (3, 8, 8)
NOISE_STD = 0.2  # of values in [-1, 1]
COUNT = 4000
PATHS = 4
SEED = 1
ETA, ETA_B = 0.7, 0.9
LAMBDA, ZETA = 1.4, 0.4
STRENGTH = 0.3
STD, ALONG, ACROSS_COLORS = 0.25, 0.8, 0.6  # of the Gaussian prior: correlation of neighbours, of colours
COMPONENT_STD, WEIGHTS = (0.1, 0.2), (0.4, 0.6)  # of the mixture


class Prior(torch.nn.Module):
    """E[x | x + sigma n] of a mixture of Gaussians, for pictures in [0, 1] as deepinv wants them."""

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        super().__init__()
        self.weights, self.means = weights, means
        self.spread, self.axes = torch.linalg.eigh(covariances)

    def forward(self, x: Tensor, sigma: float | Tensor, *_: object) -> Tensor:
        flat = (2 * x - 1).flatten(1)[:, None]
        noise_var = (2 * torch.as_tensor(sigma).flatten()[0]) ** 2
        along = torch.einsum("bcv,cvd->bcd", flat - self.means, self.axes)
        variance = self.spread + noise_var
        log_weight = self.weights.log() - 0.5 * (along**2 / variance + variance.log()).sum(2)
        answers = self.means + torch.einsum("bcd,cvd->bcv", along * self.spread / variance, self.axes)
        mean = (log_weight.softmax(1)[:, :, None] * answers).sum(1)
        return ((mean + 1) / 2).reshape(x.shape)


class PaperStep(DPSDataFidelity):
    """Weights that make deepinv's step that of the paper: strength times the gradient with respect to x_t."""

    def __init__(self, levels: Tensor) -> None:
        super().__init__(clip=(-1.0, 1.0))
        self.levels = levels

    def forward(self, x: Tensor, y: Tensor, physics: object, sigma: Tensor, *args: object, **options: object):
        i = int((self.levels - 2 * sigma).abs().argmin())
        here, following = self.levels[i].double(), self.levels[i + 1].double()
        of_step = (here**2 - following**2) / 2
        self.weight = float(STRENGTH * ((1 + here**2) * (1 + following**2)).sqrt() / of_step)
        return super().forward(x, y, physics, sigma, *args, **options)


def covariance() -> Tensor:
    """Colours, rows and columns are correlated each on its own."""
    steps = torch.arange(8)
    line = ALONG ** (steps[:, None] - steps).abs()
    colors = torch.full((3, 3), ACROSS_COLORS).fill_diagonal_(1.0)
    return STD**2 * torch.kron(colors, torch.kron(line, line))


def block_basis(x: Tensor) -> Tensor:
    """Orthonormal coordinates of 2x2 blocks: the sum over two, and three differences; an involution."""
    a, b, c, d = x[:, :, ::2, ::2], x[:, :, ::2, 1::2], x[:, :, 1::2, ::2], x[:, :, 1::2, 1::2]
    out = torch.empty_like(x)
    out[:, :, ::2, ::2], out[:, :, ::2, 1::2] = (a + b + c + d) / 2, (a - b + c - d) / 2
    out[:, :, 1::2, ::2], out[:, :, 1::2, 1::2] = (a + b - c - d) / 2, (a - b - c + d) / 2
    return out


def only_means(c: Tensor) -> Tensor:
    return c[:, :, ::2, ::2]


def among_zeros(y: Tensor) -> Tensor:
    out = y.new_zeros(*y.shape[:2], 8, 8)
    out[:, :, ::2, ::2] = y
    return out


def blocks() -> DecomposablePhysics:
    """The mean of every 2x2 block, of gain 1/2."""
    gains = among_zeros(torch.full((1, 3, 4, 4), 0.5))
    return DecomposablePhysics(
        U=only_means,
        U_adjoint=among_zeros,
        V=block_basis,
        V_adjoint=block_basis,
        mask=gains,
        noise_model=GaussianNoise(NOISE_STD / 2),
    )


Draw = Callable[[Tensor], Tensor]


def replay(noise: Tensor, into: Callable[[Tensor], Tensor]) -> Draw:
    """A stand-in for torch.randn_like that hands out the rows of `noise`, one after the other."""
    rows = iter(noise)
    return lambda like: into(next(rows)).to(like)


def in_pixels(z: Tensor) -> Tensor:
    return z


def ddrm(
    prior: Prior, y: Tensor, physics: DecomposablePhysics, levels: Tensor, noise: Tensor | None
) -> Tensor:
    model = DDRM(prior, sigmas=(levels / 2).tolist(), eta=ETA, etab=ETA_B, eps=0.0)
    if noise is None:
        return 2 * model(y, physics) - 1
    wanted = physics.V_adjoint((levels[0] * noise[0] + 1) / 2)
    seen = physics.mask.gt(0)
    data = torch.where(seen, physics.U_adjoint(y) / physics.mask, 0.0)
    spread = ((levels[0] / 2) ** 2 - torch.where(seen, NOISE_STD / 2 / physics.mask, 0.0) ** 2).sqrt()
    first = physics.V((wanted - data) / spread)
    draw = replay(2**0.5 * torch.cat((first[None], noise[1:])), physics.V_adjoint)
    with mock.patch("torch.randn_like", draw):
        return 2 * model(y, physics) - 1


def diffpir_model(prior: Prior) -> DiffPIR:
    return DiffPIR(prior, L2(), sigma=NOISE_STD / 2, max_iter=40, zeta=ZETA, lambda_=LAMBDA)


def diffpir(
    prior: Prior, y: Tensor, physics: DecomposablePhysics, levels: Tensor, noise: Tensor | None
) -> Tensor:
    start = torch.full((len(y), *SHAPE), 0.5)
    draw = torch.randn_like
    if noise is not None:
        first = noise[:1] / (1 - (NOISE_STD / levels[0]) ** 2).sqrt()
        draw = replay(torch.cat((first, noise[1:])), in_pixels)
    with mock.patch("torch.randn_like", draw):
        out = diffpir_model(prior)(y, physics, x_init=start)
    return (2 * out - 1) * (1 + levels[-1] ** 2).sqrt()


def dps_model(prior: Prior) -> DPS:
    return DPS(prior, num_steps=201)


def dps(
    prior: Prior, y: Tensor, physics: DecomposablePhysics, levels: Tensor, noise: Tensor | None
) -> Tensor:
    model = dps_model(prior)
    model.data_fidelity = PaperStep(levels)
    model.data_fidelity.denoiser = prior
    start: Tensor | torch.Size = torch.Size((len(y), *SHAPE))
    if noise is not None:
        start = noise[0] * model.sde.sigma_t(1.0) * model.sde.scale_t(1.0)
        model.solver.randn_like = replay(noise[1:], in_pixels)
    return 2 * model(y, physics, x_init=start) - 1


def main() -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    values = int(np.prod(SHAPE))
    mean = torch.from_numpy(rng.uniform(-0.2, 0.2, values))
    two_means = torch.from_numpy(rng.uniform(-0.3, 0.3, (2, values)))
    round_ = torch.stack([std**2 * torch.eye(values) for std in COMPONENT_STD])
    priors = {
        "gaussian": Prior(torch.ones(1), mean[None], covariance()[None]),
        "mixture": Prior(torch.tensor(WEIGHTS), two_means, round_),
    }
    kept = torch.from_numpy(rng.random((1, 8, 8)) < 0.6).expand(SHAPE)
    physics = {
        "mask": Inpainting(SHAPE, mask=kept.double(), noise_model=GaussianNoise(NOISE_STD / 2)),
        "blocks": blocks(),
    }
    drawn = rng.multivariate_normal(mean.numpy(), covariance().numpy())
    x = torch.from_numpy(drawn).reshape(1, *SHAPE)
    disturbance = torch.from_numpy(rng.standard_normal((1, *SHAPE)))

    levels = {
        "ddrm": torch.cat((torch.logspace(2, -2, 60), torch.zeros(1))),
        "diffpir": (lambda m: m.sigmas[m.seq.long()])(diffpir_model(priors["gaussian"])),
        "dps": (lambda m: m.sde.sigma_t(m.solver.timesteps))(dps_model(priors["gaussian"])),
    }
    arrays: dict[str, np.ndarray] = {
        "mean": mean.numpy(),
        "two_means": two_means.numpy(),
        "kept": kept.numpy(),
        "gaussian": np.array([STD, ALONG, ACROSS_COLORS]),
        "component_std": np.array(COMPONENT_STD),
        "weights": np.array(WEIGHTS),
        "noise_std": np.float64(NOISE_STD),
        "eta": np.array([ETA, ETA_B]),
        "lambda_zeta": np.array([LAMBDA, ZETA]),
        "strength": np.float64(STRENGTH),
        "count": np.int64(COUNT),
        "noise_seed": np.int64(SEED + 1),
        **{f"{name}_levels": sigmas.numpy() for name, sigmas in levels.items()},
    }
    samplers = {"ddrm": ddrm, "diffpir": diffpir, "dps": dps}
    noise = np.random.default_rng(SEED + 1).standard_normal((max(map(len, levels.values())), PATHS, *SHAPE))
    for kind, operator in physics.items():
        # In [0, 1]; all samples share one observation
        y = operator.A((x + 1) / 2) + NOISE_STD / 2 * operator.U(operator.mask.ne(0) * disturbance)
        arrays[f"{kind}_y"] = (2 * y - operator.A(torch.ones(1, *SHAPE)))[0].numpy()
        for name, sampler in samplers.items():
            drawn = sampler(
                priors["gaussian"], y.expand(COUNT, *y.shape[1:]).clone(), operator, levels[name], None
            )
            drawn = drawn.flatten(1)
            arrays[f"{kind}_{name}_mean"] = drawn.mean(0).float().numpy()
            arrays[f"{kind}_{name}_variance"] = drawn.var(0).float().numpy()
            for label, prior in priors.items():
                few = y.expand(PATHS, *y.shape[1:]).clone()
                path = sampler(prior, few, operator, levels[name], torch.from_numpy(noise))
                arrays[f"{kind}_{name}_{label}_path"] = path.numpy()
            print(kind, name)
    np.savez_compressed(Path(__file__).parent / "deepinv_receivers.npz", **arrays)


if __name__ == "__main__":
    with mock.patch.object(torch, "float32", torch.float64):
        main()
