"""Error models: on pictures whose errors have a known law, and on tables."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from semcom.calibration import (
    BANDS,
    COEFFICIENTS,
    CosineGain,
    ErrorModel,
    ErrorTable,
    bands_of,
    error_model,
    read_tables,
    shipped_tables,
    write_tables,
)
from semcom.codecs import Jpeg, StreamCodec
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.jscc.cosine import centred_picture, coefficients_of_centred, mean_color
from semcom.observation import Decoded, Origin, Payload

SIDE = 64
SCALE, EXPONENT = 0.02, 0.5


def originals(count: int) -> list[Tensor]:
    """Noise of 1/f spectrum about the mean color, with contrasts a factor of 10 apart."""
    generator = torch.Generator().manual_seed(0)
    frequency = (torch.arange(SIDE)[:, None] ** 2 + torch.arange(SIDE) ** 2).float().sqrt() + 1
    pictures = []
    for i in range(count):
        coefficients = torch.randn(1, 3, SIDE, SIDE, generator=generator) / frequency
        contrast = 10 ** (i / (count - 1) - 1)
        picture = centred_picture(contrast * coefficients)
        pictures.append(picture + mean_color(picture))
    return pictures


def decoded(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
    """A conditional mean and a picture: x + e and x, with e of variance SCALE S^EXPONENT in each band.

    S is the mean square of the band in x, and a quarter of S of the band below.
    """
    color = mean_color(x)
    mean = coefficients_of_centred(x - color)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(i))
    bands = bands_of(x)
    truth = mean.clone()
    for planes in (slice(0, 1), slice(1, 3)):
        below = 0.0
        for band in range(BANDS):
            where = bands == band
            energy = mean[0, planes][:, where].square().mean() if bool(where.any()) else torch.zeros(())
            contents = energy + (below / 4 if band > 1 else 0.0)
            below = contents
            std = (SCALE * contents**EXPONENT).sqrt()
            truth[0, planes] += torch.where(where, std, 0.0) * noise[0, planes]
    return x, centred_picture(truth) + color


def test_the_law_of_errors_is_found() -> None:
    """Slope 1, and what is left by the contents of the band, in bands with many coefficients."""
    model = ErrorModel.fit([decoded(y, i) for i, y in enumerate(originals(12))])
    many = slice(BANDS - 6, BANDS)
    # the highest bands have some 1e4 coefficients with e up to 3 times m: 5 standard errors are 0.15
    torch.testing.assert_close(model.slope[:, many], torch.ones(2, 6), rtol=0, atol=0.15)
    torch.testing.assert_close(model.exponent[:, many], torch.full((2, 6), EXPONENT), rtol=0, atol=0.1)
    for first in (originals(12)[0], originals(12)[-1]):
        y, x = decoded(first, 99)
        evidence, variance = model.evidence(y)
        misfit = evidence.y - evidence.operator.A(x)
        large = bands_of(x) >= BANDS - 6
        assert float(misfit[0][:, large].square().mean()) == pytest.approx(1.0, abs=0.15)
        contents = coefficients_of_centred(x - mean_color(x))[0][:, large].square().mean()
        assert float(variance[0][:, large].mean()) == pytest.approx(float(contents), rel=0.15)
        true = float((y - x).square().mean().sqrt())
        assert model.error_std(y) == pytest.approx(true, rel=0.3)


def test_evidence_and_variance_give_the_decoded_picture_back() -> None:
    """The linear estimate V g w / (1 + V g^2) is b T y, whatever the model."""
    model = ErrorModel.fit([decoded(y, i) for i, y in enumerate(originals(6))])
    y = originals(6)[3]
    evidence, variance = model.evidence(y)
    gains = evidence.operator.gains
    w = evidence.y - evidence.operator.A(mean_color(y).expand_as(y))
    estimate = variance * gains * w / (1 + variance * gains**2)
    kinds, bands = torch.tensor([0, 1, 1])[:, None, None], bands_of(y)
    expected = model.slope[kinds, bands] * coefficients_of_centred(y - mean_color(y))
    torch.testing.assert_close(estimate, expected, rtol=1e-3, atol=1e-5)


def test_what_was_not_sent_is_not_heard() -> None:
    """A decoder that returns the mean color says nothing of the rest."""
    pictures = originals(4)
    model = ErrorModel.fit([(mean_color(x).expand_as(x).clone(), x) for x in pictures])
    assert not bool(model.slope.any())
    evidence, _ = model.evidence(pictures[0])
    assert not bool(evidence.operator.pinv(evidence.y).any())


def test_a_band_of_which_nothing_arrived_is_not_taken_for_empty() -> None:
    """Sent at half the size, the upper bands are 0: no evidence, and a variance guessed from below."""
    pairs = [decoded(y, i) for i, y in enumerate(originals(8))]
    model = ErrorModel.fit(pairs)
    y = originals(8)[-1]
    upper = bands_of(y) >= BANDS - 3
    cut = torch.where(upper, 0.0, coefficients_of_centred(y - mean_color(y)))
    evidence, variance = model.evidence(centred_picture(cut) + mean_color(y))
    assert float(evidence.operator.gains[0][:, upper].max()) < 1e-2 * float(evidence.operator.gains.max())
    assert float(variance[0][:, upper].min()) > 0


def test_a_perfect_decoder_has_slope_one() -> None:
    pictures = originals(4)
    model = ErrorModel.fit([(x, x) for x in pictures])
    present = torch.bincount(bands_of(pictures[0]).flatten(), minlength=BANDS) > 0
    assert float((model.slope[:, present] - 1).abs().max()) < 1e-4
    evidence, _ = model.evidence(pictures[1])
    torch.testing.assert_close(evidence.operator.pinv(evidence.y), pictures[1], rtol=0, atol=1e-4)


def test_models_between_grid_points_are_interpolated_and_held_beyond() -> None:
    rows = torch.arange(6.0)[:, None].expand(6, COEFFICIENTS).reshape(2, 3, COEFFICIENTS)
    table = ErrorTable(("log2_uses_per_value", "snr_db"), ((-8.0, -4.0), (0.0, 10.0, 20.0)), rows)

    def value(*point: float) -> float:
        return float(table.at(tuple(map(float, point))).row[0])

    assert value(-8, 0) == 0
    assert value(-4, 20) == 5
    assert value(-6, 5) == pytest.approx(0.5 * (0.5 + 3.5))
    assert value(-99, 99) == 2
    assert value(99, -99) == 3


def test_the_operating_point_is_that_of_the_origin_or_bits_per_value_of_the_payload() -> None:
    """8 bytes of 192 values are a third of a bit each; a table whose row is its coordinate tells it."""
    codec = StreamCodec(Jpeg())
    rows = torch.tensor([-5.0, 5.0])[:, None].expand(2, COEFFICIENTS)
    tables = {name: ErrorTable(("x",), ((-5.0, 5.0),), rows) for name in ("magic", codec.name)}
    picture = torch.zeros(1, 3, 8, 8)
    of_code = Decoded(picture, origin=Origin("magic", (1.5,)), payload=Payload(codec, bytes(8), codec.name))
    assert float(error_model(of_code, tables).row[0]) == pytest.approx(1.5)
    of_bytes = Decoded(picture, payload=Payload(codec, bytes(8), codec.name))
    assert float(error_model(of_bytes, tables).row[0]) == pytest.approx(math.log2(1 / 3))


def test_tables_survive_their_file(tmp_path: Path) -> None:
    rows = torch.linspace(-3, 3, 4 * COEFFICIENTS).reshape(4, COEFFICIENTS)
    table = ErrorTable(("log2_bits_per_value",), ((-3.0, -2.0, -1.0, 0.5),), rows)
    write_tables(tmp_path / "errors.json", {"code": table}, "test")
    back = read_tables(tmp_path / "errors.json")["code"]
    assert (back.axes, back.grid) == (table.axes, table.grid)
    torch.testing.assert_close(back.rows, rows, rtol=0.51e-3, atol=0)  # four digits: 0.5 of 1000 at most


def test_files_that_are_no_tables_are_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "errors.json"
    for content in ("", "[]", "{}", json.dumps({"codes": {"a": {"axes": {"x": [1, 2]}, "rows": [[1]]}}})):
        broken.write_text(content)
        with pytest.raises(InvalidOption, match="not a file of error tables"):
            read_tables(broken)
    with pytest.raises(InvalidOption, match="make it by"):
        read_tables(tmp_path / "absent.json")
    for origin, whose in ((Origin("magic", (0.0,)), "magic"), (None, "this scheme")):
        with pytest.raises(UnsuitableEvidence, match=f"nobody has measured the errors of {whose}"):
            error_model(Decoded(torch.zeros(1, 3, 8, 8), origin=origin), {})
    with pytest.raises(InvalidOption, match="at least 2"):
        ErrorModel.fit([])


def test_shipped_tables_know_that_more_is_better() -> None:
    """From the middle of its table on, the expected error of every code falls with uses, SNR or bits."""
    x = centred_picture(originals(3)[1])
    for code, table in shipped_tables().items():
        error = torch.tensor([ErrorModel.from_row(row).error_std(x) for row in table.rows.flatten(0, -2)])
        error = error.reshape(table.rows.shape[:-1])
        for axis in range(error.dim()):
            middle, last = error.select(axis, error.shape[axis] // 2), error.select(axis, -1)
            assert bool((last <= middle * 1.05).all()), f"{code} along {table.axes[axis]}"
        assert math.isfinite(float(table.rows.sum()))


def test_an_operator_with_its_singular_vectors() -> None:
    gains = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = CosineGain(gains)
    x = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(operator.A(x), gains * operator.coordinates(x))
    torch.testing.assert_close(operator.from_coordinates(operator.coordinates(x)), x)
