"""Network of the learned codec: block transform, residual networks and a mean-scale hyperprior.

    y     = (B x + analysis network(x)) gain / step
    z     = hyper-analysis(y), rounded; its prior is a table
    y_hat = round(y - mean) + mean, with mean and scale from z_hat and from what is decoded of y_hat
    x_hat = B' y_hat' + synthesis network(B' y_hat'), y_hat' being y_hat in the units of a pixel

The block transform is the Karhunen-Loeve transform of 16x16 pixels in three colours, of which the strongest
coefficients are kept. The last layers of both residual networks start at zero, so that training starts from a
transform codec. One network serves all rates: the step is a geometric series over the settings, and gains and
hidden features are modulated by tables over the settings.

Means and scales come in passes (`PHASES`): groups of coefficients from low to high frequency, each on a part
of the grid of blocks, each knowing all earlier passes. They steer the entropy coder, so that encoder and
decoder must compute the very same numbers. Therefore, on inputs in float64, the layers round weights and
activations to fixed-point grids on which every sum of a convolution is exact in float64, whatever its order.
The synthesis does so too, and every decoder shows the same picture.

Reference:
    Minnen, Balle, Toderici, "Joint autoregressive and hierarchical priors for learned image compression",
    NeurIPS 2018. He et al., "ELIC", CVPR 2022, for the passes. Cui et al., "Asymmetric gained deep image
    compression with continuous rate adaptation", CVPR 2021, for the gains. Balle, Johnston, Minnen, "Integer
    networks for data compression with latent-variable models", ICLR 2019, for the need of exact arithmetic.
"""

import math
from collections.abc import Callable, Generator
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from semcom.surroundings import library_defaults

BLOCK = 16
KNOTS, SUBSTEPS = 8, 8
SETTINGS = (KNOTS - 1) * SUBSTEPS + 1
LOG2_STEPS = tuple(-5.375 * setting / (SETTINGS - 1) for setting in range(SETTINGS))
"""Log2 of the quantiser step as a share of the pixel range: 1 at setting 0, 1/41 at the last setting."""

WEIGHT_BITS, ACTIVATION_BITS, MEAN_BITS = 14, 12, 6
WEIGHT_LIMIT = 4.0 - 2.0**-WEIGHT_BITS
ACTIVATION_LIMIT = 512.0  # 2^(9 + 12) * 2^(2 + 14) * 2^12 terms stay below 2^53

LOG2_SCALE_MIN, LOG2_SCALE_MAX = -5.0, 8.0
LEVELS_PER_OCTAVE = 8
LEVELS = int((LOG2_SCALE_MAX - LOG2_SCALE_MIN) * LEVELS_PER_OCTAVE) + 1

RATE_WEIGHT = 0.1  # squared steps per bit in the encoder's decisions; the best of 0.03 to 0.13 in rate

LOW, MIDDLE = 16, 64  # ends of the first two groups of coefficients
EVEN, ODD = ((0, 0), (1, 1)), ((0, 1), (1, 0))
PHASES = (
    tuple((place,) for place in EVEN + ODD),  # low frequencies: a quarter of the blocks at a time
    (EVEN, ODD),  # the others: a checkerboard
    (EVEN, ODD),
)


@dataclass(frozen=True, eq=False, slots=True)
class Parameters:
    """Distribution of the coefficients of one pass, as the entropy coder needs it.

    Args:
        number: Number of the pass.
        first: First coefficient of the group.
        mean: Mean of each coefficient in steps, [batch, group, rows, columns].
        log2_scale: Log2 of the scale of the logistic distribution in steps, [batch, group, rows, columns].
        mask: 1 on the blocks of this pass, [1, 1, rows, columns].
    """

    number: int
    first: int
    mean: Tensor
    log2_scale: Tensor
    mask: Tensor

    @property
    def last(self) -> int:
        """Index one past the last coefficient of the group."""
        return self.first + self.mean.shape[1]


def on_grid(x: Tensor, bits: int) -> Tensor:
    """Round float64 tensors to multiples of 2^-bits; tensors of other types are returned unchanged.

    Args:
        x: Any tensor.
        bits: Binary places.

    Returns:
        Tensor of the same shape and type.
    """
    return torch.round(x * 2.0**bits) / 2.0**bits if x.dtype == torch.float64 else x


