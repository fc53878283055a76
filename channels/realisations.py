"""Channel realisations that a transmitter simulates in advance from the statistics of the channel."""

# torch's and numpy's stubs leave types open
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from channels.channel import Channel, Received, transmit
from channels.constellation import Constellation
from channels.errors import ChannelError
from channels.fading import BlockFading, FlatChannel
from channels.header import QPSK
from channels.streams import NamedStreams

COUNT = 200
"""Smallest number of realisations simulated for a fading channel."""

_AT_ONCE = 2**19  # channel uses drawn in one call
_TO_JUDGE = 2**14  # channel uses needed to measure the noise variance to 1 %
_BLOCKS = 2**21  # fading blocks drawn in all, while COUNT realisations do not need more
_USES = 2**21  # channel uses simulated in all, the same
_MOST_BLOCKS = 8192  # realisations drawn at most: an outage of 1 % to 0.11 %
_MOST_SIMULATED = 2048  # the same of those simulated, to 0.22 %
_OF_EACH = 1024  # channel uses of each realisation on which the belief is checked, where gains suffice


@dataclass(frozen=True, eq=False, slots=True)
class SnrProfile:
    """SNRs that the receiver sees in several realisations of a channel, constant over blocks of channel uses.

    Args:
        snr: |h|^2 / N0 as the receiver believes it, [realisations, blocks].
        uses: Number of channel uses of each block, [blocks]; the sum is that of the data symbols.
    """

    snr: NDArray[np.float64]
    uses: NDArray[np.int64]


