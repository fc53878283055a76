"""Modulation and coding schemes of 5G NR, in one ordered table."""

import functools
import math
from dataclasses import dataclass

from channels.constellation import Constellation
from channels.fec.transport import TransportBlock
from channels.header import ControlHeader, uses_for_budget, uses_for_snr


@dataclass(frozen=True, slots=True)
class Mcs:
    """A constellation and the code rate it is used with.

    Args:
        index: Place in `MCS_TABLE`; not an index of the standard.
        bits_per_symbol: log2 M of the constellation.
        code_rate: R, information bits (CRCs included) per coded bit.

    Example:
        >>> MCS_TABLE[3]
        Mcs(index=3, bits_per_symbol=2, code_rate=0.1171875)
    """

    index: int
    bits_per_symbol: int
    code_rate: float

    @property
    def name(self) -> str:
        """Constellation and code rate in 1024ths, as the standard writes it ("16-qam-378")."""
        return f"{self.constellation.name}-{self.code_rate * 1024:g}"

    @property
    def constellation(self) -> Constellation:
        """The constellation."""
        return Constellation(2**self.bits_per_symbol)

    @property
    def bits_per_use(self) -> float:
        """R log2 M, CRCs included."""
        return self.code_rate * self.bits_per_symbol


# bits per symbol: 1024 times the code rate
_LOW_RATES = {2: (30.0, 50.0, 78.0)}  # rows 0, 2 and 4 of TS 38.214, Table 5.1.3.1-3
_RATES = {  # TS 38.214, Table 5.1.3.1-2
    2: (120.0, 193.0, 308.0, 449.0, 602.0),
    4: (378.0, 434.0, 490.0, 553.0, 616.0, 658.0),
    6: (466.0, 517.0, 567.0, 616.0, 666.0, 719.0, 772.0, 822.0, 873.0),
    8: (682.5, 711.0, 754.0, 797.0, 841.0, 885.0, 916.5, 948.0),
}
_ROWS = [(m, r / 1024) for table in (_LOW_RATES, _RATES) for m, rates in table.items() for r in rates]

MCS_TABLE: tuple[Mcs, ...] = tuple(Mcs(i, m, r) for i, (m, r) in enumerate(_ROWS))
"""31 schemes in rising order of bits per use, from 0.06 to 7.41.

Rows 3 to 30 are rows 0 to 27 of TS 38.214, Table 5.1.3.1-2, which reaches 256-QAM. Before them stand three
rows of Table 5.1.3.1-3 in steps of about 2 dB, so that links work down to some -13 dB; an index still fits five
bits.
"""


def header_of(mcs: Mcs, adapted: bool, data_uses: int) -> ControlHeader:
    """The control header of a link.

    A fixed MCS announces a size of 6 bits, with the energy it takes at the lowest SNR the MCS is good for; an
    adapted one also announces its row, at a length that must not depend on it.
    """
    if adapted:
        return ControlHeader(11, min(uses_for_budget(data_uses), data_uses), data_uses)
    return ControlHeader(6, min(uses_for_snr(2**mcs.bits_per_use - 1), data_uses), data_uses)


@functools.lru_cache(maxsize=4096)
def largest_message(mcs: Mcs, header: ControlHeader, data_uses: int) -> int:
    """The most information bits, in whole bytes, whose code blocks with their CRCs keep to the code rate."""
    coded_bits = (data_uses - header.uses) * mcs.bits_per_symbol
    room = math.floor(mcs.code_rate * coded_bits)
    bits = (room - 16) // 8 * 8  # the shortest CRC of a message
    while bits > 0:
        plan = TransportBlock(bits, coded_bits, mcs.bits_per_symbol)
        excess = plan.blocks * plan.block.info_bits - room
        if excess <= 0:
            return bits
        bits -= -(-excess // 8) * 8
    return 0