def exact(x: Tensor) -> Tensor:
    """Round float64 activations to their fixed-point grid; tensors of other types are returned unchanged.

    Args:
        x: Any tensor.

    Returns:
        Tensor of the same shape and type.
    """
    if x.dtype != torch.float64:
        return x
    return on_grid(x.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT), ACTIVATION_BITS)


def full_precision(x: Tensor) -> torch.autocast:
    """Context that switches mixed precision off, for linear paths whose errors would exceed fine steps.

    Args:
        x: Tensor whose device the context is for.

    Returns:
        A context manager.
    """
    return torch.autocast(x.device.type, enabled=False)


class Conv(nn.Conv2d):
    """Convolution whose output keeps the input's size (per stride); exact in float64."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, zero: bool = False) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2)
        if zero:
            nn.init.zeros_(self.weight)
        nn.init.zeros_(cast(Tensor, self.bias))

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [batch, inputs, rows, columns] to [batch, outputs, rows / stride, columns / stride]."""
        if input.dtype != torch.float64:
            return super().forward(input)
        weight, bias = (fixed_point(p, WEIGHT_LIMIT) for p in (self.weight, cast(Tensor, self.bias)))
        return exact(F.conv2d(input, weight, bias, self.stride, self.padding))


def fixed_point(parameter: Tensor, limit: float = math.inf) -> Tensor:
    """Round a parameter to the grid of weights; a float64 parameter is already there.

    Args:
        parameter: Weights or biases.
        limit: Largest magnitude.

    Returns:
        Tensor of the same shape.
    """
    if parameter.dtype == torch.float64:
        return parameter
    return on_grid(parameter.double().clamp(-limit, limit), WEIGHT_BITS)


class Table(nn.Module):
    """Learned table with one row of numbers per setting, linear between a few knots."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.knots = nn.Parameter(torch.zeros(KNOTS, columns))

    def forward(self, setting: Int[Tensor, " batch"], dtype: torch.dtype) -> Float[Tensor, "batch columns"]:
        """Rows of the table at the given settings, in a given type; exact in float64.

        Args:
            setting: Setting of each item, [batch].
            dtype: Type of the result; float64 is rounded to the fixed-point grid.

        Returns:
            Rows, [batch, columns].
        """
        knots = fixed_point(self.knots) if dtype == torch.float64 else self.knots
        low = (setting // SUBSTEPS).clamp(max=KNOTS - 2)
        part = ((setting - low * SUBSTEPS).to(dtype) / SUBSTEPS)[:, None]
        return knots[low] * (1 - part) + knots[low + 1] * part


class Modulation(nn.Module):
    """Feature modulation x (1 + a) + b, with a and b of each feature from a table over the settings."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.table = Table(2 * features)

    def forward(self, x: Tensor, setting: Tensor) -> Tensor:
        """Modulate features [batch, features, rows, columns] by the settings [batch]."""
        a, b = self.table(setting, x.dtype)[:, :, None, None].chunk(2, 1)
        return exact(x * (1 + a) + b)


