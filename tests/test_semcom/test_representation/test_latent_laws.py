"""Laws of extrapolation and filtering, against given vectors, closed forms and random motion of known law."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from semcom.errors import InvalidOption
from semcom.representation.coding import (
    LOG2_SCALES,
    MOST_CHANGE,
    Decoder,
    Encoder,
    best_scale,
    chosen_integers,
    scale_reach,
)
from semcom.representation.kalman import (
    AlphaBeta,
    Motion,
    crossover_noise_var,
    extrapolation_error,
    kalman,
    measured_motion,
    prediction_gain,
    saved_bits,
    steady_gains,
)
from semcom.representation.straightness import StepStatistics

DIMS = 600


def moved(cosine: float, length: int = 60, dims: int = DIMS, seed: int = 0) -> np.ndarray:
    """Steps of variance 1 per dimension, of equal law, whose successive ones have a given cosine."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((length - 1, dims))
    for t in range(1, length - 1):
        v[t] = cosine * v[t - 1] + math.sqrt(1 - cosine**2) * v[t]
    return np.concatenate([np.zeros((1, dims)), v.cumsum(0)])


def tolerance(cosine: float, values: int) -> float:
    """Four standard errors of a mean square of values whose squares have correlations c^2, c^4, ..."""
    return 4 * math.sqrt(2 * (1 + cosine**2) / ((1 - cosine**2) * values))


def errors(cosine: float, noise_var: float) -> dict[str, float]:
    z = moved(cosine)
    y = z + math.sqrt(noise_var) * np.random.default_rng(1).standard_normal(z.shape)
    motion = Motion(1 - cosine**2, cosine, 1.0, 0.0)
    filtered = kalman(y, np.full(z.shape, noise_var), motion)
    truth = z[20:]
    return {
        "repeat": float(np.square(y[19:-1] - truth).mean()),
        "linear": float(np.square(2 * y[19:-1] - y[18:-2] - truth).mean()),
        "kalman": float(np.square(filtered.predicted[20:] - truth).mean()),
        "expected": float(filtered.predicted_var[20:].mean()),
    }


def test_the_error_of_extrapolation_is_the_formula_on_any_vectors() -> None:
    rng = np.random.default_rng(0)
    for dims in (1, 2, 64):
        a, b, c = rng.standard_normal((3, 100, dims)) * rng.lognormal(0, 1, (3, 100, 1))
        v, w = b - a, c - b
        speed, ratio = np.linalg.norm(v, axis=1), np.linalg.norm(w, axis=1) / np.linalg.norm(v, axis=1)
        cosine = (v * w).sum(1) / (np.linalg.norm(v, axis=1) * np.linalg.norm(w, axis=1))
        found = np.square(c - (2 * b - a)).sum(1)
        np.testing.assert_allclose(extrapolation_error(speed, ratio, cosine), found, rtol=1e-6, atol=1e-9)


def test_gains_of_the_specification() -> None:
    """c = 0.9: 7 dB, 0.95: 10 dB, 0.5: 0 dB; a factor of 4 in variance is one bit."""
    decibels = [10 * math.log10(prediction_gain(1.0, cosine)) for cosine in (0.9, 0.95, 0.5)]
    assert decibels == pytest.approx([6.99, 10.0, 0.0], abs=0.005)
    assert prediction_gain(1.0, 1.0) == math.inf
    assert saved_bits(4.0) == 1
    assert prediction_gain(2.0, 1.0) == 4  # the speed doubles: repetition errs by 2, extrapolation by 1


@pytest.mark.parametrize("cosine", [0.6, 0.8, 0.95])
def test_extrapolation_pays_above_the_crossover_of_the_law(cosine: float) -> None:
    """Errors of random motion equal 2 (1 - c) + 5 r and 1 + r; the measured crossover is within 1 dB."""
    law = crossover_noise_var(1.0, cosine, 1)
    ratios = []
    for decibels in (-2.0, -1.0, 0.0, 1.0, 2.0):
        noise_var = law * 10 ** (-decibels / 10)
        found = errors(cosine, noise_var)
        rel = tolerance(cosine, 40 * DIMS)
        assert found["repeat"] == pytest.approx(1 + noise_var, rel=rel)
        assert found["linear"] == pytest.approx(2 * (1 - cosine) + 5 * noise_var, rel=rel)
        ratios.append(math.log(found["repeat"] / found["linear"]))
    crossing = float(np.interp(0.0, ratios, (-2.0, -1.0, 0.0, 1.0, 2.0)))
    assert ratios[0] < 0 < ratios[-1]
    assert abs(crossing) < 1


def test_repetition_is_always_better_at_right_angles() -> None:
    assert crossover_noise_var(1.0, 0.4, 64) == 0
    assert crossover_noise_var(2.0, 0.75, 4) == pytest.approx(4 * 0.5 / 16)


