"""Limits of a link for a Gaussian model of pictures: least squared error at a given rate and realism.

A model is a set of independent Gaussian components. With standard deviations s and u of source and
reproduction and correlation c between them, per component,

    distortion s^2 + u^2 - 2 s u c,   squared W2 distance (s - u)^2,   rate -1/2 log(1 - c^2) nats.

The sums over components are traded by common multipliers: T for the rate, the water level, and nu for the
distance, from 0 (no bound) to inf (perfect realism). The minimum of distortion + 2 T rate + nu distance has

    u = s (c + nu) / (1 + nu),   s^2 (c + nu) (1 - c^2) = T (1 + nu) c.

At nu = 0 this is reverse water-filling; with nu > 0 every component gets some rate.

References:
    Qian et al., Rate-distortion-perception tradeoff for Gaussian vector sources, arXiv 2406.18008, 2024.
    Shannon, A mathematical theory of communication, Bell System Tech. J. 27, 1948 (capacity).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.fft import dctn

from semcom.errors import InvalidOption, InvalidSource

BLOCK = 8  # pixels per side of a transform block
CLASSES = 16  # more classes change the limit on Kodak by 0.1 dB
BISECTIONS = 200
REALISM = (0.0, *(10.0 ** np.linspace(-2, 2, 17)).tolist(), math.inf)  # nu of a curve


@dataclass(frozen=True, eq=False)
class GaussianModel:
    """Source model of independent Gaussian components, grouped into kinds of equal variance.

    Args:
        variances: Variance of each kind, at least 0, in squared units of a source value, [kinds].
        shares: Share of the components that is of each kind, [kinds]; sums to 1.
    """

    variances: Float[np.ndarray, " kinds"]
    shares: Float[np.ndarray, " kinds"]

    def __post_init__(self) -> None:
        v, w = self.variances, self.shares
        if v.shape != w.shape or not len(v) or not np.isfinite(v).all() or v.min() < 0 or w.min() < 0:
            raise InvalidOption(
                f"{len(v)} variances from {v.min(initial=0):g}, {len(w)} shares: as many, none negative"
            )
        if abs(w.sum() - 1) > 1e-9 or not v @ w > 0:
            raise InvalidOption(
                f"shares that sum to {w.sum():.9g}, variance {v @ w:g}: sum 1, variance above 0"
            )


@dataclass(frozen=True, eq=False)
class LimitCurve:
    """Optimal points of a model at one rate, from the least squared error to perfect realism.

    Args:
        mse: Squared error per source value, [points].
        w2_squared: Squared W2 distance between reproductions and source per source value, [points].
        realism: Multiplier nu of each point.
        rate_nats: Rate in nats per source value.
    """

    mse: Float[np.ndarray, " points"]
    w2_squared: Float[np.ndarray, " points"]
    realism: Float[np.ndarray, " points"]
    rate_nats: float

    @property
    def psnr_db(self) -> Float[np.ndarray, " points"]:
        """PSNR of each point in dB, for source values in [0, 1], [points]."""
        return -10 * np.log10(self.mse)


def fit(images: Iterable[Float[np.ndarray, "height width 3"]], classes: int = 1) -> GaussianModel:
    """Fit a Gaussian model to pictures: variances of the orthonormal 8x8 DCT on the principal axes of colour.

    With several classes, blocks are sorted by the variance within them into groups of equal size, each with
    variances of its own; both sides know for free which block is in which group.

    Args:
        images: Pictures [height, width, 3] in [0, 1]; partial blocks at the borders are cut off.
        classes: Number of groups of blocks, at least 1.

    Returns:
        The model.

    Raises:
        InvalidSource: A picture has no colour, is smaller than 8x8 or outside [0, 1], or there are fewer
            blocks than groups.
    """
    pictures = [np.asarray(image, dtype=float) for image in images]
    if not pictures or any(
        x.ndim != 3 or x.shape[2] != 3 or min(x.shape[:2]) < BLOCK or x.min() < 0 or not x.max() <= 1
        for x in pictures
    ):
        raise InvalidSource(
            f"{len(pictures)} pictures: at least one, [height, width, 3] in [0, 1], 8x8 or more"
        )
    blocks = np.concatenate([_blocks(x) for x in pictures])  # [blocks, 8, 8, colours]
    colors = blocks.reshape(-1, 3)
    axes = np.linalg.eigh(np.cov(colors.T))[1]
    centred = (blocks - colors.mean(0)) @ axes
    spectra = np.asarray(dctn(centred, axes=(1, 2), norm="ortho"))
    if not 1 <= classes <= len(spectra):
        raise InvalidSource(f"{len(spectra)} blocks for {classes} classes: at least one each")
    order = np.argsort((spectra**2).sum((1, 2, 3)) - (spectra[:, 0, 0] ** 2).sum(1), kind="stable")
    groups = np.array_split(order, classes)
    variances = np.concatenate([(spectra[group] ** 2).mean(0).ravel() for group in groups])
    shares = np.repeat([len(group) / len(order) for group in groups], spectra[0].size) / spectra[0].size
    return GaussianModel(variances, shares)


def rate_at_capacity(snr_db: ArrayLike, rho: float) -> Float[np.ndarray, "*points"]:
    """Rate that AWGN carries at capacity, rho log(1 + SNR) nats per source value.

    Args:
        snr_db: Es/N0 in dB, any shape.
        rho: Complex channel uses per source value, above 0.

    Returns:
        Nats per source value, same shape as `snr_db`.

    Raises:
        InvalidOption: `rho` is not above 0.
    """
    if not rho > 0:
        raise InvalidOption(f"rho {rho:g}: channel uses per source value, above 0")
    return np.asarray(rho * np.log1p(10 ** (np.asarray(snr_db, dtype=float) / 10)))


def limit(model: GaussianModel, snr_db: float, rho: float, realism: Sequence[float] = REALISM) -> LimitCurve:
    """Optimal points of a model over AWGN, which no code of any length exceeds on that model.

    Args:
        model: Source model.
        snr_db: Es/N0 in dB.
        rho: Complex channel uses per source value, above 0.
        realism: Multipliers nu, rising; 0 gives the least squared error, inf perfect realism.

    Returns:
        The curve of optimal points.

    Raises:
        InvalidOption: `rho` or a multiplier is out of range.
    """
    return at_rate(model, float(rate_at_capacity(snr_db, rho)), realism)


def at_rate(model: GaussianModel, rate_nats: float, realism: Sequence[float] = REALISM) -> LimitCurve:
    """Optimal points of a model at a given rate.

    Args:
        model: Source model.
        rate_nats: Rate in nats per source value, at least 0.
        realism: Multiplier nu of each point, at least 0.

    Returns:
        The curve of optimal points.

    Raises:
        InvalidOption: The rate or a multiplier is negative.
    """
    nus = np.asarray(realism, dtype=float)
    if not rate_nats >= 0 or not (nus >= 0).all():
        raise InvalidOption(f"rate {rate_nats:g} nats, nu from {nus.min():g}: none may be negative")
    points = np.array([_at(model, rate_nats, nu) for nu in nus])
    return LimitCurve(points[:, 0], points[:, 1], nus, rate_nats)


def at_perception(model: GaussianModel, rate_nats: float, w2_squared: float) -> float:
    """Least squared error D(R, P) per value at a given rate and squared W2 distance.

    Args:
        model: Source model.
        rate_nats: Rate in nats per source value, at least 0.
        w2_squared: Bound P on the squared W2 distance per source value, at least 0.

    Returns:
        Squared error per source value.

    Raises:
        InvalidOption: An argument is negative.
    """
    if not (rate_nats >= 0 and w2_squared >= 0):
        raise InvalidOption(f"rate {rate_nats:g} nats, W2^2 {w2_squared:g}: none may be negative")
    free, perfect = _at(model, rate_nats, 0.0), _at(model, rate_nats, math.inf)
    if w2_squared >= free[1]:
        return free[0]
    if w2_squared == 0:
        return perfect[0]
    low, high = -40.0, 40.0  # log nu
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _at(model, rate_nats, math.exp(middle))[1] > w2_squared:
            low = middle
        else:
            high = middle
        if high - low < 1e-13 * max(1.0, abs(high)):
            break
    return _at(model, rate_nats, math.exp(high))[0]


def mean_psnr_db(models: Sequence[GaussianModel], snr_db: float, rho: float, nu: float = 0.0) -> float:
    """PSNR limit over AWGN in dB, averaged over models.

    Args:
        models: One model per picture, at least one.
        snr_db: Es/N0 in dB.
        rho: Complex channel uses per source value, above 0.
        nu: Multiplier of realism; 0 gives the least squared error, inf perfect realism.

    Returns:
        Mean PSNR in dB.

    Raises:
        InvalidOption: There are no models, or `rho` or `nu` is out of range.
    """
    if not models:
        raise InvalidOption("limit of no models: fit at least one")
    return float(np.mean([limit(model, snr_db, rho, (nu,)).psnr_db[0] for model in models]))


def _at(model: GaussianModel, rate_nats: float, nu: float) -> tuple[float, float]:
    """Squared error and squared W2 distance per value at a rate and a multiplier nu of realism."""
    there = model.shares > 0
    v, w = model.variances[there], model.shares[there]
    share = 1.0 if math.isinf(nu) else nu / (1 + nu)
    low, high = math.log(v[v > 0].min()) - 2 * rate_nats / w[v > 0].min() - 40, math.log(v.max()) + 40
    for _ in range(BISECTIONS):  # of log T, in which the rate falls
        level = (low + high) / 2
        if w @ _rate_nats(*_correlation(v, math.exp(level), share)) > rate_nats:
            low = level
        else:
            high = level
        if high - low < 1e-14 * abs(high):
            break
    c, unexplained = _correlation(v, math.exp(high), share)
    missing = unexplained / (1 + c)  # 1 - c; u / s = share + (1 - share) c
    error, distance = unexplained + (share * missing) ** 2, ((1 - share) * missing) ** 2
    return float(w @ (v * error)), float(w @ (v * distance))


def _correlation(variances: np.ndarray, level: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Solution c in [0, 1] of v ((1 - share) c + share) (1 - c^2) = T c, and 1 - c^2.

    The share is nu / (1 + nu).
    """
    ratio = level / np.maximum(variances, 1e-100)
    if share == 0:
        unexplained = np.minimum(ratio, 1)
        return np.sqrt(1 - unexplained), unexplained
    if share == 1:
        c = 2 / (ratio + np.hypot(ratio, 2))
        return c, np.minimum(ratio * c, 1)
    low, high = np.zeros_like(ratio), np.ones_like(ratio)
    for _ in range(60):
        c = (low + high) / 2
        above = ((1 - share) * c + share) * (1 - c * c) < ratio * c
        low, high = np.where(above, low, c), np.where(above, c, high)
    return high, np.minimum(ratio * high / ((1 - share) * high + share), 1)


def _rate_nats(c: np.ndarray, unexplained: np.ndarray) -> np.ndarray:
    """Rate -1/2 log(1 - c^2), computed from c or 1 - c^2, whichever is accurate."""
    with np.errstate(divide="ignore"):
        return -0.5 * np.where(c < 0.5, np.log1p(-c * c), np.log(unexplained))


def _blocks(picture: np.ndarray) -> np.ndarray:
    """Picture cut into blocks, [blocks, 8, 8, colours]."""
    rows, columns = (side // BLOCK for side in picture.shape[:2])
    whole = picture[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, 3)
    return whole.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK, 3)
