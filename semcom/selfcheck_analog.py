"""Self-check of analog schemes: what their symbols meet in an amplifier that clips."""

from collections.abc import Iterator

from channels import AWGN, ClippedAmplifier, Impaired, NamedStreams, PilotAided, RayleighBlockFading, transmit
from channels.selfcheck import Check, belief
from semcom import names
from semcom.budget import Budget
from semcom.data import sample_photos
from semcom.modalities import IMAGE
from semcom.transmission import Transmission

SCHEMES = ("softcast", "deepjscc", "deepjscc-2019")
SNR_DB = 30.0
ITEMS = 100


def analog_rows(seed: int = 0) -> Iterator[Check]:
    """Measure the noise of analog symbols behind a clipping amplifier against what receivers are told of it.

    The symbols are those of a photograph of 128x96 pixels at 1/12 channel uses per pixel value.

    Args:
        seed: Seed of noise and fading.

    Yields:
        Checks, each as soon as it is measured.
    """
    x = sample_photos((128, 96))[0].x
    uses = Budget.from_rho("1/12", x.numel()).channel_uses
    amplifier = (ClippedAmplifier(3.0),)
    media = (
        Impaired(AWGN(), amplifier),
        PilotAided(Impaired(RayleighBlockFading(64), amplifier), 15),
    )
    for name in SCHEMES:
        transmission = names.scheme(name, IMAGE).transmission
        assert isinstance(transmission, Transmission)
        symbols = transmission.send(x, uses, None).symbols
        for channel in media:
            rng = NamedStreams(seed, tuple(f"item={i}" for i in range(ITEMS))).fork(f"{name} {channel.name}")
            received = transmit(channel, symbols.expand(ITEMS, -1), SNR_DB, rng)
            yield belief(f"{name} on {channel.name} at {SNR_DB:g} dB", symbols, received)