def count(channel: Channel, data_uses: int) -> int:
    """Number of realisations of a fading channel that a prediction is the mean of.

    Args:
        channel: Any channel.
        data_uses: Data symbols of each realisation, at least 0.

    Returns:
        Of a block-fading channel 200 to 8192, the more the fewer blocks it has; of any other 200 to 2048, the
        more the fewer channel uses it has.
    """
    if isinstance(channel, BlockFading):
        fit = min(_MOST_BLOCKS, _BLOCKS // max(1, math.ceil(data_uses / channel.block_length)))
    else:
        fit = min(_MOST_SIMULATED, _USES // max(1, data_uses + channel.overhead(data_uses)))
    return max(COUNT, fit)


def check_hashable(channel: Channel) -> None:
    """Check that a channel can be the key of a cache, as predictions about it are.

    Args:
        channel: Any channel.

    Raises:
        ChannelError: The channel is not hashable.
    """
    try:
        hash(channel)
    except TypeError:
        raise ChannelError(
            f"channel {channel.name} ({type(channel).__qualname__}) is not hashable, so predictions for it "
            "cannot be kept: make it a frozen dataclass of numbers, texts and tuples"
        ) from None


def snr_profiles(
    channel: Channel, snr_db: float, data_uses: int, constellation: Constellation = QPSK
) -> Iterator[SnrProfile]:
    """SNRs in fixed realisations of a channel, from which a transmitter predicts what a link carries.

    Of a block-fading channel only the gains are drawn, one per block; every other channel is simulated (see
    `realisations`). Its receiver's knowledge is checked in both cases.

    Args:
        channel: Any channel.
        snr_db: Average received Es/N0 in dB.
        data_uses: Data symbols of each realisation, at least 0.
        constellation: Constellation of the data symbols; what clipping does to them depends on it.

    Yields:
        Batches of realisations, `count(channel, data_uses)` in total, or fewer without fading.

    Raises:
        ChannelError: The receiver's channel knowledge is wrong.
    """
    number = count(channel, data_uses)
    if not isinstance(channel, BlockFading) or data_uses == 0:
        for received in realisations(channel, snr_db, data_uses, constellation, number):
            snr = (received.h.abs().square() / received.noise_var).double().numpy()
            yield SnrProfile(snr, np.ones(data_uses, dtype=np.int64))
        return
    for _ in realisations(channel, snr_db, min(data_uses, _OF_EACH)):
        pass  # they check what the receiver believes
    blocks = math.ceil(data_uses / channel.block_length)
    uses = np.full(blocks, channel.block_length)
    uses[-1] = data_uses - channel.block_length * (blocks - 1)
    at_once = max(1, 4 * _AT_ONCE // blocks)
    for start in range(0, number, at_once):
        ids = tuple(f"realisation={i}" for i in range(start, min(start + at_once, number)))
        gains = channel.gains(blocks, NamedStreams(0, ids).fork("channel"))
        yield SnrProfile(gains.abs().double().square().numpy() * 10 ** (snr_db / 10), uses)


def realisations(
    channel: Channel,
    snr_db: float,
    data_uses: int,
    constellation: Constellation = QPSK,
    number: int = COUNT,
) -> Iterator[Received]:
    """Simulate receptions of known symbols: fixed realisations of the channel, in several batches.

    For a flat channel without fading the first batch suffices. For every other channel all realisations
    are simulated, since a rare packet loss may be absent from one batch.

    The channel knowledge of the receiver is checked against the transmitted symbols:

        E|y - h x|^2 <= E noise_var + min(E noise_var, E|h|^2).

    Pilot-based estimates satisfy this. The comparison allows five standard errors of the mean over the
    realisations.

    Args:
        channel: Any channel.
        snr_db: Average received Es/N0 in dB.
        data_uses: Data symbols of each reception, at least 0.
        constellation: Constellation of the data symbols; what clipping does to them depends on it.
        number: Number of realisations, at least 1.

    Yields:
        Batches of receptions [part, data_uses], `number` in total, or fewer without fading.

    Raises:
        ChannelError: The receiver's channel knowledge is wrong, for instance behind `NoCSI` over fading, so
            that performance cannot be predicted from it.
    """
    wrong: list[Tensor] = []
    snr: list[Tensor] = []
    first = min(number, max(2, _TO_JUDGE // max(data_uses, 1)))
    at_once = max(1, _AT_ONCE // max(data_uses + channel.overhead(data_uses), 1))
    starts = [0, *range(first, number, at_once), number]
    for start, end in itertools.pairwise(starts):
        rng = NamedStreams(0, tuple(f"realisation={i}" for i in range(start, end)))
        x = constellation.modulate(rng.bits("bits", (constellation.bits_per_symbol * data_uses,)))
        received = transmit(channel, x, snr_db, rng.fork("channel"))
        noise_var = received.noise_var.double().mean(1)
        wrong.append((received.y - received.h * x).abs().square().double().mean(1) / noise_var - 1)
        snr.append(received.h.abs().square().double().mean(1) / noise_var)
        yield received
        per_use = received.h.abs() / received.noise_var.sqrt()
        # equal up to rounding
        alike = torch.allclose(per_use, per_use[:1].expand_as(per_use), rtol=1e-5, atol=0)
        constant = alike and isinstance(channel, FlatChannel)
        if start == 0 and constant and float(wrong[0].mean()) <= 3 / math.sqrt(max(end * data_uses, 1)):
            return
    excess, allowed = torch.cat(wrong), min(1.0, float(torch.cat(snr).mean()))
    if float(excess.mean() - 5 * excess.std() / math.sqrt(len(excess))) > allowed:
        raise ChannelError(
            f"{channel.name} at {snr_db:g} dB: |y - h x|^2 is {1 + float(excess.mean()):.3g} times the noise "
            f"variance that the receiver believes, at most {1 + allowed:.3g} is sound; what the link carries "
            "cannot be told: give the receiver the gain, or estimate it by PilotAided"
        )


def depends_on_symbols(channel: Channel, snr_db: float) -> bool:
    """Whether the noise of a channel depends on the symbols sent, as behind an amplifier that clips.

    Args:
        channel: Any channel.
        snr_db: Average received Es/N0 in dB.

    Returns:
        True if N0 as stated to the receiver differs between QPSK and 256-QAM symbols.
    """
    rng = NamedStreams(0, ("realisation=0",))
    uses = 256
    state = channel.draw(uses, snr_db, rng.fork("channel"))
    first, second = (
        channel.apply(c.modulate(rng.bits("bits", (c.bits_per_symbol * uses,))), state).noise_var
        for c in (QPSK, Constellation(256))
    )
    return not torch.allclose(first, second, rtol=1e-6, atol=0)
