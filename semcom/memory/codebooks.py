"""Codebooks: pictures of a folder, embeddings of sentences, and key frames of a clip as stored patterns."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from semcom.data import load_folder
from semcom.errors import InvalidOption, InvalidSource
from semcom.memory.memory import Memory
from semcom.modalities import IMAGE, VIDEO
from semcom.modalities.image import to_uint8
from semcom.modalities.video import Clip

DIGITS = 8
"""Hexadecimal digits of a memory's digest in names."""

KEY_DB = 25.0
"""PSNR in dB against all key frames before it, below which a frame becomes a key frame."""


@dataclass(frozen=True, eq=False)
class PictureMemory:
    """Pictures that transmitter and receiver both have, before anything is sent.

    Args:
        pictures: Pictures in [0, 1], each [1, 3, height, width], of any sizes; at least one.
        label: Name of the collection, without digest.

    Raises:
        InvalidSource: There is no picture, or one is not a picture.
    """

    pictures: tuple[Float[Tensor, "1 3 _ _"], ...]
    label: str = "memory"
    digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not self.pictures:
            raise InvalidSource(f"memory {self.label}: no pictures; store at least one")
        content = hashlib.sha256()
        for picture in self.pictures:
            content.update(IMAGE.digest(IMAGE.check(picture)).encode())
        object.__setattr__(self, "digest", content.hexdigest()[:DIGITS])

    @property
    def name(self) -> str:
        """Label and digest of the pictures, for instance "faces#1a2b3c4d"."""
        return f"{self.label}#{self.digest}"

    def of_shape(self, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Pictures of one size; a receiver knows the size of the picture that is sent.

        Args:
            shape: Shape of a picture, (1, 3, height, width).

        Returns:
            The stored pictures of this shape, in order; none where no picture has this size.
        """
        return tuple(picture for picture in self.pictures if tuple(picture.shape) == tuple(shape))


def pictures_of(folder: Path | str) -> PictureMemory:
    """Read a folder of pictures as a memory.

    Args:
        folder: Folder of pictures, or one picture.

    Returns:
        The memory, labelled by the name of the folder; pictures are in order of their file names.

    Raises:
        InvalidSource: The folder is missing or holds no picture, or a picture cannot be read.
    """
    folder = Path(folder)
    items = load_folder(folder, (IMAGE,))
    return PictureMemory(tuple(item.x for item in items), folder.resolve().name)


def clips_of(folder: Path | str, threshold_db: float = KEY_DB) -> PictureMemory:
    """Read the key frames of a folder of clips as a memory of pictures.

    Args:
        folder: Folder of clips or of pictures, or one of them.
        threshold_db: A frame is kept if its PSNR against all frames of its size kept before, in this clip and
            in those before it, is below this, in dB.

    Returns:
        The memory, labelled by the name of the folder; frames are in order of file names and time.

    Raises:
        InvalidSource: The folder is missing, holds no clip or picture, or both, or one cannot be read.
    """
    folder = Path(folder)
    kept: dict[torch.Size, list[Tensor]] = {}
    for item in load_folder(folder, (IMAGE, VIDEO)):
        frames = item.x.frames if isinstance(item.x, Clip) else to_uint8(item.x)
        known = kept.setdefault(frames.shape[2:], [])
        known += frames[_new(frames, known, threshold_db)]
    pictures = tuple(frame[None].float() / 255 for frames in kept.values() for frame in frames)
    return PictureMemory(pictures, folder.resolve().name)


def sentences_of(
    texts: Sequence[str], embed: Callable[[Sequence[str]], Float[Tensor, "texts features"]]
) -> Memory:
    """Embeddings of sentences as a memory.

    Args:
        texts: Sentences, at least one.
        embed: Function from texts to embeddings, such as `semcom.text.lm.load_embedder("minilm")`.

    Returns:
        The memory; pattern i belongs to sentence i.

    Raises:
        InvalidSource: There are no sentences.
    """
    if not texts:
        raise InvalidSource("an empty memory of sentences; give at least one")
    return Memory(embed(texts))


def key_frames(clip: Clip, threshold_db: float = KEY_DB) -> tuple[Memory, Int[Tensor, " kept"]]:
    """Key frames of a clip as a memory: every frame that no frame kept before it resembles.

    Args:
        clip: The clip.
        threshold_db: A frame is kept if its PSNR against all frames kept before is below this, in dB.

    Returns:
        The memory of frames as vectors in [0, 1], and their numbers in the clip, rising from 0.

    Raises:
        InvalidOption: The threshold is NaN.
    """
    if threshold_db != threshold_db:
        raise InvalidOption("key frames with a threshold of nan dB; give a number")
    kept = _new(clip.frames, [], threshold_db)
    return Memory(clip.frames[kept].flatten(1).double() / 255), torch.tensor(kept)


def _new(
    frames: UInt8[Tensor, "frames 3 height width"], known: Sequence[Tensor], threshold_db: float
) -> list[int]:
    """Numbers of the frames that resemble neither a known one nor one of these before."""
    limit = 255**2 * 10 ** (-threshold_db / 10)
    found: list[int] = []
    for number, frame in enumerate(frames):
        others = (*known, *(frames[i] for i in found))
        if all(float((frame.float() - other).square().mean()) > limit for other in others):
            found.append(number)
    return found
