"""Packets of texts for slow codecs: the words that fit each packet are estimated first, then coded once."""

from collections.abc import Sequence
from dataclasses import dataclass

from semcom.codecs.codec import Quality
from semcom.codecs.packets import GAP
from semcom.errors import BudgetTooSmall, CorruptPayload
from semcom.modalities.text import TextShape
from semcom.observation import Gaps
from semcom.text.coding import LanguageModelCodec, check_length


@dataclass(frozen=True)
class RunPackets:
    """Packet codec of texts by a language model: consecutive words per packet, each coded independently.

    The text is cut at blanks in proportion to the room of the packets. If a run does not fit, the packets are
    filled one after the other instead, each with as many words as fit. All packets that arrive are decoded in
    one batch; every lost one is shown as `GAP`.

    Args:
        codec: Codec of texts by a language model.
    """

    codec: LanguageModelCodec

    @property
    def name(self) -> str:
        """Canonical name of the codec, for instance "smollm2"."""
        return self.codec.name

    def encode(self, x: str, room: Sequence[int]) -> tuple[bytes, ...]:
        """Divide a text into runs of words, and encode one run per packet.

        Args:
            x: The text.
            room: Largest size in bytes of every packet.

        Returns:
            One packet per entry of `room`; empty packets where no text is left.

        Raises:
            BudgetTooSmall: The packets cannot hold the text.
            InvalidSource: The text has more than a million characters.
        """
        check_length(x)
        whole = sum(room)
        packets: list[bytes] = []
        start = done = 0
        for most in room:
            done += most
            end = self._blank(x, start, done * len(x) // max(whole, 1)) if done < whole else len(x)
            packets.append(self._payload(x[start:end]))
            start = end
        if all(len(packet) <= most for packet, most in zip(packets, room, strict=True)):
            return tuple(packets)
        return self._filled(x, room)

    def decode(self, packets: Sequence[bytes | None], shape: TextShape) -> Gaps[str] | None:
        """Decode the packets that arrived in one batch, and join them with `GAP` for every lost one.

        Args:
            packets: Packets in the order of `encode`; None for every packet that was lost.
            shape: Shape of a text, which is empty.

        Returns:
            The text with one flag per character, True for a `GAP`, and the number of packets that are no
            payload of the codec; None if no packet could be decoded.
        """
        there = [i for i, packet in enumerate(packets) if packet]
        decoded = dict(zip(there, self.codec.decode_all([packets[i] or b"" for i in there]), strict=True))
        runs: list[str] = []
        missing: list[bool] = []
        for i, packet in enumerate(packets):
            run = decoded.get(i, "")
            lost = packet is None or isinstance(run, CorruptPayload)
            runs.append(GAP if lost else str(run))
            missing += [lost] * len(runs[-1])
        refused = sum(isinstance(run, CorruptPayload) for run in decoded.values())
        return None if all(missing) else Gaps("".join(runs), tuple(missing), refused=refused)

    def _filled(self, x: str, room: Sequence[int]) -> tuple[bytes, ...]:
        packets: list[bytes] = []
        start = 0
        for most in room:
            low, high, best = 0, len(x) - start + 1, b""
            guess = min(high - 1, 4 * most)  # characters; 2 bits each
            while high - low > 1:
                end = self._blank(x, start + low, start + guess)
                if not start + low < end < start + high:
                    end = start + guess
                packet = self._payload(x[start:end])
                low, high, best = (
                    (end - start, high, packet) if len(packet) <= most else (low, end - start, best)
                )
                if low and len(best) > 0.9 * most:
                    break
                guess = (low + high) // 2
            packets.append(best)
            start += low
        if start < len(x):
            raise BudgetTooSmall(
                f"{self.name} in {len(room)} packets of {sum(room)} bytes in all has no room for a text of "
                f"{len(x)} characters; raise rho or the SNR, or send fewer, longer packets"
            )
        return tuple(packets)

    def _blank(self, x: str, start: int, near: int) -> int:
        """Place behind the last blank in front of a place; the place itself if there is none."""
        if near >= len(x):
            return len(x)
        return max(x.rfind(" ", start, near), x.rfind("\n", start, near)) + 1 or near

    def _payload(self, run: str) -> bytes:
        return self.codec.encode(run, Quality(1, 0)) if run else b""
