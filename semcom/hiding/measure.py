"""Distances between the histograms of stego and host picture."""

import numpy as np
from jaxtyping import Float, UInt8

from semcom.hiding.pixels import layer, layer_numbers, to_planes

Law = Float[np.ndarray, " values"]


def histogram_distances(host: UInt8[np.ndarray, "..."], stego: UInt8[np.ndarray, "..."]) -> dict[str, float]:
    """Distances between histograms of host and stego picture, of pixels and of prediction errors.

    KL(stego || host) in nats and Wasserstein-1 distance in levels, all colours together. For the divergence,
    counts are increased by 1/2, so that it stays finite where the host has none.

    Args:
        host: Host picture, uint8.
        stego: Stego picture, uint8, same shape.

    Returns:
        Four distances by name.
    """
    found: dict[str, float] = {}
    for name, histogram in (("error", _errors), ("pixel", _values)):
        p, r = histogram(host), histogram(stego)
        q, s = ((h + 0.5) / (h + 0.5).sum() for h in (p, r))
        found[f"{name}_kl"] = float((s * np.log(s / q)).sum())
        found[f"{name}_w1"] = float(np.abs(np.cumsum(r / r.sum() - p / p.sum())).sum())
    return found


def _errors(pixels: np.ndarray) -> Law:
    planes = to_planes(pixels)
    layers = (layer(planes, color, parity) for color, parity in layer_numbers(planes))
    return sum((np.bincount(of.error + 255, minlength=511) for of in layers), np.zeros(511))


def _values(pixels: np.ndarray) -> Law:
    return np.bincount(pixels.reshape(-1), minlength=256).astype(float)
