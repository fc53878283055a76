"""Metrics against other implementations and closed forms."""

import math
import warnings

import numpy as np
import pytest
import torch
from precision import rounding
from torch import nn

from semcom.errors import InvalidOption, MissingWeights
from semcom.metrics import (
    FID,
    KID,
    LPIPS,
    MSSSIM,
    PSNR,
    SSIM,
    SetSlicedWasserstein,
    SlicedWasserstein,
)
from semcom.metrics import available_metrics as available
from semcom.metrics.distortion import C2, SCALE_WEIGHTS, WINDOW, WINDOW_STD, scale_weights
from semcom.metrics.perceptual import (
    laplacian_pyramid,
    lpips_network,
    take_patches,
    unit_vectors,
    wasserstein_1d,
)

# Similarity divides moments of a window's values, all at most 1, by at least C2
SIMILARITY_ERROR = rounding(torch.float64, WINDOW**2, 1 / C2)


@pytest.fixture(scope="module")
def photo():
    """In double precision, so that only a wrong formula makes two implementations differ."""
    from skimage import data

    pixels = data.chelsea()[:240, :352]
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].double() / 255


def damaged(x, kind):
    g = torch.Generator().manual_seed(3)
    if kind == "noise":
        return (x + 0.1 * torch.randn(x.shape, generator=g)).clamp(0, 1)
    if kind == "blur":
        return nn.functional.avg_pool2d(nn.functional.pad(x, (2, 2, 2, 2), mode="reflect"), 5, 1).clamp(0, 1)
    return (0.7 * x + 0.2).clamp(0, 1)


KINDS = ["noise", "blur", "fade"]


@pytest.mark.parametrize("kind", KINDS)
def test_psnr_equals_scikit_image(photo, kind):
    from skimage.metrics import peak_signal_noise_ratio

    x_hat = damaged(photo, kind)
    expected = peak_signal_noise_ratio(photo.numpy(), x_hat.numpy(), data_range=1)
    error = 10 / math.log(10) * rounding(torch.float64, photo.numel())  # d(10 log10 mse)
    assert PSNR()(x_hat, photo) == pytest.approx(expected, abs=error)


def test_psnr_of_a_set_is_the_mean_of_psnrs():
    x = torch.full((2, 3, 4, 4), 0.5)
    x_hat = x + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert PSNR().batch(x_hat, x).mean().item() == pytest.approx(30.0, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(240, 352), (97, 131), (11, 12)])
def test_ssim_equals_scikit_image(photo, kind, height, width):
    from skimage.metrics import structural_similarity

    x = photo[:, :, :height, :width]
    x_hat = damaged(x, kind)
    expected = structural_similarity(
        x[0].numpy(),
        x_hat[0].numpy(),
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=0,
    )
    assert SSIM()(x_hat, x) == pytest.approx(expected, abs=SIMILARITY_ERROR)


