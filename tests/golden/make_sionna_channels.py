"""Tapped delay lines as Sionna has them, for tests to compare with.

Run:     python tests/golden/make_sionna_channels.py   (its own environment: sionna-no-rt >= 2.2)
Writes:  sionna_channels.npz beside this file
"""

from pathlib import Path

import numpy as np
import torch
from sionna.phy import config
from sionna.phy.channel.tr38901 import TDL

DELAY_SPREAD = 100e-9
CARRIER_HZ = 3.5e9
DOPPLER_HZ = 100.0
SAMPLE_RATE_HZ = 10e3
LIGHT = 299_792_458.0
LINKS, STEPS = 20_000, 40


def main() -> None:
    config.seed = 1
    torch.set_num_threads(1)
    arrays: dict[str, np.ndarray] = {
        "delay_spread": np.float64(DELAY_SPREAD),
        "doppler_hz": np.float64(DOPPLER_HZ),
        "sample_rate_hz": np.float64(SAMPLE_RATE_HZ),
        "links": np.int64(LINKS),
    }
    for profile in "ABCDE":
        line = TDL(
            profile,
            DELAY_SPREAD,
            CARRIER_HZ,
            min_speed=DOPPLER_HZ * LIGHT / CARRIER_HZ,
            precision="double",
        )
        arrays[f"{profile}_delays"] = line.delays.numpy()
        arrays[f"{profile}_powers"] = line.mean_powers.numpy()
        if line.los:
            arrays[f"{profile}_k_factor"] = line.k_factor.numpy()
        gains, _ = line(LINKS, STEPS, SAMPLE_RATE_HZ)
        first = gains[:, 0, 0, 0, 0, 0].numpy()
        arrays[f"{profile}_first_tap_autocorrelation"] = (first * first[:, :1].conj()).mean(0)
        arrays[f"{profile}_first_tap_fourth_moment"] = (np.abs(first[:, 0]) ** 4).mean()
    np.savez_compressed(Path(__file__).parent / "sionna_channels.npz", **arrays)


if __name__ == "__main__":
    main()
