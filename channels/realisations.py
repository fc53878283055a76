"""Channel realisations that a transmitter simulates in advance from the statistics of the channel."""

# torch's and numpy's stubs leave types open
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from channels.channel import Channel, Received, transmit
from channels.constellation import Constellation
from channels.errors import ChannelError
from channels.fading import FlatChannel
from channels.header import QPSK
from channels.streams import NamedStreams

COUNT = 200
"""Number of realisations simulated for a fading channel."""

_AT_ONCE = 2**21  # channel uses drawn in one call
_TO_JUDGE = 2**14  # channel uses needed to measure the noise variance to 1 %


def realisations(
    channel: Channel, snr_db: float, data_uses: int, constellation: Constellation = QPSK
) -> Iterator[Received]:
    """Simulate receptions of known symbols: 200 fixed realisations of the channel, in several batches.

    For a flat channel without fading the first batch suffices. For every other channel all 200 realisations
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

    Yields:
        Batches of receptions [part, data_uses], 200 receptions in total, or fewer without fading.

    Raises:
        ChannelError: The receiver's channel knowledge is wrong, for instance behind `NoCSI` over fading, so
            that performance cannot be predicted from it.
    """
    wrong: list[Tensor] = []
    snr: list[Tensor] = []
    first = min(COUNT, max(2, _TO_JUDGE // max(data_uses, 1)))
    starts = [0, *range(first, COUNT, max(1, _AT_ONCE // max(data_uses, 1))), COUNT]
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
    if float(excess.mean() - 5 * excess.std() / math.sqrt(COUNT)) > allowed:
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