def gaussian_window():
    """That of pytorch_msssim, which makes it in float32."""
    place = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    line = torch.exp(-(place**2) / (2 * WINDOW_STD**2))
    return (line / line.sum()).repeat(3, 1, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_ms_ssim_equals_pytorch_msssim(photo, kind):
    from pytorch_msssim import ms_ssim

    x_hat = damaged(photo, kind)
    expected = ms_ssim(
        x_hat, photo, data_range=1.0, win=gaussian_window(), weights=[*scale_weights(240)]
    ).item()
    assert MSSSIM()(x_hat, photo) == pytest.approx(expected, abs=SIMILARITY_ERROR)


@pytest.mark.parametrize(
    "size", [(161, 161), (161, 240), (175, 176), (177, 193), (191, 239), (223, 225), (237, 351), (240, 359)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_ms_ssim_of_odd_sizes_equals_pytorch_msssim(photo, kind, size):
    """At every scale another side may be odd: 191 at all of them, 161 at the first, 176 at the last."""
    from pytorch_msssim import ms_ssim

    x = photo[:, :, : size[0], : size[1]]
    x_hat = damaged(x, kind)
    expected = ms_ssim(x_hat, x, data_range=1.0, win=gaussian_window(), weights=[*scale_weights(161)]).item()
    assert MSSSIM()(x_hat, x) == pytest.approx(expected, abs=SIMILARITY_ERROR)


@pytest.mark.parametrize(
    ("side", "scales"),
    [(512, 5), (161, 5), (160, 4), (81, 4), (80, 3), (41, 3), (40, 2), (21, 2), (20, 1), (1, 1)],
)
def test_ms_ssim_scales_of_small_images(side, scales):
    weights = scale_weights(side)
    assert len(weights) == scales
    assert sum(weights) == pytest.approx(1.0)
    assert weights[0] / weights[-1] == pytest.approx(SCALE_WEIGHTS[0] / SCALE_WEIGHTS[scales - 1])


def test_ms_ssim_of_one_scale_is_ssim_and_one_pixel_has_a_value(photo):
    x = photo[:, :, :20, :40]
    per_color = [SSIM()(damaged(x, "noise")[:, [c] * 3], x[:, [c] * 3]) for c in range(3)]
    assert MSSSIM()(damaged(x, "noise"), x) == pytest.approx(np.mean(per_color), abs=SIMILARITY_ERROR)
    # One pixel: no contrast, so what is left is luminance, (2ab + C1) / (a^2 + b^2 + C1).
    a, b = 0.5, 0.25
    ones = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert MSSSIM()(a * ones, b * ones) == pytest.approx(expected, abs=SIMILARITY_ERROR)


@pytest.mark.parametrize("kind", KINDS)
def test_lpips_equals_torchmetrics(photo, kind):
    if LPIPS("squeeze") not in available().metrics:
        pytest.skip("no SqueezeNet in the torch cache")
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    x_hat = damaged(photo, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = learned_perceptual_image_patch_similarity(
            x_hat.float(), photo.float(), net_type="squeeze", normalize=True
        )
    network = lpips_network("squeeze", photo.device)
    terms = sum(weight[0].numel() for weight in network.parameters() if weight.dim() > 1)
    error = rounding(torch.float32, terms)  # of sums one after the other; features have norm 1
    assert LPIPS("squeeze")(x_hat, photo) == pytest.approx(expected.item(), abs=error)


# Sliced Wasserstein


def test_projections_are_compared_as_scipy_does():
    from scipy.stats import wasserstein_distance

    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 200, 5, generator=g), 0.5 + 2 * torch.rand(2, 200, 5, generator=g)
    ours = wasserstein_1d(a, b)
    for i in range(2):
        for d in range(5):
            expected = wasserstein_distance(a[i, :, d].numpy(), b[i, :, d].numpy())
            error = rounding(torch.float32, 200, float(a.abs().max() + b.abs().max()))
            assert ours[i, d].item() == pytest.approx(expected, abs=error)


def test_gaussians_have_their_closed_form():
    """W1 of N(0, s^2) and N(0, t^2) is |s - t| E|Z|; of N(m, s^2) and N(0, s^2) it is |m|."""
    count, g = 40_000, torch.Generator().manual_seed(0)
    a, b = torch.randn(count, 1, generator=g), torch.randn(count, 1, generator=g)
    # Standard error: of the mean of count absolute differences, and of two empirical quantile functions.
    error = 5 * math.sqrt(2 / count) * 3
    assert wasserstein_1d(3 * a, b).item() == pytest.approx(2 * math.sqrt(2 / math.pi), abs=error)
    assert wasserstein_1d(a + 0.7, b).item() == pytest.approx(0.7, abs=error)


def test_directions_are_unit_isotropic_and_always_the_same():
    u = unit_vectors(20_000, 6, torch.float64, torch.device("cpu"))
    assert torch.allclose(u.norm(dim=1), torch.ones(20_000, dtype=torch.float64))
    # The entries of u u^T have variance at most 1/24 here (2 (d - 1) / (d^2 (d + 2)) on the diagonal).
    assert (u.T @ u / 20_000 - torch.eye(6) / 6).abs().max() < 5 * math.sqrt(1 / 24 / 20_000)
    assert torch.equal(u, unit_vectors(20_000, 6, torch.float64, torch.device("cpu")))


@pytest.mark.parametrize(
    ("height", "width", "levels"), [(512, 768, 6), (97, 131, 3), (32, 40, 2), (30, 99, 1), (7, 7, 1)]
)
def test_pyramid_adds_up_to_the_image(height, width, levels):
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    pyramid = laplacian_pyramid(x)
    assert len(pyramid) == levels
    assert min(pyramid[-1].shape[2:]) >= min(16, height)
    image = pyramid[-1]
    kernel = torch.outer(torch.tensor([1.0, 4, 6, 4, 1]), torch.tensor([1.0, 4, 6, 4, 1])) / 64
    for band in reversed(pyramid[:-1]):
        spread = torch.zeros_like(band)
        spread[:, :, ::2, ::2] = image
        spread = nn.functional.pad(spread, (2, 2, 2, 2), mode="reflect")
        image = band + nn.functional.conv2d(spread, kernel.expand(3, 1, 5, 5), groups=3)
    assert torch.allclose(image, x, atol=1e-5)


def test_bands_of_a_constant_image_are_empty():
    *bands, rest = laplacian_pyramid(torch.full((1, 3, 64, 64), 0.3))
    assert all(band.abs().max() < 1e-6 for band in bands)
    assert torch.allclose(rest, torch.full((1, 3, 16, 16), 0.3))


def test_patches_are_pieces_of_the_image():
    x = torch.arange(2 * 3 * 9 * 10.0).view(2, 3, 9, 10)
    patches = take_patches(x, 200).view(2, 200, 3, 7, 7)
    assert torch.equal(patches[1] - patches[0], torch.full((200, 3, 7, 7), 270.0))  # same places
    for patch in patches[0]:
        top, left = divmod(int(patch[0, 0, 0]), 10)
        assert torch.equal(patch, x[0, :, top : top + 7, left : left + 7])
    assert {int(p[0, 0, 0]) for p in patches[0]} == {
        10 * i + j for i in range(3) for j in range(4)
    }  # all of them


def test_swd_of_constant_images_is_that_of_points():
    """Every projection is a point, so W1 is |sum u| c / 0.2, and the bands are empty."""
    c, metric = 0.1, SlicedWasserstein()
    u = unit_vectors(metric.directions, 147, torch.float32, torch.device("cpu"))
    expected = 1000 * c * u.sum(dim=1).abs().mean().item() / 0.2 / 3  # three levels of a 64x64 image
    x = torch.full((1, 3, 64, 64), 0.4)
    assert metric(x + c, x) == pytest.approx(expected, rel=1e-4)


def test_swd_grows_with_blur_and_forgives_a_shift(photo):
    metric = SlicedWasserstein()
    box = [
        nn.functional.avg_pool2d(nn.functional.pad(photo, (r, r, r, r), mode="reflect"), 2 * r + 1, 1)
        for r in (1, 2, 4, 8)
    ]
    values = [metric(x_hat.clamp(0, 1), photo) for x_hat in box]
    assert values == sorted(values)
    shifted = photo.roll((5, 5), dims=(2, 3))
    assert PSNR()(shifted, photo) < PSNR()(box[1].clamp(0, 1), photo)
    assert metric(shifted, photo) < values[1]


def test_swd_is_symmetric(photo):
    metric, x_hat = SlicedWasserstein(), damaged(photo, "blur")
    assert metric(photo, x_hat) == pytest.approx(metric(x_hat, photo), rel=1e-5)


def test_set_form_pools_patches_over_images(photo):
    """Two images swapped are the same set, though each item is another."""
    a, b = photo[:, :, :128, :128], photo[:, :, 100:228, 200:328]
    swapped = SetSlicedWasserstein()
    swapped.update(torch.cat((a, b)), torch.cat((b, a)))
    assert swapped.compute() == pytest.approx(0, abs=1e-4)
    assert SlicedWasserstein()(a, b) > 10

    one = SetSlicedWasserstein(patches=512)
    one.update(damaged(a, "noise"), a)
    assert one.compute() == pytest.approx(SlicedWasserstein()(damaged(a, "noise"), a), rel=1e-5)

    with pytest.raises(InvalidOption, match="empty"):
        SetSlicedWasserstein().compute()


# Realism


class MeanColors(nn.Module):
    """A network whose features are known: the six pixel values of an image of 1x2 pixels."""

    num_features = 6

    def forward(self, x):
        assert x.dtype == torch.uint8
        return x.flatten(1).float() / 255


def gaussian_set(count, mean, std, seed):
    x = mean + std * torch.randn(count, 3, 1, 2, generator=torch.Generator().manual_seed(seed))
    return x.clamp(0, 1)


def test_fid_of_gaussians_has_its_closed_form():
    """|m - m'|^2 + sum (s - s')^2 for independent features."""
    fid = FID(features=MeanColors())
    fid.update(gaussian_set(20_000, 0.6, 0.1, 0), gaussian_set(20_000, 0.4, 0.05, 1))
    # d(FID) = 2 * 0.2 * d(mean) per feature, standard error of the mean s / sqrt(N), six features
    error = 5 * math.sqrt(6) * 2 * 0.2 * math.sqrt(0.1**2 + 0.05**2) / math.sqrt(20_000)
    assert fid.compute() == pytest.approx(6 * (0.2**2 + 0.05**2), abs=error)


def test_kid_is_unbiased_and_leaves_the_generator_alone():
    kid = KID(features=MeanColors())
    kid.update(gaussian_set(300, 0.5, 0.1, 0), gaussian_set(300, 0.5, 0.1, 1))
    before = torch.get_rng_state()
    first = kid.compute()
    assert torch.equal(before, torch.get_rng_state())
    assert first == kid.compute()
    other = KID(features=MeanColors())
    other.update(gaussian_set(300, 0.6, 0.1, 0), gaussian_set(300, 0.5, 0.1, 1))
    assert abs(first) < 0.05 * other.compute()


def test_kid_of_identical_sets_is_0():
    kid, x = KID(features=MeanColors()), gaussian_set(300, 0.5, 0.1, 0)
    kid.update(x, x)
    assert kid.compute() == 0


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_kid_is_unbiased_for_pairs_that_depend_on_each_other(correlation):
    """The mean over many small sets of one law is 0 within five standard errors."""
    values = []
    for seed in range(400):
        x, other = gaussian_set(50, 0.5, 0.1, seed), gaussian_set(50, 0.5, 0.1, 1000 + seed)
        kid = KID(features=MeanColors())
        kid.update(0.5 + correlation * (x - 0.5) + math.sqrt(1 - correlation**2) * (other - 0.5), x)
        values.append(kid.compute())
    assert abs(np.mean(values)) < 5 * np.std(values) / math.sqrt(len(values))


def test_kid_is_that_of_torchmetrics_without_the_pairs():
    from torchmetrics.image.kid import poly_kernel, poly_mmd

    sets = [(gaussian_set(1000, mean, 0.1, seed) * 255).round() / 255 for mean, seed in ((0.6, 0), (0.5, 1))]
    kid = KID(features=MeanColors())
    kid.update(*sets)
    x_hat, x = (images.flatten(1).double() for images in sets)
    mixed = poly_kernel(x_hat, x)
    pairs = 2 / (len(x) - 1) * (mixed.diagonal().mean() - mixed.mean()).item()
    assert kid.compute() == pytest.approx(poly_mmd(x, x_hat).item() + pairs, rel=1e-5)
    assert abs(pairs) < 1e-3 * kid.compute()


@pytest.mark.parametrize(("metric", "least"), [(FID, 10_000), (KID, 50)])
def test_small_sets_are_refused_unless_told(metric, least):
    distance = metric(features=MeanColors())
    distance.update(gaussian_set(49, 0.6, 0.1, 0), gaussian_set(49, 0.4, 0.1, 1))
    with pytest.raises(InvalidOption, match=f"at least {least}"):
        distance.compute()
    told = metric(min_items=10, features=MeanColors())
    told.update(gaussian_set(49, 0.6, 0.1, 0), gaussian_set(49, 0.4, 0.1, 1))
    assert told.compute() > 0


@pytest.mark.parametrize("metric", [FID, KID])
def test_missing_inception_is_a_typed_error(metric, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeights, match="inception"):
        metric()
