"""Cells: what JPEG bytes pin down, and points that lie in them and in the box."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from semcom.cells import TOLERANCE, Cells, in_units
from semcom.codecs import FileCodec, Jpeg, Memo, Quality, StreamCodec
from semcom.codecs.jpeg_cells import (
    COLORS,
    JpegCoefficients,
    Plane,
    jpeg_cells,
    lanczos_matrix,
)
from semcom.codecs.jpeg_coefficients import JpegComponent, JpegPicture, read_jpeg
from semcom.codecs.pillow import Subsampling
from semcom.cosines import cosine_matrix
from semcom.data import load_folder, to_picture
from semcom.errors import InvalidOption, InvalidSource
from semcom.modalities.image import from_pixels
from semcom.operators import BlockMean, Identity

LEVEL = 1 / 255
HALVED = (Plane(), Plane(2, 2), Plane(2, 2))
FULL = (Plane(),) * 3


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """An eye and half a smile, [1, 3, 64, 96]."""
    from skimage import data

    return from_pixels(data.astronaut()[90:154, 190:286])


def cells_of(x: Tensor, subsampling: Subsampling, quality: Quality) -> Cells:
    codec = StreamCodec(Jpeg(subsampling))
    cells = codec.cells(codec.encode(x, quality), tuple(x.shape))
    assert cells is not None
    return cells


def noisy(x: Tensor, std: float = 0.1) -> Tensor:
    return x.double() + std * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("side", "reduced"), [(64, 32), (65, 33), (96, 12), (50, 13), (7, 1), (3, 2)])
def test_reduction_is_pillows(side: int, reduced: int) -> None:
    """Pillow reduces pictures of floating-point numbers by the same weights, and neither rounds nor clips."""
    values = np.random.default_rng(0).normal(size=(side, 5)).astype(np.float32)
    theirs = PillowImage.fromarray(values).resize((5, reduced), PillowImage.Resampling.LANCZOS)
    ours = lanczos_matrix(side, reduced).numpy() @ values
    assert np.abs(ours - np.asarray(theirs)).max() < 64 * np.finfo(np.float32).eps


def test_transform_is_orthonormal() -> None:
    transform = cosine_matrix(8)
    torch.testing.assert_close(transform @ transform.T, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(transform[0], torch.full((8,), 8**-0.5, dtype=torch.float64))


@pytest.mark.parametrize("planes", [FULL, HALVED], ids=["444", "420"])
@pytest.mark.parametrize("size", [(32, 16), (64, 32), (255, 121)], ids=str)  # reduced by 1, 2 and 8
def test_pseudo_inverse_is_exact_on_whole_blocks(size: tuple[int, int], planes: tuple[Plane, ...]) -> None:
    operator = JpegCoefficients(size, (32, 16), planes)
    y = operator.A(torch.zeros(1, 3, size[1], size[0], dtype=torch.float64))
    y = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(operator.A(operator.pinv(y)), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "reduced"), [((32, 16), (32, 16)), ((11, 9), (11, 9)), ((18, 21), (9, 11))], ids=str
)
def test_pseudo_inverse_is_the_shortest_in_y_cb_cr(size: tuple[int, int], reduced: tuple[int, int]) -> None:
    """Four conditions of Penrose, the last one for the product <C x, C x'>."""
    operator = JpegCoefficients(size, reduced, HALVED)

    def draw(like: Tensor, seed: int) -> Tensor:
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def product(a: Tensor, b: Tensor) -> float:
        colors = torch.tensor(COLORS, dtype=torch.float64)
        converted = [torch.einsum("kc,bchw->bkhw", colors, picture) for picture in (a, b)]
        return float((converted[0] * converted[1]).sum())

    x, other = (draw(torch.empty(1, 3, size[1], size[0]), seed) for seed in (0, 1))
    y = operator.A(x)
    v, w = draw(y, 2), draw(y, 3)
    torch.testing.assert_close(operator.A(operator.pinv(y)), y)
    u = operator.pinv(v)
    torch.testing.assert_close(operator.pinv(operator.A(u)), u)
    assert float((operator.A(operator.pinv(v)) * w).sum()) == pytest.approx(
        float((operator.A(operator.pinv(w)) * v).sum())
    )
    assert product(operator.pinv(operator.A(x)), other) == pytest.approx(
        product(operator.pinv(operator.A(other)), x)
    )


