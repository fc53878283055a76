"""Measures of the responses of a circuit: suppression, sparseness, geometry of noisy states, linear modes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from semcom.circuit.circuit import LATE_MS, TAU_E_MS, TAU_I_MS, Circuit, settle
from semcom.errors import InvalidOption, NotConverged

COMPONENTS = 200
"""Principal components in which states are compared."""


def late_to_peak(
    trace: Float[np.ndarray, "*batch steps"], late: int = LATE_MS
) -> Float[np.ndarray, "*batch"]:
    """Ratio of the late population rate to its peak.

        mean of the rate over the last ms / largest rate

    Args:
        trace: Mean rate over cells in every ms, at least 0.
        late: Number of the last ms, 1..steps.

    Returns:
        Ratios, 0..1; 1 for a population that never fires, which is not suppressed.

    Raises:
        InvalidOption: `late` is outside of 1..steps.

    Example:
        >>> float(late_to_peak(np.array([0.0, 4.0, 2.0, 1.0, 1.0]), 2))
        0.25
    """
    if not 1 <= late <= trace.shape[-1]:
        raise InvalidOption(f"the last {late} of {trace.shape[-1]} ms: choose 1..{trace.shape[-1]}")
    peak = trace.max(axis=-1)
    return np.divide(trace[..., -late:].mean(axis=-1), peak, out=np.ones(peak.shape), where=peak > 0)


def sparseness(rates: Float[np.ndarray, "stimuli cells"]) -> Float[np.ndarray, " cells"]:
    """Sparseness of each cell over stimuli, by Vinje and Gallant.

        S = (1 - (sum r / n)^2 / (sum r^2 / n)) / (1 - 1/n)

    Args:
        rates: Rates, at least 0; two stimuli or more.

    Returns:
        0 for equal rates to 1 for a cell that answers one stimulus; NaN for a cell that answers none.

    Raises:
        InvalidOption: There are fewer than two stimuli.

    Example:
        >>> sparseness(np.array([[1.0, 3.0], [1.0, 0.0], [1.0, 0.0]])).round(9)
        array([0., 1.])
    """
    n = len(rates)
    if n < 2:
        raise InvalidOption(f"sparseness over {n} stimuli: give at least 2")
    mean, power = rates.mean(axis=0), (rates**2).mean(axis=0)
    share = np.divide(mean**2, power, out=np.full(mean.shape, np.nan), where=power > 0)
    return (1 - share) / (1 - 1 / n)


def rank_changes(
    before: Float[np.ndarray, "stimuli cells"], after: Float[np.ndarray, "stimuli cells"]
) -> Float[np.ndarray, " ranks"]:
    """Relative change of the strongest, second strongest, ... response to a stimulus, mean over stimuli.

        (after - before) / (after + before), rates of each in falling order

    Args:
        before: Rates before training, at least 0.
        after: Rates after training, at least 0.

    Returns:
        Change by rank, -1..1; 0 where both rates are 0.
    """
    old, new = (-np.sort(-rates, axis=1) for rates in (before, after))
    total = old + new
    return np.divide(new - old, total, out=np.zeros(total.shape), where=total > 0).mean(axis=0)


def principal(
    states: Float[np.ndarray, "samples cells"], components: int = COMPONENTS
) -> tuple[Float[np.ndarray, "cells components"], Float[np.ndarray, " components"]]:
    """Principal axes of states.

    Args:
        states: Samples, two or more.
        components: Largest number of axes.

    Returns:
        Orthonormal axes with variance, strongest first, and the share of the variance along each; no axes if
        all samples are equal.
    """
    centred = states - states.mean(axis=0)
    power, left = np.linalg.eigh(centred @ centred.T)  # few samples of many cells
    order = np.argsort(power)[::-1][: min(components, len(states) - 1)]
    order = order[power[order] > max(power.max(), 0.0) * 1e-12]
    scale = np.sqrt(power[order])
    return (centred.T @ left[:, order]) / scale, power[order] / power.sum() if len(order) else power[:0]


@dataclass(frozen=True, eq=False, slots=True)
class Geometry:
    """Where noisy states lie beside the clean ones, for each picture and noise level but the clean one.

    Args:
        distance: Relative distance, |d_i(level) - d_i(0)| / mean over j != i of |d_i(level) - d_j(0)|.
        alignment: Cosine between d_i(level) and d_i(0).
    """

    distance: Float[np.ndarray, "pictures levels"]
    alignment: Float[np.ndarray, "pictures levels"]


def geometry(states: Float[np.ndarray, "pictures levels components"]) -> Geometry:
    """Relative distance and alignment of states, centred on the mean clean state.

    Args:
        states: States, averaged over noise patterns, of two pictures or more; the first level is clean.

    Returns:
        Both measures. A distance is infinite where a noisy state equals the clean states of all others, an
        alignment NaN where a state equals the mean.

    Raises:
        InvalidOption: There is only one picture, which has no other to be compared with, or no noisy level.

    Example:
        >>> geometry(np.array([[[1.0, 0.0], [0.5, 0.0]], [[-1.0, 0.0], [-0.5, 0.0]]])).distance.round(3)
        array([[0.333],
               [0.333]])
    """
    count, levels = states.shape[:2]
    if count < 2 or levels < 2:
        raise InvalidOption(f"{count} pictures at {levels} noise levels: relative distances need 2 of each")
    centred = states - states[:, 0].mean(axis=0)
    clean = centred[:, 0]
    apart = np.linalg.norm(centred[:, 1:, None] - clean, axis=-1)  # [i, level, j]
    own = np.eye(count, dtype=bool)[:, None, :]
    within = (apart * own).sum(axis=2)
    between = (apart * ~own).sum(axis=2) / (count - 1)
    lengths = np.linalg.norm(centred, axis=-1)
    dots = np.einsum("ilc,ic->il", centred[:, 1:], clean)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Geometry(within / between, dots / (lengths[:, 1:] * lengths[:, :1]))


@dataclass(frozen=True, eq=False, slots=True)
class Modes:
    """Slowest modes of the circuit, linearised at an equilibrium, by left eigenvectors of its Jacobian.

    Args:
        growth: Real parts of the eigenvalues in 1/ms, falling.
        left: Left eigenvectors on excitatory cells, unit norm; of a complex pair the real and the imaginary
            part, which span the same space.
    """

    growth: Float[np.ndarray, " modes"]
    left: Float[np.ndarray, "modes cells"]


def equilibrium(
    circuit: Circuit, drive: Float[np.ndarray, " cells"], steps: int = 1000
) -> Float[np.ndarray, "2 cells"]:
    """States u of excitatory and inhibitory cells long after a stimulus began.

    Args:
        circuit: The circuit.
        drive: Feed-forward input, at least 0.
        steps: Number of ms.

    Returns:
        u_e and u_i.

    Raises:
        NotConverged: A state still changes by more than 1e-3 of the largest one per ms; `solution` is the
            last state.
    """
    state = settle(circuit, drive, steps)
    further = settle(circuit, drive, 1, state)
    if np.abs(further - state).max() > 1e-3 * max(state.max(), 1e-300):
        raise NotConverged(f"the circuit still moves after {steps} ms; take more", state)
    return state


def slow_modes(circuit: Circuit, state: Float[np.ndarray, "2 cells"], count: int = COMPONENTS) -> Modes:
    """Slowest modes of rates r = u^2 near an equilibrium.

    Rates obey d(delta r)/dt = J delta r with

        J = diag(phi') [[W_ee, -W_ei], [W_ie, 0]] - diag(1/tau),   phi' = 2 u / tau

    W_ei has equal entries, so that excitatory cells see inhibitory rates only through their sum, and every
    left eigenvector with an eigenvalue other than -1/tau_i has equal entries on all inhibitory cells. Rows of
    silent cells are 0 but for -1/tau. The eigenvalue problem is therefore solved on active excitatory cells
    and that sum; entries on silent cells follow. Modes that decay at rate 1/tau exactly are left out.

    Args:
        circuit: The circuit.
        state: Equilibrium u_e and u_i.
        count: Largest number of modes.

    Returns:
        Modes with the largest real parts.
    """
    u_e, u_i = state
    active = np.flatnonzero(u_e > 0)
    phi_e, phi_i = 2 * u_e[active] / TAU_E_MS, 2 * u_i / TAU_I_MS
    onto = phi_e[:, None] * circuit.matrix(active)  # active x cells
    summed = inhibitory_transpose(circuit, phi_i)  # cells: 1^T diag(phi_i) W_ie
    reduced = np.zeros((len(active) + 1, len(active) + 1))
    reduced[:-1, :-1] = onto[:, active] - np.eye(len(active)) / TAU_E_MS
    reduced[:-1, -1] = -phi_e / circuit.cells
    reduced[-1, :-1] = summed[active]
    reduced[-1, -1] = -1 / TAU_I_MS
    values, vectors = np.linalg.eig(reduced.T)
    left: Complex[np.ndarray, "modes cells"] = vectors.T[:, :-1] @ onto + np.outer(vectors[-1], summed)
    gaps = values + 1 / TAU_E_MS
    kept = np.abs(gaps) > 1e-9
    full = left[kept] / gaps[kept, None]
    order = np.argsort(-values[kept].real)[:count]
    upper = values[kept][order].imag >= 0
    real = np.where(upper[:, None], full[order].real, full[order].imag)
    norms = np.linalg.norm(real, axis=1, keepdims=True)
    return Modes(values[kept].real[order], np.divide(real, norms, out=np.zeros(real.shape), where=norms > 0))


def inhibitory_transpose(
    circuit: Circuit, weights: Float[np.ndarray, " cells"]
) -> Float[np.ndarray, " cells"]:
    """Transpose of W_ie, the synapses onto inhibitory cells, times one number per inhibitory cell.

    Both the sum over channels and the sum over neighbours are symmetric, so that W_ie is its own transpose.

    Args:
        circuit: The circuit.
        weights: One number per inhibitory cell.

    Returns:
        One number per excitatory cell.
    """
    by_position = weights.reshape(-1, circuit.channels)
    padded = np.concatenate([by_position, np.zeros((1, circuit.channels))])  # row -1: outside
    near = padded[circuit.targets].sum(axis=1)
    total = by_position.sum(axis=1, keepdims=True) + near - by_position
    return circuit.inhibitory_weight * total.reshape(-1)


def noise_to_spread(
    modes: Modes, states: Float[np.ndarray, "pictures levels cells"], levels: tuple[float, ...], own: int
) -> Float[np.ndarray, "noisy modes"]:
    """Displacement of a picture's state by 10 % of noise over the spread between pictures, on its slow modes.

    Args:
        modes: Modes at the equilibrium of picture `own`.
        states: Rates averaged over noise patterns; the first level is clean.
        levels: Shares of replaced pixels, of which the first is 0.
        own: Number of the picture.

    Returns:
        For each noisy level and m = 1, 2, ...: the ratio after projection on the slowest m modes.
    """
    projected = states @ modes.left.T
    moved = np.cumsum((projected[own, 1:] - projected[own, 0]) ** 2, axis=-1) ** 0.5
    others = np.delete(projected[:, 0], own, axis=0)
    spread = (np.cumsum((others - projected[own, 0]) ** 2, axis=-1) ** 0.5).mean(axis=0)
    return moved / (np.array(levels[1:])[:, None] / 0.1) / spread
