"""Labels, power and soft bits of the constellations."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from precision import rounding

from channels.channel import Received
from channels.constellation import Constellation
from channels.errors import ChannelError

SIZES = (2, 4, 16, 64, 256)
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "sionna_modem.npz")


def llr_error(constellation: Constellation, received: Received) -> torch.Tensor:
    """What rounding leaves of differences of |y - h x|^2 / N0, by bit.

    There are about 8 operations in a distance, and log2 M sums of exponentials.
    """
    peak = constellation.levels.max()
    hx = received.h.abs() * peak
    largest = 1 + (2 * received.y.abs() * hx + hx**2) / received.noise_var
    bits = constellation.bits_per_symbol
    return rounding(torch.float32, 8 + bits) * largest.repeat_interleave(bits, 1)


def brute_force(constellation: Constellation, received: Received, max_log: bool) -> torch.Tensor:
    """LLRs over all M points in float64, as the definition reads."""
    points = constellation.points.to(torch.complex128)
    metric = (
        -((received.y[..., None] - received.h[..., None] * points).abs() ** 2) / received.noise_var[..., None]
    )
    bits = constellation.bits_per_symbol
    llr = []
    for j in range(bits):
        one = (torch.arange(constellation.size) >> (bits - 1 - j) & 1).bool()
        zeros, ones = metric[..., ~one], metric[..., one]
        llr.append(zeros.amax(-1) - ones.amax(-1) if max_log else zeros.logsumexp(-1) - ones.logsumexp(-1))
    return torch.stack(llr, -1).reshape(received.y.shape[0], -1)


def faded(constellation: Constellation, noise_var: torch.Tensor) -> tuple[torch.Tensor, Received]:
    generator = torch.Generator().manual_seed(7)
    bits = torch.randint(
        0, 2, (3, 500 * constellation.bits_per_symbol), generator=generator, dtype=torch.uint8
    )
    x = constellation.modulate(bits)
    h = torch.randn(x.shape, generator=generator, dtype=torch.complex64)
    n = torch.randn(x.shape, generator=generator, dtype=torch.complex64)
    return bits, Received(h * x + n * noise_var.sqrt(), h, noise_var)


@pytest.mark.parametrize("size", SIZES)
def test_points_have_average_power_one_and_gray_labels(size: int) -> None:
    points = Constellation(size).points
    error = rounding(torch.float32, 8 + size)  # levels, squares and their sum
    assert points.abs().square().mean().item() == pytest.approx(1.0, abs=error)
    distance = (points[:, None] - points[None]).abs()
    nearest = torch.isclose(distance, distance[distance > 0].min(), rtol=1e-4)
    for a, b in nearest.nonzero().tolist():
        assert (a ^ b).bit_count() == 1


@pytest.mark.parametrize(
    ("size", "bits", "symbol"),
    [  # the formulas of 38.211, 5.1.2 to 5.1.6, worked by hand
        (2, "1", (-1 - 1j) / math.sqrt(2)),
        (4, "01", (1 - 1j) / math.sqrt(2)),
        (16, "0111", (3 - 3j) / math.sqrt(10)),
        (16, "1000", (-1 + 1j) / math.sqrt(10)),
        (64, "001010", (7 + 3j) / math.sqrt(42)),
        (64, "110101", (-3 - 7j) / math.sqrt(42)),
        (256, "00000000", (5 + 5j) / math.sqrt(170)),
        (256, "01101101", (13 - 1j) / math.sqrt(170)),
    ],
)
def test_labels_of_the_standard(size: int, bits: str, symbol: complex) -> None:
    mapped = Constellation(size).modulate(torch.tensor([[int(b) for b in bits]], dtype=torch.uint8))
    assert mapped.item() == pytest.approx(symbol, abs=rounding(torch.float32, 8, abs(symbol)))


@pytest.mark.parametrize("size", SIZES[1:])
def test_symbols_equal_sionna(size: int) -> None:
    expected = GOLDEN[f"x_{size}"][0]
    error = rounding(torch.float32, 8, float(np.abs(expected).max()))
    assert np.abs(Constellation(size).points.numpy() - expected).max() < error


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("method", ["app", "maxlog"])
def test_llrs_equal_sionna(size: int, method: str) -> None:
    y = torch.from_numpy(GOLDEN[f"y_{size}"])
    received = Received(y, torch.ones_like(y), torch.from_numpy(GOLDEN[f"noise_var_{size}"]))
    constellation = Constellation(size)
    llr = constellation.exact_llr(received) if method == "app" else constellation.max_log_llr(received)
    expected = -GOLDEN[f"{method}_{size}"]  # Sionna's sign is the reverse
    # All is in double precision but our points
    assert bool((np.abs(llr.numpy() - expected) < llr_error(constellation, received).numpy()).all())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("snr_db", [-10.0, 5.0, 25.0])
def test_llrs_over_fading_equal_brute_force(size: int, snr_db: float) -> None:
    constellation = Constellation(size)
    noise_var = torch.tensor([[0.5], [1.0], [2.0]]) * 10 ** (-snr_db / 10)
    _, received = faded(constellation, noise_var)
    for max_log in (False, True):
        expected = brute_force(constellation, received, max_log)
        llr = constellation.max_log_llr(received) if max_log else constellation.exact_llr(received)
        assert bool(((llr - expected).abs() < llr_error(constellation, received)).all())


@pytest.mark.parametrize("size", SIZES)
def test_hard_decisions_return_the_bits_where_noise_is_low(size: int) -> None:
    bits, received = faded(Constellation(size), torch.full((3, 1), 1e-10))
    assert torch.equal(Constellation(size).hard_decision(received), bits)


@pytest.mark.parametrize("size", SIZES)
def test_extreme_inputs_stay_finite(size: int) -> None:
    y = torch.tensor([[0j, 1 + 1j, 1e3 + 0j]], dtype=torch.complex64)
    for noise_var in (1e-20, 1e10):
        for h in (torch.zeros_like(y), torch.ones_like(y)):
            received = Received(y, h, torch.full((1, 1), noise_var))
            assert Constellation(size).exact_llr(received).isfinite().all()
            assert Constellation(size).max_log_llr(received).isfinite().all()
    erased = Received(y, torch.zeros_like(y), torch.ones(1, 1))
    assert Constellation(size).exact_llr(erased).abs().max() == 0


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ChannelError, match="8 points"):
        Constellation(8)
    with pytest.raises(ChannelError, match="multiple of 6"):
        Constellation(64).modulate(torch.zeros(1, 10, dtype=torch.uint8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("batch", "uses"), [(0, 7), (2, 0)])
def test_nothing_is_mapped_to_nothing(size: int, batch: int, uses: int) -> None:
    constellation = Constellation(size)
    bits = torch.zeros(batch, uses * constellation.bits_per_symbol, dtype=torch.uint8)
    x = constellation.modulate(bits)
    assert x.shape == (batch, uses)
    assert constellation.exact_llr(Received(x, x, torch.ones(batch, 1))).shape == bits.shape


@pytest.mark.parametrize("size", SIZES)
def test_llrs_do_not_depend_on_the_batch(size: int) -> None:
    """Rows of one call are those of calls of their own, bit for bit, also across parts of a long batch."""
    generator = torch.Generator().manual_seed(size)
    y, h = (torch.randn(7, 3001, generator=generator, dtype=torch.complex64) for _ in range(2))
    noise_var = torch.rand(7, 3001, generator=generator) + 0.01
    for noise in (noise_var, noise_var[:, :1]):
        for method in (Constellation(size).exact_llr, Constellation(size).max_log_llr):
            together = method(Received(y, h, noise))
            for i in range(7):
                row = slice(i, i + 1)
                assert torch.equal(method(Received(y[row], h[row], noise[row]))[0], together[i])


def test_many_short_rows_are_demapped_in_as_few_steps_as_one_long_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = 0

    def counted(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return torch.logaddexp(a, b)

    monkeypatch.setattr("channels.constellation._log_add", counted)
    y, taken = torch.randn(50_000, dtype=torch.complex64), list[int]()
    for rows in (1, 1000):
        steps, part = 0, y.view(rows, -1)
        Constellation(64).exact_llr(Received(part, torch.ones_like(part), torch.ones(rows, 1)))
        taken.append(steps)
    assert taken[0] == taken[1] > 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noise_type", [torch.float16, torch.bfloat16])
def test_noise_variances_of_half_precision_are_widened(size: int, noise_type: torch.dtype) -> None:
    _, exact = faded(Constellation(size), torch.full((3, 1), 1e-5))
    noise_var = exact.noise_var.to(noise_type)
    llr = Constellation(size).exact_llr(Received(exact.y, exact.h, noise_var))
    assert llr.dtype == torch.float32
    assert torch.equal(llr, Constellation(size).exact_llr(Received(exact.y, exact.h, noise_var.float())))
