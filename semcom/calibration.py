"""Measured error statistics of decoders, per frequency band, which turn decoded pictures into evidence."""

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
from semcom.files import write_whole
from semcom.jscc.cosine import centred_picture, coefficients_of_centred, mean_color
from semcom.observation import Decoded, Linear, Origin

BANDS = 13
"""Number of frequency bands: half octaves below the corner of the spectrum; the first includes DC."""

KINDS = 2  # kinds of planes: brightness, and both colour differences
COEFFICIENTS = 3 * KINDS * BANDS + 2  # parameters of an `ErrorModel`
LEAST_VARIANCE = 1e-10  # lower bound on the variance of a coefficient, for pictures in [0, 1]
HEARD = 1e-3  # a band counts as lost if y explains less than this fraction of its variance
SLACK = 0.05  # how far a point may lie outside the calibrated grid, in the unit of its axis
CARRIED = 4.0  # a band is assumed to have at least 1 / CARRIED of the variance of the band below
TABLE = Path(str(resources.files("semcom"))) / "tables" / "errors.json"


@dataclass(frozen=True, eq=False)
class CosineGain:
    """Diagonal operator in the cosine transform domain, A x = g T x.

    T is the orthonormal cosine transform of brightness and two colour differences. In the basis T* the
    operator A is diagonal.

    Args:
        gains: g, nonnegative, [1 or batch, 3, height, width].
    """

    gains: Float[Tensor, "#batch 3 height width"]

    def coordinates(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Cosine transform T x.

        Args:
            x: Pictures, [batch, 3, height, width].

        Returns:
            Coefficients, [batch, 3, height, width].
        """
        return coefficients_of_centred(x)

    def from_coordinates(
        self, c: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Inverse cosine transform T* c.

        Args:
            c: Coefficients, [batch, 3, height, width].

        Returns:
            Pictures, [batch, 3, height, width].
        """
        return centred_picture(c)

    def A(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:  # noqa: N802
        """Cosine transform, then multiplication by the gains: g T x.

        Args:
            x: Pictures, [batch, 3, height, width].

        Returns:
            Weighted coefficients, [batch, 3, height, width].
        """
        return self.gains * coefficients_of_centred(x)

    def adjoint(self, y: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Multiplication by the gains, then the inverse cosine transform: T* g y.

        Args:
            y: Weighted coefficients, [batch, 3, height, width].

        Returns:
            Pictures, [batch, 3, height, width].
        """
        return centred_picture(self.gains * y)

    def pinv(self, y: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Pseudoinverse A+ y: division by all gains that are above 0, then the inverse cosine transform.

        Args:
            y: Weighted coefficients, [batch, 3, height, width].

        Returns:
            Pictures, [batch, 3, height, width].
        """
        heard = self.gains > 0
        return centred_picture(torch.where(heard, y / torch.where(heard, self.gains, 1.0), 0.0))


@dataclass(frozen=True, eq=False, slots=True)
class ErrorModel:
    """Error statistics of a decoder per frequency band: the original x given a decoded picture y.

        T x = m + e,  m = b T y,  E = mean of m^2 over the band
        Var e = s S^p,  S = E + S' / 4,  S' the value of S in the next lower band

    T is the cosine transform of `CosineGain`; the mean colour of the training set is subtracted from x and y
    first. A decoded picture is close to a conditional mean, whose error e is uncorrelated with it: b is about
    1, and the coefficients of x have the variance V = E + Var e. An equivalent observation of x with white
    noise n of variance 1 is

        w = g T x + n,  g^2 = 1 / Var e - 1 / V,  w = m sqrt(V / (E Var e))

    A picture with much detail loses more of it than a smooth one, and E, computed from y, tells the two
    apart. In a band of which nothing arrived (E = 0), S extrapolates from the band below: in photographs the
    variance of a coefficient falls by a factor of about 0.4 from one band to the next.

    Args:
        slope: b per kind of plane (brightness, colour) and band, at least 0; 0 where y is uninformative.
        log_scale: ln s, per kind of plane and band.
        exponent: p in [0, 1], per kind of plane and band.
        total: ln s and p of the model s S^p for the squared error of y itself per pixel value, where S is the
            mean square of the cosine coefficients of y above the first band.
    """

    slope: Float[Tensor, "kinds bands"]
    log_scale: Float[Tensor, "kinds bands"]
    exponent: Float[Tensor, "kinds bands"]
    total: Float[Tensor, " 2"]

    @classmethod
    def fit(cls, pictures: Sequence[tuple[Tensor, Tensor]]) -> "ErrorModel":
        """Fit the model to decoded pictures and their originals.

        Args:
            pictures: At least two pairs (decoded, original), each picture [1, 3, height, width] in [0, 1].

        Returns:
            The fitted model.

        Raises:
            InvalidOption: Fewer than two pairs.
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
        """Restore a model from its parameters in one row.

        Args:
            row: Parameters in the order of `row`, [coefficients].

        Returns:
            The model.
        """
        bands = row[:-2].reshape(3, KINDS, BANDS)
        return cls(bands[0], bands[1], bands[2], row[-2:])

    @property
    def row(self) -> Float[Tensor, " coefficients"]:
        """All parameters as one vector, for tables: slope, log_scale, exponent, total, [coefficients]."""
        return torch.cat(
            (self.slope.flatten(), self.log_scale.flatten(), self.exponent.flatten(), self.total)
        )

    def evidence(self, y: Float[Tensor, "1 3 height width"]) -> tuple[Linear, Tensor]:
        """Turn a decoded picture into a linear observation w = g T x + n of the original, with Var n = 1.

        Args:
            y: Decoded picture, [1, 3, height, width] in [0, 1].

        Returns:
            The observation, and the variance V of every cosine coefficient of x, [1, 3, height, width].
        """
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
        """Expected root mean square error of a decoded picture, per pixel value.

        Args:
            y: Decoded picture, [1, 3, height, width] in [0, 1].

        Returns:
            Root of the expected squared error, in units of pictures in [0, 1].
        """
        log_scale, exponent = self.total.tolist()
        return math.exp(0.5 * (log_scale + exponent * math.log(float(_activity(y)))))


@dataclass(frozen=True, eq=False, slots=True)
class ErrorTable:
    """Error models of one decoder on a grid of operating points, for instance channel uses per value and SNR.

    Between grid points the parameters of the model are interpolated linearly; outside of the grid those of
    its edge are used.

    Args:
        axes: Names of the coordinates.
        grid: Measured values of every coordinate, ascending.
        rows: Parameters of the model (`ErrorModel.row`) at every grid point, [*grid sizes, coefficients].
    """

    axes: tuple[str, ...]
    grid: tuple[tuple[float, ...], ...]
    rows: Float[Tensor, "... coefficients"]

    def at(self, point: Sequence[float]) -> ErrorModel:
        """Interpolate the error model at an operating point.

        Args:
            point: One value per coordinate, in the units of the grid.

        Returns:
            The interpolated model.
        """
        rows = self.rows
        for values, value in zip(self.grid, point, strict=True):
            place = _place(values, value)
            low = min(int(place), len(values) - 1)
            high = min(low + 1, len(values) - 1)
            rows = rows[low] + (place - low) * (rows[high] - rows[low])
        return ErrorModel.from_row(rows)

    def covers(self, point: Sequence[float]) -> bool:
        """Whether an operating point lies on the grid, up to a tolerance of `SLACK` per coordinate.

        Args:
            point: One value per coordinate, in the units of the grid.

        Returns:
            True if every value is between the least and the largest measured one, up to the tolerance.
        """
        return all(v[0] - SLACK <= x <= v[-1] + SLACK for v, x in zip(self.grid, point, strict=True))


@cache
def shipped_tables() -> dict[str, ErrorTable]:
    """Load the error tables of the package, made by scripts/measure_errors.py.

    Returns:
        Error tables by name of the decoder.
    """
    return read_tables(TABLE)


def read_tables(path: Path) -> dict[str, ErrorTable]:
    """Read error tables from a JSON file.

    Args:
        path: File written by `write_tables`.

    Returns:
        Error tables by name of the decoder.

    Raises:
        InvalidOption: The file cannot be read, or does not hold error tables.
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
    """Write error tables to a JSON file, with four significant digits.

    Args:
        path: File to write.
        tables: Error tables by name of the decoder.
        about: Description for readers of the file.
    """
    codes = {
        code: {
            "axes": dict(zip(table.axes, map(list, table.grid), strict=True)),
            "rows": [[float(f"{v:.4g}") for v in row] for row in table.rows.flatten(0, -2).tolist()],
        }
        for code, table in sorted(tables.items())
    }
    lines = [f" {json.dumps(code)}: {json.dumps(entry)}" for code, entry in codes.items()]
    text = ",\n".join(lines)
    write_whole(path, f'{{"about": {json.dumps(about)},\n"codes": {{\n{text}\n}}}}\n')


def error_model(decoded: Decoded[Tensor], tables: Mapping[str, ErrorTable]) -> ErrorModel:
    """Look up the measured error statistics of a decoded picture.

    Args:
        decoded: Decoded picture with its origin or its payload.
        tables: Error tables by name of the decoder.

    Returns:
        The model at the operating point of the origin or, without one, at the payload's bits per source
        value.

    Raises:
        UnsuitableEvidence: The error of this decoder has not been measured.
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
    """Frequency band of every cosine coefficient: half octaves of radial frequency.

    Args:
        x: A picture, [1, 3, height, width]; only its size is used.

    Returns:
        Band numbers 0 to BANDS - 1, [height, width]; the last band ends at the corner of the spectrum.
    """
    down, across = (torch.arange(side, device=x.device, dtype=torch.float32) / side for side in x.shape[2:])
    frequency = (down[:, None].square() + across.square()).sqrt() / math.sqrt(2)
    octaves = frequency.clamp_min(1e-9).log2()
    return ((2 * octaves).floor().long() + BANDS).clamp(0, BANDS - 1)


def _moments(y: Tensor, x: Tensor) -> Float[Tensor, "3 kinds bands"]:
    """Mean of x^2, x y and y^2 per band of cosine coefficients, after subtraction of the mean colour."""
    bands = bands_of(y)
    of_y, of_x = (coefficients_of_centred(image - mean_color(image))[0] for image in (y, x))
    return torch.stack([_mean_per_band(p, bands) for p in (of_x * of_x, of_x * of_y, of_y * of_y)])


def _mean_per_band(
    values: Float[Tensor, "3 height width"], bands: Int[Tensor, "height width"]
) -> Float[Tensor, "kinds bands"]:
    """Mean per band, of brightness and of both colour planes together; 0 for bands without coefficients."""
    flat = bands.flatten()
    count = torch.bincount(flat, minlength=BANDS)
    sums = values.new_zeros(3, BANDS).index_add_(1, flat, values.flatten(1))
    means = sums / count.clamp_min(1)
    return torch.stack((means[0], (means[1] + means[2]) / 2))


def _expected_contents(
    energy: Float[Tensor, "pictures kinds bands"],
) -> Float[Tensor, "pictures kinds bands"]:
    """S of `ErrorModel`; not extrapolated from the first band, which holds the constant colour."""
    first = energy[..., 0].clamp_min(LEAST_VARIANCE)
    below = energy[..., 1].clamp_min(LEAST_VARIANCE)
    contents = [first, below]
    for band in range(2, BANDS):
        below = energy[..., band] + below / CARRIED
        contents.append(below.clamp_min(LEAST_VARIANCE))
    return torch.stack(contents, -1)


def _counts(x: Tensor) -> Float[Tensor, "kinds bands"]:
    """Indicator of the bands that a picture of this size has."""
    return (torch.bincount(bands_of(x).flatten(), minlength=BANDS) > 0).float().expand(KINDS, BANDS)


def _activity(x: Tensor) -> Float[Tensor, ""]:
    """Mean square of the cosine coefficients above the first band."""
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
    """Fractional index of a value in an ascending grid, clipped to the grid."""
    if value <= values[0]:
        return 0.0
    for i in range(len(values) - 1):
        if value <= values[i + 1]:
            return i + (value - values[i]) / (values[i + 1] - values[i])
    return len(values) - 1.0
