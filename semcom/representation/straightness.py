"""Measures of straightened representations: straightness, dimension, decoding, robustness, geometry."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from semcom.errors import InvalidOption, InvalidSource
from semcom.representation.straightening import STILL, FrameEncoder, cosines, moving, steps

RIDGE = 1e-5
"""Weight of the ridge penalty, as a share of the mean variance of the features."""
PGD_STEPS = 10
FIRST = 2  # frame with two steps behind it


def straightness(z: Float[Tensor, "count length dims"]) -> float:
    """Mean cosine S of successive steps, of those that move.

    Args:
        z: Trajectories, [count, length, dims].

    Returns:
        S from -1 to 1; 1 for straight lines.

    Raises:
        InvalidSource: No two successive steps move, so that there is no angle between them.

    Example:
        >>> straightness(torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]]))
        0.0
    """
    found = cosines(z)
    if not len(found):
        raise InvalidSource(
            f"trajectories of {z.shape[1]} frames without two successive steps of motion have no "
            "straightness; give sequences of at least 3 frames that move"
        )
    return float(found.double().mean())


def novelty(z: Float[Tensor, "count length dims"]) -> Float[Tensor, "count length"]:
    """Novelty of every frame by the direction of its step: 1 less the cosine with the step before.

        novelty_t = 1 - cos(z_t - z_{t-1}, z_{t-1} - z_{t-2})

    Of straight trajectories it is 0 while a scene goes on, and about 1 at a cut, whose step has a direction
    of its own; at the frame after a cut it is about 1 once more. Nothing but latents before is needed, so
    that a transmitter may send a key frame, or a receiver ask for one, where it rises.

    Args:
        z: Trajectories, [count, length, dims].

    Returns:
        Novelty from 0 to 2. The first two frames and frames without motion have 0, those that move after a
        frame without motion 1.

    Example:
        >>> novelty(torch.tensor([[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 3.0]]]))
        tensor([[0., 0., 0., 1.]])
    """
    v = steps(z)
    found = torch.zeros_like(z[..., 0])
    if z.shape[1] > FIRST:
        cosine = F.cosine_similarity(v[:, 1:], v[:, :-1], dim=-1, eps=1e-12)
        moves = v[:, 1:].norm(dim=-1) > STILL
        found[:, FIRST:] = torch.where(moves, 1 - torch.where(moving(v), cosine, 0.0), 0.0)
    return found


@torch.no_grad()
def straightness_by_layer(
    encoder: FrameEncoder, frames: Float[Tensor, "count length colors side side"]
) -> list[float]:
    """Straightness of the features of every layer, from the pixels to the latent.

    Args:
        encoder: The encoder.
        frames: Frames in [0, 1], [count, length, colors, 64, 64].

    Returns:
        S of the pixels, of every convolution and of the latent.

    Raises:
        InvalidSource: Nothing moves.
    """
    stages = encoder.stages(frames.flatten(0, 1))
    return [straightness(stage.unflatten(0, frames.shape[:2])) for stage in stages]


def effective_dimension(z: Float[Tensor, "... dims"]) -> float:
    """Participation ratio of the covariance, (tr C)^2 / tr C^2.

    Args:
        z: Latents, at least two of them, [..., dims].

    Returns:
        From 1 to `dims`; `dims` for a white covariance.

    Raises:
        InvalidSource: The latents do not vary.
    """
    flat = z.reshape(-1, z.shape[-1]).double()
    centred = flat - flat.mean(0)
    covariance = centred.T @ centred
    total = float(covariance.trace())
    if not total > 0:
        raise InvalidSource(f"{len(flat)} latents that do not vary have no dimension; give others")
    return total**2 / float(covariance.square().sum())


@dataclass(frozen=True, eq=False, slots=True)
class RidgeDecoder:
    """Linear decoder of attributes with an offset, fitted by ridge regression.

    Args:
        weights: [dims + 1, attributes], the offset last.
    """

    weights: Float[Tensor, "rows attributes"]

    @classmethod
    def fit(cls, z: Float[Tensor, "... dims"], y: Float[Tensor, "... attributes"]) -> "RidgeDecoder":
        """Fit to latents and attributes.

        Args:
            z: Latents.
            y: Attributes of the same leading shape.

        Returns:
            The decoder.
        """
        features = _with_offset(z.reshape(-1, z.shape[-1]))
        wanted = y.reshape(-1, y.shape[-1]).double()
        penalty = RIDGE * float(features[:, :-1].var(0).mean()) * len(features)
        damping = torch.full((features.shape[1],), max(penalty, 1e-12), dtype=torch.float64)
        damping[-1] = 0
        gram = features.T @ features + torch.diag(damping)
        return cls(torch.linalg.solve(gram, features.T @ wanted))

    def __call__(self, z: Float[Tensor, "... dims"]) -> Float[Tensor, "... attributes"]:
        """Decode latents to attributes, in float64."""
        return _with_offset(z) @ self.weights

    def r2(self, z: Float[Tensor, "... dims"], y: Float[Tensor, "... attributes"]) -> float:
        """Share of the variance of attributes that is decoded, 1 - error / variance, over all of them.

        Args:
            z: Latents.
            y: Attributes of the same leading shape.

        Returns:
            At most 1; below 0 if the mean would be nearer.
        """
        wanted = y.reshape(-1, y.shape[-1]).double()
        error = (self(z).reshape(wanted.shape) - wanted).square().sum()
        return 1 - float(error / (wanted - wanted.mean(0)).square().sum())


def _with_offset(z: Tensor) -> Tensor:
    z = z.double()
    return torch.cat([z, torch.ones_like(z[..., :1])], -1)


def extrapolated(z: Float[Tensor, "count length dims"]) -> Float[Tensor, "count predicted dims"]:
    """Linear predictions 2 z_t - z_{t-1} of all frames from the third one on.

    Args:
        z: Latents, [count, length, dims], length at least 3.

    Returns:
        Predictions of frames 2, 3, ..., [count, length - 2, dims].

    Raises:
        InvalidOption: Fewer than 3 frames.
    """
    if z.shape[1] < 3:
        raise InvalidOption(f"{z.shape[1]} frames: a prediction and its frame are at least 3")
    return 2 * z[:, 1:-1] - z[:, :-2]


def attacked(
    encode: Callable[[Tensor], Tensor],
    decoder: RidgeDecoder,
    frames: Float[Tensor, "frames colors side side"],
    y: Float[Tensor, "frames attributes"],
    radius: float,
) -> Float[Tensor, "frames colors side side"]:
    """Perturb frames against the decoding of attributes: projected gradient ascent of the squared error.

    Args:
        encode: Encoder of frames.
        decoder: Decoder of attributes from latents.
        frames: Frames in [0, 1].
        y: Attributes of the frames.
        radius: Largest change of a pixel, at least 0.

    Returns:
        Perturbed frames.

    Reference:
        Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
    """
    moved = frames.clone()
    for _ in range(PGD_STEPS):
        moved = moved.detach().requires_grad_(True)
        error = (decoder(encode(moved)) - y.double()).square().sum()
        (slope,) = torch.autograd.grad(error, moved)
        stepped = moved.detach() + 2.5 * radius / PGD_STEPS * slope.sign()
        moved = torch.minimum(torch.maximum(stepped, frames - radius), frames + radius)
    return moved.detach()


@dataclass(frozen=True, eq=False, slots=True)
class DifferenceGeometry:
    """Cosines of difference vectors of pairs of sequences.

    Args:
        parallel: Of sequences of one kind that move in nearly one direction (within 18 degrees).
        orthogonal: Of sequences that move at nearly right angles (within 17 degrees), of any kind.
        to_classes: Magnitudes of cosines between difference vectors and vectors of the decoder of kinds.
    """

    parallel: Float[Tensor, " pairs"]
    orthogonal: Float[Tensor, " others"]
    to_classes: Float[Tensor, " products"]


def difference_geometry(
    z: Float[Tensor, "count length dims"],
    places: Float[Tensor, "count length 2"],
    kind: Int[Tensor, " count"],
) -> DifferenceGeometry:
    """Compare the mean steps of all pairs of sequences.

    Args:
        z: Latents, [count, length, dims].
        places: Places of what moves, [count, length, 2].
        kind: Kind of what moves, [count].

    Returns:
        Cosines by group.

    Raises:
        InvalidSource: Nothing moves.
    """
    v, motion = z[:, -1] - z[:, 0], places[:, -1] - places[:, 0]
    kept = (v.norm(dim=1) > 0) & (motion.norm(dim=1) > 0)
    if not kept.any():
        raise InvalidSource("sequences without motion have no difference vectors; give others")
    classes = RidgeDecoder.fit(z, F.one_hot(kind).float()[:, None].expand(-1, z.shape[1], -1))
    v, motion, kind = F.normalize(v[kept], dim=1), F.normalize(motion[kept], dim=1), kind[kept]
    upper = torch.ones(len(v), len(v), dtype=torch.bool).triu(1)
    found, angle, alike = v @ v.T, motion @ motion.T, kind[:, None] == kind
    normals = F.normalize(classes.weights[:-1].T.float(), dim=1)
    return DifferenceGeometry(
        found[upper & alike & (angle > 0.95)],
        found[upper & (angle.abs() < 0.3)],
        (v @ normals.T).abs().flatten(),
    )


def extrapolation_ratios(z: Float[Tensor, "count length dims"]) -> tuple[float, float]:
    """Squared errors of linear extrapolation and of repetition, as shares of the variance of the latents.

    Args:
        z: Latents, [count, length, dims].

    Returns:
        Error of 2 z_t - z_{t-1}, and of z_t, each over the total variance.
    """
    variance = z.flatten(0, 1).var(0).sum()
    linear = (extrapolated(z) - z[:, 2:]).square().sum(-1).mean()
    return float(linear / variance), float(steps(z)[:, 1:].square().sum(-1).mean() / variance)


@dataclass(frozen=True, slots=True)
class StepStatistics:
    """Cosine and speed of successive steps, and the errors that follow from them.

    Args:
        cosine: Cosine c of successive steps, weighted by |v_t| |v_{t+1}|.
        ratio_spread: E(|v_{t+1}| - |v_t|)^2 / E|v_{t+1}|^2, what unequal steps add to the error.
        gain: Measured E|v_{t+1}|^2 / E|v_{t+1} - v_t|^2.
        law_gain: 1 / (2 (1 - S)) of the mean cosine S alone, the law of equal steps.
    """

    cosine: float
    ratio_spread: float
    gain: float
    law_gain: float

    @classmethod
    def of(cls, z: Float[Tensor, "count length dims"]) -> "StepStatistics":
        """Statistics of trajectories that move.

        Args:
            z: Latents, [count, length, dims].

        Returns:
            The statistics, which satisfy 1 / gain = ratio_spread + (1 - cosine) times
            2 E(|v_t| |v_{t+1}|) / E|v_{t+1}|^2.

        Raises:
            InvalidSource: Nothing moves.
        """
        v = steps(z.double())
        kept = moving(v)
        if not kept.any():
            raise InvalidSource("trajectories without motion have no gain; give sequences that move")
        a, b = v[:, :-1][kept], v[:, 1:][kept]
        lengths = a.norm(dim=1), b.norm(dim=1)
        power = b.square().sum(1).mean()
        cosine = (a * b).sum() / (lengths[0] * lengths[1]).sum()
        mean = F.cosine_similarity(a, b, dim=1).mean()
        return cls(
            float(cosine),
            float((lengths[1] - lengths[0]).square().mean() / power),
            float(power / (b - a).square().sum(1).mean().clamp_min(1e-30)),
            float(1 / (2 * (1 - mean)).clamp_min(1e-30)),
        )