@pytest.mark.parametrize("cosine", [0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("noise_var", [1e-4, 0.03, 0.3, 3.0, 30.0])
def test_the_filter_is_never_worse_than_the_better_of_both(cosine: float, noise_var: float) -> None:
    found = errors(cosine, noise_var)
    assert 10 * math.log10(found["kalman"] / min(found["repeat"], found["linear"])) < 0.1
    assert found["kalman"] == pytest.approx(found["expected"], rel=0.05)  # it knows its own error


@pytest.mark.parametrize("damping", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("noise_var", [0.01, 1.0, 40.0])
def test_steady_gains_solve_the_riccati_equation(damping: float, noise_var: float) -> None:
    """SciPy's solution of the discrete algebraic Riccati equation of the same model."""
    q = 0.3
    step = np.array([[1, damping], [0, damping]])
    noise = q * np.ones((2, 2))
    seen = np.array([[1.0, 0.0]])
    covariance = scipy.linalg.solve_discrete_are(step.T, seen.T, noise, np.array([[noise_var]]))
    gain = covariance[:, 0] / (covariance[0, 0] + noise_var)
    assert steady_gains(Motion(q, damping), noise_var) == pytest.approx(tuple(gain), abs=1e-6)


def test_the_filter_converges_to_its_steady_gains() -> None:
    motion, noise_var = Motion(0.2, 0.9, 1.0, 10.0), 0.5
    y = np.random.default_rng(0).standard_normal((200, 3))
    found = kalman(y, np.full(y.shape, noise_var), motion)
    alpha, _ = steady_gains(motion, noise_var)
    gains = (found.estimated[-1] - found.predicted[-1]) / (y[-1] - found.predicted[-1])
    np.testing.assert_allclose(gains, alpha, rtol=1e-6)


def test_the_filter_is_the_conditional_mean() -> None:
    """All of a short clip at once: linear least squares with the covariance of the model."""
    motion, length = Motion(0.4, 0.8, 1.3, 2.0), 6
    noise_var = np.array([0.3, math.inf, 0.5, 1.0, math.inf, math.inf])[:, None]
    y = np.random.default_rng(2).standard_normal((length, 1))
    # z = A (z_0, v_before, a_1, ..., a_5)
    a = np.zeros((length, length + 1))
    position, velocity = np.eye(length + 1)[0], np.eye(length + 1)[1]
    a[0] = position
    for t in range(1, length):
        velocity = motion.damping * velocity + np.eye(length + 1)[t + 1]
        position = position + velocity
        a[t] = position
    prior = np.diag([motion.position_var, motion.velocity_var, *[motion.acceleration_var] * (length - 1)])
    covariance = a @ prior @ a.T
    found = kalman(np.where(np.isfinite(noise_var), y, 1e9), noise_var, motion)
    for t in range(length):
        seen = [k for k in range(t + 1) if np.isfinite(noise_var[k, 0])]
        gram = covariance[np.ix_(seen, seen)] + np.diag(noise_var[seen, 0])
        weights = np.linalg.solve(gram, covariance[seen, t])
        assert found.estimated[t, 0] == pytest.approx(float(weights @ y[seen, 0]), abs=1e-9)
        expected = covariance[t, t] - weights @ covariance[seen, t]
        assert found.estimated_var[t, 0] == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9])
def test_motion_is_measured(cosine: float) -> None:
    """Standard errors of 60 x 600 values, correlated over some 1 / (1 - c) steps, are below 2 %."""
    motion = measured_motion(moved(cosine))
    assert motion.damping == pytest.approx(cosine, abs=0.02)
    assert motion.acceleration_var == pytest.approx(1 - cosine**2, rel=0.05)
    assert motion.velocity_var == pytest.approx(1, rel=0.06)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_still_and_short_clips_have_a_motion(length: int) -> None:
    still = measured_motion(np.ones((length, 3)))
    assert still.damping == 1
    assert still.position_var == 1
    assert steady_gains(Motion(0.0, 1.0), 0.1) == (0, 0)
    assert steady_gains(Motion(0.0, 1.0), 0.0) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [{"acceleration_var": -1.0}, {"acceleration_var": math.nan}, {"acceleration_var": 1, "damping": 2.0}],
)
def test_odd_models_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidOption, match=r"choose 0 to 1|at least 0"):
        Motion(**{name: float(value) for name, value in wrong.items()})
    with pytest.raises(InvalidOption, match="0 to 128"):
        AlphaBeta(129, 0, 0)


