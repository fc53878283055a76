"""Measured tables that a scheme decides by are part of what it is: another table, another fingerprint."""

from dataclasses import replace
from typing import Any

import pytest
from instances import JPEG
from toys import picture

from channels import AWGN
from channels.mcs import BlerTable, shipped_bler_counts
from semcom import names
from semcom.budget import Budget
from semcom.calibration import ErrorTable, shipped_tables
from semcom.codecs.packets import TextPackets
from semcom.codecs.text import Zlib
from semcom.envelope import Choice, Envelope, GenieEnvelope, plausible
from semcom.packetised import Packetised
from semcom.provenance import fingerprint
from semcom.separate import Adapted
from semcom.sweep import noise_streams
from semcom.transmission import ChannelKnowledge

ROWS = (Choice("awgn", "1/6", 0.0, "jpeg", 9, 0, 30.0, 0.0),)


def worse_table(by_db: float) -> BlerTable:
    """The shipped table of a decoder that needs `by_db` more."""
    counts = shipped_bler_counts().copy()
    counts[:, 2] += by_db
    return BlerTable(counts)


PLANNERS: tuple[tuple[Any, Any], ...] = tuple(
    (plain, replace(plain, table=worse_table(2.0)))
    for plain in (
        Adapted(),
        Envelope((JPEG,), ROWS),
        GenieEnvelope((JPEG,)),
        Packetised(TextPackets(Zlib()), 512),
    )
)


@pytest.mark.parametrize(("plain", "other"), PLANNERS, ids=lambda part: type(part).__name__)
def test_another_table_of_error_rates_is_another_scheme(plain, other) -> None:
    one = shipped_bler_counts().copy()
    one[17, 4] += 1
    nearly = replace(plain, table=BlerTable(one))
    same = replace(plain, table=BlerTable(shipped_bler_counts().copy()))
    assert len({fingerprint(part) for part in (plain, other, nearly)}) == 3
    assert fingerprint(same) == fingerprint(plain)
    assert same == plain != nearly


def test_schemes_decide_by_the_table_they_hold() -> None:
    """A decoder that is 2 dB worse gets what the shipped one gets at 2 dB less."""
    known, less = ChannelKnowledge(AWGN(), 10.0), ChannelKnowledge(AWGN(), 8.0)
    (adapted, worse), (envelope, worse_envelope), *_ = PLANNERS
    assert worse.choices(known, 3000)[0] == adapted.choices(less, 3000)[0] != adapted.choices(known, 3000)[0]
    rates, fewer, same = (
        [(rate.mcs, rate.size) for rate in plausible(AWGN(), snr_db, 3000, table=table)]
        for snr_db, table in ((10.0, None), (8.0, None), (10.0, worse_table(2.0)))
    )
    assert same == fewer != rates
    fast = Choice("awgn", "1/6", 6.0, "jpeg", 9, 0, 30.0, 0.0)
    chosen = [
        replace(e, choices=(fast,)).choose(AWGN(), 6.0, 1 / 6, 3000)[0] for e in (envelope, worse_envelope)
    ]
    assert chosen[0].mcs == 9 > chosen[1].mcs


def test_another_table_of_decoder_errors_is_another_hybrid() -> None:
    scheme = names.scheme("hybrid:avif:mcs6:softcast:0.5")
    hybrid: Any = scheme.transmission
    rows = {
        code: ErrorTable(table.axes, table.grid, table.rows + 0.5) for code, table in shipped_tables().items()
    }
    other = replace(hybrid, tables=rows)
    same = replace(hybrid, tables=dict(shipped_tables()))
    assert fingerprint(replace(scheme, transmission=other)) != fingerprint(scheme)
    assert fingerprint(replace(scheme, transmission=same)) == fingerprint(scheme)
    assert hash(hybrid) == hash(same)  # tables are mappings, which have no hash
    item = picture("p", 48, 64)
    shown = [
        part.transmit(item.x, Budget.from_rho("1/4", item.x.numel()), AWGN(), 12.0, noise_streams("p", 0))[
            0
        ].x_hat
        for part in (scheme, replace(scheme, transmission=other))
    ]
    assert (shown[0] - shown[1]).abs().max() > 1e-4  # the pieces are weighed otherwise
