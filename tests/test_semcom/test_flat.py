"""Flat areas of pictures: periodicity of texture at the grid of networks, drift of colours."""

import math

import pytest
import torch
from torch import nn

from semcom.metrics import GridPeriodicity, PerFrame, colour_drift, grid_periodicity, metric_named
from semcom.metrics.flat import FLAT_STD, MEAN_SIDE, PERIOD, ROUNDING_VAR, roughness


def original(side: int = 160) -> torch.Tensor:
    """Flat in its middle, where one window lies at the multiples of 32; rough by 20 levels elsewhere."""
    x = torch.full((1, 3, side, side), 0.5, dtype=torch.float64)
    checks = (torch.arange(side)[:, None] + torch.arange(side)) % 2
    rough = torch.ones(side, side, dtype=torch.bool)
    rough[32:96, 32:96] = False
    return x + 20 / 255 * (2 * checks - 1) * rough


def cosine(period: float, side: int = 160) -> torch.Tensor:
    place = torch.arange(side, dtype=torch.float64)
    wave = (2 * math.pi * (place[:, None] + place) / period).cos()
    return 0.5 + 0.1 * wave.expand(1, 3, side, side)


@pytest.mark.parametrize("period", [4, 8, 16, 12, 6, 24, 32, 9.6])
def test_a_diagonal_cosine_has_the_autocorrelation_of_a_cosine(period: float) -> None:
    """cos(2 pi lag / period), since 48 pixels are a whole number of half periods, wherever the sum begins."""
    at_16, at_32 = (math.cos(2 * math.pi * lag / period) for lag in (PERIOD, 2 * PERIOD))
    assert int((roughness(original()) <= FLAT_STD).sum()) == 1
    found = GridPeriodicity()(cosine(period), original())
    assert found == pytest.approx((2 * at_16 + at_32) / 3, abs=1e-9)


def test_any_texture_that_repeats_every_16_pixels_has_1() -> None:
    tile = torch.rand(1, 3, PERIOD, PERIOD, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert GridPeriodicity()(tile.repeat(1, 1, 10, 10), original()) == pytest.approx(1, abs=1e-9)


def test_white_noise_has_0() -> None:
    """Within 4 standard errors: Bartlett's sum of squared autocorrelations of the noise less its 5x5 mean,
    over the 48x48 pairs of the longest lag and the number of pictures.
    """
    count, side = 64, 64
    g = torch.Generator().manual_seed(0)
    x_hat = 0.5 + 0.05 * torch.randn(count, 3, side, side, generator=g).clamp(-5, 5)
    kernel = torch.full((1, 1, MEAN_SIDE, MEAN_SIDE), -1.0 / MEAN_SIDE**2)
    kernel[..., MEAN_SIDE // 2, MEAN_SIDE // 2] += 1
    covariance = nn.functional.conv2d(kernel, kernel, padding=MEAN_SIDE - 1)
    bartlett = float((covariance / covariance.max()).square().sum())
    error = math.sqrt(bartlett / (side - PERIOD) ** 2 / count)
    found = grid_periodicity(x_hat, torch.full((1, 3, side, side), 0.5))
    assert float(found.mean()) == pytest.approx(0, abs=4 * error)
    assert float(found.std()) < 2 * error * count**0.5


def test_brightness_contrast_and_slopes_change_nothing() -> None:
    wave, x = cosine(9.6), original()
    slope = torch.linspace(-0.1, 0.1, 160, dtype=torch.float64)
    expected = GridPeriodicity()(wave, x)
    for other in (wave + 0.2, 0.3 * wave, wave + slope):
        assert GridPeriodicity()(other, x) == pytest.approx(expected, abs=1e-9)


def test_texture_below_the_rounding_to_8_bits_is_none() -> None:
    """Of variance v it counts v / q; none at all has 0, not 0 / 0, and no rounding error is a pattern."""
    x = original()
    wave = cosine(16) - 0.5
    flat = torch.full((1, 3, 160, 160), 0.3)
    assert GridPeriodicity()(flat, x.float()) == pytest.approx(0, abs=1e-6)
    whole = grid_periodicity(0.5 + wave, x)
    mean = nn.functional.avg_pool2d(wave, MEAN_SIDE, 1)[0, 0, 30:94, 30:94]
    variance = (wave[0, 0, 32:96, 32:96] - mean).square().mean()
    faint = (0.25 * ROUNDING_VAR / variance).sqrt()
    assert float(grid_periodicity(0.5 + faint * wave, x)) == pytest.approx(0.25 * float(whole), abs=1e-9)


def test_only_flat_windows_count_and_the_flattest_if_there_are_none() -> None:
    x = original()
    hatched = torch.where(torch.arange(160) < 98, 0.5 + 0 * cosine(16), cosine(16))  # seen by no 5x5 mean
    assert GridPeriodicity()(hatched, x) == pytest.approx(0, abs=1e-9)
    rougher = x + 20 / 255 * (2 * ((torch.arange(160)[:, None] + torch.arange(160)) % 2) - 1)
    assert not bool((roughness(rougher) <= FLAT_STD).any())
    assert float(roughness(rougher)[0, 1, 1]) == pytest.approx(20 / 255)
    assert GridPeriodicity()(hatched, rougher) == GridPeriodicity()(hatched, x)
    assert GridPeriodicity()(cosine(16), rougher) == pytest.approx(1, abs=1e-9)


def test_a_window_is_as_rough_as_its_roughest_block() -> None:
    """One block of two equal halves a levels apart has a standard deviation of a / 2."""
    x = torch.full((1, 3, 96, 64), 0.25, dtype=torch.float64)
    x[..., 88:, :4] += 6.2 / 255
    assert roughness(x).tolist() == [[[0.0], [pytest.approx(3.1 / 255)]]]
    assert roughness(x[..., :90, :40]).shape == (1, 1, 1)


def test_it_has_a_name_for_pictures_and_clips() -> None:
    assert metric_named("grid") == GridPeriodicity()
    assert metric_named("grid", "video") == PerFrame(GridPeriodicity())


def test_drift_is_what_is_added_to_the_decoder_s_error() -> None:
    x = original()
    decoded, refined = x.clone(), x.clone()
    decoded[:, :, 32:96, 32:96] += 2 / 255
    refined[:, 0, 32:96, 32:96] += 5 / 255
    refined[:, 1, 32:96, 32:96] -= 4.5 / 255
    refined[:, :, 96:] = 0  # not flat
    assert float(colour_drift(refined, decoded, x)) == pytest.approx(3)
    assert float(colour_drift(x, decoded, x)) == pytest.approx(-2)
    assert float(colour_drift(decoded, decoded, x)) == 0
    rough = cosine(4)
    assert math.isnan(float(colour_drift(rough, rough, rough)))
