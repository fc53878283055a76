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
    w, targets, scaled, steps, late, tau_e, tau_i, inhibitory, noise_std, noise, u_e, u_i, learns, rates,
    theta, floor, top, trace, response, power,
):  # fmt: skip
    """Euler steps of 1 ms for constant stimuli side by side, or for one of them with plasticity.

    Stimuli side by side share the reading of the weights, which takes most of the time while all cells fire.

    Args:
        w: float64 [cells, offsets, channels], changed if `learns`.
        targets: int64 [positions, offsets], target position or -1 outside of the grid.
        scaled: float64 [stimuli, cells], gain times drive.
        steps: Number of steps.
        late: The last `late` steps are averaged in `response`.
        tau_e: Time constant of excitatory cells in ms.
        tau_i: Time constant of inhibitory cells in ms.
        inhibitory: Weight of every synapse from excitatory to inhibitory cells.
        noise_std: float64 [stimuli, cells], standard deviation of noise in the input of each step.
        noise: float64 [steps, stimuli, cells], normal numbers; [0, 0, 0] for none.
        u_e: float64 [stimuli, cells], state of the excitatory cells, changed.
        u_i: float64 [stimuli, cells], state of the inhibitory cells, changed.
        learns: Whether weights and thresholds change; only for one stimulus.
        rates: Learning rates per step of weights and thresholds.
        theta: float64 [cells], BCM thresholds, changed if `learns`.
        floor: Least threshold.
        top: Largest weight.
        trace: float64 [stimuli, steps], written: mean rate before each step.
        response: float64 [stimuli, cells], added to: mean rate over the last `late` steps.
        power: float64 [cells], added to: mean squared rate over all steps, summed over stimuli.
    """
    cells, offsets, channels = w.shape
    stimuli, positions = len(scaled), cells // channels
    r, recurrent, near = np.zeros(u_e.shape), np.zeros(u_e.shape), np.zeros(u_e.shape)
    column = np.zeros((stimuli, positions))
    active, count = np.empty((positions, channels), np.int64), np.zeros(positions, np.int64)
    for step in range(steps):
        recurrent[:] = 0
        near[:] = 0
        column[:] = 0
        for s in range(stimuli):
            total = 0.0
            for cell in range(cells):
                r[s, cell] = u_e[s, cell] * u_e[s, cell]
                total += r[s, cell]
            trace[s, step] = total / cells
        for cell in range(cells):
            p, c = cell // channels, cell % channels
            if c == 0:
                count[p] = 0
            for s in range(stimuli):
                rate = r[s, cell]
                if rate == 0:
                    continue
                if s == 0:  # where there is learning, there is no other
                    active[p, count[p]] = c
                    count[p] += 1
                column[s, p] += rate
                power[cell] += rate * rate / steps
                if step >= steps - late:
                    response[s, cell] += rate / late
                for o in range(offsets):
                    q = targets[p, o]
                    if q < 0:
                        continue
                    near[s, q * channels + c] += rate
                    base = q * channels
                    for k in range(channels):
                        recurrent[s, base + k] += w[cell, o, k] * rate
        if learns:
            _learn(w, targets, r[0], active, count, rates, theta, floor, top)
        for s in range(stimuli):
            mean = 0.0
            for cell in range(cells):
                mean += u_i[s, cell] * u_i[s, cell]
            mean /= cells
            for cell in range(cells):
                drive = scaled[s, cell]
                if noise.size > 0:
                    drive += noise_std[s, cell] * noise[step, s, cell]
                total = inhibitory * (column[s, cell // channels] + near[s, cell] - r[s, cell])
                u_i[s, cell] = max(u_i[s, cell] + (total - u_i[s, cell]) / tau_i, 0.0)
                change = (recurrent[s, cell] - mean + drive - u_e[s, cell]) / tau_e
                u_e[s, cell] = max(u_e[s, cell] + change, 0.0)


@compiled(boundscheck=False)
@typing.no_type_check
def _learn(w, targets, r, active, count, rates, theta, floor, top):
    """One step of the BCM rule on synapses between active cells; thresholds of all cells move."""
    channels = w.shape[2]
    towards = np.empty(len(r))
    for cell in range(len(r)):
        towards[cell] = r[cell] * (r[cell] - theta[cell]) / theta[cell]
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
                    change = rate * towards[q * channels + k]
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
