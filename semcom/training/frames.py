"""Pairs of frames and of what video codecs made of them, for the training of the refiner."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from semcom.errors import InvalidSource
from semcom.files import replacing
from semcom.provenance import fingerprint
from semcom.training.crops import Crops
from semcom.training.pairs import LEAST_SPREAD, Pairs
from semcom.training.sequences import RATE, sequences

CODECS = {"x265-slow": (28, 46), "av1": (42, 66)}
"""Codecs that make half of the decoded sequences each, with the range of their constant rate factors."""
HALVED = 0.25
"""Share of the sequences that are coded at half the size."""
COUNT = 1600
KEPT = 3
"""Frames that are kept of every sequence."""
HELD_OUT = (("x265-slow", 1, 38), ("av1", 1, 57), ("av1", 2, 50))
"""Codec, scale and constant rate factor of the sequences of the validation score."""
HELD_OUT_COUNT = 12
logger = logging.getLogger(__name__)


def frame_pairs(photos: Path, clips: Path, cache: Path, size: int, device: str) -> Pairs:
    """Load the pairs of training frames; they are made once and kept in a folder.

    Args:
        photos: Folder of photographs, which are set in motion.
        clips: Folder of clips; the last tenth of them in the order of their names is left out.
        cache: Folder in which the pairs are kept.
        size: Side of the windows in pixels.
        device: Device of the pixels.

    Returns:
        The pairs.

    Raises:
        InvalidSource: A folder has no files that can be read.
    """
    sources = _pictures(photos), _clips(clips)[0]
    files = [[(file.name, file.stat().st_size) for file in folder] for folder in sources]
    made_of = fingerprint((files, COUNT, KEPT, CODECS, HALVED))
    kept = cache / f"frames-{made_of}.npy"
    told = kept.with_suffix(".told.npy")
    if not (kept.is_file() and told.is_file()):
        pixels, numbers = coded(*sources, COUNT)
        cache.mkdir(parents=True, exist_ok=True)
        for path, values in ((kept, pixels), (told, numbers)):
            with replacing(path) as part, part.open("wb") as file:
                np.save(file, values)
    numbers = np.array(np.lib.format.open_memmap(told, mode="r"))
    spread, scale = torch.from_numpy(numbers).float().to(device)
    return Pairs(Crops.load(kept, size, device), spread, scale)


def held_out_frames(photos: Path, clips: Path, device: str) -> tuple[Pairs, ...]:
    """Code validation sequences at fixed qualities.

    Args:
        photos: Folder of photographs that are not trained on.
        clips: Folder of clips, of which the last tenth is not trained on.
        device: Device of the pixels.

    Returns:
        Pairs for each of `HELD_OUT`, one frame of each sequence.
    """
    whole = list(sequences(_pictures(photos), _clips(clips)[1], HELD_OUT_COUNT))
    found: list[Pairs] = []
    for name, scale, rate_factor in HELD_OUT:
        pieces, spreads = [], []
        for frames in whole:
            decoded, spread = _decoded(frames, name, scale, rate_factor)
            pieces.append(_beside(frames, decoded, [len(frames) // 2]))
            spreads.append(spread)
        pixels = torch.from_numpy(np.concatenate(pieces)).to(device)
        told = torch.tensor(spreads, device=device), torch.full((len(spreads),), float(scale), device=device)
        found.append(Pairs(Crops(pixels, pixels.shape[1]), *told))
    return tuple(found)


def coded(
    photos: Sequence[Path], clips: Sequence[Path], count: int
) -> tuple[UInt8[np.ndarray, "pairs side side 6"], Float[np.ndarray, "2 pairs"]]:
    """Put frames of sequences beside what a codec makes of them at a random quality.

    Args:
        photos: Files of photographs, which are set in motion.
        clips: Files of clips.
        count: Number of sequences, of each of which `KEPT` frames are kept.

    Returns:
        Frames and decoded frames, uint8 [pairs, side, side, 6]; the root mean square error of the whole
        sequence in units of [-1, 1], and its scale, [2, pairs].
    """
    rng = np.random.default_rng(1)
    pairs, told = [], []
    for number, frames in enumerate(sequences(photos, clips, count)):
        name = list(CODECS)[number % len(CODECS)]
        least, most = CODECS[name]
        scale = 2 if rng.random() < HALVED else 1
        decoded, spread = _decoded(frames, name, scale, int(rng.integers(least, most + 1)))
        pairs.append(_beside(frames, decoded, rng.choice(len(frames), KEPT, replace=False).tolist()))
        told += [(spread, float(scale))] * KEPT
        if number % 200 == 199:
            logger.info(f"coded {number + 1} of {count} sequences")
    return np.concatenate(pairs), np.array(told).T


def _decoded(frames: Tensor, name: str, scale: int, rate_factor: int) -> tuple[Tensor, float]:
    """What a codec makes of a sequence, and its root mean square error in units of [-1, 1]."""
    from semcom.codecs.av import LIBRARIES, InterCodec  # needs more than training machines may have
    from semcom.modalities.video import VIDEO, Clip

    library, _, speed = name.partition("-")
    codec = next(InterCodec(known, "slow" if speed else "medium") for known in LIBRARIES if known == library)
    clip = Clip(frames, RATE)
    payload = codec.encode(clip, codec.quality(rate_factor, scale))
    decoded = codec.decode(payload, VIDEO.shape(clip)).frames
    error = (decoded.float() - frames.float()).square().mean().sqrt() * 2 / 255
    return decoded, max(float(error), LEAST_SPREAD)


def _beside(frames: Tensor, decoded: Tensor, kept: list[int]) -> np.ndarray:
    """Chosen frames and decoded frames as one array, [kept, side, side, 6]."""
    return torch.cat((frames[kept], decoded[kept]), 1).permute(0, 2, 3, 1).numpy()


def _pictures(folder: Path) -> list[Path]:
    from semcom.data import picture_files

    return list(picture_files(folder))


def _clips(folder: Path) -> tuple[list[Path], list[Path]]:
    """Clips to train on, and clips for validation: the last tenth."""
    from semcom.modalities.video import VIDEO

    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO.suffixes)
    if not files:
        raise InvalidSource(f"{folder}: no clips in this folder")
    place = len(files) - max(1, len(files) // 10)
    return files[:place], files[place:]
