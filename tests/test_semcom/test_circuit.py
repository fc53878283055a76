"""The familiarity circuit against dense matrices, closed forms and general eigensolvers."""

import itertools

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from semcom.circuit.circuit import (
    OFFSETS,
    ROW_SUM,
    Circuit,
    Plasticity,
    initial_thresholds,
    respond,
    settle,
    train_epoch,
    untrained,
)
from semcom.circuit.filters import filters, grid, sparse_code
from semcom.circuit.measures import (
    equilibrium,
    geometry,
    inhibitory_transpose,
    late_to_peak,
    noise_to_spread,
    principal,
    rank_changes,
    slow_modes,
    sparseness,
)
from semcom.circuit.protocol import associate, association_trials, familiarise, noisy_versions
from semcom.errors import InvalidOption, InvalidSource, NotConverged


def dense(rows: int, columns: int, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks of W_ee and W_ie, and the positions of cells, cell by cell from their definitions."""
    places = list(itertools.product(range(rows), range(columns), range(channels)))
    excites, inhibits = np.zeros((2, len(places), len(places)))
    for (k, (i, j, c)), (m, (y, x, d)) in itertools.product(enumerate(places), repeat=2):
        near = abs(i - y) <= 2 and abs(j - x) <= 2
        excites[k, m] = near
        inhibits[k, m] = (i, j) == (y, x) or (near and c == d)
    return excites, inhibits, np.array(places)


def simulate(w_ee, w_ie, drive, steps, learn=None, theta=None, state=None):
    """Euler steps with dense matrices; `learn` is (rate, rate of thresholds, limit, floor, mask)."""
    n = len(drive)
    u_e, u_i = np.zeros((2, n)) if state is None else state
    trace, rates, power = [], [], np.zeros(n)
    for _ in range(steps):
        r_e, r_i = np.maximum(u_e, 0) ** 2, np.maximum(u_i, 0) ** 2
        trace.append(r_e.mean())
        rates.append(r_e)
        power += r_e**2 / steps
        recurrent, inhibition, onto_i = w_ee @ r_e, np.full(n, r_i.sum() / n), w_ie @ r_e
        if learn is not None:
            rate, rate_theta, limit, floor, mask = learn
            change = rate * np.outer(r_e * (r_e - theta) / theta, r_e)
            w_ee[:] = np.where(mask > 0, np.clip(w_ee + change, 0, limit), 0)
            theta[:] = np.maximum(theta + rate_theta * (r_e**2 - theta), floor)
        u_e, u_i = u_e + (-u_e + recurrent - inhibition + drive) / 20, u_i + (-u_i + onto_i) / 10
        u_e, u_i = np.maximum(u_e, 0), np.maximum(u_i, 0)
    return np.array(trace), np.array(rates), power, np.stack([u_e, u_i])


SHAPES = [(4, 3, 3), (1, 1, 1), (6, 1, 2), (3, 7, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_dynamics_equal_dense_matrices(shape: tuple[int, int, int]) -> None:
    """Population trace, late rates and states agree with matrix products to 1e-9 of their size."""
    excites, inhibits, _ = dense(*shape)
    n = len(excites)
    w_ee = 5 * excites / excites.sum(axis=1, keepdims=True)
    w_ie = 30 / (9 + shape[2] - 1) * inhibits
    drive = np.random.default_rng(0).gamma(0.5, 0.5, (3, n)) * (np.arange(n) % 3 != 1)
    circuit = untrained(*shape)
    assert np.abs(circuit.matrix(np.arange(n)) - w_ee).max() < 1e-12
    found = respond(circuit, drive, steps=120, late=30)
    for i in range(3):
        trace, rates, _, state = simulate(w_ee.copy(), w_ie, drive[i], 120)
        assert np.abs(found.trace[i] - trace).max() < 1e-9 * trace.max()
        assert np.abs(found.rates[i] - rates[-30:].mean(axis=0)).max() < 1e-9 * rates.max()
        assert np.abs(settle(circuit, drive[i], 120) - state).max() < 1e-9 * state.max()


def test_untrained_recurrence_is_a_box_filter() -> None:
    """Equal weights within reach: the mean over a 5x5 window and all channels, cut at the border."""
    circuit = untrained(8, 8, 4)
    rates = np.random.default_rng(1).random((8, 8, 4))
    padded = np.pad(rates.sum(axis=2), 2)
    # cells of the grid within the window of each target
    size = np.pad(np.ones((8, 8)), 2)
    windows, sizes = (
        np.lib.stride_tricks.sliding_window_view(a, (5, 5)).sum(axis=(2, 3)) for a in (padded, size)
    )
    expected = np.repeat((5 * windows / (4 * sizes)).reshape(-1, 1), 4, axis=1).reshape(-1)
    assert np.abs(circuit.matrix(np.arange(256)) @ rates.reshape(-1) - expected).max() < 1e-12


def test_euler_steps_follow_the_differential_equation() -> None:
    """Against scipy's integrator of the continuous equations; Euler's error at 1 ms is a few per cent."""
    excites, inhibits, _ = dense(3, 3, 2)
    w_ee, w_ie = 5 * excites / excites.sum(axis=1, keepdims=True), 3 * inhibits
    drive = np.random.default_rng(2).gamma(0.5, 0.3, 18)

    def slope(_, u):
        r = np.maximum(u, 0) ** 2
        return np.concatenate(
            [(-u[:18] + w_ee @ r[:18] - r[18:].mean() + drive) / 20, (-u[18:] + w_ie @ r[:18]) / 10]
        )

    solved = solve_ivp(slope, (0, 15), np.zeros(36), rtol=1e-10, atol=1e-12).y[
        :, -1
    ]  # before any cell is silent
    assert (solved > 0).all()
    found = settle(untrained(3, 3, 2), drive, 15).reshape(-1)
    assert np.abs(found - solved).max() < 0.05 * solved.max()


def test_fixed_point_of_one_cell() -> None:
    """One excitatory and one inhibitory cell: u = 5 u^2 - (30/9)^2 u^4 + I, and u_i = 30/9 u^2.

    From rest the state rises to the smallest root, which is stable since 10 u < 1.
    """
    circuit = untrained(1, 1, 1)
    roots = np.roots([-((30 / 9) ** 2), 0, 5, -1, 0.04])
    root = roots[(np.abs(roots.imag) < 1e-12) & (roots.real > 0)].real.min()
    assert 10 * root < 1
    u_e, u_i = settle(circuit, np.array([0.04]), 4000)
    assert u_e[0] == pytest.approx(root, rel=1e-9)
    assert u_i[0] == pytest.approx(30 / 9 * root**2, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_learning_equals_dense_matrices(shape: tuple[int, int, int]) -> None:
    """Weights and thresholds after three trials of two frames, clipping and normalisation included."""
    excites, inhibits, _ = dense(*shape)
    n, rng = len(excites), np.random.default_rng(3)
    limit, tau = 25 / (25 * shape[2]), 2e9 * 25 * shape[2] / 1600
    w_ee, w_ie = 5 * excites / excites.sum(axis=1, keepdims=True), 30 / (9 + shape[2] - 1) * inhibits
    trials, rule = rng.gamma(0.5, 0.5, (3, 2, n)), Plasticity(gain=30.0, tau_w_ms=2e9 / 100, tau_theta_ms=1e3)
    theta = simulate(w_ee.copy(), w_ie, trials[0, 0], 40)[2]
    circuit = untrained(*shape)
    assert np.abs(initial_thresholds(circuit, trials[0, :1], steps=40) - theta).max() < 1e-9 * theta.max()
    trained, found = train_epoch(circuit, theta, trials, frame_ms=40, rule=rule)
    floor = 1e-3 * theta.mean()
    theta = np.maximum(theta, floor)
    for i, trial in enumerate(trials):
        w_ee *= 5 / w_ee.sum(axis=1, keepdims=True)
        state = None
        for frame in trial:
            learn = (0.1 ** (i / 3) / tau * 100, 1e-3, limit, floor, excites)
            state = simulate(w_ee, w_ie, 30 * frame, 40, learn, theta, state)[3]
    w_ee *= 5 / w_ee.sum(axis=1, keepdims=True)
    matrix = trained.matrix(np.arange(n))
    assert np.abs(matrix - w_ee).max() < 1e-9 * w_ee.max()
    assert np.abs(found - theta).max() < 1e-9 * theta.max()
    if shape == SHAPES[0]:  # the smaller ones start above the limit
        assert np.abs(matrix - circuit.matrix(np.arange(n))).max() > 1e-2  # it has learned
    assert np.abs(matrix.sum(axis=1) - ROW_SUM).max() < 1e-12 * ROW_SUM


def test_weights_are_clipped_and_thresholds_keep_their_floor() -> None:
    """Far below threshold weights between active cells fall to 0; far above they rise."""
    circuit, rng = untrained(5, 5, 2), np.random.default_rng(4)
    drive = rng.gamma(0.3, 1.0, (1, 1, 50))
    drive[0, 0, :10] = 0
    theta = initial_thresholds(circuit, drive[0])
    low, _ = train_epoch(circuit, 1e6 + theta, drive, rule=Plasticity(tau_w_ms=1.0, tau_theta_ms=1e12))
    assert (low.weights >= 0).all()
    active = respond(circuit, 30 * drive[0]).rates[0] > 0
    assert 2 < active.sum() < 48
    matrix = low.matrix(np.arange(50))
    assert (matrix[np.ix_(active, active)] == 0).all()
    sums = matrix.sum(axis=1)
    assert np.abs(sums[sums > 0] - 5).max() < 1e-12 * 5
    rule = Plasticity(tau_w_ms=1.0, tau_theta_ms=1e12, floor=1.0)
    high, found = train_epoch(circuit, theta, drive, rule=rule)
    assert found.min() == pytest.approx(theta.mean(), rel=1e-12)
    before, after = circuit.matrix(np.arange(50)), high.matrix(np.arange(50))
    for k in np.flatnonzero(active):  # up to the last scaling
        reached, silent = before[k] > 0, (before[k] > 0) & ~active
        scale = before[k, silent][0] / after[k, silent][0]
        assert after[k, silent] * scale == pytest.approx(before[k, silent], rel=1e-9)
        learned = after[k, reached & active] * scale
        assert learned.min() >= 0
        assert learned.max() <= circuit.largest_weight * (1 + 1e-9)


def test_one_stimulus_is_answered_alike_alone_and_among_others() -> None:
    """States are reset: order and company of stimuli do not matter, and neither does a repetition."""
    circuit, drive = untrained(4, 4, 3), np.random.default_rng(5).gamma(0.5, 0.5, (3, 48))
    together, alone = respond(circuit, drive), respond(circuit, drive[2:])
    assert (together.rates[2] == alone.rates[0]).all()
    assert (respond(circuit, drive[::-1]).trace[::-1] == together.trace).all()


def test_seeds() -> None:
    """Noise of a response and the order of training follow their seeds."""
    circuit, drive = untrained(3, 3, 2), np.random.default_rng(6).gamma(0.5, 0.5, (2, 18))
    first, again, other = (respond(circuit, drive, noise=1.0, seed=s).rates for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    codes = np.random.default_rng(7).gamma(0.5, 0.5, (3, 2, 4, 18))
    a, b, c = (associate(circuit, codes, 1, frame_ms=10, seed=s)[1].circuit.weights for s in (0, 0, 1))
    assert (a == b).all()
    assert (a != c).any()


def test_signal_dependent_noise_has_the_stated_variance() -> None:
    """One step from rest: u_e = (I + sqrt(eta I) z) / 20 for drives far above their noise."""
    circuit, drive = untrained(8, 8, 8), np.full((1, 512), 400.0)
    state = respond(circuit, drive, steps=2, late=1, noise=0.25, seed=3).rates[0]
    inputs = 20 * np.sqrt(state)
    error = 5 * np.sqrt(2 / 511)  # five standard errors of a variance of 512 normal numbers
    assert inputs.var(ddof=1) == pytest.approx(0.25 * 400, rel=error)
    assert inputs.mean() == pytest.approx(400, abs=5 * np.sqrt(100 / 512))


def test_blank_pictures() -> None:
    """A constant or black picture has code 0, no cell fires, and the ratio of nothing to nothing is 1."""
    blank = sparse_code(np.stack([np.full((32, 32), 0.3), np.zeros((32, 32))]))
    assert (blank == 0).all()
    answer = respond(untrained(8, 8), blank, steps=20, late=5)
    assert (answer.rates == 0).all()
    assert (late_to_peak(answer.trace, 5) == 1).all()
    with pytest.raises(InvalidOption, match="no cell fired"):
        familiarise(untrained(8, 8), blank, 1, frame_ms=20)


def test_bad_stimuli_are_typed_errors() -> None:
    """Each message names what was given and what is expected."""
    circuit = untrained(8, 8)
    with pytest.raises(InvalidSource, match="4096"):
        respond(circuit, sparse_code(np.zeros((1, 35, 32))))
    with pytest.raises(InvalidSource, match="9x9"):
        sparse_code(np.zeros((8, 40)))
    with pytest.raises(InvalidSource, match="not finite"):
        sparse_code(np.full((32, 32), np.nan))
    with pytest.raises(InvalidSource, match="finite"):
        respond(circuit, np.full((1, 4096), np.nan))
    with pytest.raises(InvalidSource, match="at least 0"):
        respond(circuit, np.full((1, 4096), -1.0))
    with pytest.raises(InvalidSource, match="not finite"):
        noisy_versions(np.full((1, 9, 9), np.inf))
    with pytest.raises(InvalidSource, match="at least one"):
        initial_thresholds(circuit, np.zeros((0, 4096)))
    with pytest.raises(InvalidOption, match="at least 1"):
        untrained(0, 8)
    with pytest.raises(InvalidOption, match="expected"):
        Circuit(1, 1, 1, np.zeros((1, OFFSETS, 2)))
    with pytest.raises(InvalidOption, match="not negative"):
        Circuit(1, 1, 1, np.full((1, OFFSETS, 1), -1.0))
    with pytest.raises(InvalidOption, match="last 9 of 5 ms"):
        respond(circuit, np.zeros((1, 4096)), steps=5, late=9)
    with pytest.raises(InvalidOption, match="above 0"):
        Plasticity(floor=0.0)
    with pytest.raises(InvalidOption, match="thresholds"):
        train_epoch(circuit, np.ones(3), np.zeros((1, 1, 4096)))
    with pytest.raises(InvalidOption, match="levels"):
        noisy_versions(np.zeros((1, 9, 9)), (1.5,))
    with pytest.raises(InvalidOption, match="2 of each"):
        geometry(np.zeros((1, 3, 4)))
    with pytest.raises(InvalidOption, match="at least 2"):
        sparseness(np.ones((1, 4)))


def test_training_on_one_stimulus() -> None:
    """One picture alone: weights keep their sums, and its own late rate falls against its peak."""
    circuit, picture = untrained(4, 4, 8), np.random.default_rng(8).gamma(0.3, 0.6, (1, 128))
    states = familiarise(circuit, picture, 3, rule=Plasticity(gain=25.0, tau_w_ms=2e7))
    sums = states[-1].circuit.matrix(np.arange(128)).sum(axis=1)
    assert np.abs(sums - 5).max() < 1e-11
    before, after = (late_to_peak(respond(s.circuit, picture).trace)[0] for s in (states[0], states[-1]))
    assert after < 0.95 * before


def test_filters_are_a_bank_of_unit_norm_without_mean() -> None:
    """64 distinct filters; a code equals convolution by the definition."""
    bank = filters()
    assert bank.shape == (64, 9, 9)
    assert np.abs(np.linalg.norm(bank.reshape(64, -1), axis=1) - 1).max() < 1e-12
    assert np.abs(bank.mean(axis=(1, 2))).max() < 1e-12
    overlap = np.abs(bank.reshape(64, -1) @ bank.reshape(64, -1).T - np.eye(64))
    assert overlap.max() < 0.99
    picture = np.random.default_rng(9).random((14, 18))
    code = sparse_code(picture, 4).reshape(*grid(14, 18, 4), 64)
    assert code.shape[:2] == (2, 3)
    for i, j, k in ((0, 0, 0), (1, 2, 5), (1, 0, 63)):
        window = picture[4 * i : 4 * i + 9, 4 * j : 4 * j + 9]
        assert code[i, j, k] == pytest.approx(abs((window * bank[k]).sum()), abs=1e-12)


def test_noise_replaces_the_same_pixels_in_all_pictures() -> None:
    """Their number is exact, their values agree, and nothing else changes."""
    pictures = 2 + np.random.default_rng(10).random((3, 16, 16))  # outside of the range of the noise
    noisy = noisy_versions(pictures, (0.0, 0.1, 0.5), 4, seed=1)
    replaced = noisy <= 1
    assert (noisy[:, 0] == pictures[:, None]).all()
    assert (replaced.sum(axis=(3, 4)) == np.array([0, 26, 128])[:, None]).all()
    assert (replaced == replaced[:1]).all()
    assert (noisy[0][replaced[0]] == noisy[2][replaced[2]]).all()
    assert (replaced[0, 1, 0] != replaced[0, 1, 1]).any()


def test_trials_pair_noisy_with_clean() -> None:
    """31 trials per picture, the first ones clean and clean; every second frame is the clean picture."""
    codes = np.arange(5 * 4 * 10).reshape(5, 4, 10, 1).astype(float)
    trials = association_trials(codes, 0)
    assert trials.shape == (155, 2, 1)
    assert trials[:5, :, 0].tolist() == [[40.0 * i, 40.0 * i] for i in range(5)]
    assert (trials[5:, 1] == trials[5:, 0] // 40 * 40).all()
    assert sorted(trials[5:, 0, 0]) == sorted(codes[:, 1:].reshape(-1))


def test_measures_in_closed_form() -> None:
    """Sparseness of k of n equal answers is (1 - k/n) / (1 - 1/n); PCA keeps distances; ranks are ordered."""
    rates = (np.arange(8)[:, None] < np.array([1, 2, 4, 8, 0])) * 3.0
    assert np.allclose(sparseness(rates), [1, 6 / 7, 4 / 7, 0, np.nan], atol=1e-12, equal_nan=True)
    states = np.random.default_rng(11).normal(size=(12, 40))
    axes, shares = principal(states)
    assert axes.shape == (40, 11)
    assert np.abs(axes.T @ axes - np.eye(11)).max() < 1e-9
    distances = [np.linalg.norm(s[:, None] - s, axis=2) for s in (states, states @ axes)]
    assert np.abs(distances[0] - distances[1]).max() < 1e-9
    variances = np.linalg.svd(states - states.mean(axis=0), compute_uv=False)[:11] ** 2
    assert np.abs(shares - variances / variances.sum()).max() < 1e-12
    assert principal(np.ones((3, 4)))[0].shape == (4, 0)
    assert rank_changes(np.array([[1.0, 3.0, 0.0]]), np.array([[9.0, 1.0, 0.0]])).tolist() == [0.5, 0, 0]
    a = np.array([[[1.0, 0], [1.0, 1.0]], [[-1.0, 0], [-1.0, 1.0]]])
    found = geometry(a)
    assert found.distance == pytest.approx(np.full((2, 1), 1 / 5**0.5))
    assert found.alignment == pytest.approx(np.full((2, 1), 2**-0.5))


def test_slow_modes_are_left_eigenvectors_of_the_whole_jacobian() -> None:
    """Against the eigenvalues and eigenvectors of the dense Jacobian of all 128 cells."""
    circuit = familiarise(
        untrained(4, 4, 4),
        np.random.default_rng(12).gamma(0.3, 0.6, (3, 64)),
        2,
        rule=Plasticity(tau_w_ms=2e7),
    )[-1].circuit
    drive = np.random.default_rng(13).gamma(0.3, 0.6, 64)
    state = equilibrium(circuit, drive, 2000)
    assert 0 < (state[0] > 0).sum() < 64
    _, inhibits, _ = dense(4, 4, 4)
    w = np.block(
        [
            [circuit.matrix(np.arange(64)), np.full((64, 64), -1 / 64)],
            [30 / 12 * inhibits, np.zeros((64, 64))],
        ]
    )
    tau = np.repeat([20.0, 10.0], 64)
    jacobian = (2 * state.reshape(-1) / tau)[:, None] * w - np.diag(1 / tau)
    values = np.linalg.eigvals(jacobian)
    modes = slow_modes(circuit, state, 20)
    other = values[(np.abs(values + 1 / 20) > 1e-6) & (np.abs(values + 1 / 10) > 1e-6)]
    expected = np.sort(other.real)[::-1][: len(modes.growth)]
    assert np.abs(modes.growth - expected).max() < 1e-7
    x = np.random.default_rng(14).normal(size=64)
    assert inhibitory_transpose(circuit, x) == pytest.approx(30 / 12 * inhibits.T @ x)
    values, vectors = np.linalg.eig(jacobian.T)
    for growth, left in zip(modes.growth, modes.left, strict=True):
        pair = vectors[:64, np.argsort(np.abs(values.real - growth))[:2]]
        span = np.concatenate([pair.real, pair.imag], axis=1)
        residual = left - span @ np.linalg.lstsq(span, left, rcond=None)[0]
        assert np.abs(residual).max() < 1e-6
    assert (modes.growth[:-1] >= modes.growth[1:]).all()
    ratio = noise_to_spread(modes, np.random.default_rng(15).random((3, 3, 64)), (0.0, 0.1, 0.5), 1)
    assert ratio.shape == (2, len(modes.growth))


def test_a_circuit_that_still_moves_has_no_equilibrium() -> None:
    """A few ms after the stimulus began."""
    with pytest.raises(NotConverged, match="still moves"):
        equilibrium(untrained(2, 2, 2), np.full(8, 0.5), 3)
