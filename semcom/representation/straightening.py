"""Straightened representations: encoder, decoder, and objectives that make trajectories straight.

    z_t = f(x_t),  v_t = z_{t+1} - z_t,  cosine c_t = <v_t, v_{t+1}> / (|v_t| |v_{t+1}|)

Frames on a straight line at constant speed are predicted by 2 z_t - z_{t-1}. Steps without motion have no
direction and are left out of every mean over directions.

Reference:
    Niu, Savin and Simoncelli, arXiv 2411.01777, for the cosine and for variance and covariance terms of the
    form of Bardes, Ponce and LeCun (VICReg), ICLR 2022. Weights, sizes, the speed term and the normalised
    second difference are our own.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from semcom.codecs.hyperprior import WEIGHT_LIMIT, Conv, exact, fixed_point, leaky
from semcom.errors import InvalidOption
from semcom.representation.sequences import SIDE
from semcom.surroundings import library_defaults

STILL = 1e-6
"""Smallest length of a difference vector that counts as motion and has a direction."""
LEAST_STD, EPSILON = 1.0, 1e-4
"""Target standard deviation gamma and offset epsilon of the variance term, as in VICReg."""
VARIANCE_WEIGHT, COVARIANCE_WEIGHT = 5.0, 0.2
INVARIANCE_WEIGHT = 1.0
SPEED_WEIGHT = 0.5
COARSEST = SIDE // 16  # side of the last features of the encoder
POOLED = 8  # side of the frames of the linear paths

Trajectories = Float[Tensor, "batch length dims"]


@dataclass(frozen=True)
class Objective:
    """Training objective of an encoder.

        loss = straightening + VARIANCE_WEIGHT variance + COVARIANCE_WEIGHT covariance

    Args:
        about: Description in plain words.
        term: Straightening term of trajectories [batch, length, dims]; None for no such term.
        regularised: Whether variance and covariance terms are added.
    """

    about: str
    term: Callable[[Trajectories], Tensor] | None
    regularised: bool = True

    def loss(self, z: Trajectories) -> Tensor:
        """Training loss of the latents of a batch.

        Args:
            z: Latents, [batch, length, dims], length at least 3.

        Returns:
            Scalar.

        Raises:
            InvalidOption: Sequences of fewer than 3 frames.
        """
        if z.shape[1] < 3:
            raise InvalidOption(f"sequences of {z.shape[1]} frames have no curvature; train on at least 3")
        total = z.new_zeros(()) if self.term is None else self.term(z)
        if self.regularised:
            total = total + VARIANCE_WEIGHT * variance_term(z) + COVARIANCE_WEIGHT * covariance_term(z)
        return total


def steps(z: Trajectories) -> Float[Tensor, "batch steps dims"]:
    """Difference vectors v_t = z_{t+1} - z_t.

    Args:
        z: Latents, [batch, length, dims].

    Returns:
        Differences, [batch, length - 1, dims].
    """
    return z[:, 1:] - z[:, :-1]


def moving(v: Float[Tensor, "batch steps dims"]) -> Bool[Tensor, "batch pairs"]:
    """Which pairs of successive steps have a direction.

    Args:
        v: Differences, [batch, steps, dims].

    Returns:
        Whether both steps of a pair are longer than `STILL`, [batch, steps - 1].
    """
    there = v.norm(dim=-1) > STILL
    return there[:, 1:] & there[:, :-1]


def cosines(z: Trajectories) -> Float[Tensor, " pairs"]:
    """Cosines of all pairs of successive steps that have a direction.

    Args:
        z: Latents, [batch, length, dims].

    Returns:
        Cosines from -1 to 1, [pairs]; none for still trajectories and those of fewer than 3 frames.
    """
    v = steps(z)
    kept = moving(v)
    return F.cosine_similarity(v[:, 1:][kept], v[:, :-1][kept], dim=-1, eps=1e-12)


def cosine_term(z: Trajectories) -> Tensor:
    """Straightening loss -E[c_t]; 0 without motion.

    Args:
        z: Latents, [batch, length, dims].

    Returns:
        Scalar from -1 to 1.
    """
    found = cosines(z)
    return -found.mean() if len(found) else z.sum() * 0


def speed_term(z: Trajectories) -> Tensor:
    """Variation of speed, E[r + 1/r - 2] with r = |v_{t+1}| / |v_t|; 0 for constant speed.

    Args:
        z: Latents, [batch, length, dims].

    Returns:
        Scalar, at least 0; 0 without motion.
    """
    v = steps(z)
    kept = moving(v)
    if not kept.any():
        return z.sum() * 0
    r = v[:, 1:][kept].norm(dim=-1) / v[:, :-1][kept].norm(dim=-1)
    return (r + 1 / r - 2).mean()


def second_difference_term(z: Trajectories) -> Tensor:
    """Normalised second difference, E|z_{t+1} - 2 z_t + z_{t-1}|^2 / E|v|^2; 0 without motion.

    Args:
        z: Latents, [batch, length, dims].

    Returns:
        Scalar, at least 0: the error of linear extrapolation as a share of that of repetition.
    """
    v = steps(z)
    speed = v.square().sum(-1).mean()
    if speed <= STILL**2:
        return z.sum() * 0
    return steps(v).square().sum(-1).mean() / speed


def invariance_term(z: Trajectories) -> Tensor:
    """Invariance term of VICReg: mean squared distance per dimension of two frames of a sequence.

    Args:
        z: Latents, [batch, length, dims].

    Returns:
        Scalar, at least 0.
    """
    length = z.shape[1]
    return 2 * length / (length - 1) * (z - z.mean(1, keepdim=True)).square().mean()


def variance_term(z: Trajectories) -> Tensor:
    """Hinge (1/d) sum max(0, 1 - std(z_i)), over batch and time.

    Args:
        z: Latents, [batch, length, dims].

    Returns:
        Scalar from 0 to 1.
    """
    variance = z.flatten(0, 1).var(0)
    return F.relu(LEAST_STD - (variance + EPSILON).sqrt()).mean()


def covariance_term(z: Trajectories) -> Tensor:
    """Squared covariances of different dimensions, (1/d) sum_{i != j} C_ij^2, over batch and time.

    Args:
        z: Latents, [batch, length, dims].

    Returns:
        Scalar, at least 0.
    """
    flat = z.flatten(0, 1)
    centred = flat - flat.mean(0)
    covariance = centred.T @ centred / (len(flat) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / flat.shape[1]


def _cosine_and_speed(z: Trajectories) -> Tensor:
    return cosine_term(z) + SPEED_WEIGHT * speed_term(z)


def _invariance(z: Trajectories) -> Tensor:
    return INVARIANCE_WEIGHT * invariance_term(z)


OBJECTIVES: dict[str, Objective] = {
    "regularisers": Objective("variance and covariance terms alone", None),
    "cosine": Objective("cosine of successive steps (arXiv 2411.01777)", cosine_term),
    "invariance": Objective("frames of a sequence drawn together", _invariance),
    "cosine-unregularised": Objective("cosine without variance and covariance terms", cosine_term, False),
    "cosine-speed": Objective("cosine, and a term for constant speed", _cosine_and_speed),
    "second-difference": Objective("normalised second difference", second_difference_term),
}
"""Objectives by name."""


class FrameEncoder(nn.Module):
    """Encoder of frames of 64x64 pixels: four convolutions of stride 2, then a linear layer.

    Args:
        colors: Colours of a frame, 1 or 3.
        dims: Dimensions of the latent.
        widths: Features of the four convolutions.
        linear: Whether a linear function of the means of 8x8 pixels is added.
    """

    def __init__(self, colors: int, dims: int, widths: Sequence[int], linear: bool) -> None:
        super().__init__()
        inputs = (colors, *widths[:-1])
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in zip(inputs, widths, strict=True))
        self.out = nn.Linear(widths[-1] * COARSEST**2, dims)
        self.linear = nn.Linear(colors * POOLED**2, dims, bias=False) if linear else None

    def forward(self, x: Float[Tensor, "frames colors side side"]) -> Float[Tensor, "frames dims"]:
        """Latents of frames in [0, 1]."""
        return self.stages(x)[-1]

    def stages(self, x: Float[Tensor, "frames colors side side"]) -> list[Tensor]:
        """Features of every layer, flattened, from the pixels to the latent.

        Args:
            x: Frames in [0, 1], [frames, colors, 64, 64].

        Returns:
            Six tensors [frames, features].
        """
        found, hidden = [x.flatten(1)], 2 * x - 1
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.125)
            found.append(hidden.flatten(1))
        latent = self.out(found[-1])
        if self.linear is not None:
            latent = latent + self.linear(pooled(x))
        return [*found, latent]


class FrameDecoder(nn.Module):
    """Decoder of latents to frames, exact on inputs in float64 (see `semcom.codecs.hyperprior`).

    Args:
        colors: Colours of a frame, 1 or 3.
        dims: Dimensions of the latent.
        widths: Features at 4x4, 8x8, 16x16 and 32x32 pixels.
        linear: Whether a linear function of the latent, enlarged from 8x8 pixels, is added.
    """

    def __init__(self, colors: int, dims: int, widths: Sequence[int], linear: bool) -> None:
        super().__init__()
        self.first = Conv(dims, widths[0] * COARSEST**2, 1)
        outputs = (*widths[1:], colors)
        self.layers = nn.ModuleList(Conv(a, 4 * b, 3) for a, b in zip(widths, outputs, strict=True))
        self.linear = Conv(dims, colors * POOLED**2, 1) if linear else None

    def forward(self, z: Float[Tensor, "frames dims"]) -> Float[Tensor, "frames colors side side"]:
        """Frames of latents, in [0, 1] up to overshoots."""
        hidden = self.first(z[:, :, None, None])
        hidden = F.pixel_shuffle(leaky(hidden), COARSEST)
        for layer in self.layers[:-1]:
            hidden = leaky(F.pixel_shuffle(layer(hidden), 2))
        shown = F.pixel_shuffle(self.layers[-1](hidden), 2) + 0.5
        if self.linear is None:
            return shown
        coarse = self.linear(z[:, :, None, None]).unflatten(1, (-1, POOLED, POOLED))[..., 0, 0]
        # weights of the enlargement are multiples of 1/16 in both directions, so that it is exact too
        scale = SIDE // POOLED
        return shown + exact(F.interpolate(coarse, scale_factor=scale, mode="bilinear", align_corners=False))


class StraightAutoencoder(nn.Module):
    """Encoder and decoder of frames of 64x64 pixels.

    Args:
        colors: Colours of a frame, 1 or 3.
        dims: Dimensions of the latent.
        encoder_widths: Features of the four convolutions of the encoder.
        decoder_widths: Features of the decoder at 4x4, 8x8, 16x16 and 32x32 pixels.
        linear: Whether linear paths by way of 8x8 pixels stand beside both networks, from which training
            starts (see `start_from`).

    Example:
        >>> import torch
        >>> network = StraightAutoencoder()
        >>> network.decoder(network.encode(torch.rand(2, 3, 64, 64))).shape
        torch.Size([2, 3, 64, 64])
    """

    center: Tensor

    @library_defaults()  # weights in single precision, whatever the caller's default
    def __init__(
        self,
        colors: int = 3,
        dims: int = 64,
        encoder_widths: Sequence[int] = (16, 32, 64, 96),
        decoder_widths: Sequence[int] = (96, 64, 32, 16),
        linear: bool = True,
    ) -> None:
        super().__init__()
        self.config = {
            "colors": colors,
            "dims": dims,
            "encoder_widths": list(encoder_widths),
            "decoder_widths": list(decoder_widths),
            "linear": linear,
        }
        self.colors, self.dims = colors, dims
        self.encoder = FrameEncoder(colors, dims, encoder_widths, linear)
        self.decoder = FrameDecoder(colors, dims, decoder_widths, linear)
        self.register_buffer("center", torch.zeros(dims))

    @property
    def name(self) -> str:
        """Name of the network: "straight"."""
        return "straight"

    def encode(self, x: Float[Tensor, "frames colors side side"]) -> Float[Tensor, "frames dims"]:
        """Latents of frames in [0, 1], of mean 0 over the training sequences.

        Args:
            x: Frames, [frames, colors, 64, 64].

        Returns:
            Latents, [frames, dims].
        """
        return self.encoder(x) - self.center

    def decode(self, z: Float[Tensor, "frames dims"]) -> Float[Tensor, "frames colors side side"]:
        """Frames of latents, not clipped; exact in float64 for a network in fixed point.

        Args:
            z: Latents, [frames, dims].

        Returns:
            Frames in [0, 1] up to overshoots, [frames, colors, 64, 64].
        """
        return self.decoder(exact(z + self.center.to(z.dtype)))

    @torch.no_grad()
    def start_from(self, x: Float[Tensor, "frames colors side side"]) -> None:
        """Start the linear paths from the principal components of frames, and the networks near 0.

        A latent has the square root of the standard deviation of its component, relative to the weakest one.

        Args:
            x: Frames in [0, 1], [frames, colors, 64, 64], more than there are dimensions.

        Raises:
            InvalidOption: The network has no linear paths.
        """
        if self.encoder.linear is None or self.decoder.linear is None:
            raise InvalidOption("a network without linear paths starts from random weights; leave this out")
        small = pooled(x).double()
        centred = small - small.mean(0)
        variances, vectors = torch.linalg.eigh(centred.T @ centred / len(small))
        basis = vectors.T.flip(0)[: self.dims]
        deviations = variances.flip(0)[: self.dims].clamp_min(1e-8).sqrt()
        scale = (deviations * deviations[-1]).sqrt()[:, None]
        self.encoder.linear.weight.copy_(basis / scale)
        self.decoder.linear.weight.copy_((basis * scale).T[:, :, None, None])
        self.encoder.out.weight.mul_(0.1)
        last = self.decoder.layers[-1]
        for parameter in last.parameters():
            parameter.zero_()
        self.center.copy_(self.encoder(x).mean(0))

    def in_fixed_point(self) -> "StraightAutoencoder":
        """Copy whose decoder is in float64 with parameters on their grid, and therefore exact."""
        copy = deepcopy(self)
        with torch.no_grad():
            for parameter in copy.decoder.parameters():
                parameter.data = fixed_point(parameter.data, WEIGHT_LIMIT)
        return copy


def pooled(x: Float[Tensor, "frames colors side side"]) -> Float[Tensor, "frames values"]:
    """Means of 8x8 pixels less 1/2, flattened.

    Args:
        x: Frames in [0, 1], [frames, colors, 64, 64].

    Returns:
        Values, [frames, 64 colors].
    """
    return F.avg_pool2d(x - 0.5, SIDE // POOLED).flatten(1)


def encoded(
    network: StraightAutoencoder, frames: Float[Tensor, "count length colors side side"]
) -> Trajectories:
    """Latents of the frames of sequences.

    Args:
        network: The network.
        frames: Frames in [0, 1], [count, length, colors, 64, 64].

    Returns:
        Latents, [count, length, dims].
    """
    return network.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