def rounding(operator: JpegCoefficients, reduced: bool) -> Tensor:
    """How far an encoder in integers may be from A x, in [0, 1].

    Half a level in every Y, Cb or Cr, and again in every mean of four; in a picture that was reduced, before
    that half a level after either axis, the first of which the weights of the second make larger. A frequency
    sums up to sqrt(8) errors per axis, by its weights. The transform itself, whose columns are left in units
    of 1 / (4 sqrt(8)) and rows in 1/8, errs by 1/8 + 1/16 and its constants of 13 places by less than 1/8.
    """
    before = 0.0
    if reduced:
        spread = max(
            float(lanczos_matrix(whole, small).abs().sum(1).max())
            for whole, small in zip(operator.size, operator.reduced, strict=True)
        )
        before = 0.5 * spread + 0.5
    parts = operator.split(operator.A(torch.zeros(1, 3, operator.size[1], operator.size[0])))
    weights = cosine_matrix(8).abs().sum(1).float()
    allowed = []
    for part, plane in zip(parts, operator.planes, strict=True):
        sample = before + 0.5 + (0.5 if plane.across > 1 else 0.0)
        block = sample * weights[:, None] * weights + 1 / 8 + 1 / 16 + 1 / 8
        rows, columns = part.shape[1] // 8, part.shape[2] // 8
        allowed.append(block.repeat(rows, columns).flatten())
    return torch.cat(allowed) * LEVEL


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("size", [(96, 64), (61, 43), (50, 34), (17, 9), (1, 1), (3, 50)], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 8])
def test_the_original_is_in_its_cells(
    subsampling: Subsampling, size: tuple[int, int], scale: int, photo: Tensor
) -> None:
    """Up to the encoder's rounding, and not by much: in cells a step aside it is not."""
    x = (0.15 + 0.7 * photo[..., : size[1], : size[0]]).mul(255).round() / 255  # no clipping by the reduction
    for setting in (25, 60, 90):
        cells = cells_of(x, subsampling, Quality(scale, setting))
        operator = cells.operator
        assert isinstance(operator, JpegCoefficients)
        allowed = rounding(operator, scale > 1 and max(size) > 1)[None]
        y = operator.A(x.double())
        outside = torch.maximum(cells.low - y, y - cells.high)
        assert float((outside - allowed).max()) <= 0
        if scale == 1 and size == (96, 64):
            # Errors of half a level, uniform, in samples of brightness; up to twice that in those of colour.
            # One leaves a cell of Delta with a probability of E|error| / Delta at most.
            std = LEVEL / math.sqrt(12) * (1 if subsampling == "4:4:4" else 2)
            share = float((math.sqrt(2 / math.pi) * std / (cells.high - cells.low)).mean())
            count = y.numel()
            assert float((outside > 0).sum()) <= count * share + 4 * math.sqrt(count * share) + 4
        if setting == 25:  # Delta is above 20 levels
            aside = Cells(operator, cells.low + (cells.high - cells.low), 2 * cells.high - cells.low)
            missed = torch.maximum(aside.low - y, y - aside.high) - allowed
            assert float((missed > 0).double().mean()) > 0.5


@pytest.mark.parametrize("size", [(18, 34), (17, 33), (18, 32), (16, 34)], ids=str)
@pytest.mark.parametrize("axis", [2, 3])
def test_edges_are_filled_up_as_libjpeg_does(size: tuple[int, int], axis: int) -> None:
    """Blue with a red edge: the last pixel repeated, or the last mean, are 100 levels of colour apart."""
    x = torch.zeros(1, 3, size[1], size[0])
    x[:, 2] = 1
    edge = x.movedim(axis, 0)[-1]
    edge[:, 0], edge[:, 2] = 1.0, 0.0
    cells = cells_of(x, "4:2:0", Quality(1, 90))
    assert isinstance(cells.operator, JpegCoefficients)
    outside = cells.outside(x.double())
    assert float((outside - rounding(cells.operator, False)).max()) <= 0


