"""Closed forms of R(D, P) beside published values and each other; limits of Gaussian models."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from semcom.errors import InvalidOption, InvalidSource
from semcom.summary import figures
from semcom.theory.rdp_closed_forms import (
    GaussianGrid,
    binary_critical_perception,
    binary_rate,
    binary_zero_rate_distortion,
    gaussian_critical_perception,
    gaussian_distortion,
    gaussian_distortion_with_common_randomness,
    gaussian_divergence_rate,
    gaussian_rate,
    gaussian_zero_rate_distortion,
)
from semcom.theory.source_limit import (
    GaussianModel,
    at_perception,
    at_rate,
    fit,
    limit,
    mean_psnr_db,
    rate_at_capacity,
)

BINARY = {
    (0.1, 0.0): (0.274281, 0.206523, 0.132466, 0.062665, 0.010697),
    (0.1, 0.02): (0.269081, 0.191585, 0.115559, 0.047830, 0.003084),
    (0.1, 0.05): (0.269081, 0.190341, 0.098750, 0.028044, 0.0),
    (0.3, 0.0): (0.555744, 0.478826, 0.389495, 0.295573, 0.203814),
    (0.3, 0.02): (0.554863, 0.476122, 0.384332, 0.289510, 0.197762),
    (0.3, 0.05): (0.554863, 0.476122, 0.383897, 0.285781, 0.191258),
}
GAUSSIAN = {
    0.0: (1.163951, 0.830366, 0.413339, 0.223144, 0.087177, 0.032269),
    0.01: (1.151293, 0.804796, 0.377150, 0.189056, 0.060997, 0.015055),
    0.05: (1.151293, 0.804719, 0.350975, 0.155500, 0.034828, 0.002196),
    0.1: (1.151293, 0.804719, 0.346574, 0.136084, 0.019513, 0.0),
    0.3: (1.151293, 0.804719, 0.346574, 0.111588, 0.000013, 0.0),
}
MODEL = GaussianModel(np.array([2.0, 0.5, 0.01]), np.array([0.3, 0.3, 0.4]))


def test_tables() -> None:
    for (p, perception), row in BINARY.items():
        rates = [binary_rate(p, d, perception) for d in (0.01, 0.03, 0.06, 0.1, 0.15)]
        assert rates == pytest.approx(row, abs=6e-7)
    for perception, row in GAUSSIAN.items():
        rates = [gaussian_rate(1.0, d, perception) for d in (0.1, 0.2, 0.5, 0.8, 1.2, 1.5)]
        assert rates == pytest.approx(row, abs=6e-7)


def test_a_fair_coin_is_shown_true_at_no_cost() -> None:
    for d in (0.01, 0.1, 0.4):
        expected = math.log(2) + d * math.log(d) + (1 - d) * math.log(1 - d)
        assert binary_rate(0.5, d, 0.0) == pytest.approx(expected)


def test_rounding_at_the_border_leaves_no_negative_mass() -> None:
    p = 0.030960587523624235
    for perception, distortion in (
        (0.030960587523624232, 0.030960587523624242),
        (0.03096058752362423, 0.030960587523624246),
    ):
        assert binary_rate(p, distortion, perception) == pytest.approx(0, abs=1e-12)


def test_borders_are_where_the_forms_change() -> None:
    for perception in (0.0, 0.01, 0.05, 0.1, 0.3):
        zero = gaussian_zero_rate_distortion(1.0, perception)
        assert gaussian_rate(1.0, zero, perception) == pytest.approx(0, abs=1e-12)
        assert gaussian_rate(1.0, zero - 1e-3, perception) > 0
    assert gaussian_critical_perception(1.0, 0.5) == pytest.approx(0.085786, abs=1e-6)
    for d in (0.2, 0.5, 0.8):
        critical = gaussian_critical_perception(1.0, d)
        assert gaussian_rate(1.0, d, critical - 1e-4) > gaussian_rate(1.0, d, critical)
        assert gaussian_rate(1.0, d, critical) == pytest.approx(gaussian_rate(1.0, d))
    assert gaussian_critical_perception(1.0, 1.9) == pytest.approx((1 - math.sqrt(0.9)) ** 2)
    for d in (2.0, 3.0, math.inf):
        assert gaussian_critical_perception(1.0, d) == 0
        assert gaussian_rate(1.0, d, 0.0) == gaussian_rate(1.0, d, 0.1) == gaussian_rate(1.0, d) == 0
    critical = binary_critical_perception(0.1, 0.06)
    assert binary_rate(0.1, 0.06, critical) == pytest.approx(binary_rate(0.1, 0.06))
    assert binary_rate(0.1, 0.06, critical - 1e-3) > binary_rate(0.1, 0.06)
    assert binary_zero_rate_distortion(0.1, 0.02) == pytest.approx(0.164)


@pytest.mark.parametrize("perception", [0.0, 0.05, 0.3, math.inf])
def test_distortion_of_a_rate_is_its_inverse(perception: float) -> None:
    for rate in (0.05, 0.4, 1.5):
        d = gaussian_distortion(2.0, rate, perception)
        assert gaussian_rate(2.0, d, perception) == pytest.approx(rate, abs=1e-9)
    assert gaussian_distortion(1.0, 0.4, 0.0) <= 2 * gaussian_distortion(1.0, 0.4)


def test_divergence_lies_between_both_ends() -> None:
    for d in (0.3, 0.8):
        ends = gaussian_rate(1.0, d), gaussian_rate(1.0, d, 0.0)
        assert gaussian_divergence_rate(1.0, d, 0.0) == pytest.approx(ends[1])
        assert gaussian_divergence_rate(1.0, d, 50.0) == pytest.approx(ends[0])
        assert ends[0] < gaussian_divergence_rate(1.0, d, 0.01) < ends[1]


def test_common_randomness_helps_up_to_the_information_limit() -> None:
    rate_bits = 0.7
    distortions = [
        gaussian_distortion_with_common_randomness(1.0, rate_bits, c) for c in (0.0, 1.0, 5.0, math.inf)
    ]
    assert distortions == sorted(distortions, reverse=True)
    assert distortions[0] == pytest.approx(2 * 4**-rate_bits)  # the error of the sample of a decoded code
    assert distortions[-1] == pytest.approx(gaussian_distortion(1.0, rate_bits * math.log(2), 0.0))


def test_arguments_out_of_range() -> None:
    for call in (
        lambda: binary_rate(0.6, 0.1),
        lambda: binary_rate(0.1, -0.1),
        lambda: binary_critical_perception(0.1, 0.2),
        lambda: gaussian_rate(1.0, 0.0),
        lambda: gaussian_distortion(1.0, 0.5, -1.0),
        lambda: gaussian_divergence_rate(0.0, 0.5, 0.1),
        lambda: GaussianModel(np.array([1.0]), np.array([0.5])),
        lambda: GaussianModel(np.array([-1.0]), np.array([1.0])),
        lambda: at_rate(MODEL, -1.0),
        lambda: at_perception(MODEL, 1.0, -1.0),
        lambda: rate_at_capacity(0.0, 0.0),
        lambda: mean_psnr_db([], 0.0, 1.0),
    ):
        with pytest.raises(InvalidOption):
            call()
    with pytest.raises(InvalidSource):
        fit([np.zeros((4, 8, 3))])


def test_one_component_is_the_scalar_form() -> None:
    model = GaussianModel(np.array([2.0]), np.array([1.0]))
    for rate in (0.1, 0.5, 2.0):
        for perception in (0.0, 0.01, 0.3, 3.0):
            expected = gaussian_distortion(2.0, rate, perception)
            assert at_perception(model, rate, perception) == pytest.approx(expected, abs=1e-9)


def test_a_kind_that_no_component_is_of_changes_nothing() -> None:
    wider = GaussianModel(np.append(MODEL.variances, 9.0), np.append(MODEL.shares, 0.0))
    expected, found = at_rate(MODEL, 0.7), at_rate(wider, 0.7)
    np.testing.assert_allclose(found.mse, expected.mse, rtol=1e-9)
    np.testing.assert_allclose(found.w2_squared, expected.w2_squared, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("rate", [10.0, 20.0, 60.0])
def test_high_rates_are_those_of_the_scalar_form(rate: float) -> None:
    """As c goes to 1 the squared error goes to s^2 (1 - c^2) = s^2 exp(-2 R) at any nu."""
    found = at_rate(GaussianModel(np.array([2.0]), np.array([1.0])), rate, (0.0, 1.0, math.inf))
    np.testing.assert_allclose(found.mse, 2 * math.exp(-2 * rate), rtol=1e-6)


def test_components_beside_an_optimiser() -> None:
    """All splits of rate and deviation: none does better than common multipliers."""
    rate, perception, s = 0.4, 0.05, np.sqrt(MODEL.variances)

    def correlation(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z[:3]))

    def error(z: np.ndarray) -> float:
        u = np.exp(z[3:])
        return float(MODEL.shares @ (s**2 + u**2 - 2 * s * u * correlation(z)))

    bounds = (
        {"type": "ineq", "fun": lambda z: rate + 0.5 * MODEL.shares @ np.log1p(-(correlation(z) ** 2))},
        {"type": "ineq", "fun": lambda z: perception - MODEL.shares @ (s - np.exp(z[3:])) ** 2},
    )
    starts = np.random.default_rng(0).standard_normal((4, 6))
    options = {"ftol": 1e-13, "maxiter": 500}
    found = min(minimize(error, z, constraints=bounds, method="SLSQP", options=options).fun for z in starts)
    assert at_perception(MODEL, rate, perception) == pytest.approx(found, abs=1e-6)


def test_a_curve_runs_from_water_filling_to_perfect_realism() -> None:
    curve = at_rate(MODEL, 0.4)
    assert (np.diff(curve.mse) > 0).all()
    assert (np.diff(curve.w2_squared) < 0).all()
    assert curve.w2_squared[-1] == pytest.approx(0, abs=1e-15)
    level = 0.2688  # reverse water-filling: what is below gets no rate
    rates = MODEL.shares @ (0.5 * np.maximum(np.log(MODEL.variances / level), 0))
    again = at_rate(MODEL, float(rates), (0.0,))
    assert again.mse[0] == pytest.approx(MODEL.shares @ np.minimum(MODEL.variances, level))
    ends = at_rate(MODEL, 0.4, (0.0, math.inf))
    assert ends.mse[1] <= 2 * ends.mse[0]
    assert at_perception(MODEL, 0.4, float(curve.w2_squared[8])) == pytest.approx(curve.mse[8])


def test_a_link_carries_its_capacity() -> None:
    assert rate_at_capacity([0.0, 10.0], 0.5) == pytest.approx([0.5 * math.log(2), 0.5 * math.log(11)])
    white = GaussianModel(np.array([0.04]), np.array([1.0]))
    found = limit(white, 10.0, 0.5, (0.0,))
    assert found.mse[0] == pytest.approx(0.04 / 11)  # rho = 1/2: one real value per real symbol
    assert mean_psnr_db([white, white], 10.0, 0.5) == pytest.approx(float(found.psnr_db[0]))


def test_limits_are_drawn_under_measured_psnr_on_awgn() -> None:
    import pandas as pd
    from matplotlib.text import Text

    records = pd.DataFrame(
        [
            {"scheme": "a", "channel": channel, "rho": 0.25, "rho_used": 0.25, "snr_db": snr, "item": item}
            | {"seed": 0, "outage": 0, "psnr_db": 20 + snr + 0.1 * i, "swd": 9.0 - snr + i}
            for channel in ("awgn", "rayleigh:64")
            for snr in (0.0, 5.0)
            for i, item in enumerate("xy")
        ]
    )
    drawn = figures(records, models=[MODEL])
    labelled = {
        name
        for name, figure in drawn.items()
        if any("not of images" in t.get_text() for t in figure.findobj(Text))
    }
    assert labelled == {"psnr_db-awgn-1_4", "psnr_db-swd-awgn-1_4-5dB"}


def test_a_fitted_model_has_the_variance_of_the_pictures() -> None:
    rng = np.random.default_rng(0)
    picture = rng.random((21, 34, 3)) * np.array([1.0, 0.5, 0.2])
    inside = picture[:16, :32].reshape(-1, 3)
    for classes in (1, 4):
        model = fit([picture], classes)
        assert model.shares.sum() == pytest.approx(1)
        assert model.variances @ model.shares == pytest.approx(inside.var(0).mean())
    halves = np.concatenate([np.full((8, 64, 3), 0.5), rng.random((8, 64, 3))])
    known = limit(fit([halves], 2), 10.0, 0.5, (0.0,)).mse[0]
    assert known < 0.8 * limit(fit([halves], 1), 10.0, 0.5, (0.0,)).mse[0]


def test_the_grid_has_the_moments_it_says() -> None:
    """Sums are integrals over +-a and the terms of Euler and Maclaurin at the ends, to h^4."""
    grid, a, h = GaussianGrid.of(128), 4.5, 9 / 127
    density, mass = math.exp(-(a**2) / 2) / math.sqrt(2 * math.pi), math.erf(4.5 / math.sqrt(2))
    zeroth = mass + h * density - h**2 / 6 * a * density
    second = mass - 2 * a * density + h * a**2 * density + h**2 / 6 * (2 * a - a**3) * density
    assert grid.law.sum() == pytest.approx(1)
    assert grid.variance == pytest.approx(second / zeroth, abs=1e-8)
    assert grid.squared[0, -1] == pytest.approx(81)
    assert grid.excess_w2_squared == pytest.approx((9 / 127) ** 2 / 12)
    for letters, reach in ((1, 4.5), (8, 0.0)):
        with pytest.raises(InvalidOption, match="letters to"):
            GaussianGrid.of(letters, reach)
