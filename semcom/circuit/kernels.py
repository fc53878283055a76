"""Numba kernels of the circuit, imported on first use because importing Numba is slow.

Recurrent weights are stored by presynaptic cell, so that a step costs work in proportion to the cells that
are active: w[cell, offset, channel] is the weight from `cell` to the cell of `channel` at the position that
lies `offset` away in the 5x5 neighbourhood.
"""

# pyright: basic

import typing

import numpy as np

from channels.compiled import compiled


@compiled(boundscheck=False)
@typing.no_type_check
def run(
    w, targets, scaled, steps, late, tau_e, tau_i, inhibitory, noise_std, rng, u_e, u_i, learns, rates, theta,
    floor, top, trace, response, power,
):  # fmt: skip
    """Euler steps of 1 ms for one constant stimulus, with or without plasticity.

    Args:
        w: float64 [cells, offsets, channels], changed if `learns`.
        targets: int64 [positions, offsets], target position or -1 outside of the grid.
        scaled: float64 [cells], gain times drive.
        steps: Number of steps.
        late: The last `late` steps are averaged in `response`.
        tau_e: Time constant of excitatory cells in ms.
        tau_i: Time constant of inhibitory cells in ms.
        inhibitory: Weight of every synapse from excitatory to inhibitory cells.
        noise_std: float64 [cells], standard deviation of noise in the input of each step.
        rng: Generator of the noise.
        u_e: float64 [cells], state of the excitatory cells, changed.
        u_i: float64 [cells], state of the inhibitory cells, changed.
        learns: Whether weights and thresholds change.
        rates: Learning rates per step of weights and thresholds.
        theta: float64 [cells], BCM thresholds, changed if `learns`.
        floor: Least threshold.
        top: Largest weight.
        trace: float64 [steps], written: mean rate before each step.
        response: float64 [cells], added to: mean rate over the last `late` steps.
        power: float64 [cells], added to: mean squared rate over all steps.
    """
    cells, offsets, channels = w.shape
    positions = cells // channels
    r = np.zeros(cells)
    recurrent = np.zeros(cells)
    near = np.zeros(cells)
    column = np.zeros(positions)
    active = np.empty((positions, channels), np.int64)
    count = np.zeros(positions, np.int64)
    noisy = noise_std.max() > 0
    for step in range(steps):
        recurrent[:] = 0
        near[:] = 0
        column[:] = 0
        total = 0.0
        for p in range(positions):
            n = 0
            for c in range(channels):
                u = u_e[p * channels + c]
                r[p * channels + c] = u * u
                if u > 0:
                    active[p, n] = c
                    n += 1
                    total += u * u
            count[p] = n
        trace[step] = total / cells
        for p in range(positions):
            for i in range(count[p]):
                c = active[p, i]
                cell = p * channels + c
                rate = r[cell]
                column[p] += rate
                power[cell] += rate * rate / steps
                if step >= steps - late:
                    response[cell] += rate / late
                for o in range(offsets):
                    q = targets[p, o]
                    if q < 0:
                        continue
                    near[q * channels + c] += rate
                    base = q * channels
                    for k in range(channels):
                        recurrent[base + k] += w[cell, o, k] * rate
        mean = 0.0
        for cell in range(cells):
            mean += u_i[cell] * u_i[cell]
        mean /= cells
        if learns:
            _learn(w, targets, r, active, count, rates, theta, floor, top)
        for cell in range(cells):
            drive = scaled[cell]
            if noisy:
                drive += noise_std[cell] * rng.standard_normal()
            total = inhibitory * (column[cell // channels] + near[cell] - r[cell])
            u_i[cell] = max(u_i[cell] + (total - u_i[cell]) / tau_i, 0.0)
            u_e[cell] = max(u_e[cell] + (recurrent[cell] - mean + drive - u_e[cell]) / tau_e, 0.0)


@compiled(boundscheck=False)
@typing.no_type_check
def _learn(w, targets, r, active, count, rates, theta, floor, top):
    """One step of the BCM rule on synapses between active cells; thresholds of all cells move."""
    channels = w.shape[2]
    for p in range(len(count)):
        for i in range(count[p]):
            cell = p * channels + active[p, i]
            rate = rates[0] * r[cell]
            for o in range(w.shape[1]):
                q = targets[p, o]
                if q < 0:
                    continue
                for j in range(count[q]):
                    k = active[q, j]
                    post = q * channels + k
                    change = rate * r[post] * (r[post] - theta[post]) / theta[post]
                    w[cell, o, k] = min(max(w[cell, o, k] + change, 0.0), top)
    for cell in range(len(theta)):
        theta[cell] = max(theta[cell] + rates[1] * (r[cell] * r[cell] - theta[cell]), floor)


@compiled(boundscheck=False)
@typing.no_type_check
def normalise(w, targets, row_sum, top):
    """Scale the weights onto each cell to a given sum, then clip; a cell without any weight keeps none.

    Args:
        w: float64 [cells, offsets, channels], changed.
        targets: int64 [positions, offsets], target position or -1 outside of the grid.
        row_sum: The sum.
        top: Largest weight.
    """
    cells, offsets, channels = w.shape
    sums = np.zeros(cells)
    for cell in range(cells):
        for o in range(offsets):
            q = targets[cell // channels, o]
            if q >= 0:
                for k in range(channels):
                    sums[q * channels + k] += w[cell, o, k]
    for cell in range(cells):
        for o in range(offsets):
            q = targets[cell // channels, o]
            if q >= 0:
                for k in range(channels):
                    if sums[q * channels + k] > 0:
                        scaled = w[cell, o, k] * row_sum / sums[q * channels + k]
                        w[cell, o, k] = min(scaled, top)