def test_colour_of_half_the_width_is_understood(photo: Tensor) -> None:
    """4:2:2, which our codec does not write."""
    for width, height in ((96, 64), (45, 38)):
        x, buffer = photo[..., :height, :width], io.BytesIO()
        to_picture(x).save(buffer, "JPEG", quality=60, subsampling="4:2:2")
        cells = jpeg_cells(read_jpeg(buffer.getvalue(), (width, height)), (width, height))
        operator = cells.operator
        assert isinstance(operator, JpegCoefficients)
        assert operator.planes == (Plane(), Plane(2, 1), Plane(2, 1))
        outside = cells.outside(x.double())
        assert float((outside - rounding(operator, False)).max()) <= 0
        assert float(cells.misfit(cells.settled(noisy(x), 0.0, 1.0))) <= TOLERANCE


def test_colour_sampled_in_no_whole_ratio_is_refused() -> None:
    blocks, steps = np.zeros((1, 1, 8, 8), np.int64), np.ones((8, 8), np.int64)
    odd = JpegPicture((8, 8), tuple(JpegComponent(blocks, steps, across, 1) for across in (3, 2, 1)))
    with pytest.raises(InvalidOption, match="no whole ratio"):
        jpeg_cells(odd, (8, 8))


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_one_step_is_enough_on_whole_blocks(subsampling: Subsampling, photo: Tensor) -> None:
    for setting in (10, 50, 90):
        cells = cells_of(photo, subsampling, Quality(1, setting))
        start = noisy(photo)
        assert float(cells.misfit(start)) > 0.1
        assert float(cells.misfit(cells.inside(start))) < 1e-12
        single = cells.inside(
            start.float()
        )  # coefficients of up to 8, each from three sums of some 100 values
        assert float(cells.misfit(single)) < 8 * 16 * torch.finfo(torch.float32).eps
        again = cells.inside(cells.inside(start))
        torch.testing.assert_close(again, cells.inside(start), rtol=0, atol=1e-12)


def test_moving_into_the_cells_does_not_lead_away_from_the_original(photo: Tensor) -> None:
    """Whatever is in the cells is nearer after the step, in Y, Cb and Cr; the original nearly is."""
    cells = cells_of(photo, "4:2:0", Quality(1, 40))
    inner = cells.settled(photo, 0.0, 1.0)
    start = noisy(photo, 0.3)
    whole = JpegCoefficients((96, 64), (96, 64), FULL).A
    before, after = (float(whole(x - inner).norm()) for x in (start, cells.inside(start)))
    assert after < 0.97 * before


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("size", [(96, 64), (61, 43), (50, 34), (17, 9), (1, 1), (3, 50)], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 8])
def test_settled_is_in_cells_and_box(
    subsampling: Subsampling, size: tuple[int, int], scale: int, photo: Tensor
) -> None:
    x = photo[..., : size[1], : size[0]].contiguous()
    for setting in (5, 40, 75):
        cells = cells_of(x, subsampling, Quality(scale, setting))
        start = noisy(x, 0.3)
        settled = cells.settled(start, 0.0, 1.0)
        assert 0 <= float(settled.min()) <= float(settled.max()) <= 1
        assert float(cells.misfit(settled)) <= TOLERANCE
        assert torch.equal(cells.settled(settled, 0.0, 1.0), settled)
        shown = settled.float()
        assert float(cells.misfit(shown.double())) < 2 * TOLERANCE