class Residual(nn.Module):
    """Residual block x + conv(modulated(conv(x))) with two 3x3 convolutions."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = Conv(features, features, 3)
        self.modulation = Modulation(features)
        self.second = Conv(features, features, 3)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor, setting: Tensor) -> Tensor:
        """Apply the block to features [batch, features, rows, columns] at the settings [batch]."""
        return exact(x + self.second(leaky(self.modulation(self.first(x), setting))))


def leaky(x: Tensor) -> Tensor:
    """Leaky rectifier with slope 1/8 below 0, exact on the grid after rounding.

    Args:
        x: Any tensor.

    Returns:
        Tensor of the same shape.
    """
    return exact(F.leaky_relu(x, 0.125))


def compressed(x: Tensor) -> Tensor:
    """Odd function near log2(1 + |x|), steep at 0 and flat far out, built from clamps so that it is exact.

    Args:
        x: Any tensor.

    Returns:
        Tensor of the same shape.
    """
    terms = (x.clamp(-limit, limit) / limit for limit in (1.0, 4.0, 16.0, 64.0))
    return exact(sum(terms, x / 256))


class Analysis(nn.Module):
    """Residual analysis network: correction of the transform coefficients, from the pixels."""

    def __init__(self, features: int, coefficients: int) -> None:
        super().__init__()
        self.first = Conv(3 * 64, features, 3)
        self.layers = nn.ModuleList(Residual(features) for _ in range(2))
        self.last = Conv(4 * features, coefficients, 1, zero=True)

    def forward(self, x: Tensor, setting: Tensor) -> Tensor:
        """Map pixels [batch, 3, height, width] to [batch, coefficients, height / 16, width / 16]."""
        hidden = self.first(F.pixel_unshuffle(x, 8))
        for layer in self.layers:
            hidden = layer(hidden, setting)
        return self.last(F.pixel_unshuffle(leaky(hidden), 2))


class Synthesis(nn.Module):
    """Residual synthesis network: correction of the picture that the inverse block transform gives."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = Conv(3 * 64, features, 3)
        self.layers = nn.ModuleList(Residual(features) for _ in range(3))
        self.last = Conv(features, 3 * 64, 3, zero=True)

    def forward(self, x: Tensor, setting: Tensor) -> Tensor:
        """Map a picture [batch, 3, height, width] to its correction of the same shape."""
        hidden = self.first(F.pixel_unshuffle(x, 8))
        for layer in self.layers:
            hidden = layer(hidden, setting)
        return F.pixel_shuffle(self.last(leaky(hidden)), 8)


class HyperAnalysis(nn.Module):
    """Hyper-analysis network: coefficients in steps to side information at a quarter of their resolution."""

    def __init__(self, coefficients: int, features: int, side: int) -> None:
        super().__init__()
        self.mix = Conv(2 * coefficients, features, 1)
        self.modulation = Modulation(features)
        self.halve = Conv(features, features, 3, stride=2)
        self.last = Conv(features, side, 3, stride=2)

    def forward(self, y: Tensor, setting: Tensor) -> Tensor:
        """Map [batch, coefficients, rows, columns] to [batch, side, rows / 4, columns / 4], rounded up."""
        y = compressed(y)
        hidden = leaky(self.modulation(self.mix(torch.cat((y, y.abs()), 1)), setting))
        return self.last(leaky(self.halve(hidden)))


class HyperSynthesis(nn.Module):
    """Hyper-synthesis network: side information to features at the resolution of the coefficients."""

    def __init__(self, side: int, features: int, outputs: int) -> None:
        super().__init__()
        self.first = Conv(side, features, 3)
        self.modulation = Modulation(features)
        self.grow = Conv(features, 4 * outputs, 1)
        self.smooth = Conv(outputs, outputs, 3)
        self.last = Conv(outputs, 4 * outputs, 1)

    def forward(self, z: Tensor, setting: Tensor) -> Tensor:
        """Map [batch, side, rows, columns] to [batch, outputs, 4 rows, 4 columns]."""
        hidden = leaky(self.modulation(self.first(z), setting))
        hidden = F.pixel_shuffle(self.grow(hidden), 2)
        return F.pixel_shuffle(self.last(leaky(self.smooth(leaky(hidden)))), 2)


