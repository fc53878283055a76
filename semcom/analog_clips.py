"""Clips over a transmission of pictures: every frame is sent as a picture of its own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from channels import Received
from semcom.analog import papr_db
from semcom.codecs.clip import from_image, to_image
from semcom.codecs.packets import held_last
from semcom.modalities.image import Image
from semcom.modalities.video import Clip, ClipShape
from semcom.observation import Decoded, Observation
from semcom.transmission import ChannelKnowledge, Csit, Sent, Transmission, nothing_sent


@dataclass(frozen=True)
class FrameByFrameAnalog:
    """Analog transmission of a clip: every frame is sent as a picture, with equal channel uses and power.

    Symbol i + j T of a clip of T frames is symbol j of frame i, so that fades and lost packets hit all frames
    alike. Symbols left over by the division among frames go to the first frames, unless the pictures do not
    need all of their symbols. Frames share nothing: what they have in common is sent with every frame. If
    some frames are lost, each is shown as the last frame that arrived before it, or else as the first one
    that arrived.

    Args:
        picture: Transmission of pictures, for instance DeepJSCC or SoftCast.
        label: Canonical name; if empty, that of `picture`.
    """

    picture: Transmission[Image]
    label: str = ""

    @property
    def name(self) -> str:
        """Canonical name, for instance "deepjscc"."""
        return self.label or self.picture.name

    @property
    def csit(self) -> Csit:
        """Channel knowledge that the transmission of pictures needs."""
        return self.picture.csit

    def send(self, x: Clip, uses: int, known: ChannelKnowledge | None) -> Sent:
        """Send every frame with its share of the symbols; the record gets "papr_db" of the whole clip."""
        count = len(x.frames)
        parts = self._parts(x, _shares(uses, count), known)
        if sum(part.symbols.shape[1] for part in parts) < uses and uses % count:
            parts = self._parts(x, [uses // count] * count, known)  # all frames need equally many symbols
        for part in parts:
            if part.cause:
                return nothing_sent(f"{part.cause} (each of {count} frames has its share of {uses})")
        symbols = torch.zeros(1, sum(part.symbols.shape[1] for part in parts), dtype=torch.complex64)
        for i, part in enumerate(parts):
            symbols[:, i::count] = part.symbols
        modulated = tuple(declared for part in parts for declared in part.modulated)
        return Sent(symbols, modulated, {"papr_db": papr_db(symbols)})

    def receive(self, received: Received, shape: ClipShape, uses: int) -> list[Observation[Clip]]:
        """Receive every frame from its own symbols."""
        count, size = shape.frames, (1, 3, shape.height, shape.width)
        filled = received.y.shape[1] == uses
        shares = _shares(uses, count) if filled else [uses // count] * count
        by_frame = [self.picture.receive(received[i::count], size, share) for i, share in enumerate(shares)]
        return [_gathered(frames, shape) for frames in zip(*by_frame, strict=True)]

    def _parts(self, x: Clip, shares: list[int], known: ChannelKnowledge | None) -> list[Sent]:
        return [
            self.picture.send(to_image(frame), share, known)
            for frame, share in zip(x.frames, shares, strict=True)
        ]


def _shares(uses: int, count: int) -> list[int]:
    """Numbers of symbols of each frame, which differ by at most one."""
    return [len(range(i, uses, count)) for i in range(count)]


def _gathered(frames: tuple[Observation[Image], ...], shape: ClipShape) -> Observation[Clip]:
    """Observation of a clip from those of its frames; what was recorded of frames is averaged."""
    found: dict[int, Tensor] = {
        i: from_image(frame.shown) for i, frame in enumerate(frames) if frame.shown is not None
    }
    columns = {column for frame in frames for column in frame.info}
    told = {column: [frame.info[column] for frame in frames if column in frame.info] for column in columns}
    info = {column: sum(values) / len(values) for column, values in sorted(told.items())}
    gaps = held_last(found, shape)
    if gaps is None:
        return Observation(None, info=info)
    return Observation(gaps.x, (gaps if any(gaps.missing) else Decoded(gaps.x),), info)
