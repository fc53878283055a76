"""What decoders do to pictures, as measured: pictures become evidence with a noise per frequency."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.jscc.cosine import centred_picture, coefficients_of_centred, mean_color
from semcom.observation import Decoded, Linear, Origin

BANDS = 13
"""Half octaves of frequency, the last up to the corner of the spectrum; constant colour is in the first."""

KINDS = 2  # of planes: brightness, colour
COEFFICIENTS = 3 * KINDS * BANDS + 2  # of an `ErrorModel` as one row
LEAST_VARIANCE = 1e-10  # of a coefficient, in units of pictures in [0, 1]
HEARD = 1e-3  # explained part of the variance of a band below which nothing was heard of it
SLACK = 0.05  # beyond a grid that is no less known, in its units
CARRIED = 4.0  # a band has at least so many-th a part of the variance of the one below
TABLE = Path(str(resources.files("semcom"))) / "tables" / "errors.json"


@dataclass(frozen=True, eq=False)
class CosineGain:
    """A x = g T x: gains on the cosine transform of brightness and two colour differences.

    T is orthonormal, so that T* is a basis in which A is diagonal.

    Args:
        gains: g, not negative.
    """

    gains: Float[Tensor, "#batch 3 height width"]

    def coordinates(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """T x."""
        return coefficients_of_centred(x)

    def from_coordinates(
        self, c: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """T* c."""
        return centred_picture(c)

    def A(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:  # noqa: N802
        """Transform, then weigh."""
        return self.gains * coefficients_of_centred(x)

    def adjoint(self, y: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Weigh, then transform back."""
        return centred_picture(self.gains * y)

    def pinv(self, y: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Divide where something was let through, then transform back."""
        heard = self.gains > 0
        return centred_picture(torch.where(heard, y / torch.where(heard, self.gains, 1.0), 0.0))


@dataclass(frozen=True, eq=False, slots=True)
class ErrorModel:
    """What is left to know of x after a decoded picture y, per band of frequencies: T x = m + e.

        m = b T y,  E = mean of m^2 over the band
        Var e = s S^p,  S = E + S' / 4 with S' that of the band below

    Decoders come near to the conditional mean, whose error is uncorrelated with it: b is about 1, and x has
    the variance V = E + Var e. The same said as an observation of x, with white noise n of variance 1:

        w = g T x + n,  g^2 = 1 / Var e - 1 / V,  w = m sqrt(V / (E Var e))

    What is lost of a busy picture is more than of a smooth one, and y shows which of the two it is. Of a band
    of which nothing arrived, E = 0, S guesses the contents from the band below: in photographs the variance
    of a coefficient falls by some 0.4 from one to the next.

    Args:
        slope: b, 0 where y says nothing of x.
        log_scale: ln s.
        exponent: p, 0 to 1.
        total: ln s and p of the squared error of y as it is, per pixel value.
    """

    slope: Float[Tensor, "kinds bands"]
    log_scale: Float[Tensor, "kinds bands"]
    exponent: Float[Tensor, "kinds bands"]
    total: Float[Tensor, " 2"]

    @classmethod
    def fit(cls, pictures: Sequence[tuple[Tensor, Tensor]]) -> "ErrorModel":
        """From decoded pictures [1, 3, height, width] and their originals.

        Raises:
            InvalidOption: Fewer than two.
        """
        if len(pictures) < 2:
            raise InvalidOption(f"{len(pictures)} pictures to measure errors on; give at least 2")
        moments = torch.stack([_moments(y, x) for y, x in pictures])  # [pictures, (xx, xy, yy), kinds, bands]
        counts = torch.stack([_counts(y) for y, _ in pictures])
        xx, xy, yy = moments.unbind(1)
        total_xy, total_yy = (counts * xy).sum(0), (counts * yy).sum(0)
        slope = (total_xy / total_yy.clamp_min(1e-12)).clamp(0, None)
        slope = torch.where(slope * total_xy > HEARD * (counts * xx).sum(0), slope, 0.0)
        left = (xx - 2 * slope * xy + slope**2 * yy).clamp_min(LEAST_VARIANCE)
        contents = _expected_contents(slope**2 * yy)
        log_scale, exponent = _regress(contents, left, counts)
        error = torch.stack([(y - x).square().mean() for y, x in pictures])[:, None]
        activity = torch.stack([_activity(y) for y, _ in pictures])[:, None]
        total = torch.cat(_regress(activity, error.clamp_min(LEAST_VARIANCE), torch.ones_like(error)))
        return cls(slope, log_scale, exponent, total)

    @classmethod
    def from_row(cls, row: Float[Tensor, " coefficients"]) -> "ErrorModel":
        """Inverse of `row`."""
        bands = row[:-2].reshape(3, KINDS, BANDS)
        return cls(bands[0], bands[1], bands[2], row[-2:])

    @property
    def row(self) -> Float[Tensor, " coefficients"]:
        """All numbers, for tables."""
        return torch.cat(
            (self.slope.flatten(), self.log_scale.flatten(), self.exponent.flatten(), self.total)
        )

    def evidence(self, y: Float[Tensor, "1 3 height width"]) -> tuple[Linear, Tensor]:
        """The observation w = g T x + n, and V of every coefficient."""
        kinds, bands = torch.tensor([0, 1, 1])[:, None, None], bands_of(y)
        mean = self.slope[kinds, bands] * coefficients_of_centred(y - mean_color(y))
        energy = _mean_per_band(mean.square()[0], bands)
        left = (self.log_scale + self.exponent * _expected_contents(energy[None])[0].log()).exp()
        variance = energy + left
        heard = energy > LEAST_VARIANCE
        gain = torch.where(heard, energy / (variance * left), 0.0).sqrt()
        inflated = torch.where(heard, variance / (energy * left).clamp_min(1e-30), 0.0).sqrt()
        operator = CosineGain(gain[kinds, bands][None])
        w = inflated[kinds, bands] * mean + operator.A(mean_color(y).expand_as(y))
        return Linear(w, operator), variance[kinds, bands][None]

    def error_std(self, y: Float[Tensor, "1 3 height width"]) -> float:
        """Root of the mean squared error of y as it is, per pixel value."""
        log_scale, exponent = self.total.tolist()
        return math.exp(0.5 * (log_scale + exponent * math.log(float(_activity(y)))))


@dataclass(frozen=True, eq=False, slots=True)
class ErrorTable:
    """Error models of one code over a grid, for instance of channel uses per value and SNR.

    Between grid points all numbers of the model are interpolated linearly, beyond the grid its edge holds.

    Args:
        axes: Names of the coordinates.
        grid: Values of each that were measured, rising.
        rows: An `ErrorModel.row` per grid point.
    """

    axes: tuple[str, ...]
    grid: tuple[tuple[float, ...], ...]
    rows: Float[Tensor, "... coefficients"]

    def at(self, point: Sequence[float]) -> ErrorModel:
        """The model at these coordinates."""
        rows = self.rows
        for values, value in zip(self.grid, point, strict=True):
            place = _place(values, value)
            low = min(int(place), len(values) - 1)
            high = min(low + 1, len(values) - 1)
            rows = rows[low] + (place - low) * (rows[high] - rows[low])
        return ErrorModel.from_row(rows)

    def covers(self, point: Sequence[float]) -> bool:
        """Whether these coordinates lie within what was measured, give or take what a symbol more makes."""
        return all(v[0] - SLACK <= x <= v[-1] + SLACK for v, x in zip(self.grid, point, strict=True))


@cache
def shipped_tables() -> dict[str, ErrorTable]:
    """The tables that come with the package, by code; made by scripts/measure_errors.py."""
    return read_tables(TABLE)


def read_tables(path: Path) -> dict[str, ErrorTable]:
    """Tables of a file.

    Raises:
        InvalidOption: No such file, or not a file of tables.
    """
    try:
        content = json.loads(path.read_text())["codes"]
        return {
            code: ErrorTable(
                tuple(entry["axes"]),
                tuple(map(tuple, entry["axes"].values())),
                torch.tensor(entry["rows"], dtype=torch.float32).reshape(
                    *map(len, entry["axes"].values()), COEFFICIENTS
                ),
            )
            for code, entry in content.items()
        }
    except OSError as error:
        raise InvalidOption(f"{path}: {error.strerror}; make it by scripts/measure_errors.py") from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InvalidOption(f"{path} is not a file of error tables ({type(error).__name__})") from None


def write_tables(path: Path, tables: Mapping[str, ErrorTable], about: str) -> None:
    """Write them, numbers to four digits."""
    codes = {
        code: {
            "axes": dict(zip(table.axes, map(list, table.grid), strict=True)),
            "rows": [[float(f"{v:.4g}") for v in row] for row in table.rows.flatten(0, -2).tolist()],
        }
        for code, table in sorted(tables.items())
    }
    lines = [f" {json.dumps(code)}: {json.dumps(entry)}" for code, entry in codes.items()]
    text = ",\n".join(lines)
    path.write_text(f'{{"about": {json.dumps(about)},\n"codes": {{\n{text}\n}}}}\n')


def error_model(decoded: Decoded[Tensor], tables: Mapping[str, ErrorTable]) -> ErrorModel:
    """The measured error of a decoded picture.

    Args:
        decoded: The picture, with its origin or the bytes that were decoded.
        tables: Error tables by code.

    Returns:
        The model at the picture's operating point: that of its origin, or bits per source value of its
        payload.

    Raises:
        UnsuitableEvidence: Nobody has measured pictures of this code.
    """
    origin = decoded.origin
    if origin is None and decoded.payload is not None:
        bits = max(8 * len(decoded.payload.data), 1)
        origin = Origin(decoded.payload.code, (math.log2(bits / decoded.y.numel()),))
    if origin is None or origin.code not in tables:
        raise UnsuitableEvidence(
            f"nobody has measured the errors of {origin.code if origin else 'this scheme'}; choose one of "
            f"{', '.join(sorted(tables))}, or measure it by scripts/measure_errors.py"
        )
    return tables[origin.code].at(origin.point)


def bands_of(x: Float[Tensor, "1 3 height width"]) -> Int[Tensor, "height width"]:
    """Band of every frequency: half octaves of |f| down from the corner of the spectrum."""
    down, across = (torch.arange(side, device=x.device) / side for side in x.shape[2:])
    frequency = (down[:, None].square() + across.square()).sqrt() / math.sqrt(2)
    octaves = frequency.clamp_min(1e-9).log2()
    return ((2 * octaves).floor().long() + BANDS).clamp(0, BANDS - 1)


def _moments(y: Tensor, x: Tensor) -> Float[Tensor, "3 kinds bands"]:
    """Mean squares and mean product per band, mean colour subtracted."""
    bands = bands_of(y)
    of_y, of_x = (coefficients_of_centred(image - mean_color(image))[0] for image in (y, x))
    return torch.stack([_mean_per_band(p, bands) for p in (of_x * of_x, of_x * of_y, of_y * of_y)])


def _mean_per_band(
    values: Float[Tensor, "3 height width"], bands: Int[Tensor, "height width"]
) -> Float[Tensor, "kinds bands"]:
    """Of brightness, and of both colour differences together; 0 where a small picture has no such band."""
    flat = bands.flatten()
    count = torch.bincount(flat, minlength=BANDS)
    sums = values.new_zeros(3, BANDS).index_add_(1, flat, values.flatten(1))
    means = sums / count.clamp_min(1)
    return torch.stack((means[0], (means[1] + means[2]) / 2))


def _expected_contents(
    energy: Float[Tensor, "pictures kinds bands"],
) -> Float[Tensor, "pictures kinds bands"]:
    """S of `ErrorModel`; constant colour, the first band, tells nothing of the next."""
    first = energy[..., 0].clamp_min(LEAST_VARIANCE)
    below = energy[..., 1].clamp_min(LEAST_VARIANCE)
    contents = [first, below]
    for band in range(2, BANDS):
        below = energy[..., band] + below / CARRIED
        contents.append(below.clamp_min(LEAST_VARIANCE))
    return torch.stack(contents, -1)


def _counts(x: Tensor) -> Float[Tensor, "kinds bands"]:
    """1 where a picture of this size has such a band."""
    return (torch.bincount(bands_of(x).flatten(), minlength=BANDS) > 0).float().expand(KINDS, BANDS)


def _activity(x: Tensor) -> Float[Tensor, ""]:
    """Mean square of what is not constant colour or nearly so."""
    moving = coefficients_of_centred(x - mean_color(x)).square()[0][:, bands_of(x) > 0]
    return (moving.sum() / max(moving.numel(), 1)).clamp_min(LEAST_VARIANCE)


def _regress(
    energy: Float[Tensor, "pictures *cells"],
    noise: Float[Tensor, "pictures *cells"],
    counts: Float[Tensor, "pictures *cells"],
) -> tuple[Float[Tensor, "*cells"], Float[Tensor, "*cells"]]:
    """Regress ln s and p of noise = s energy^p: slope of logarithms, then the scale that keeps the mean."""
    weight = counts / counts.sum(0).clamp_min(1)
    x, y = energy.log(), noise.log()
    mean_x, mean_y = (weight * x).sum(0), (weight * y).sum(0)
    covariance = (weight * (x - mean_x) * (y - mean_y)).sum(0)
    exponent = (covariance / (weight * (x - mean_x).square()).sum(0).clamp_min(1e-6)).clamp(0, 1)
    ratio = (weight * noise / energy**exponent).sum(0).clamp_min(LEAST_VARIANCE)
    return ratio.log(), exponent


def _place(values: Sequence[float], value: float) -> float:
    """Where a value lies among the grid's, in steps of it."""
    if value <= values[0]:
        return 0.0
    for i in range(len(values) - 1):
        if value <= values[i + 1]:
            return i + (value - values[i]) / (values[i + 1] - values[i])
    return len(values) - 1.0
