"""Digital links: bits in, bits out. A link maps bits to symbols and back; it does not own a channel."""

# torch's and numpy's stubs leave types open
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int, UInt8
from torch import Tensor

from channels.channel import Channel, Received, spell
from channels.errors import ChannelError
from channels.fec.ldpc import MAX_ITERATIONS
from channels.fec.transport import TransportBlock
from channels.header import ControlHeader
from channels.mcs import MCS_TABLE, SIZES, Mcs, announced_sizes, header_of, largest_message
from channels.realisations import check_hashable, snr_profiles
from channels.symbols import widen

FRAME_BITS = 8
"""Bits that `frame` adds to a payload."""

TAGS = 128
"""Number of distinct tags that the last byte of a frame can carry."""


@dataclass(frozen=True, eq=False, slots=True)
class Delivery:
    """Decoder output of a link for each reception of a batch.

    Args:
        bits: Information bits, right or wrong, uint8, one tensor per reception; as many as the decoded header
            announces, or none if that length is impossible.
        ok: Whether all CRCs and parity checks of the message hold, bool [batch].
        block_ok: Whether each code block was decoded, one bool tensor per reception.
        iterations: Decoder iterations of each code block, one tensor per reception.
    """

    bits: tuple[UInt8[Tensor, "_"], ...]
    ok: Bool[Tensor, " batch"]
    block_ok: tuple[Bool[Tensor, "_"], ...]
    iterations: tuple[Int[Tensor, "_"], ...]

    @property
    def bler(self) -> Float[Tensor, " batch"]:
        """Share of code blocks that failed, in 0..1, [batch]; 1 if the header could not be read."""
        return torch.tensor(
            [1 - ok.float().mean().item() if len(ok) else 1.0 for ok in self.block_ok],
            dtype=torch.float32,
            device="cpu",
        )

    def frames(self) -> tuple[tuple[bytes, int] | None, ...]:
        """Payload and tag of every reception (see `frame`).

        Returns:
            One entry per reception; None where a CRC failed or the message holds no frame.
        """
        return tuple(
            unframe(bits) if ok else None for bits, ok in zip(self.bits, self.ok.tolist(), strict=True)
        )

    def payloads(self) -> tuple[bytes | None, ...]:
        """Payload of every reception, whatever its tag.

        Returns:
            One entry per reception; None where a CRC failed or the message holds no frame.
        """
        return tuple(None if found is None else found[0] for found in self.frames())


