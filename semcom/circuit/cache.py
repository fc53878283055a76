"""Semantic cache: an index for pictures that both ends hold, a whole description for all others."""

from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from channels import Received
from channels.link import FRAME_BITS, DigitalLink, frame
from channels.mcs import MCS_TABLE, predicted_failure
from semcom.circuit.familiarity import SIDE, JudgeName, Verdict, judge_of, judged, thumbnail
from semcom.errors import InvalidOption
from semcom.memory.codebooks import PictureMemory
from semcom.observation import Decoded, Observation
from semcom.separate import Separate
from semcom.transmission import ChannelKnowledge, Csit, Modulated, Sent

INDEX_BYTES = 2
"""Bytes of an index."""

INDEX_BITS = FRAME_BITS + 8 * INDEX_BYTES
"""Length in bits of the frame that carries an index, end mark included."""

SAFE = 0.01
"""Largest predicted block error rate of an index format that counts as safe."""

FORMATS = (8, 6, 4, 2, 0)
"""Rows of the MCS table that an index may be sent at."""

INDEX_TAG = 127
"""Tag of the frame of an index (see `channels.link.frame`)."""

SAME = 0.8
"""Correlation of thumbnails above which a picture counts as the one that is shown in its place.

None of the 19,900 pairs of the 200 test photographs of BSDS500 has more than 0.79. Noise in a thumbnail
lowers the correlation with the original to 0.8 at 2.5 dB; in a picture of 16 times its pixels, at -9.5 dB.
"""


@dataclass(frozen=True, slots=True)
class IndexFormat:
    """Format of an index: a link of fixed modulation and code rate, and the channel uses that it needs.

    Args:
        link: The link.
        uses: Channel uses, header included.
    """

    link: DigitalLink
    uses: int


@cache
def index_formats() -> tuple[IndexFormat, ...]:
    """Formats of an index that a receiver tries, of `FORMATS` rows of the MCS table.

    Returns:
        Formats by increasing length.
    """
    found: list[IndexFormat] = []
    for row in FORMATS:
        link, uses = DigitalLink(MCS_TABLE[row]), 1
        while link.payload_bits(uses) < INDEX_BITS:
            uses += 1
        found.append(IndexFormat(link, uses))
    return tuple(found)


