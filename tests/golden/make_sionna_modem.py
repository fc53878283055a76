"""Golden vectors of the modem, from Sionna's mapper and demapper (labels of TS 38.211, 5.1).

Run:     python tests/golden/make_sionna_modem.py tests/golden/sionna_modem.npz
         in an environment with sionna-no-rt >= 2 (it needs numpy >= 2.2.6, so not the one of this package)
Cost:    seconds
Expect:  for each size M: bits, symbols, received y, noise variance per use, LLRs log P(b=1)/P(b=0)
"""

import sys

import numpy as np
import torch
from sionna.phy.mapping import Demapper, Mapper


def main(path: str) -> None:
    rng = np.random.default_rng(38211)
    arrays: dict[str, np.ndarray] = {}
    for size in (4, 16, 64, 256):
        bits_per_symbol = size.bit_length() - 1
        labels = np.arange(size)[:, None] >> np.arange(bits_per_symbol - 1, -1, -1) & 1
        bits = torch.from_numpy(labels.reshape(1, -1).astype(np.float64))
        qam = {"constellation_type": "qam", "num_bits_per_symbol": bits_per_symbol, "precision": "double"}
        x = Mapper(**qam)(bits)
        noise_var = torch.from_numpy(10 ** -rng.uniform(-0.5, 3.0, x.shape))
        noise = rng.standard_normal((*x.shape, 2)) @ np.array([1, 1j]) * np.sqrt(0.5)
        y = x + torch.from_numpy(noise) * noise_var.sqrt()
        arrays[f"x_{size}"] = x.numpy()
        arrays[f"y_{size}"] = y.numpy()
        arrays[f"noise_var_{size}"] = noise_var.numpy()
        arrays[f"app_{size}"] = Demapper("app", **qam)(y, noise_var).numpy()
        arrays[f"maxlog_{size}"] = Demapper("maxlog", **qam)(y, noise_var).numpy()
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
