"""Codecs of clips and texts in packets, each of use without the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from semcom.codecs.clip import FrameByFrame
from semcom.codecs.codec import Quality, SourceCodec
from semcom.errors import BudgetTooSmall, CorruptPayload
from semcom.modalities.image import MEAN_COLOR
from semcom.modalities.text import TextShape
from semcom.modalities.video import Clip, ClipShape
from semcom.observation import Gaps

GAP = "…"
"""Shown in place of the characters of a lost packet."""

STEPS = 16  # shares of the room that are tried, to spread an item evenly over the packets


@dataclass(frozen=True)
class TextPackets:
    """A run of characters per packet, each coded by itself; a lost one is shown as `GAP`.

    The runs fill equal shares of the packets' room, the least that holds the text: shorter messages go out at
    lower code rates.

    Args:
        codec: Lossless codec of texts.
    """

    codec: SourceCodec[str]

    @property
    def name(self) -> str:
        """Name of the codec of texts: "zlib"."""
        return self.codec.name

    def encode(self, x: str, room: Sequence[int]) -> tuple[bytes, ...]:
        """Runs of characters, one per packet.

        Raises:
            BudgetTooSmall: The packets do not hold the text.
        """
        for step in range(1, STEPS + 1):
            packets = self._filled(x, [step * most // STEPS for most in room])
            if packets is not None:
                return packets
        raise BudgetTooSmall(
            f"{self.codec.name} in {len(room)} packets of {sum(room)} bytes in all has no room for a text of "
            f"{len(x)} characters; raise rho or the SNR"
        )

    def decode(self, packets: Sequence[bytes | None], shape: TextShape) -> Gaps[str] | None:
        """The runs that arrived, with marks between them where packets were lost."""
        runs: list[str] = []
        missing: list[bool] = []
        for packet in packets:
            run = self._run(packet, shape)
            runs.append(GAP if run is None else run)
            missing += [run is None] * len(runs[-1])
        return None if all(missing) else Gaps("".join(runs), tuple(missing))

    def _run(self, packet: bytes | None, shape: TextShape) -> str | None:
        if not packet:
            return None if packet is None else ""
        try:
            return self.codec.decode(packet, shape)
        except CorruptPayload:
            return None

    def _filled(self, x: str, room: Sequence[int]) -> tuple[bytes, ...] | None:
        """Packets filled one after the other; None if they do not hold the text."""
        packets: list[bytes] = []
        place = 0
        for most in room:
            count = self._fitting(x[place:], most)
            packets.append(self._payload(x[place : place + count]))
            place += count
        return tuple(packets) if place == len(x) else None

    def _fitting(self, x: str, most: int) -> int:
        """How many characters of a text fit so many bytes, by bisection."""
        low, high = 0, len(x) + 1  # `low` fits, `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if len(self._payload(x[:middle])) <= most else (low, middle)
        return low

    def _payload(self, run: str) -> bytes:
        return self.codec.encode(run, Quality(1, 0)) if run else b""


@dataclass(frozen=True)
class FramePackets:
    """Neighbouring frames of a clip in a packet, each a still picture; lost frames repeat the one before.

    Of T frames in N packets frame t is in packet floor(t N / T). Every packet has the finest quality that
    fits it.

    Args:
        codec: Codec of still pictures.
    """

    codec: SourceCodec[Tensor]

    @property
    def name(self) -> str:
        """Name of the codec of stills: "avif"."""
        return self.codec.name

    def encode(self, x: Clip, room: Sequence[int]) -> tuple[bytes, ...]:
        """The frames of every packet at the finest quality that fits it.

        Raises:
            BudgetTooSmall: No packet holds its frames even at the coarsest quality.
        """
        packets = [b""] * len(room)
        refusal: BudgetTooSmall | None = None
        for number, frames in _groups(len(x.frames), len(room)).items():
            group = Clip(x.frames[frames.start : frames.stop], x.frame_rate)
            try:
                packets[number] = FrameByFrame(self.codec).fit(group, 8 * room[number]).payload
            except BudgetTooSmall as error:
                refusal = error
        if refusal is not None and not any(packets):
            raise refusal
        return tuple(packets)

    def decode(self, packets: Sequence[bytes | None], shape: ClipShape) -> Gaps[Clip] | None:
        """The frames that arrived, each shown until the next one."""
        found: dict[int, Tensor] = {}
        for number, frames in _groups(shape.frames, len(packets)).items():
            part = replace(shape, frames=len(frames))
            try:
                clip = FrameByFrame(self.codec).decode(packets[number] or b"", part)
            except CorruptPayload:
                continue
            found |= dict(zip(frames, clip.frames, strict=True))
        if not found:
            return None
        color = (torch.tensor(MEAN_COLOR) * 255).round().byte()[:, None, None]
        held = color.expand(3, shape.height, shape.width)
        shown: list[Tensor] = []
        for t in range(shape.frames):
            held = found.get(t, held)
            shown.append(held)
        missing = tuple(t not in found for t in range(shape.frames))
        return Gaps(Clip(torch.stack(shown), shape.frame_rate), missing)


def _groups(frames: int, packets: int) -> dict[int, range]:
    """Frames of every packet that has any."""
    starts = [-(-number * frames // packets) for number in range(packets + 1)]  # least t with t N / T >= n
    return {n: range(a, b) for n, (a, b) in enumerate(pairwise(starts)) if a < b}


def packet_codec(codec: SourceCodec[Any], modality: str) -> TextPackets | FramePackets | None:
    """The codec in packets that a codec of texts or of still pictures makes.

    Args:
        codec: Of texts, or of still pictures for clips.
        modality: "text" or "video".

    Returns:
        The codec in packets; None for modalities that have none.
    """
    if modality == "text":
        return TextPackets(codec)
    return FramePackets(codec) if modality == "video" else None