def test_three_sets_of_gains_are_three_predictors() -> None:
    z = np.rint(1000 * moved(0.8, 20, 5)).astype(np.int64)
    zero, repeat, linear = AlphaBeta(0, 0, 0), AlphaBeta(128, 0, 0), AlphaBeta(128, 128, 128)
    states = [gains.start(5) for gains in (zero, repeat, linear)]
    for t, frame in enumerate(z):
        predicted = [g.predicted(s) for g, s in zip((zero, repeat, linear), states, strict=True)]
        assert not predicted[0].any()
        if t > 0:
            assert (predicted[1] == z[t - 1]).all()
        if t > 1:
            assert (predicted[2] == 2 * z[t - 1] - z[t - 2]).all()
        states = [g.updated(s, frame, t == 0) for g, s in zip((zero, repeat, linear), states, strict=True)]


def test_differential_coding_gains_what_the_law_says() -> None:
    """Closed loop at a fine step on random motion: bits saved are log2(gain) / 2, within 0.05 bits."""
    z = np.rint(256 * 40 * moved(0.95, 40, dims := 1024))[:, None].astype(np.int64)
    bits: dict[str, float] = {}
    for name, gains in (("repeat", AlphaBeta(128, 0, 0)), ("linear", AlphaBeta(128, 128, 128))):
        coder, state, step, scale, total = Encoder(), gains.start(dims), 200, 12, 0
        for t, frame in enumerate(z[:, 0]):
            predicted = gains.predicted(state)
            values = (frame - predicted) / step
            if t > 2:
                for _ in range(2):
                    scale = best_scale(np.rint(values).astype(np.int64), scale)
                coder.integers(np.rint(values).astype(np.int64)[None], np.array([scale]))
                total += dims
            state = gains.updated(state, predicted + step * np.rint(values).astype(np.int64), t == 0)
        bits[name] = 8 * len(coder.stream()) / total
    gain = StepStatistics.of(torch.from_numpy(z[:, 0].astype(np.float64))[None]).gain
    assert gain == pytest.approx(prediction_gain(1.0, 0.95), rel=tolerance(0.95, 38 * dims))
    assert bits["repeat"] - bits["linear"] == pytest.approx(saved_bits(gain), abs=0.05)


# The coder of integers


def test_what_is_coded_is_decoded() -> None:
    rng = np.random.default_rng(0)
    coder = Encoder()
    sent = []
    last = np.array([4, 9, 15])
    for _ in range(30):
        flags = rng.random(3) < 0.6
        scales = np.clip(last + rng.integers(-MOST_CHANGE, MOST_CHANGE + 1, 3), 0, len(LOG2_SCALES) - 1)[
            flags
        ]
        integers = np.stack(
            [rng.integers(-reach, reach + 1, 10) for reach in map(scale_reach, scales.tolist())] or [[]]
        )
        integers = integers.reshape(len(scales), 10).astype(np.int64)
        coder.flags(flags)
        coder.scales(scales - last[flags])
        coder.integers(integers, scales)
        sent.append((flags, scales, integers))
        last[flags] = scales
    decoder, last = Decoder(coder.stream(), 30 * 3 * 12), np.array([4, 9, 15])
    for flags, scales, integers in sent:
        assert (decoder.flags(3) == flags).all()
        assert (decoder.scales(last[flags]) == scales).all()
        assert (decoder.integers(scales, 10) == integers).all()
        last[flags] = scales
    assert decoder.checksum(b"x") == coder.checksum(b"x") != coder.checksum(b"y")


@pytest.mark.parametrize("std", [0.2, 1.0, 6.0, 30.0])
def test_the_scale_is_that_of_least_bits(std: float) -> None:
    """Near the entropy of a rounded Gaussian: a logistic table of the best scale loses less than 0.1 bits."""
    values = np.random.default_rng(0).normal(0, std, 4000)
    integers = np.rint(values).astype(np.int64)
    scale = 10
    for _ in range(3):
        scale = best_scale(integers, scale)
    coder = Encoder()
    coder.integers(integers[None], np.array([scale]))
    _, counts = np.unique(integers, return_counts=True)
    entropy = -float((counts / 4000 * np.log2(counts / 4000)).sum())
    assert entropy - 0.01 < 8 * len(coder.stream()) / 4000 < entropy + 0.1
    chosen = chosen_integers(values, scale)
    assert (np.abs(chosen) <= np.abs(integers)).all()
    assert (np.abs(chosen - values) <= np.maximum(np.abs(values - integers) + 1, np.abs(values))).all()


@pytest.mark.parametrize("index", [1e-9, 1e-6, 1e-3, 1.0, 1e3])
def test_steady_gains_solve_the_equations_of_the_alpha_beta_filter(index: float) -> None:
    """Bar-Shalom, Li and Kirubarajan, 6.5: beta^2 / (1 - alpha) is the ratio q / r, at any ratio."""
    alpha, beta = steady_gains(Motion(index), 1.0)
    assert beta**2 / (1 - alpha) == pytest.approx(index, rel=1e-6)