@dataclass(frozen=True)
class FamiliarityCache:
    """Semantic cache over a digital link: familiar pictures cost an index, all others what they cost alone.

    The transmitter asks a judge whether the picture is familiar, and which of the album it is. If so, it
    sends a frame with the index, and nothing else, in one of a few short formats: the shortest that is
    predicted to be safe, or whose code rate is at most the fixed one. If not, it sends what `separate` sends.
    The receiver knows all formats and tries them one after the other on the first symbols: the CRC is the
    flag, so that novel pictures pay nothing for it. A picture of the album is sent in place of one of the
    same shape only.

    The two bytes of an index are its number combined by exclusive or with 16 bits of the digest of the album,
    which costs nothing. A receiver with another album (a picture more, another order, an edited picture)
    reads a random number, and loses the item unless that is one of the N pictures it has, which happens with
    probability N / 65536.

    A false hit shows a wrong picture. The record says so: "false_hit" is 1 if the thumbnails of the picture
    sent and of the one in its place have a correlation of at most `SAME`, which is known to the transmitter
    but not used. "familiar" is 1 if an index was sent, "familiarity" the score of the judge.

    Args:
        separate: Transmission of pictures that are not familiar.
        album: Pictures that both ends hold; those without contrast are never found.
        judge: "circuit" for familiarity suppression in a trained circuit, "nearest" for the nearest code.

    Raises:
        InvalidOption: The album has more pictures than an index tells apart.
    """

    separate: Separate[Tensor]
    album: PictureMemory
    judge: JudgeName = "circuit"

    def __post_init__(self) -> None:
        if len(self.album.pictures) > 256**INDEX_BYTES:
            raise InvalidOption(
                f"album of {len(self.album.pictures)} pictures: {INDEX_BYTES} bytes tell at most "
                f"{256**INDEX_BYTES} apart"
            )

    @property
    def name(self) -> str:
        """Canonical name, for instance "cache:circuit:avif+ldpc:csit-average@album#0123abcd"."""
        return f"cache:{self.judge}:{self.separate.name}@{self.album.name}"

    @property
    def csit(self) -> Csit:
        """Channel knowledge that the transmission of other pictures needs."""
        return self.separate.csit

    def verdict(self, x: Tensor) -> Verdict | None:
        """Judge whether a picture is familiar, and which of the album it resembles most.

        Args:
            x: Picture [1, 3, height, width] in [0, 1].

        Returns:
            The verdict; None if the picture has no contrast.

        Raises:
            InvalidSource: No picture of the album has any contrast.
        """
        known, numbers = _known(self.album)
        found = judged(judge_of(self.judge, known), x)
        return None if found is None else replace(found, index=numbers[found.index])

    def send(self, x: Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Send an index if the picture is familiar, else a whole description."""
        found = self.verdict(x)
        score = {} if found is None else {"familiarity": found.score}
        picture = None if found is None else self.album.pictures[found.index]
        short = None if found is None or not found.familiar else self._format(uses, known)
        if found is None or picture is None or short is None or picture.shape != x.shape:
            whole = self.separate.send(x, uses, known)
            info = {**whole.info, **score, "familiar": 0.0, "false_hit": 0.0}
            return Sent(whole.symbols, whole.modulated, info, whole.cause)
        told = (found.index ^ self._mask).to_bytes(INDEX_BYTES, "big")
        symbols = short.link.send(frame(told, INDEX_TAG), short.uses)
        modulated = Modulated(short.link.mcs.constellation, short.uses - short.link.header(short.uses).uses)
        info = {"payload_bits": 8.0 * INDEX_BYTES, "mcs": float(short.link.mcs.index), **score}
        wrong = float(not same_picture(x, picture))
        return Sent(symbols, (modulated,), {**info, "familiar": 1.0, "false_hit": wrong})

    def receive(self, received: Received, shape: tuple[int, ...], uses: int) -> list[Observation[Tensor]]:
        """Try the formats of an index on the first symbols, then that of a whole description on all."""
        arrived = received.y.shape[1]
        found: list[Observation[Tensor] | None] = [None] * received.y.shape[0]
        for short in index_formats():
            if short.uses <= arrived:
                frames = short.link.receive(received[: short.uses]).frames()
                found = [old or self._shown(new, shape) for old, new in zip(found, frames, strict=True)]
        if arrived < uses:  # whole descriptions fill all channel uses
            return [each or Observation(None) for each in found]
        whole = self.separate.receive(received, shape, uses)
        return [each or other for each, other in zip(found, whole, strict=True)]

    @property
    def _mask(self) -> int:
        """Bits of the digest of the album that an index is combined with."""
        return int(self.album.digest[: 2 * INDEX_BYTES], 16)

    def _format(self, uses: int, known: ChannelKnowledge | None) -> "IndexFormat | None":
        """The shortest format that is safe and fits; None if there is none."""
        for short in index_formats():
            if short.uses <= uses and self._is_safe(short, known):
                return short
        return None

    def _is_safe(self, short: "IndexFormat", known: ChannelKnowledge | None) -> bool:
        mcs = short.link.mcs
        if known is None:  # a fixed row is held for safe, and so are lower ones
            (fixed,) = self.separate.policy.choices(None, short.uses)
            return mcs.index <= fixed.index
        return predicted_failure(mcs, known.law, known.snr_db, INDEX_BITS, short.uses) <= SAFE

    def _shown(self, found: tuple[bytes, int] | None, shape: tuple[int, ...]) -> Observation[Tensor] | None:
        """Observation of a picture of the album; None if the frame is not one of an index."""
        if found is None or found[1] != INDEX_TAG or len(found[0]) != INDEX_BYTES:
            return None
        index = int.from_bytes(found[0], "big") ^ self._mask
        if index >= len(self.album.pictures) or self.album.pictures[index].shape != torch.Size(shape):
            return None
        picture = self.album.pictures[index].clone()
        return Observation(picture, (Decoded(picture),), {"bler": 0.0})


@lru_cache(maxsize=4)
def _known(album: PictureMemory) -> tuple[np.ndarray, tuple[int, ...]]:
    """Thumbnails of the pictures with contrast, and the numbers of these pictures."""
    small = [(i, each) for i, x in enumerate(album.pictures) if (each := thumbnail(x)) is not None]
    return np.array([each for _, each in small]).reshape(-1, SIDE, SIDE), tuple(i for i, _ in small)


def same_picture(x: Tensor, other: Tensor) -> bool:
    """Whether two pictures have thumbnails of a correlation above `SAME`.

    Args:
        x: Picture [1, 3, height, width] in [0, 1].
        other: Picture [1, 3, height, width] in [0, 1].

    Returns:
        False if one of them has no contrast.

    Example:
        >>> x = torch.linspace(0, 1, 64).expand(1, 3, 48, 64)
        >>> same_picture(x, 0.5 * x), same_picture(x, 1 - x)
        (True, False)
    """
    one, two = thumbnail(x), thumbnail(other)
    return one is not None and two is not None and float((one * two).sum()) > SAME * float((one**2).sum())
