"""The adaptive DeepJSCC: its linear code against theory, its order of sending, its trained network."""

import math

import numpy as np
import pytest
import torch
from instances import an_adaptive_network
from precision import rounding
from scipy.fft import dctn
from torch import Tensor

from channels import AWGN, NamedStreams, RayleighBlockFading, Received, transmit
from channels.symbols import average_power
from semcom import names, zoo
from semcom.budget import Budget
from semcom.data import sample_photos
from semcom.jscc.adaptive import AdaptiveDeepJSCC
from semcom.jscc.cosine import (
    PLANES,
    coefficients_of,
    cosine_transform,
    inverse_cosine_transform,
    join_bands,
    split_bands,
)
from semcom.modalities.image import MEAN_COLOR
from semcom.transmission import Transmission


@pytest.fixture(scope="module")
def linear() -> AdaptiveDeepJSCC:
    """Before training: the networks add nothing."""
    network = AdaptiveDeepJSCC((8, 16, 32), (1, 1), (1, 1, 1)).requires_grad_(False)
    falling = -0.8 * torch.arange(9.0)
    network.believe(falling[:, None] + falling + torch.tensor([4.0, 1.0, 0.0])[:, None, None])
    return network


def gaussian_pictures(
    network: AdaptiveDeepJSCC, count: int, height: int, width: int, seed: int = 0
) -> Tensor:
    """Whose coefficients have exactly the variances the network believes in."""
    layout = network.layout(height, width)
    values = torch.randn(count, layout.order.numel(), generator=torch.Generator().manual_seed(seed))
    coefficients = torch.zeros_like(values).index_copy(1, layout.order, values * layout.variance.sqrt())
    planes = inverse_cosine_transform(coefficients.reshape(count, *layout.shape))
    pixels = torch.einsum("pc,bphw->bchw", torch.tensor(PLANES), planes)
    return pixels + torch.tensor(MEAN_COLOR)[:, None, None]


def squared_errors(network: AdaptiveDeepJSCC, x: Tensor, received: Received) -> Tensor:
    return (network.reconstruct(received, tuple(x.shape)) - x).square().mean((1, 2, 3))


def items(count: int) -> NamedStreams:
    return NamedStreams(0, tuple(f"item-{i}" for i in range(count)))


