"""Packet codecs of clips and texts, in which every packet can be decoded without the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from semcom.codecs.clip import FrameByFrame
from semcom.codecs.codec import FitsItself, HasForms, Quality, SourceCodec
from semcom.errors import BudgetTooSmall, CorruptPayload
from semcom.modalities.text import TextShape
from semcom.modalities.video import Clip, ClipShape
from semcom.observation import Gaps

GAP = "…"
"""Character shown in place of the text of a lost packet."""

STEPS = 16  # number of fill levels tried, from 1/16 of each packet's room to all of it


@dataclass(frozen=True)
class TextPackets:
    """Packet codec of texts: every packet holds consecutive characters, coded independently.

    All packets are filled to the same fraction of their room, the smallest one that holds the text, so that
    short texts are sent at lower code rates. Every lost packet is shown as `GAP`.

    Independence costs bits: every packet pays for the frame of its codec (5 bytes of Zstandard), and a run of
    some dozen characters has little in common with itself. A text of 589 characters that Zstandard codes in
    2,632 bits takes 4,664 in 20 packets, about its length in UTF-8.

    Args:
        codec: Lossless codec of texts.
    """

    codec: SourceCodec[str]

    @property
    def name(self) -> str:
        """Canonical name of the codec of texts, for instance "zlib"."""
        return self.codec.name

    def encode(self, x: str, room: Sequence[int]) -> tuple[bytes, ...]:
        """Divide a text into runs of consecutive characters, and encode one run per packet.

        Args:
            x: The text.
            room: Largest size in bytes of every packet.

        Returns:
            One packet per entry of `room`; empty packets after the end of the text.

        Raises:
            BudgetTooSmall: The packets cannot hold the text.
        """
        for step in range(1, STEPS + 1):
            packets = self._filled(x, [step * most // STEPS for most in room])
            if packets is not None:
                return packets
        raise BudgetTooSmall(
            f"{self.codec.name} in {len(room)} packets of {sum(room)} bytes in all has no room for a text of "
            f"{len(x)} characters; raise rho or the SNR, or send fewer, longer packets"
        )

    def decode(self, packets: Sequence[bytes | None], shape: TextShape) -> Gaps[str] | None:
        """Decode the packets that arrived, and join their characters with `GAP` for every lost packet.

        Args:
            packets: Packets in the order of `encode`; None for every packet that was lost.
            shape: Shape of a text, which is empty.

        Returns:
            The text with one flag per character, True for a `GAP`, and the number of packets that are no
            payload of the codec; None if no packet could be decoded.
        """
        runs: list[str] = []
        missing: list[bool] = []
        found = [self._run(packet, shape) for packet in packets]
        for run in found:
            runs.append(GAP if run is None else run)
            missing += [run is None] * len(runs[-1])
        arrived = sum(packet is not None for packet in packets)
        refused = arrived - sum(run is not None for run in found)
        return None if all(missing) else Gaps("".join(runs), tuple(missing), refused=refused)

    def form(self, payload: bytes) -> Mapping[str, float]:
        """Form of a packet for the record, where the codec of texts has several.

        Args:
            payload: Packet of this codec, not empty.

        Returns:
            Numbers by column name; none if the codec has one form only.
        """
        return self.codec.form(payload) if isinstance(self.codec, HasForms) else {}

    def _run(self, packet: bytes | None, shape: TextShape) -> str | None:
        if not packet:
            return None if packet is None else ""
        try:
            return self.codec.decode(packet, shape)
        except CorruptPayload:
            return None

    def _filled(self, x: str, room: Sequence[int]) -> tuple[bytes, ...] | None:
        """Fill one packet after the other; None if the packets cannot hold the text."""
        packets: list[bytes] = []
        place = 0
        for most in room:
            count = self._fitting(x[place:], most)
            packets.append(self._payload(x[place : place + count]))
            place += count
        return tuple(packets) if place == len(x) else None

    def _fitting(self, x: str, most: int) -> int:
        """Largest number of leading characters that fit into a number of bytes, by bisection."""
        low, high = 0, len(x) + 1  # `low` fits, `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if len(self._payload(x[:middle])) <= most else (low, middle)
        return low

    def _payload(self, run: str) -> bytes:
        return self.codec.encode(run, Quality(1, 0)) if run else b""


@dataclass(frozen=True)
class FramePackets:
    """Packet codec of clips: every packet holds consecutive frames as still pictures.

    Of T frames in N packets, frame t is in packet floor(t N / T). Every packet is coded at the finest quality
    that fits it. A lost frame is shown as the last frame that arrived before it, or else as the first one
    that arrived.

    Args:
        codec: Source codec of pictures.
    """

    codec: SourceCodec[Tensor]

    @property
    def name(self) -> str:
        """Canonical name of the codec of pictures, for instance "avif"."""
        return self.codec.name

    def encode(self, x: Clip, room: Sequence[int]) -> tuple[bytes, ...]:
        """Encode the frames of every packet at the finest quality that fits its room.

        Args:
            x: The clip.
            room: Largest size in bytes of every packet.

        Returns:
            One packet per entry of `room`; an empty packet if its frames do not fit, or if it has no frames.

        Raises:
            BudgetTooSmall: No packet can hold its frames, even at the coarsest quality.
        """
        return fitted_packets(FrameByFrame(self.codec), x, room)

    def form(self, payload: bytes) -> Mapping[str, float]:
        """Forms of the frames of a packet for the record, where the codec of pictures has several.

        Args:
            payload: Packet of this codec, not empty.

        Returns:
            Shares by column name; none if the codec has one form only.
        """
        return FrameByFrame(self.codec).form(payload)

    def decode(self, packets: Sequence[bytes | None], shape: ClipShape) -> Gaps[Clip] | None:
        """Decode the frames that arrived; each is shown until the next one that arrived.

        Args:
            packets: Packets in the order of `encode`; None for every packet that was lost.
            shape: Number of frames, height, width and frame rate of the clip.

        Returns:
            The clip with one flag per frame, True for a missing one; None if no frame arrived.
        """
        found: dict[int, Tensor] = {}
        for number, frames in groups(shape.frames, len(packets)).items():
            part = replace(shape, frames=len(frames))
            try:
                clip = FrameByFrame(self.codec).decode(packets[number] or b"", part)
            except CorruptPayload:
                continue
            found |= dict(zip(frames, clip.frames, strict=True))
        return held_last(found, shape)


def fitted_packets(codec: FitsItself[Clip], x: Clip, room: Sequence[int]) -> tuple[bytes, ...]:
    """Encode the frames of every packet, as `groups` divides them, at the finest quality that fits its room.

    Args:
        codec: Codec of the frames of a packet.
        x: The clip.
        room: Largest size in bytes of every packet.

    Returns:
        One packet per entry of `room`; an empty packet if its frames do not fit, or if it has no frames.

    Raises:
        BudgetTooSmall: No packet can hold its frames, even at the coarsest quality.
    """
    packets = [b""] * len(room)
    refusal: BudgetTooSmall | None = None
    for number, frames in groups(len(x.frames), len(room)).items():
        part = Clip(x.frames[frames.start : frames.stop], x.frame_rate)
        try:
            packets[number] = codec.fit(part, 8 * room[number]).payload
        except BudgetTooSmall as error:
            refusal = error
    if refusal is not None and not any(packets):
        raise refusal
    return tuple(packets)


def held_last(found: dict[int, Tensor], shape: ClipShape) -> Gaps[Clip] | None:
    """Show the frames of a clip that arrived, each until the next one that arrived.

    Args:
        found: Frames that arrived by index, uint8 [3, height, width].
        shape: Number of frames, height, width and frame rate of the clip.

    Returns:
        The clip with one flag per frame, True for a missing one; None if no frame arrived. Frames before the
        first that arrived are shown as that one.
    """
    if not found:
        return None
    held = found[min(found)]
    shown: list[Tensor] = []
    for t in range(shape.frames):
        held = found.get(t, held)
        shown.append(held)
    missing = tuple(t not in found for t in range(shape.frames))
    return Gaps(Clip(torch.stack(shown), shape.frame_rate), missing)


def groups(frames: int, packets: int) -> dict[int, range]:
    """Divide frames evenly among packets.

    Args:
        frames: Number of frames, at least 0.
        packets: Number of packets, at least 1.

    Returns:
        Frames of every packet that has at least one, by index of the packet.
    """
    starts = [-(-number * frames // packets) for number in range(packets + 1)]  # first frame of packet n
    return {n: range(a, b) for n, (a, b) in enumerate(pairwise(starts)) if a < b}
