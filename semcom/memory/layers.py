"""Layers of an associative memory: majorise-minimise steps in trust regions, from coarse to fine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.cluster.vq import kmeans2
from torch import Tensor

from semcom.errors import InvalidOption
from semcom.memory.energies import check_patterns, layer_energy, log_sum_exp, retrieve


@dataclass(frozen=True, eq=False, slots=True)
class Progress:
    """Trace of queries through the layers of a memory.

    Args:
        points: Point after every layer, the query first, [layers + 1, queries, dims].
        before: Energy of every layer where its step began, [layers, queries].
        after: Energy of every layer where its step ended, at most `before`, [layers, queries].
    """

    points: Float[Tensor, "points queries dims"]
    before: Float[Tensor, "layers queries"]
    after: Float[Tensor, "layers queries"]


@dataclass(frozen=True, eq=False)
class Layers:
    """Memory in layers: layer t moves the query downhill on its own energy, within a trust region.

        x_t = argmin of E_t(x) over |x - x_{t-1}|^2 <= radius_t

    approached by majorise-minimise steps x <- projection of M_t softmax(-beta |x - rho_i|^2) on the region. A
    step minimises sum over i of w_i |x - rho_i|^2, which bounds E_t from above up to a constant, over the
    region; hence E_t never rises.

    Args:
        codebooks: Patterns of every layer, each [patterns, dims].
        beta: Inverse temperature of squared distances, at least 0.
        radii: Largest squared distance that a layer may move the query, at least 0, one per layer; infinity
            for no limit.
        steps: Majorise-minimise steps per layer, at least 1.

    Raises:
        InvalidOption: The numbers of codebooks and radii differ, there are none, or a number is out of range.
        InvalidSource: A codebook is empty, or has a value that is not finite.

    Reference:
        Niu et al., arXiv 2405.08707, section 4.
    """

    codebooks: tuple[Float[Tensor, "_ dims"], ...]
    beta: float = 1.0
    radii: tuple[float, ...] = ()
    steps: int = 10

    def __post_init__(self) -> None:
        if not self.codebooks or len(self.radii) not in (0, len(self.codebooks)):
            raise InvalidOption(
                f"{len(self.codebooks)} codebooks, {len(self.radii)} radii: one radius per codebook, or none"
            )
        if self.steps < 1 or not all(radius >= 0 for radius in self.radii):
            raise InvalidOption(f"{self.steps} steps, radii {self.radii}: steps from 1, radii from 0 to inf")
        for codebook in self.codebooks:
            check_patterns(codebook)

    def __call__(self, x: Float[Tensor, "queries dims"]) -> Progress:
        """Move queries through all layers.

        Args:
            x: Queries, [queries, dims].

        Returns:
            Points and energies layer by layer.

        Raises:
            InvalidSource: Queries have another number of dimensions, or a value is not finite.
        """
        points, before, after = [x], [], []
        for codebook, radius in zip(self.codebooks, self.radii or self._unlimited(), strict=True):
            start = points[-1]
            before.append(layer_energy(start, codebook, self.beta))
            reached = start
            for _ in range(self.steps):
                reached = within(retrieve(reached, codebook, self.beta), start, radius)
            points.append(reached)
            after.append(layer_energy(reached, codebook, self.beta))
        return Progress(torch.stack(points), torch.stack(before), torch.stack(after))

    def energies(self, x: Float[Tensor, "queries dims"]) -> Float[Tensor, "layers queries"]:
        """Energies of all layers at the same points.

        Args:
            x: Points, [queries, dims].

        Returns:
            E_t, [layers, queries].
        """
        return torch.stack([layer_energy(x, codebook, self.beta) for codebook in self.codebooks])

    def _unlimited(self) -> tuple[float, ...]:
        return (math.inf,) * len(self.codebooks)


def within(
    x: Float[Tensor, "queries dims"], centre: Float[Tensor, "queries dims"], radius: float
) -> Float[Tensor, "queries dims"]:
    """Project points on balls of a squared radius.

    Args:
        x: Points, [queries, dims].
        centre: Centre of the ball of every point, [queries, dims].
        radius: Largest squared distance, at least 0; infinity leaves the points unchanged.

    Returns:
        The nearest points of the balls, [queries, dims].
    """
    away = x - centre
    far = away.square().sum(1, keepdim=True)
    scale = torch.where(far > radius, (radius / far.clamp_min(torch.finfo(x.dtype).tiny)).sqrt(), 1.0)
    return torch.where(far > radius, centre + scale * away, x)


def global_energy(energies: Float[Tensor, "layers queries"]) -> Float[Tensor, " queries"]:
    """Energy of all layers together, E_global = -LSE(-E_1, ..., -E_l).

    With l layers, min over t of E_t - log l <= E_global <= min over t of E_t, the latter strict for l > 1.

    Args:
        energies: E_t, [layers, queries].

    Returns:
        E_global, [queries].
    """
    return -log_sum_exp(1.0, -energies.T)


def coarse_to_fine(
    patterns: Float[Tensor, "patterns dims"], sizes: Sequence[int], seed: int = 0
) -> tuple[Float[Tensor, "_ dims"], ...]:
    """Codebooks of rising size: cluster centres by k-means, and the patterns themselves last.

    Args:
        patterns: Patterns, [patterns, dims].
        sizes: Numbers of centres, rising, each from 1 to the number of patterns.
        seed: Seed of the choice of patterns from which k-means starts.

    Returns:
        One codebook per size, then the patterns.

    Raises:
        InvalidOption: The sizes do not rise, or are out of range.
        InvalidSource: There are no patterns, or a value is not finite.
    """
    check_patterns(patterns)
    if list(sizes) != sorted(set(sizes)) or not all(1 <= size <= len(patterns) for size in sizes):
        raise InvalidOption(f"codebooks of sizes {tuple(sizes)}: rising, from 1 to {len(patterns)} patterns")
    whole = patterns.detach().cpu().double().numpy()
    order = np.random.default_rng(seed).permutation(len(whole))
    centres = [kmeans2(whole, whole[order[:size]], minit="matrix", missing="warn")[0] for size in sizes]
    return (*(torch.from_numpy(found).to(patterns) for found in centres), patterns)
