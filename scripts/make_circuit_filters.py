"""Learn the filters of the familiarity circuit: a dictionary for sparse codes of whitened photograph patches.

Run:     python scripts/make_circuit_filters.py --photos ../shared/data/photos/train
Cost:    half a minute of one core; needs scikit-learn
Expect:  semcom/tables/circuit_filters.npy, 64 filters of 9x9 pixels, float32

40 patches of each photograph, halved and grey, with their mean removed; those of little contrast are left
out. Patches are whitened by the inverse root of their covariance (ZCA) and scaled to unit contrast. The
dictionary is that of scikit-learn's MiniBatchDictionaryLearning; atoms are scaled to unit norm.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from semcom.circuit.filters import CHANNELS, SIZE
from semcom.data import picture_files
from semcom.files import write_whole

PATCHES = 40  # of each photograph
CONTRAST = 0.03  # standard deviation below which a patch is left out
USED = 20_000
ALPHA = 2.0  # weight of the L1 norm of the code
TABLE = Path(__file__).parents[1] / "semcom" / "tables" / "circuit_filters.npy"


def patches_of(folder: Path) -> np.ndarray:
    """Patches of mean 0, [patches, 81]."""
    rng, found = np.random.default_rng(0), []
    for path in picture_files(folder):
        grey = np.asarray(PillowImage.open(path).convert("L").reduce(2), dtype=float) / 255
        for _ in range(PATCHES):
            top, left = (int(rng.integers(side - SIZE + 1)) for side in grey.shape)
            found.append(grey[top : top + SIZE, left : left + SIZE].ravel())
    patches = np.array(found)
    patches -= patches.mean(axis=1, keepdims=True)
    return patches[patches.std(axis=1) > CONTRAST]


def whitened(patches: np.ndarray) -> np.ndarray:
    """Patches of unit contrast, without the correlations of photographs."""
    scaled = patches / patches.std(axis=1, keepdims=True)
    power, axes = np.linalg.eigh(patches.T @ patches / len(patches))
    gains = np.where(power > power[-1] * 1e-9, (power + power[-1] * 1e-3) ** -0.5, 0.0)  # none for the mean
    white = scaled @ (axes * gains) @ axes.T
    return white / white.std(axis=1, keepdims=True)


def main() -> None:
    from sklearn.decomposition import MiniBatchDictionaryLearning

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos/train"))
    parser.add_argument("--out", type=Path, default=TABLE)
    a = parser.parse_args()
    white = whitened(patches_of(a.photos))[:USED]
    model = MiniBatchDictionaryLearning(
        CHANNELS, alpha=ALPHA, batch_size=256, max_iter=6, random_state=0, fit_algorithm="lars"
    ).fit(white)
    atoms = model.components_ / np.linalg.norm(model.components_, axis=1, keepdims=True)
    file = io.BytesIO()
    np.save(file, atoms.reshape(CHANNELS, SIZE, SIZE).astype(np.float32))
    write_whole(a.out, file.getvalue())


if __name__ == "__main__":
    main()
