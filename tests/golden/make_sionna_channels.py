"""Tapped delay lines as Sionna has them, for tests to compare with.

Taps and their movement; and of frequency responses over 64 subcarriers the correlation at some distances,
with its standard error, and the rate at 10 dB that 1 % of the links do not carry.

Run:     python tests/golden/make_sionna_channels.py   (its own environment: sionna-no-rt >= 2.2)
Writes:  sionna_channels.npz beside this file
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from sionna.phy import config
from sionna.phy.channel import cir_to_ofdm_channel, subcarrier_frequencies
from sionna.phy.channel.tr38901 import TDL

DELAY_SPREAD = 100e-9
CARRIER_HZ = 3.5e9
DOPPLER_HZ = 100.0
SAMPLE_RATE_HZ = 10e3
LIGHT = 299_792_458.0
LINKS, AT_ONCE, STEPS = 20_000, 1000, 40
SPREADS_NS = (30, 100, 300)
LAGS = (1, 2, 4, 8, 16, 32, 48)  # in subcarriers
SUBCARRIERS, SPACING_HZ, SNR_DB, OUTAGE = 64, 60e3, 10.0, 0.01


def responses(profile: str, delay_spread_ns: float) -> np.ndarray:
    """Frequency responses of independent links that do not move, [links, subcarriers]."""
    line = TDL(profile, delay_spread_ns * 1e-9, CARRIER_HZ, precision="double")
    frequencies = subcarrier_frequencies(SUBCARRIERS, SPACING_HZ, precision="double")
    parts = [
        cir_to_ofdm_channel(frequencies, *line(AT_ONCE, 1, SAMPLE_RATE_HZ))[:, 0, 0, 0, 0, 0].numpy()
        for _ in range(LINKS // AT_ONCE)
    ]
    return np.concatenate(parts)


def main() -> None:
    config.seed = 1
    torch.set_num_threads(1)
    arrays: dict[str, np.ndarray] = {
        "delay_spread": np.float64(DELAY_SPREAD),
        "doppler_hz": np.float64(DOPPLER_HZ),
        "sample_rate_hz": np.float64(SAMPLE_RATE_HZ),
        "links": np.int64(LINKS),
        "subcarriers": np.int64(SUBCARRIERS),
        "spacing_hz": np.float64(SPACING_HZ),
        "lags": np.array(LAGS),
        "snr_db": np.float64(SNR_DB),
        "outage": np.float64(OUTAGE),
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
        first = np.concatenate(
            [
                line(AT_ONCE, STEPS, SAMPLE_RATE_HZ)[0][:, 0, 0, 0, 0, 0].numpy()
                for _ in range(LINKS // AT_ONCE)
            ]
        )
        arrays[f"{profile}_first_tap_autocorrelation"] = (first * first[:, :1].conj()).mean(0)
        arrays[f"{profile}_first_tap_fourth_moment"] = (np.abs(first[:, 0]) ** 4).mean()
    for profile, spread_ns in itertools.product("ABCDE", SPREADS_NS):
        h = responses(profile, spread_ns)
        products = [(h[:, lag:] * h[:, : SUBCARRIERS - lag].conj()).mean(1) for lag in LAGS]
        name = f"{profile}_{spread_ns}ns"
        arrays[f"{name}_frequency_correlation"] = np.array([product.mean() for product in products])
        errors = [product.std() / LINKS**0.5 for product in products]
        arrays[f"{name}_frequency_correlation_error"] = np.array(errors)
        rates = np.log2(1 + 10 ** (SNR_DB / 10) * np.abs(h) ** 2).mean(1)
        arrays[f"{name}_outage_rate"] = np.quantile(rates, OUTAGE)
    np.savez_compressed(Path(__file__).parent / "sionna_channels.npz", **arrays)


if __name__ == "__main__":
    main()