@dataclass(frozen=True)
class DigitalLink:
    """5G NR coding and modulation over a given number of channel uses, all of which are spent.

    A transmission is a control header and one transport block, rate-matched to the remaining channel uses.
    The header announces the length of the block, in 64ths of the longest that the MCS allows, so that a
    shorter message is sent at a lower code rate. An adapted link also announces its MCS. The message is
    scrambled before encoding, so that an erased block cannot pass for a message of zeros, and the coded bits
    are scrambled, so that a short message, whose coded bits repeat, keeps the average power of the
    constellation.

    The receiver knows this configuration and the number of channel uses, but nothing about the message; with
    `adapted` it ignores `mcs`.

    Args:
        mcs: Constellation and highest code rate.
        max_iterations: Iteration limit of the LDPC decoder, at least 1.
        adapted: Whether the transmitter chooses the MCS per transmission and has to announce it.

    Raises:
        ChannelError: `max_iterations` is smaller than 1.

    Reference:
        TS 38.212, 7.2; TS 38.214, 5.1.3.1; TS 38.211, 7.3.1.1 for scrambling, with a different sequence.

    Example:
        >>> link = DigitalLink(MCS_TABLE[12])
        >>> x = link.send(frame(b"hello"), 200)
        >>> link.receive(Received(x, torch.ones_like(x), torch.full((1, 1), 0.01))).payloads()
        (b'hello',)
    """

    mcs: Mcs
    max_iterations: int = MAX_ITERATIONS
    adapted: bool = False

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise ChannelError(f"{self.max_iterations} decoder iterations: give at least 1")

    @property
    def name(self) -> str:
        """Canonical name, for instance "ldpc:mcs8", or "ldpc:adapted-mcs8"."""
        return f"ldpc:{'adapted-' if self.adapted else ''}mcs{self.mcs.index}"

    def header(self, data_uses: int) -> ControlHeader:
        """Control header for a number of channel uses.

        Args:
            data_uses: Channel uses of header and payload together.

        Returns:
            The header; its length depends on `data_uses` and, unless `adapted`, on the MCS.
        """
        return header_of(self.mcs, self.adapted, data_uses)

    def payload_bits(self, data_uses: int) -> int:
        """The longest message at this MCS, after header and CRCs.

        Args:
            data_uses: Channel uses of header and payload together.

        Returns:
            Information bits, a multiple of 8; 0 if `data_uses` are too few.
        """
        return largest_message(self.mcs, self.header(data_uses), data_uses)

    def sizes(self, data_uses: int) -> tuple[int, ...]:
        """Message lengths that the header can announce.

        Args:
            data_uses: Channel uses of header and payload together.

        Returns:
            Lengths in bits, longest first, whole bytes; empty if nothing fits.
        """
        return announced_sizes(self.payload_bits(data_uses))

    def send(self, bits: UInt8[Tensor, " n"], data_uses: int) -> Complex[Tensor, "1 uses"]:
        """Encode and modulate one message; zeros pad it to the next length that the header can announce.

        Args:
            bits: Message, uint8 [n], 1 to `payload_bits(data_uses)` bits.
            data_uses: Channel uses of header and payload together.

        Returns:
            Symbols, complex64 [1, data_uses].

        Raises:
            ChannelError: The message is empty or too long.
        """
        longest = self.payload_bits(data_uses)
        if not 0 < bits.numel() <= longest:
            raise ChannelError(
                f"message of {bits.numel()} bits, but {data_uses} channel uses of {self.mcs.name} "
                f"carry 1..{longest}; raise rho or shorten it"
            )
        sizes = announced_sizes(longest)
        field = max(q for q, size in enumerate(sizes) if size >= bits.numel())
        message = torch.nn.functional.pad(bits, (0, sizes[field] - bits.numel()))
        message = message ^ _whitening(sizes[field]).to(bits.device)
        coded = self._block(self.mcs, sizes[field], data_uses).encode(message[None])
        coded = coded ^ _scrambling(coded.shape[1]).to(bits.device)
        header = self.header(data_uses)
        announced = self.mcs.index * SIZES + field if self.adapted else field
        x = torch.empty(1, data_uses, dtype=torch.complex64, device=bits.device)
        x[:, header.positions()] = header.encode(announced).to(bits.device)
        x[:, header.payload_positions()] = self.mcs.constellation.modulate(coded)
        return x

    def receive(self, received: Received) -> Delivery:
        """Decode the header, then demap and decode the payload of every reception.

        Args:
            received: Receptions of `data_uses` channel uses, [batch, data_uses].

        Returns:
            Decoded bits and verdicts of every reception.
        """
        batch, data_uses = received.y.shape
        header = self.header(data_uses)
        announced = header.decode(_at(received, header.positions()))
        payload = _at(received, header.payload_positions())
        none = torch.zeros(0, dtype=torch.uint8, device="cpu")
        bits = [none] * batch
        block_ok, iterations = [none.bool()] * batch, [none.long()] * batch
        ok = torch.zeros(batch, dtype=torch.bool, device="cpu")
        for value in sorted(set(announced.tolist())):
            mcs = self._announced_mcs(value)
            longest = largest_message(mcs, header, data_uses) if mcs else 0
            if not mcs or not longest:
                continue
            size = announced_sizes(longest)[value % SIZES]
            plan = self._block(mcs, size, data_uses)
            signs = 1.0 - 2.0 * _scrambling(plan.coded_bits).float()
            here = (announced == value).nonzero()[:, 0]
            for group in here.split(max(1, _MAX_LLRS // plan.coded_bits)):
                part = Received(payload.y[group], payload.h[group], payload.noise_var[group])
                decoded = plan.decode(mcs.constellation.exact_llr(part).cpu() * signs)
                ok[group.cpu()] = decoded.ok
                rows = zip(decoded.bits ^ _whitening(size), decoded.block_ok, decoded.iterations, strict=True)
                for item, row in zip(group.tolist(), rows, strict=True):
                    bits[item], block_ok[item], iterations[item] = row
        return Delivery(tuple(bits), ok, tuple(block_ok), tuple(iterations))

    def _announced_mcs(self, value: int) -> Mcs | None:
        if not self.adapted:
            return self.mcs
        index = value // SIZES
        return MCS_TABLE[index] if index < len(MCS_TABLE) else None

    def _block(self, mcs: Mcs, size: int, data_uses: int) -> TransportBlock:
        coded_bits = (data_uses - self.header(data_uses).uses) * mcs.bits_per_symbol
        return TransportBlock(size, coded_bits, mcs.bits_per_symbol, self.max_iterations)


@dataclass(frozen=True)
class IdealLink:
    """Ideal channel code: a message arrives if and only if the realised channel carries its bits.

    Without a target error, the link is error-free up to the Gaussian capacity of the realised gains. With
    one, it follows the normal approximation for the best code of that length, which carries fewer bits; the
    outcome still depends on the gains alone.

    Args:
        target_error: Block error rate the code is designed for, in (0, 1/2), or None for capacity.

    Raises:
        ChannelError: The error rate is outside (0, 1/2).

    Reference:
        Polyanskiy, Poor and Verdu, IEEE Trans. Inf. Theory 56(5), 2010.
    """

    target_error: float | None = None

    def __post_init__(self) -> None:
        if self.target_error is not None and not 0 < self.target_error < 0.5:
            raise ChannelError(f"target error of {self.target_error:g} is outside (0, 1/2)")

    @property
    def name(self) -> str:
        """Canonical name: "ideal", or for instance "ideal:0.01" with a target error."""
        return "ideal" if self.target_error is None else f"ideal:{spell(self.target_error)}"

    def payload_bits(self, channel: Channel, snr_db: float, data_uses: int, outage: float = 0.01) -> int:
        """Outage capacity: the most bits that a share 1 - `outage` of channel realisations carries.

        On AWGN this is the capacity (or the normal approximation) of `data_uses` channel uses. Over fading,
        200 to 8192 fixed realisations tell it (`channels.realisations.count`): with N of them, the share that
        fails in truth has a standard error of sqrt(outage (1 - outage) / N).

        Args:
            channel: Any channel.
            snr_db: Average received Es/N0 in dB.
            data_uses: Data symbols, at least 0.
            outage: Share of realisations that may fail, in [0, 1).

        Returns:
            Information bits, at least 0.

        Raises:
            ChannelError: `outage` is outside [0, 1), the receiver's channel knowledge is wrong, for instance
                behind `NoCSI` over fading, or the channel is not hashable.
        """
        if not 0 <= outage < 1:
            raise ChannelError(f"outage of {outage:g} is outside [0, 1); give the share that may be lost")
        check_hashable(channel)
        values = _carried(self, channel, float(snr_db), data_uses)
        return max(0, math.floor(values[math.floor(outage * values.numel())].item()))

    def carried_bits(self, received: Received) -> Float[Tensor, " batch"]:
        """Information that the gains and noise of each reception carry; the received symbols are not used.

        sum over uses of log2(1 + |h|^2 / N0); with a target error, the sum less sqrt(sum of V(|h|^2 / N0))
        Qinv(error) - log2(2k) / 2, but no more than the sum.

        Args:
            received: Receptions [batch, uses].

        Returns:
            Bits, float64 [batch]; negative if the code is too short for its target error.
        """
        snr = (widen(received.h).abs().square() / widen(received.noise_var)).double()
        return self.bits_at(snr, torch.ones(received.y.shape[1], dtype=torch.float64, device=snr.device))

    def bits_at(
        self, snr: Float[Tensor, "batch blocks"], uses: Float[Tensor, " blocks"]
    ) -> Float[Tensor, " batch"]:
        """Information that blocks of constant SNR carry, as in `carried_bits`.

        Args:
            snr: |h|^2 / N0 of each block, float64 [batch, blocks].
            uses: Channel uses of each block, float64 [blocks].

        Returns:
            Bits, float64 [batch].
        """
        carried = torch.log2(1 + snr) @ uses
        if self.target_error is not None:
            variance = (snr * (snr + 2) / (snr + 1).square()) @ uses / math.log(2) ** 2
            target = torch.tensor(self.target_error, dtype=torch.float64, device="cpu")
            deviations = -torch.special.ndtri(target).item()
            backoff = variance.sqrt() * deviations - math.log2(max(2 * float(uses.sum()), 1)) / 2
            carried = carried - backoff.clamp_min(0)  # at very low SNR the logarithm would dominate
        return carried

    def succeeds(self, received: Received, bits: int) -> Bool[Tensor, " batch"]:
        """Whether each reception carries a number of bits.

        Args:
            received: Receptions [batch, uses].
            bits: Information bits.

        Returns:
            Verdicts, bool [batch]; a relative shortfall of 1e-6 is allowed, because N0 is a float32.
        """
        return self.carried_bits(received) * (1 + 1e-6) >= bits


def frame(payload: bytes, tag: int = 0) -> UInt8[Tensor, " n"]:
    """Turn a payload into bits, followed by one byte that marks its end; most significant bit first.

    The byte is 0x80 + tag: the padding mark of ISO/IEC 7816-4, whose seven low bits carry a number agreed
    between transmitter and receiver, for instance which of several source codecs made the payload.

    Args:
        payload: Any bytes.
        tag: Number from 0 to 127.

    Returns:
        Bits, uint8 [8 (len(payload) + 1)].

    Raises:
        ChannelError: The tag is outside 0..127.
    """
    if not 0 <= tag < TAGS:
        raise ChannelError(f"tag {tag} of a frame: the byte at its end holds 0..{TAGS - 1}")
    octets = torch.frombuffer(bytearray(payload + bytes([TAGS + tag])), dtype=torch.uint8)
    return (octets[:, None] >> torch.arange(7, -1, -1, dtype=torch.uint8, device="cpu") & 1).reshape(-1)


def unframe(bits: UInt8[Tensor, " n"]) -> tuple[bytes, int] | None:
    """Recover payload and tag from a message that was made by `frame` and padded with zeros.

    Args:
        bits: The message, uint8 [n]; bits beyond the last whole byte are ignored.

    Returns:
        Payload and tag, or None if the last nonzero byte is not an end mark.
    """
    whole = bits[: bits.numel() // 8 * 8].reshape(-1, 8).long().cpu()
    octets = (whole << torch.arange(7, -1, -1, device="cpu")).sum(1).to(torch.uint8).numpy().tobytes()
    content = octets.rstrip(b"\x00")
    return (content[:-1], content[-1] - TAGS) if content and content[-1] >= TAGS else None


@functools.lru_cache(maxsize=256)
def _carried(link: IdealLink, channel: Channel, snr_db: float, data_uses: int) -> Float[Tensor, " count"]:
    """Bits that realisations of a channel carry, in rising order."""
    parts: list[Tensor] = []
    for profile in snr_profiles(channel, snr_db, data_uses):
        snr, uses = torch.from_numpy(profile.snr), torch.from_numpy(profile.uses).double()  # pyright: ignore
        parts.append(link.bits_at(snr, uses))
    return torch.cat(parts).sort().values


_MAX_LLRS = 2**25  # LLRs decoded in one call, which limits memory to about 500 MB


def _at(received: Received, positions: Int[Tensor, " some"]) -> Received:
    positions = positions.to(received.y.device)
    batch = received.y.shape[0]
    noise_var = received.noise_var
    noise_var = noise_var.expand(batch, 1) if noise_var.shape[1] == 1 else noise_var[:, positions]
    return Received(widen(received.y)[:, positions], widen(received.h)[:, positions], noise_var)


@functools.lru_cache(maxsize=8)
def _whitening(bits: int) -> UInt8[Tensor, " n"]:
    """Fixed pseudorandom scrambling sequence, equal for all messages of a length."""
    return _fixed_bits(bits, 38212)


@functools.lru_cache(maxsize=8)
def _scrambling(coded_bits: int) -> UInt8[Tensor, " n"]:
    """A fixed pseudorandom word, the same for every transmission of a length."""
    return _fixed_bits(coded_bits, 38211)


def _fixed_bits(bits: int, seed: int) -> UInt8[Tensor, " n"]:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randint(0, 2, (bits,), generator=generator, dtype=torch.uint8, device="cpu")
