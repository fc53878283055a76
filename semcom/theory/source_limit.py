"""Limits of a link for a Gaussian model of pictures: the least squared error at a rate and a realism.

A model is a set of independent Gaussian components. With deviations s and u of source and reproduction and
correlation c between them, per component,

    distortion s^2 + u^2 - 2 s u c,   squared W2 distance (s - u)^2,   rate -1/2 log(1 - c^2) nats,

whose sums are traded by common multipliers: T of the rate, as the water level, and nu of the distance, from 0
(no bound) to inf (perfect realism). The least of distortion + 2 T rate + nu distance has

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
CLASSES = 16  # more bring 0.1 dB on Kodak
BISECTIONS = 200
REALISM = (0.0, *(10.0 ** np.linspace(-2, 2, 17)).tolist(), math.inf)  # nu of a curve


@dataclass(frozen=True, eq=False)
class GaussianModel:
    """Independent Gaussian components of a source.

    Args:
        variances: Of each kind of component, at least 0, in squared units of a source value.
        shares: What share of the components is of that kind; sums to 1.
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
        mse: Per source value.
        w2_squared: Squared W2 distance of reproductions to the source, per source value.
        realism: nu of each point.
        rate_nats: Per source value.
    """

    mse: Float[np.ndarray, " points"]
    w2_squared: Float[np.ndarray, " points"]
    realism: Float[np.ndarray, " points"]
    rate_nats: float

    @property
    def psnr_db(self) -> Float[np.ndarray, " points"]:
        """Of each point, for values in [0, 1]."""
        return -10 * np.log10(self.mse)


def fit(images: Iterable[Float[np.ndarray, "height width 3"]], classes: int = 1) -> GaussianModel:
    """Variances of the orthonormal 8x8 DCT on the principal axes of colour.

    With classes, blocks are sorted by the variance within them into groups of equal size, each with variances
    of its own; which block is in which group is known to both sides for nothing.

    Args:
        images: Values in [0, 1]; what is left over at the borders is cut off.
        classes: Groups of blocks.

    Raises:
        InvalidSource: Not a colour picture of at least 8x8 values in [0, 1], or fewer blocks than groups.
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
    """Nats per source value that AWGN carries: rho log(1 + SNR).

    Args:
        snr_db: Es/N0.
        rho: Complex channel uses per source value, above 0.

    Raises:
        InvalidOption: A rho that is not above 0.
    """
    if not rho > 0:
        raise InvalidOption(f"rho {rho:g}: channel uses per source value, above 0")
    return np.asarray(rho * np.log1p(10 ** (np.asarray(snr_db, dtype=float) / 10)))


def limit(model: GaussianModel, snr_db: float, rho: float, realism: Sequence[float] = REALISM) -> LimitCurve:
    """Optimal points over AWGN: no code of any length does better on that model, and some come near.

    Args:
        model: The source.
        snr_db: Es/N0.
        rho: Complex channel uses per source value.
        realism: nu, rising; 0 gives the least squared error, inf perfect realism.

    Raises:
        InvalidOption: A rho or a nu out of range.
    """
    return at_rate(model, float(rate_at_capacity(snr_db, rho)), realism)


def at_rate(model: GaussianModel, rate_nats: float, realism: Sequence[float] = REALISM) -> LimitCurve:
    """Optimal points at a rate.

    Args:
        model: The source.
        rate_nats: Per source value, at least 0.
        realism: nu of each point.

    Raises:
        InvalidOption: A negative rate or nu.
    """
    nus = np.asarray(realism, dtype=float)
    if not rate_nats >= 0 or not (nus >= 0).all():
        raise InvalidOption(f"rate {rate_nats:g} nats, nu from {nus.min():g}: none may be negative")
    points = np.array([_at(model, rate_nats, nu) for nu in nus])
    return LimitCurve(points[:, 0], points[:, 1], nus, rate_nats)


def at_perception(model: GaussianModel, rate_nats: float, w2_squared: float) -> float:
    """D(R, P): the least squared error per value at a rate and a squared W2 distance per value.

    Args:
        model: The source.
        rate_nats: Per source value, at least 0.
        w2_squared: P, at least 0.

    Raises:
        InvalidOption: A negative argument.
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
    """Mean over models of the PSNR limit over AWGN.

    Args:
        models: One per picture.
        snr_db: Es/N0.
        rho: Complex channel uses per source value.
        nu: What realism is worth; 0 gives the least squared error, inf perfect realism.

    Raises:
        InvalidOption: As `limit`; no models.
    """
    if not models:
        raise InvalidOption("limit of no models: fit at least one")
    return float(np.mean([limit(model, snr_db, rho, (nu,)).psnr_db[0] for model in models]))


def _at(model: GaussianModel, rate_nats: float, nu: float) -> tuple[float, float]:
    """Squared error and squared distance per value at a rate, where realism is worth nu."""
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
    """The c in [0, 1] with v ((1 - share) c + share) (1 - c^2) = T c, and 1 - c^2; share is nu / (1 + nu)."""
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
    """-1/2 log(1 - c^2), of whichever of the two is exact."""
    with np.errstate(divide="ignore"):
        return -0.5 * np.where(c < 0.5, np.log1p(-c * c), np.log(unexplained))


def _blocks(picture: np.ndarray) -> np.ndarray:
    """[blocks, 8, 8, colours]."""
    rows, columns = (side // BLOCK for side in picture.shape[:2])
    whole = picture[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, 3)
    return whole.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK, 3)
