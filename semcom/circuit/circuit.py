"""Excitatory-inhibitory circuit of an early visual area, with BCM plasticity of its recurrent synapses."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from semcom.errors import InvalidOption, InvalidSource

RADIUS = 2
"""Reach of recurrent synapses in positions of the grid, in both directions."""

OFFSETS = (2 * RADIUS + 1) ** 2
"""Positions in the neighbourhood of a cell."""

ROW_SUM = 5.0
"""Sum of the excitatory weights onto each cell, restored before every stimulus."""

WEIGHT_LIMIT = 25.0
"""Largest excitatory weight, in units of 1 / (number of cells in a whole neighbourhood)."""

INHIBITION = 30.0
"""Sum of the weights onto an inhibitory cell, up to the authors' normalisation."""

TAU_E_MS, TAU_I_MS = 20.0, 10.0
"""Time constants of excitatory and inhibitory cells in ms."""

TAU_W_MS = 2e9
"""Time constant of the weights in ms for 1600 cells in a neighbourhood."""

TAU_THETA_MS = 1e7
"""Time constant of the BCM thresholds in ms."""

SIDE_BY_SIDE = 16
"""Stimuli that are answered at once."""

RESPONSE_MS, LATE_MS = 150, 50
"""Duration of a test stimulus, and of its end over which the response is averaged, in ms."""