@pytest.mark.parametrize("size", [(96, 64), (61, 43)], ids=str)
def test_at_steps_of_a_level_only_rounding_is_in_the_way(size: tuple[int, int], photo: Tensor) -> None:
    """Cells of 0.4 levels may have nothing in common with each other, or with the box."""
    x = photo[..., : size[1], : size[0]].contiguous()
    cells = cells_of(x, "4:2:0", Quality(1, 95))
    assert isinstance(cells.operator, JpegCoefficients)
    settled = cells.settled(noisy(x), 0.0, 1.0)
    assert 0 <= float(settled.min()) <= float(settled.max()) <= 1
    assert float(cells.misfit(settled)) < float(rounding(cells.operator, False).max())


def test_cells_and_box_that_do_not_meet() -> None:
    cells = Cells(Identity(), torch.tensor([[1.2, 0.3]]), torch.tensor([[1.4, 0.4]]))
    settled = cells.settled(torch.tensor([[0.5, 0.9]]), 0.0, 1.0)
    assert settled[0, 0] == 1.0
    assert 0.3 <= float(settled[0, 1]) <= 0.4
    spacing = torch.finfo(torch.float32).eps  # of numbers about 1.2
    assert float(cells.misfit(settled)) == pytest.approx(0.2, abs=2 * spacing)
    assert float(cells.misfit(cells.settled(settled, -math.inf, math.inf))) == 0


@pytest.mark.parametrize("operator", [BlockMean(2, 6, 8), BlockMean(4, 6, 9)])
def test_cells_of_any_operator_by_the_distance_of_the_box(operator: BlockMean) -> None:
    """Of intervals with a common point it is found, on an edge of the box as well."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, operator.height, operator.width, generator=generator, dtype=torch.float64)
    truth[:, 0] = 1
    y = operator.A(truth)
    cells = Cells(operator, y - 0.02, y + 0.02)
    settled = cells.settled(torch.randn(truth.shape, generator=generator), 0.0, 1.0)
    assert float(cells.misfit(settled).max()) <= TOLERANCE


def test_cells_in_other_units(photo: Tensor) -> None:
    cells = cells_of(photo, "4:2:0", Quality(1, 30))
    other = in_units(cells, tuple(photo.shape), 0.5, 0.5)
    for std in (0.001, 0.1):
        x = noisy(photo, std)
        torch.testing.assert_close(other.misfit(2 * x - 1), 2 * cells.misfit(x), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        other.settled(2 * photo - 1, -1.0, 1.0), 2 * cells.settled(photo, 0.0, 1.0) - 1, rtol=0, atol=1e-3
    )


def test_every_codec_of_the_format_says_the_same(photo: Tensor) -> None:
    quality = Quality(2, 40)
    shape = tuple(photo.shape)
    stream, file = StreamCodec(Jpeg()), FileCodec(Jpeg())
    plain = stream.cells(stream.encode(photo, quality), shape)
    assert plain is not None
    for codec in (file, Memo(stream), Memo(file)):
        other = codec.cells(codec.encode(photo, quality), shape)
        assert other is not None
        assert other.operator == plain.operator
        assert torch.equal(other.low, plain.low)
        assert torch.equal(other.high, plain.high)


def test_what_makes_no_sense_is_one_line() -> None:
    with pytest.raises(InvalidOption, match="lower bound above"):
        Cells(Identity(), torch.ones(1), torch.zeros(1))
    with pytest.raises(InvalidOption, match="2 components"):
        JpegCoefficients((8, 8), (8, 8), (Plane(), Plane()))
    with pytest.raises(InvalidOption, match="neither side may grow"):
        JpegCoefficients((8, 8), (8, 16), FULL)
    with pytest.raises(InvalidSource, match="picture of 4x4"):
        JpegCoefficients((8, 8), (8, 8), FULL).A(torch.zeros(1, 3, 4, 4))


@pytest.mark.shared
def test_photographs_settle(shared_data: Path) -> None:
    for item in load_folder(shared_data / "kodak")[:24:8]:
        x = item.x[..., 128:384, 256:512].contiguous()
        for setting in (8, 24, 45):
            cells = cells_of(x, "4:2:0", Quality(1, setting))
            assert float(cells.misfit(cells.settled(noisy(x, 0.2), 0.0, 1.0))) <= TOLERANCE