class Context(nn.Module):
    """Context network: mean and scale of one group of coefficients, from side information and decoded values.

    Args:
        side: Number of features of the hyper-synthesis.
        first: First coefficient of the group; those before are known at every position.
        last: Index one past the last coefficient.
        features: Number of hidden features.
    """

    def __init__(self, side: int, first: int, last: int, features: int) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.linear = Conv(min(last, MIDDLE), last - first, 3, zero=True) if first < MIDDLE else None
        self.spread = Conv(side + last + min(last, MIDDLE) + 1, features, 3)
        self.modulation = Modulation(features)
        self.mix = Conv(features, features, 1)
        self.out = Conv(features, 2 * (last - first), 1, zero=True)
        self.log2_scale = nn.Parameter(torch.zeros(last - first))

    def forward(self, side: Tensor, known: Tensor, mask: Tensor, setting: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log2 of the scale of the group's coefficients, in units of a pixel's range.

        Args:
            side: Features of the hyper-synthesis, [batch, side, rows, columns].
            known: Decoded coefficients in steps, zero where unknown, [batch, last, rows, columns].
            mask: 1 where coefficients of this group are known, [batch, 1, rows, columns].
            setting: Setting of each item, [batch].

        Returns:
            Two tensors [batch, last - first, rows, columns].
        """
        step = steps(setting, known.dtype)
        near = exact(known[:, :MIDDLE] * step)
        inputs = torch.cat((side, compressed(known), near, mask.expand_as(side[:, :1])), 1)
        hidden = leaky(self.modulation(self.spread(inputs), setting))
        mean, log2_scale = self.out(leaky(self.mix(hidden))).chunk(2, 1)
        if self.linear is not None:
            with full_precision(near):
                mean = mean + self.linear(near)
        own = self.log2_scale
        if known.dtype == torch.float64:
            own = fixed_point(own)
        return mean, log2_scale + own[:, None, None]


def steps(setting: Tensor, dtype: torch.dtype) -> Tensor:
    """Quantiser step of each setting, a multiple of 2^-16 of the pixel range.

    Args:
        setting: Settings, [batch].
        dtype: Type of the result.

    Returns:
        Steps, [batch, 1, 1, 1].
    """
    table = torch.tensor([round(2**log2 * 2**16) / 2**16 for log2 in LOG2_STEPS], dtype=dtype)
    return table.to(setting.device)[setting][:, None, None, None]


class MeanScaleHyperprior(nn.Module):
    """Transform codec with a mean-scale hyperprior, one network for all rates.

    The module's docstring has the equations.

    Args:
        coefficients: Coefficients kept of the 768 of a block.
        features: Hidden features of the two residual networks.
        side: Values of side information per 64x64 pixels.
    """

    @library_defaults()  # weights in single precision, whatever the caller's default
    def __init__(self, coefficients: int = 320, features: int = 96, side: int = 64) -> None:
        super().__init__()
        self.config = {"coefficients": coefficients, "features": features, "side": side}
        self.register_buffer("basis", torch.eye(coefficients, 3 * BLOCK**2))
        self.basis: Tensor
        self.analysis = Analysis(features, coefficients)
        self.synthesis = Synthesis(features)
        self.gain_down, self.gain_up = Table(coefficients), Table(coefficients)
        self.hyper_analysis = HyperAnalysis(coefficients, features, side)
        self.hyper_synthesis = HyperSynthesis(side, features, 64)
        self.prior = Table(2 * side)
        ends = (0, LOW, MIDDLE, coefficients)
        widths = (96, 128, 128)
        self.contexts = nn.ModuleList(
            Context(64, first, last, width)
            for first, last, width in zip(ends, ends[1:], widths, strict=False)
        )

    @property
    def name(self) -> str:
        """Name of the network: "learned"."""
        return "learned"

    def _contexts(self) -> list[Context]:
        return [cast(Context, context) for context in self.contexts]

    def start_from(self, x: Float[Tensor, "count 3 height width"]) -> None:
        """Initialise block transform and scales from the statistics of pictures.

        Args:
            x: Pictures in [0, 1], [count, 3, height, width].
        """
        height, width = (extent // BLOCK * BLOCK for extent in x.shape[2:])
        blocks = (
            F.pixel_unshuffle(x[:, :, :height, :width] - 0.5, BLOCK)
            .permute(0, 2, 3, 1)
            .reshape(-1, 3 * BLOCK**2)
        )
        # no mean is subtracted: the second moments, with grey as the origin
        variances, vectors = torch.linalg.eigh((blocks.T @ blocks / len(blocks)).double())
        keep = self.config["coefficients"]
        with torch.no_grad():
            self.basis.copy_(vectors.T.flip(0)[:keep])
            deviations = variances.flip(0)[:keep].clamp(min=1e-12).sqrt()
            log2_scale = torch.log2(deviations * math.sqrt(3) / math.pi)
            for context in self._contexts():
                context.log2_scale.copy_(log2_scale[context.first : context.last])

    def in_fixed_point(self) -> "MeanScaleHyperprior":
        """Copy in float64 with parameters on their grid, whose `passes` and `synthesise` are exact."""
        copy = deepcopy(self)
        with torch.no_grad():
            for module in copy.modules():
                limit = WEIGHT_LIMIT if isinstance(module, Conv) else math.inf
                for parameter in module.parameters(recurse=False):
                    parameter.data = fixed_point(parameter.data, limit)
            copy.basis = fixed_point(copy.basis)
        return copy

    def analyse(self, x: Tensor, setting: Tensor) -> Tensor:
        """Map pixels to coefficients in steps.

        Args:
            x: Pictures in [0, 1] with sides that are multiples of 16, [batch, 3, height, width].
            setting: Setting of each item, [batch].

        Returns:
            Coefficients in steps, [batch, coefficients, height / 16, width / 16].
        """
        x = x - 0.5
        with full_precision(x):
            y = F.conv2d(F.pixel_unshuffle(x, BLOCK), self.basis[:, :, None, None])
        y = y + self.analysis(x, setting)
        gain = torch.exp(-self.gain_down(setting, y.dtype))[:, :, None, None]
        return y * gain / steps(setting, y.dtype)

    def synthesise(self, y_hat: Tensor, setting: Tensor) -> Tensor:
        """Map coefficients in steps to pixels, not clipped.

        Args:
            y_hat: Coefficients in steps, [batch, coefficients, rows, columns].
            setting: Setting of each item, [batch].

        Returns:
            Pictures, [batch, 3, 16 rows, 16 columns].
        """
        gain = on_grid(torch.exp(self.gain_up(setting, y_hat.dtype)), WEIGHT_BITS)[:, :, None, None]
        y = exact(y_hat * gain * steps(setting, y_hat.dtype))
        basis = fixed_point(self.basis) if y.dtype == torch.float64 else self.basis
        with full_precision(y):
            x = F.pixel_shuffle(exact(F.conv2d(y, basis.T[:, :, None, None])), BLOCK)
        return x + self.synthesis(x, setting) + 0.5

    def prior_of(self, setting: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Mean and log2 of the scale of the side information at given settings.

        Args:
            setting: Setting of each item, [batch].
            dtype: Type of the result.

        Returns:
            Two tensors [batch, side, 1, 1].
        """
        mean, log2_scale = self.prior(setting, dtype)[:, :, None, None].chunk(2, 1)
        return on_grid(mean, MEAN_BITS), log2_scale

    def passes(self, z_hat: Tensor, y_hat: Tensor, setting: Tensor) -> Generator[Parameters, Tensor | None]:
        """Distribution parameters of one pass after the other; the caller fills `y_hat` in between.

        Args:
            z_hat: Side information, [batch, side, rows / 4, columns / 4].
            y_hat: Coefficients in steps, of which only those of earlier passes are used. Between two passes
                the caller may write into it, or replace its content by `send`.
            setting: Setting of each item, [batch].

        Yields:
            Parameters of the next pass.
        """
        rows, columns = y_hat.shape[2:]
        side = self.hyper_synthesis(z_hat, setting)[:, :, :rows, :columns]
        shift = on_grid(torch.tensor(LOG2_STEPS, dtype=torch.float64), ACTIVATION_BITS)
        shift = shift.to(y_hat)[setting][:, None, None, None]
        rate = torch.tensor([2.0**-log2 for log2 in LOG2_STEPS], dtype=torch.float64)
        rate = on_grid(rate, ACTIVATION_BITS).to(y_hat)[setting][:, None, None, None]
        number = 0
        for context, phases in zip(self._contexts(), PHASES, strict=True):
            first, last = context.first, context.last
            known = torch.zeros(1, 1, rows, columns, dtype=y_hat.dtype, device=y_hat.device)
            for phase in phases:
                seen = torch.cat((y_hat[:, :first], y_hat[:, first:last] * known), 1)
                mean, log2_scale = context(side, seen, known, setting)
                mask = torch.zeros_like(known)
                for row, column in phase:
                    mask[:, :, row::2, column::2] = 1
                mean = on_grid(mean * rate, MEAN_BITS)
                replaced = yield Parameters(number, first, mean, log2_scale - shift, mask)
                number += 1
                y_hat = y_hat if replaced is None else replaced
                known = known + mask

    def forward(
        self,
        x: Float[Tensor, "batch 3 height width"],
        setting: Int[Tensor, " batch"],
        uniform: Callable[[str, tuple[int, ...]], Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, " batch"]]:
        """Reconstruction, not clipped, and estimated bits per pixel.

        Args:
            x: Pictures in [0, 1] with sides that are multiples of 16.
            setting: Setting of each item, [batch].
            uniform: Draws numbers in [0, 1) that replace rounding by noise where rates are estimated in
                training. Without it, values are rounded as in coding, and gradients reach only the decoder's
                side.

        Returns:
            Pictures [batch, 3, height, width], and bits per pixel [batch].
        """

        def coded(name: str, values: Tensor, mean: Tensor, log2_scale: Tensor) -> tuple[Tensor, Tensor]:
            residual = (values if uniform else values.detach()) - mean
            if uniform is None:
                integers = decided(residual.detach(), log2_scale.detach())
                bits = logistic_bits(residual + (integers - residual).detach(), log2_scale)
                return integers + mean, bits
            noise = uniform(name, tuple(values.shape[1:])) - 0.5
            integers = residual + (torch.round(residual) - residual).detach()
            return integers + mean, logistic_bits(residual + noise, log2_scale)

        y = self.analyse(x, setting).float()
        z = self.hyper_analysis(y, setting).float()
        z_hat, cost = coded("z", z, *self.prior_of(setting, z.dtype))
        bits = cost.sum((1, 2, 3))
        y_hat = torch.zeros_like(y)
        passes = self.passes(z_hat, y_hat, setting)
        p = next(passes, None)
        while p is not None:
            own = y[:, p.first : p.last]
            filled, cost = coded(f"y{p.number}", own, p.mean.float(), p.log2_scale.float())
            bits = bits + (cost * p.mask).sum((1, 2, 3))
            filled = torch.where(p.mask > 0, filled, y_hat[:, p.first : p.last])
            y_hat = torch.cat((y_hat[:, : p.first], filled, y_hat[:, p.last :]), 1)
            try:
                p = passes.send(y_hat)
            except StopIteration:
                p = None
        return self.synthesise(y_hat, setting), bits / (x.shape[2] * x.shape[3])


def decided(residual: Tensor, log2_scale: Tensor) -> Tensor:
    """Choose integers by rate and distortion among the nearest, the next towards 0, and 0.

    The choice minimises (residual - integer)^2 + RATE_WEIGHT * bits.

    Args:
        residual: Values less their mean, in steps.
        log2_scale: Log2 of the scale of their logistic distribution, same shape.

    Returns:
        Integers, same shape.
    """
    magnitude = residual.abs()
    nearest = torch.round(magnitude)
    best, least = nearest, torch.full_like(magnitude, math.inf)
    for integer in (nearest, (nearest - 1).clamp(min=0), torch.zeros_like(nearest)):
        cost = (magnitude - integer).square() + RATE_WEIGHT * logistic_bits(integer, log2_scale)
        best = torch.where(cost < least, integer, best)
        least = torch.minimum(cost, least)
    return torch.copysign(best, residual)


def logistic_bits(residual: Tensor, log2_scale: Tensor) -> Tensor:
    """Code length -log2 of the mass that a logistic distribution has within 1/2 of a value.

    log(sigmoid(a) - sigmoid(b)) = log(1 - e^(b - a)) + log sigmoid(a) + log sigmoid(-b) for a > b.

    Args:
        residual: Values less their mean, in steps.
        log2_scale: Log2 of the scale of the distribution, same shape.

    Returns:
        Bits, same shape.
    """
    inverse = torch.exp2(-log2_scale.clamp(LOG2_SCALE_MIN, LOG2_SCALE_MAX))
    centre = residual * inverse
    half = 0.5 * inverse
    log_mass = torch.log(-torch.expm1(-inverse)) + F.logsigmoid(half + centre) + F.logsigmoid(half - centre)
    return -log_mass / math.log(2)