@dataclass(frozen=True, eq=False)
class Circuit:
    """Excitatory and inhibitory cells on a grid, with recurrent excitation between neighbours.

    Every position of the grid has one excitatory and one inhibitory cell per channel. Cell (row, column,
    channel) has number (row * columns + column) * channels + channel. With r = max(u, 0)^2, in steps of 1 ms:

        20 u_e' = -u_e + W_ee r_e - mean(r_i) + gain * drive
        10 u_i' = -u_i + 30 / (9 + channels - 1) * (sum of r_e of all channels at the position
                                                    + sum of r_e of the own channel at the 24 others around)

    Args:
        rows: Rows of the grid, at least 1.
        columns: Columns of the grid, at least 1.
        channels: Channels at each position, at least 1.
        weights: Excitatory weights W_ee >= 0 by presynaptic cell, float64 [cells, 25, channels]: the weight
            from a cell to `channel` at the position that lies `offset` away; 0 outside of the grid.

    Raises:
        InvalidOption: The grid is empty, or the weights have another shape, are negative or not finite.

    Reference:
        Wang, Niu, Liang and Lee, Manifold transform by recurrent cortical circuit enhances robust encoding of
        familiar stimuli, arXiv 2408.10873. Inhibitory synapses reach 2 positions but are normalised by the
        number within 1, as in the authors' code.
    """

    rows: int
    columns: int
    channels: int
    weights: Float[np.ndarray, "cells offsets channels"]

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.channels) < 1:
            raise InvalidOption(
                f"circuit of {self.rows}x{self.columns} positions and {self.channels} channels: "
                "each must be at least 1"
            )
        if self.weights.shape != (self.cells, OFFSETS, self.channels):
            raise InvalidOption(
                f"weights of shape {self.weights.shape}: expected {(self.cells, OFFSETS, self.channels)}"
            )
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all()):
            raise InvalidOption("weights of a circuit must be finite and not negative")

    @property
    def cells(self) -> int:
        """Number of excitatory cells, which is that of inhibitory cells too."""
        return self.rows * self.columns * self.channels

    @property
    def targets(self) -> Int[np.ndarray, "positions offsets"]:
        """Position that each offset leads to from each position; -1 outside of the grid."""
        return neighbours(self.rows, self.columns)

    @property
    def inhibitory_weight(self) -> float:
        """Weight of each synapse from an excitatory to an inhibitory cell."""
        return INHIBITION / (9 + self.channels - 1)

    @property
    def largest_weight(self) -> float:
        """Weight to which learning clips."""
        return WEIGHT_LIMIT / (OFFSETS * self.channels)

    def matrix(self, post: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n cells"]:
        """Excitatory weights as a dense matrix, W_ee[k, l] from cell l to cell k.

        Args:
            post: Numbers of the postsynaptic cells, one row each.

        Returns:
            Matrix of float64.
        """
        found = np.zeros((len(post), self.cells))
        position, channel = np.divmod(post, self.channels)
        for offset in range(OFFSETS):
            sources = np.full(self.rows * self.columns, -1)
            inside = np.flatnonzero(self.targets[:, offset] >= 0)
            sources[self.targets[inside, offset]] = inside
            for row, (source, k) in enumerate(zip(sources[position], channel, strict=True)):
                if source >= 0:
                    of_source = slice(source * self.channels, (source + 1) * self.channels)
                    found[row, of_source] = self.weights[of_source, offset, k]
        return found


@dataclass(frozen=True, eq=False, slots=True)
class Response:
    """Answer of a circuit to stimuli, each shown from rest.

    Args:
        trace: Mean rate over excitatory cells in every ms, [stimuli, steps].
        rates: Rate of each excitatory cell, averaged over the last ms, [stimuli, cells].
    """

    trace: Float[np.ndarray, "stimuli steps"]
    rates: Float[np.ndarray, "stimuli cells"]


@dataclass(frozen=True, slots=True)
class Plasticity:
    """BCM rule for the excitatory weights, applied every ms to synapses between active cells.

        dW_kl/dt     = decay^(n / trials) / tau_w  r_k (r_k - theta_k) / theta_k r_l
        dtheta_k/dt  = (r_k^2 - theta_k) / tau_theta

    Weights are clipped to 0..25 / N after every ms, N = 25 channels being the cells of a neighbourhood, and
    scaled before trial n = 0, 1, ... so that those onto each cell sum to 5.

    Args:
        gain: Factor of the drive during training, above 0.
        tau_w_ms: Time constant of the weights in ms at N = 1600, above 0. Weights are of order 1 / N, so that
            the time constant is scaled by N / 1600.
        tau_theta_ms: Time constant of the thresholds in ms, above 0.
        decay: Factor by which the learning rate of the weights falls within an epoch, in (0, 1].
        floor: Least threshold as a share of the mean threshold before training, above 0: a cell that never
            fired would otherwise have threshold 0.

    Raises:
        InvalidOption: A parameter is out of range.
    """

    gain: float = 30.0
    tau_w_ms: float = TAU_W_MS
    tau_theta_ms: float = TAU_THETA_MS
    decay: float = 0.1
    floor: float = 1e-3

    def __post_init__(self) -> None:
        parts = (self.gain, self.tau_w_ms, self.tau_theta_ms, self.decay, self.floor)
        if not (all(0 < part < np.inf for part in parts) and self.decay <= 1):
            raise InvalidOption(f"{self}: all must be finite and above 0, decay at most 1")


PUBLISHED = Plasticity()
"""Learning rule with the constants of the paper."""


@cache
def neighbours(rows: int, columns: int) -> Int[np.ndarray, "positions offsets"]:
    """Position that each of the 25 offsets leads to on a grid, row by row.

    Args:
        rows: Rows of the grid.
        columns: Columns of the grid.

    Returns:
        Number of the position, row * columns + column; -1 outside of the grid. Read-only.

    Example:
        >>> neighbours(1, 2)[:, 11:14].tolist()
        [[-1, 0, 1], [0, 1, -1]]
    """
    reach = np.arange(-RADIUS, RADIUS + 1)
    row = np.arange(rows)[:, None, None, None] + reach[:, None]
    column = np.arange(columns)[:, None, None] + reach
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    found = np.where(inside, row * columns + column, -1).reshape(rows * columns, OFFSETS).astype(np.int64)
    found.flags.writeable = False
    return found


def untrained(rows: int, columns: int, channels: int = 64) -> Circuit:
    """A circuit before training: equal weights from all cells of the neighbourhood, which sum to 5.

    Args:
        rows: Rows of the grid, at least 1.
        columns: Columns of the grid, at least 1.
        channels: Channels at each position, at least 1. With 8 the contraction of noise vanishes.

    Returns:
        The circuit.

    Raises:
        InvalidOption: A number is below 1.

    Example:
        >>> untrained(3, 3, 2).matrix(np.arange(2)).sum(axis=1)
        array([5., 5.])
    """
    if min(rows, columns, channels) < 1:
        raise InvalidOption(
            f"circuit of {rows}x{columns} positions and {channels} channels: each must be at least 1"
        )
    targets = neighbours(rows, columns)
    onto = np.bincount(targets[targets >= 0], minlength=rows * columns) * channels
    inside = np.where(targets >= 0, ROW_SUM / onto[targets], 0.0)
    weights = np.broadcast_to(inside[:, None, :, None], (rows * columns, channels, OFFSETS, channels))
    shape = (rows * columns * channels, OFFSETS, channels)
    return Circuit(rows, columns, channels, np.array(weights).reshape(shape))


def respond(
    circuit: Circuit,
    drive: Float[np.ndarray, "stimuli cells"],
    *,
    steps: int = RESPONSE_MS,
    late: int = LATE_MS,
    gain: float = 1.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Response:
    """Show stimuli to a circuit, each from rest, without learning.

    Args:
        circuit: The circuit.
        drive: Feed-forward input of each excitatory cell, finite and at least 0.
        steps: Duration of each stimulus in ms, at least 1.
        late: Number of the last ms over which rates are averaged, 1..steps.
        gain: Factor of the drive, at least 0.
        noise: Factor eta of signal-dependent noise of variance eta * gain * drive in each ms; 0 for none.
        seed: Seed of the noise.

    Returns:
        Population rate over time, and rates at the end.

    Raises:
        InvalidOption: A parameter is out of range.
        InvalidSource: The drive has another number of cells, or values that are negative or not finite.
    """
    if not 1 <= late <= steps:
        raise InvalidOption(f"average over the last {late} of {steps} ms: choose 1..{steps}")
    if not (0 <= gain < np.inf and 0 <= noise < np.inf):
        raise InvalidOption(f"gain {gain} and noise {noise}: both must be finite and at least 0")
    drive = gain * checked(drive, circuit)
    trace, rates = np.zeros((len(drive), steps)), np.zeros(drive.shape)
    for first in range(0, len(drive), SIDE_BY_SIDE):
        part = slice(first, min(first + SIDE_BY_SIDE, len(drive)))
        normal = None
        if noise > 0:
            streams = [np.random.default_rng([seed, i]) for i in range(part.start, part.stop)]
            normal = np.stack([rng.standard_normal((steps, circuit.cells)) for rng in streams], axis=1)
        _run(
            *(circuit, circuit.weights, drive[part], np.zeros((2, *drive[part].shape)), trace[part]),
            *(rates[part], np.zeros(circuit.cells), np.ones(circuit.cells)),
            late=late,
            noise=None if normal is None else (np.sqrt(noise * drive[part]), normal),
        )
    return Response(trace, rates)


def settle(
    circuit: Circuit,
    drive: Float[np.ndarray, " cells"],
    steps: int,
    state: Float[np.ndarray, "2 cells"] | None = None,
) -> Float[np.ndarray, "2 cells"]:
    """States of all cells after a stimulus of some ms, without learning.

    Args:
        circuit: The circuit.
        drive: Feed-forward input of each excitatory cell, finite and at least 0.
        steps: Number of ms, at least 1.
        state: States u_e and u_i at the beginning, at least 0; None for rest.

    Returns:
        u_e and u_i.

    Raises:
        InvalidSource: The drive does not suit the circuit.
    """
    found = np.zeros((2, circuit.cells)) if state is None else state.copy()
    wide = found[:, None]  # a view
    unused = np.zeros((1, circuit.cells)), np.zeros(circuit.cells), np.zeros(circuit.cells)
    _run(circuit, circuit.weights, checked(drive[None], circuit), wide, np.zeros((1, steps)), *unused)
    return found


def initial_thresholds(
    circuit: Circuit, drive: Float[np.ndarray, "stimuli cells"], *, steps: int = RESPONSE_MS
) -> Float[np.ndarray, " cells"]:
    """BCM thresholds before training: mean of r^2 of each cell over stimuli and time, at gain 1.

    Args:
        circuit: The untrained circuit.
        drive: Feed-forward input of each excitatory cell, finite and at least 0; at least one stimulus.
        steps: Duration of each stimulus in ms, at least 1.

    Returns:
        Thresholds, at least 0; training applies its floor.

    Raises:
        InvalidSource: There is no stimulus, or the drive does not suit the circuit.
    """
    drive = checked(drive, circuit)
    if not len(drive):
        raise InvalidSource("no stimulus to start the thresholds from; give at least one")
    power = np.zeros(circuit.cells)
    for first in range(0, len(drive), SIDE_BY_SIDE):
        part = drive[first : first + SIDE_BY_SIDE]
        state, trace = np.zeros((2, *part.shape)), np.zeros((len(part), steps))
        _run(circuit, circuit.weights, part, state, trace, np.zeros(part.shape), power, power)
    return power / len(drive)


def train_epoch(
    circuit: Circuit,
    thresholds: Float[np.ndarray, " n"],
    trials: Float[np.ndarray, "trials frames cells"],
    *,
    frame_ms: int = RESPONSE_MS,
    rule: Plasticity = PUBLISHED,
) -> tuple[Circuit, Float[np.ndarray, " n"]]:
    """Train a circuit by one epoch of trials. Within a trial, states carry over from frame to frame.

    Args:
        circuit: The circuit; it is not changed.
        thresholds: BCM thresholds, at least 0 (see `initial_thresholds`).
        trials: Feed-forward input of the frames of each trial, finite and at least 0.
        frame_ms: Duration of a frame in ms, at least 1.
        rule: Learning rule.

    Returns:
        The trained circuit and its thresholds.

    Raises:
        InvalidSource: The drive does not suit the circuit.
        InvalidOption: The number of thresholds is wrong, or some are negative or all 0.
    """
    frames = checked(trials.reshape(-1, trials.shape[-1]), circuit).reshape(trials.shape)
    if (
        thresholds.shape != (circuit.cells,)
        or not (thresholds >= 0).all()
        or not np.isfinite(thresholds).all()
    ):
        raise InvalidOption(f"thresholds: expected {circuit.cells} finite numbers, at least 0")
    floor = rule.floor * float(thresholds.mean())
    if not floor > 0:
        raise InvalidOption("all thresholds are 0: no cell fired; start from stimuli that are not blank")
    weights, theta = circuit.weights.copy(), np.maximum(thresholds, floor)
    tau_w = rule.tau_w_ms * OFFSETS * circuit.channels / 1600
    unused = np.zeros((1, frame_ms)), np.zeros((1, circuit.cells)), np.zeros(circuit.cells)
    for n, trial in enumerate(frames):
        _kernels().normalise(weights, circuit.targets, ROW_SUM, circuit.largest_weight)
        rates = np.array([rule.decay ** (n / len(frames)) / tau_w, 1 / rule.tau_theta_ms])
        state = np.zeros((2, 1, circuit.cells))
        for frame in rule.gain * trial:
            _run(circuit, weights, frame[None], state, *unused, theta, rates=rates, floor=floor)
    _kernels().normalise(weights, circuit.targets, ROW_SUM, np.inf)
    return replace(circuit, weights=weights), theta


def checked(
    drive: Float[np.ndarray, "stimuli cells"], circuit: Circuit
) -> Float[np.ndarray, "stimuli cells"]:
    """Check that stimuli suit a circuit.

    Args:
        drive: Feed-forward input, [stimuli, cells].
        circuit: The circuit.

    Returns:
        The drive as contiguous float64.

    Raises:
        InvalidSource: Another number of cells, or values that are negative or not finite.
    """
    if drive.ndim != 2 or drive.shape[1] != circuit.cells:
        raise InvalidSource(
            f"drive of shape {drive.shape}: a circuit of {circuit.rows}x{circuit.columns} positions and "
            f"{circuit.channels} channels takes [stimuli, {circuit.cells}]; crop the picture to its size"
        )
    if not (np.isfinite(drive).all() and (drive >= 0).all()):
        raise InvalidSource("drive of a circuit must be finite and at least 0; clip it")
    return np.require(drive, np.float64, ("C", "W"))


def _kernels():
    from semcom.circuit import kernels  # importing Numba is slow

    return kernels


def _run(
    circuit: Circuit,
    weights: np.ndarray,
    scaled: np.ndarray,
    state: np.ndarray,
    trace: np.ndarray,
    response: np.ndarray,
    power: np.ndarray,
    theta: np.ndarray,
    *,
    late: int = 1,
    noise: tuple[np.ndarray, np.ndarray] | None = None,
    rates: np.ndarray | None = None,
    floor: float = 0.0,
) -> None:
    """Constant stimuli of `trace.shape[1]` ms from the given states, which are changed."""
    own = np.require(weights, np.float64, ("C", "W"))  # as Numba compiles the kernel
    learning = rates is not None, np.zeros(2) if rates is None else rates
    times = trace.shape[1], late, TAU_E_MS, TAU_I_MS
    _kernels().run(
        *(own, circuit.targets, scaled, *times, circuit.inhibitory_weight),
        *((np.zeros((0, 0)), np.zeros((0, 0, 0))) if noise is None else noise),
        *(state[0], state[1], *learning, theta, floor, circuit.largest_weight, trace, response, power),
    )