def test_the_transform_is_scipys() -> None:
    x = torch.rand(2, 3, 48, 32)
    expected = torch.from_numpy(dctn(x.double().numpy(), axes=(2, 3), norm="ortho"))
    # Sums over a column, then over a row, orthonormal: no error is larger than the largest coefficient
    tolerance = rounding(torch.float32, 48 + 32, float(expected.abs().max()))
    torch.testing.assert_close(cosine_transform(x).double(), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(inverse_cosine_transform(cosine_transform(x)), x, rtol=0, atol=tolerance)


def test_coefficients_keep_energy() -> None:
    x = torch.rand(2, 3, 32, 64)
    energy = (x - torch.tensor(MEAN_COLOR)[:, None, None]).square().sum()
    torch.testing.assert_close(coefficients_of(x).square().sum(), energy)


def test_maps_are_places() -> None:
    """An impulse stays within one place of where it is, in bands of even and of odd number."""
    x = torch.zeros(1, 3, 256, 256)
    x[0, :, 16 * 5 + 8, 16 * 11 + 8] = 1
    coefficients = coefficients_of(x) - coefficients_of(torch.zeros_like(x))
    bands = split_bands(coefficients)
    assert torch.equal(join_bands(bands), coefficients)
    energy = inverse_cosine_transform(bands).square()
    near = energy[0, :, 4:7, 10:13].sum((1, 2)) / energy[0].sum((1, 2))
    assert float(near[:256].min()) > 0.7


@pytest.mark.parametrize("side", [64, 256, 336])
def test_both_ends_sort_alike_on_every_machine(side: int) -> None:
    """Steps of 1/16 of an octave, reckoned apart in long double; half steps lie far from rounding errors."""
    network = zoo.load("deepjscc")
    assert isinstance(network, AdaptiveDeepJSCC)
    places = np.log2(1 + (np.arange(side, dtype=np.longdouble) + 0.25) / side * 256)
    hats = np.maximum(1 - np.abs(places[:, None] - np.arange(9)), 0)
    planes = network.log_spectrum.numpy().astype(np.longdouble)
    steps = np.stack([16 * hats @ plane @ hats.T for plane in planes]).ravel()
    to_half = np.abs(np.abs(steps - np.rint(steps)) - 0.5)
    assert to_half[to_half > 1e-15].min() > 1e-10
    expected = np.argsort(-np.rint(steps), kind="stable")
    assert np.array_equal(network.layout(side, side).order.numpy(), expected)


@pytest.mark.parametrize(("snr_db", "uses"), [(0.0, 500), (10.0, 2000), (20.0, 100)])
def test_linear_coding_errs_as_theory_says(linear: AdaptiveDeepJSCC, snr_db: float, uses: int) -> None:
    """Gaussian pictures of known spectrum, coded for 10 dB: lambda N / (g^2 p + N), and what is unsent."""
    count = 200
    x = gaussian_pictures(linear, count, 64, 96)
    received = transmit(AWGN(), linear.encode(x, uses), snr_db, items(count))
    errors = squared_errors(linear, x, received) / linear.expected_error(tuple(x.shape), uses, snr_db)
    # The receiver estimates gain and contrast: worth an error of the order of 1 / uses of the energy
    energy = (x - torch.tensor(MEAN_COLOR)[:, None, None]).square().mean()
    allowed = 8 * energy / uses / linear.expected_error(tuple(x.shape), uses, snr_db)
    assert abs(float(errors.mean()) - 1) < 5 * float(errors.std()) / math.sqrt(count) + float(allowed)


def test_expected_error_is_what_the_decoder_reports(linear: AdaptiveDeepJSCC) -> None:
    x = gaussian_pictures(linear, 50, 64, 64)
    received = transmit(RayleighBlockFading(8), linear.encode(x, 1000), 5.0, items(50))
    layout = linear.layout(64, 64)
    told = linear._estimate(received, layout).error.flatten().square()
    ratio = squared_errors(linear, x, received) / told
    assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / math.sqrt(50) + 0.03


def test_all_coefficients_without_noise_are_the_picture(linear: AdaptiveDeepJSCC) -> None:
    x = torch.rand(2, 3, 37, 50)
    symbols = linear.encode(x, 10**6)
    assert symbols.shape[1] == linear.layout(37, 50).uses
    received = Received(symbols, torch.ones_like(symbols), torch.full((2, 1), 1e-9))
    torch.testing.assert_close(linear.decode(received, tuple(x.shape)), x, rtol=0, atol=5e-3)


@pytest.mark.parametrize("size", [(16, 16), (33, 100)])
def test_a_prefix_is_a_transmission(size: tuple[int, int]) -> None:
    network = an_adaptive_network()
    x = torch.rand(2, 3, *size)
    long = network.encode(x, 3 * size[0] * size[1] // 4, 5.0)
    for uses in (3, 17, 100):
        prefix = long[:, :uses]
        expected = prefix / average_power(prefix).sqrt()[:, None]
        torch.testing.assert_close(network.encode(x, uses, 5.0), expected, rtol=1e-4, atol=1e-5)


def test_important_values_come_first(linear: AdaptiveDeepJSCC) -> None:
    for size in ((64, 64), (16, 16), (512, 768)):
        layout = linear.layout(*size)
        assert bool((layout.variance.diff() <= 0).all())
        assert torch.equal(layout.order.sort().values, torch.arange(layout.order.numel()))


def test_pilots_stand_at_squares(linear: AdaptiveDeepJSCC) -> None:
    layout = linear.layout(64, 64)
    for uses in (3, 16, 17, 1000, layout.uses):
        pilots, data = layout.places(uses)
        assert pilots.tolist() == [i * i for i in range(uses) if i * i < uses]
        assert len(data) + len(pilots) == uses
    assert 2 * len(data) == layout.order.numel()


@pytest.mark.parametrize("csit_snr_db", [None, -5.0, 4.0, 25.0, 60.0])
def test_the_receiver_learns_what_the_transmitter_had_in_mind(
    linear: AdaptiveDeepJSCC, csit_snr_db: float | None
) -> None:
    x = gaussian_pictures(linear, 4, 64, 64)
    received = transmit(AWGN(), linear.encode(x, 2000, csit_snr_db), 30.0, items(4))
    design = linear._estimate(received, linear.layout(64, 64)).design
    wanted = 10.0 if csit_snr_db is None else min(csit_snr_db, 25.0)
    assert float((10 + 15 * design - wanted).abs().max()) < 0.5


def test_knowing_the_snr_helps_linear_coding(linear: AdaptiveDeepJSCC) -> None:
    x = gaussian_pictures(linear, 40, 64, 64)
    for snr_db in (-5.0, 25.0):
        errors = [
            squared_errors(linear, x, transmit(AWGN(), linear.encode(x, 10**6, csit), snr_db, items(40)))
            for csit in (snr_db, 10.0, 20.0 - snr_db)
        ]
        known, middle, wrong = (float(error.log().mean()) for error in errors)
        assert known < middle < wrong


def test_contrast_is_recovered(linear: AdaptiveDeepJSCC) -> None:
    """Power is normalised per picture; a faint one and a harsh one come back as such."""
    x = gaussian_pictures(linear, 20, 64, 64)
    mean = torch.tensor(MEAN_COLOR)[:, None, None]
    slopes = []
    for contrast in (0.25, 1.0, 4.0):
        scaled = contrast * (x - mean)
        received = transmit(AWGN(), linear.encode(mean + scaled, 2000), 10.0, items(20))
        shown = linear.reconstruct(received, tuple(x.shape)) - mean
        slopes.append(float((shown * scaled).sum() / scaled.square().sum()))
    # The same noise meets the same symbols, but for the pilots, whose share of the power changes.
    assert max(slopes) - min(slopes) < 0.05


def test_a_receiver_that_hears_nothing_shows_the_mean_colour(linear: AdaptiveDeepJSCC) -> None:
    silence = torch.zeros(1, 300, dtype=torch.complex64)
    shown = linear.decode(Received(silence, silence, torch.ones(1, 1)), (1, 3, 32, 32))
    torch.testing.assert_close(shown, torch.tensor(MEAN_COLOR)[None, :, None, None].expand_as(shown))


@pytest.fixture(scope="module")
def shipped() -> AdaptiveDeepJSCC:
    network = zoo.load("deepjscc")
    assert isinstance(network, AdaptiveDeepJSCC)
    return network


def test_the_perceptual_decoder_hears_the_same_symbols(shipped: AdaptiveDeepJSCC) -> None:
    """It shows another picture: a distortion a little larger, and more high frequencies."""
    plain, perceptual = (names.scheme(name) for name in ("deepjscc", "deepjscc-perceptual"))
    item = sample_photos()[0]
    x = item.x[:, :, 64:320, 64:320]
    budget, rng = Budget.from_rho("1/48", x.numel()), NamedStreams(0, ("astronaut",))
    sent: list[Tensor] = []
    shown: list[Tensor] = []
    for scheme in (plain, perceptual):
        assert isinstance(scheme.transmission, Transmission)
        sent.append(scheme.transmission.send(x, budget.channel_uses, None).symbols)
        (outcome,) = scheme.transmit(x, budget, AWGN(), 5.0, rng)
        shown.append(outcome.x_hat)
    assert torch.equal(*sent)
    quality = [psnr_db(x_hat, x) for x_hat in shown]
    assert quality[0] - 3 < quality[1] < quality[0]
    sharpness = [float(x_hat.diff(dim=3).abs().mean()) for x_hat in shown]
    assert sharpness[1] > sharpness[0]
    assert perceptual.name == "deepjscc-perceptual"


def psnr_db(x_hat: Tensor, x: Tensor) -> float:
    return -10 * math.log10(float((x_hat - x).square().mean()))


def test_the_shipped_network_gets_better_with_snr_and_with_rho(shipped: AdaptiveDeepJSCC) -> None:
    x = sample_photos()[0].x[:, :, 64:320, 64:320]
    rng = NamedStreams(0, ("astronaut",))

    def quality(uses: int, snr_db: float) -> float:
        received = transmit(AWGN(), shipped.encode(x, uses, snr_db), snr_db, rng)
        return psnr_db(shipped.decode(received, tuple(x.shape)), x)

    n = x.numel()
    by_snr = [quality(n // 48, snr_db) for snr_db in (-5.0, 0.0, 5.0, 10.0, 20.0)]
    by_rho = [quality(n // inverse_rho, 10.0) for inverse_rho in (768, 192, 48, 12, 6)]
    assert by_snr == sorted(by_snr)
    assert by_rho == sorted(by_rho)


def test_the_shipped_network_reads_a_transmission_that_was_cut_short(shipped: AdaptiveDeepJSCC) -> None:
    """The first k1 of k2 symbols serve as well as k1 that were sent by themselves at the same power."""
    x = sample_photos()[0].x[:, :, 64:320, 64:320]
    short, long = x.numel() // 96, x.numel() // 12
    rng = NamedStreams(0, ("astronaut",))
    by_itself = shipped.encode(x, short, 5.0)
    prefix = shipped.encode(x, long, 5.0)[:, :short]
    scale = float(average_power(prefix).sqrt())
    shown = []
    for symbols in (by_itself, prefix / scale):
        shown.append(shipped.decode(transmit(AWGN(), symbols, 5.0, rng), tuple(x.shape)))
    assert abs(psnr_db(shown[0], x) - psnr_db(shown[1], x)) < 0.2
