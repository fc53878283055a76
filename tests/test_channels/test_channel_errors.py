"""What a user can get wrong in a channel is one clear line."""

import math

import pytest

from channels import (
    AWGN,
    OFDM,
    TDL,
    CarrierOffset,
    ChannelError,
    ClippedAmplifier,
    GilbertElliott,
    Impaired,
    IndependentLoss,
    JakesFading,
    Lossy,
    Numerology,
    PhaseNoise,
    PilotAided,
    Pilots,
    RayleighBlockFading,
    RicianBlockFading,
)

NAN, INF = math.nan, math.inf

MISTAKES = {
    "no block": (lambda: RayleighBlockFading(0), "block length of 0"),
    "negative block": (lambda: RicianBlockFading(-3, 1.0), "block length of -3"),
    "K factor of infinity": (lambda: RicianBlockFading(1, INF), "K factor of inf dB"),
    "K factor not a number": (lambda: RicianBlockFading(1, NAN), "K factor of nan dB"),
    "negative Doppler": (lambda: JakesFading(-0.1), "Doppler of -0.1"),
    "aliased Doppler": (lambda: JakesFading(0.6), "Doppler of 0.6"),
    "Doppler not a number": (lambda: JakesFading(NAN), "Doppler of nan"),
    "no spacing": (lambda: PilotAided(AWGN(), 0), "spacing of 0"),
    "unknown interpolation": (lambda: Pilots(interpolation="cubic"), "cubic"),
    "pilots not ascending": (lambda: Pilots(14, (0, 7, 3)), "ascend from 0"),
    "pilots not at the start": (lambda: Pilots(14, (2, 11)), "ascend from 0"),
    "pilots outside the slot": (lambda: Pilots(7, (0, 7)), "ascend from 0"),
    "all pilots": (lambda: Pilots(2, (0, 1), 1), "no data"),
    "no subcarrier distance": (lambda: Pilots(every_subcarriers=0), "0th"),
    "too many subcarriers": (lambda: Numerology(64, 65), "65 subcarriers"),
    "no subcarriers": (lambda: Numerology(64, 0), "0 subcarriers"),
    "long prefix": (lambda: Numerology(64, 64, 65), "prefix of 65"),
    "no spacing of subcarriers": (lambda: Numerology(spacing_hz=0.0), "0 Hz"),
    "unknown profile": (lambda: TDL("F", 100.0), "'F'"),
    "negative delay spread": (lambda: TDL("A", -1.0), "delay spread of -1 ns"),
    "negative Doppler shift": (lambda: TDL("A", 1.0, -5.0), "Doppler shift of -5 Hz"),
    "infinite delay spread": (lambda: TDL("A", INF), "delay spread of inf ns"),
    "echo beyond a symbol": (lambda: OFDM((TDL("E", 5000.0),)), "longer than an OFDM symbol"),
    "one subcarrier, all pilots": (lambda: OFDM((), Numerology(64, 1), Pilots(1, (0,), 4)), "none for data"),
    "impossible peaks": (lambda: ClippedAmplifier(0.0), "peak-to-average ratio of 0 dB"),
    "peaks without end": (lambda: ClippedAmplifier(INF), "peak-to-average ratio of inf dB"),
    "negative linewidth": (lambda: PhaseNoise(-1.0), "linewidth of -1 Hz"),
    "large offset": (lambda: CarrierOffset(0.7), "offset of 0.7"),
    "multipath on one carrier": (lambda: Impaired(AWGN(), (TDL("A", 1e4),)), "equaliser"),
    "nothing impaired": (lambda: Impaired(AWGN(), ()), "no stages before awgn"),
    "short multipath on one carrier": (lambda: Impaired(AWGN(), (TDL("A", 10.0),)), "delay spread of 0"),
    "negative tracking": (lambda: Impaired(AWGN(), (PhaseNoise(1.0),), -1), "tracking pilots at every -1th"),
    "negative tracking in OFDM": (
        lambda: OFDM((PhaseNoise(1.0),), tracking=-2),
        "tracking pilots at every -2th",
    ),
    "tracking by straight lines": (
        lambda: OFDM((PhaseNoise(1.0),), pilots=Pilots(interpolation="linear"), tracking=8),
        "tracking:8) need the Wiener filter",
    ),
    "tracking everywhere": (
        lambda: OFDM((PhaseNoise(1.0),), pilots=Pilots(2, (0,), 1), tracking=1),
        "leave none for data",
    ),
    "phase noise before multipath": (
        lambda: OFDM((PhaseNoise(10.0), TDL("A", 100.0))),
        "phase-noise:10 changes with time in front of the multipath tdl-a:100:0; put it behind",
    ),
    "loss in per cent": (lambda: IndependentLoss(10.0), "loss probability of 10"),
    "loss not a number": (lambda: IndependentLoss(NAN), "loss probability of nan"),
    "no uses of a packet": (lambda: Lossy(AWGN(), 0, IndependentLoss(0.1)), "packets of 0 channel uses"),
    "losses of losses": (
        lambda: Lossy(Lossy(AWGN(), 1, IndependentLoss(0.1)), 1, IndependentLoss(0.1)),
        "loses packets already",
    ),
    "negative loss": (lambda: GilbertElliott(0.1, 0.1, -0.1), "loss probability of -0.1"),
    "transition not a number": (lambda: GilbertElliott(NAN, 0.1), "transition probability of nan"),
    "states never left": (lambda: GilbertElliott(0.0, 0.0), "both transition"),
}


@pytest.mark.parametrize(("make", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake(make, says):
    with pytest.raises(ChannelError) as caught:
        make()
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert len(message) < 160
