"""Clips as latents: tiles of 64x64 pixels of every frame, each encoded by itself."""

import hashlib

import numpy as np
import torch
from jaxtyping import Float

from semcom.layers import padded_to_multiples
from semcom.modalities.video import Clip, ClipShape
from semcom.representation.sequences import SIDE
from semcom.representation.straightening import StraightAutoencoder
from semcom.surroundings import library_defaults

AT_ONCE = 128  # tiles


def tiles_of(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles of a frame.

    Args:
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        Both rounded up: frames are extended to multiples of 64 to the right and below.

    Example:
        >>> tiles_of(64, 100)
        (1, 2)
    """
    return -(-height // SIDE), -(-width // SIDE)


@library_defaults()
@torch.no_grad()
def latents_of(network: StraightAutoencoder, x: Clip) -> Float[np.ndarray, "frames tiles dims"]:
    """Latents of all tiles of a clip; sides that are no multiples of 64 are extended by reflection.

    Args:
        network: Encoder and decoder of frames of three colours; tiles are moved to its device.
        x: The clip.

    Returns:
        Latents, [frames, tiles, dims], tiles row by row.
    """
    frames = padded_to_multiples(x.frames.float(), SIDE).byte() if _odd(x) else x.frames
    count, colors, height, width = frames.shape
    tiles = frames.reshape(count, colors, height // SIDE, SIDE, width // SIDE, SIDE)
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, colors, SIDE, SIDE)
    at = network.center.device
    found = [network.encode(part.to(at).float() / 255).cpu() for part in tiles.split(AT_ONCE)]
    return torch.cat(found).double().numpy().reshape(count, -1, network.dims)


@library_defaults()
@torch.no_grad()
def clip_of(
    exact: StraightAutoencoder, latents: Float[np.ndarray, "frames tiles dims"], shape: ClipShape
) -> Clip:
    """Clip of the latents of its tiles, equal on every machine.

    Args:
        exact: The network in fixed point (`StraightAutoencoder.in_fixed_point`); it decodes on its device.
        latents: Latents, [frames, tiles, dims].
        shape: Number of frames, height, width and frame rate of the clip.

    Returns:
        The clip.
    """
    rows, columns = tiles_of(shape.height, shape.width)
    flat = torch.from_numpy(np.ascontiguousarray(latents, np.float64)).flatten(0, 1)
    at = exact.center.device
    parts = [
        (exact.decode(part.to(at)).cpu() * 255).round().clamp(0, 255).byte() for part in flat.split(AT_ONCE)
    ]
    tiles = torch.cat(parts).reshape(shape.frames, rows, columns, -1, SIDE, SIDE)
    frames = tiles.permute(0, 3, 1, 4, 2, 5).reshape(shape.frames, -1, rows * SIDE, columns * SIDE)
    return Clip(frames[:, :, : shape.height, : shape.width].contiguous(), shape.frame_rate)


def digest(network: StraightAutoencoder) -> bytes:
    """First 4 bytes of the SHA-256 of the parameters as they are stored, in fp16.

    Args:
        network: The network.

    Returns:
        4 bytes, by which payloads of other weights are known.
    """
    found = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        found.update(key.encode() + value.detach().cpu().half().contiguous().numpy().tobytes())
    return found.digest()[:4]


def _odd(x: Clip) -> bool:
    return bool(x.frames.shape[2] % SIDE or x.frames.shape[3] % SIDE)
