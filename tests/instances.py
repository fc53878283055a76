"""One list per interface; every contract test runs over all of it."""

from channels import (
    AWGN,
    OFDM,
    TDL,
    CarrierOffset,
    ClippedAmplifier,
    GenieCSI,
    GilbertElliott,
    Impaired,
    IndependentErasure,
    Interleaved,
    JakesFading,
    NoCSI,
    Numerology,
    PhaseNoise,
    PilotAided,
    Pilots,
    RayleighBlockFading,
    RicianBlockFading,
)
from semcom.metrics.catalogue import ALL_METRICS

CHANNELS = (
    AWGN(),
    RayleighBlockFading(1),
    RayleighBlockFading(24),
    RicianBlockFading(16, 6.0),
    JakesFading(0.01),
    PilotAided(JakesFading(0.01), 9),
    PilotAided(RayleighBlockFading(10), 4, "linear"),
    GenieCSI(PilotAided(RicianBlockFading(16, 6.0), 7)),
    NoCSI(RayleighBlockFading(24)),
    Interleaved(RayleighBlockFading(24)),
    Interleaved(PilotAided(RayleighBlockFading(10), 9)),
    Impaired(RayleighBlockFading(24), (PhaseNoise(1000.0), CarrierOffset(0.001))),
    PilotAided(Impaired(AWGN(), (PhaseNoise(1000.0), CarrierOffset(0.001))), 7),
    OFDM(),
    OFDM((TDL("A", 100.0, 100.0),)),
    OFDM((TDL("C", 300.0, 1000.0),), pilots=Pilots(7, (0,), 1)),
    OFDM((TDL("D", 300.0, 50.0),), pilots=Pilots(1, (0,), 4, "linear")),
    OFDM((TDL("E", 100.0),), Numerology(128, 72, 9, 15e3)),
    GenieCSI(OFDM((TDL("B", 300.0, 1000.0),))),
    OFDM((ClippedAmplifier(6.0), TDL("A", 100.0, 10.0), PhaseNoise(50.0), CarrierOffset(0.01))),
)

PACKET_CHANNELS = (IndependentErasure(0.1), GilbertElliott(0.05, 0.4), GilbertElliott(0.1, 0.3, 0.02, 0.7))

METRICS = ALL_METRICS
