"""Every metric: identity is best, items are independent, [0, 1] is enforced."""

import pytest
import torch
from instances import METRICS

from semcom.errors import InvalidOption, InvalidSource, MissingWeights, UnknownName
from semcom.metrics import available_metrics, metric_named
from semcom.metrics.catalogue import ALL_METRICS
from semcom.metrics.metric import check_pair

SIZES = [(96, 64), (45, 77)]


WORKING = available_metrics().metrics


@pytest.fixture(params=[m for m in METRICS if m in WORKING], ids=lambda metric: metric.name)
def metric(request):
    return request.param


@pytest.mark.parametrize("name", [m.name for m in METRICS])
def test_every_metric_works_here(name):
    """One skipped line per backbone that is not in the torch cache."""
    try:
        metric_named(name)
    except MissingWeights as error:
        pytest.skip(str(error))


def images(batch, height, width, seed=0):
    """Smooth colours with texture, well inside [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 4, 4, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return 0.2 + 0.5 * smooth + 0.1 * torch.rand(batch, 3, height, width, generator=g)


def noisy(x, std, seed=1):
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + std * noise).clamp(0, 1)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_identity_is_best_and_damage_is_worse(metric, height, width):
    x = images(2, height, width)
    values = torch.stack([metric(noisy(x, std), x) for std in (0.0, 0.02, 0.1, 0.3)])
    steps = values.diff(dim=0)
    assert (steps < 0).all() if metric.higher_is_better else (steps > 0).all()


def test_identity_value(metric):
    x = images(1, 64, 64)
    best = {"psnr_db": 100.0, "ssim": 1.0, "ms_ssim": 1.0}.get(metric.name, 0.0)
    assert metric(x, x).item() == pytest.approx(best, abs=1e-6)


def test_one_number_per_item_whatever_the_batch(metric):
    x = images(3, 64, 48)
    x_hat = noisy(x, 0.05)
    together = metric(x_hat, x)
    alone = torch.cat([metric(x_hat[i : i + 1], x[i : i + 1]) for i in range(3)])
    assert together.shape == (3,)
    assert torch.allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert torch.equal(metric(x_hat, x), together)


def test_one_original_for_the_whole_batch(metric):
    x = images(1, 64, 48)
    x_hat = torch.cat([noisy(x, std) for std in (0.01, 0.05, 0.1)])
    assert torch.allclose(metric(x_hat, x), metric(x_hat, x.repeat(3, 1, 1, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [-0.01, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["received", "original"])
def test_values_outside_the_range_are_refused(metric, bad, side):
    x, broken = images(1, 64, 64), images(1, 64, 64)
    broken[0, 1, 5, 7] = bad
    with pytest.raises(InvalidSource):
        metric(*((broken, x) if side == "received" else (x, broken)))


def test_smallest_image(metric):
    x = images(1, metric.min_side, metric.min_side + 3)
    assert torch.isfinite(metric(noisy(x, 0.1), x)).all()
    if metric.min_side > 1:
        x = images(1, metric.min_side - 1, 64)
        with pytest.raises(InvalidSource, match=f"at least {metric.min_side}"):
            metric(x, x)


def test_a_metric_prints_nothing_and_warns_of_nothing(metric, capfd, recwarn):
    x = images(1, 64, 64)
    metric(noisy(x, 0.1), x)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (1, 1, 8, 8), (3, 3, 8, 8), (3, 8, 8)])
def test_shapes_must_agree(shape):
    with pytest.raises(InvalidSource):
        check_pair(torch.rand(2, 3, 8, 8), torch.rand(shape))


def test_names_are_unique_and_found():
    assert len({m.name for m in ALL_METRICS}) == len(ALL_METRICS)
    assert metric_named("ms_ssim").name == "ms_ssim"
    with pytest.raises(UnknownName, match="psnr_db"):
        metric_named("psnr")


def test_missing_backbones_are_one_line_each_and_have_no_metric(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = available_metrics()
    assert [m.name for m in found.metrics] == ["psnr_db", "ssim", "ms_ssim", "swd"]
    assert [line.split(":")[0] for line in found.left_out] == ["lpips_squeeze", "lpips_alex", "lpips_vgg"]
    assert all("\n" not in line and ".pth" in line for line in found.left_out)
    with pytest.raises(MissingWeights, match="alexnet"):
        metric_named("lpips_alex")


def test_metrics_that_a_tiny_image_has_no_room_for_are_left_out():
    found = available_metrics(side=5)
    assert [m.name for m in found.metrics] == ["psnr_db", "ssim", "ms_ssim"]
    assert any(line.startswith("swd") for line in found.left_out)


def test_a_damaged_backbone_is_a_typed_error(tmp_path, monkeypatch):
    from semcom.metrics import LPIPS

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"not weights")
    x = images(1, 64, 64)
    with pytest.raises(MissingWeights, match="damaged"):
        LPIPS("squeeze")(x, x)


def test_options_are_checked():
    from semcom.metrics import SlicedWasserstein

    with pytest.raises(InvalidOption):
        SlicedWasserstein(patches=0)
