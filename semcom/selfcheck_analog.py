"""Self-check of analog schemes: what their symbols meet in an amplifier that clips."""

from collections.abc import Iterator

import torch

from channels import (
    AWGN,
    OFDM,
    Channel,
    ClippedAmplifier,
    Impaired,
    NamedStreams,
    Numerology,
    PilotAided,
    RayleighBlockFading,
    transmit,
)
from channels.selfcheck import Check, belief
from semcom import names
from semcom.budget import Budget
from semcom.data import sample_photos
from semcom.modalities import IMAGE
from semcom.transmission import Transmission

SCHEMES = ("softcast", "deepjscc", "deepjscc-2019")
SNR_DB = 30.0
WIDTH, HEIGHT = 128, 96
"""Size in pixels of the pictures whose symbols are sent."""


def analog_rows(seed: int = 0) -> Iterator[Check]:
    """Measure the noise of analog symbols behind a clipping amplifier against what receivers are told of it.

    The symbols are those of 16 pictures of 128x96 pixels, quarters of the shipped photographs, at 1/12
    channel uses per pixel value, sent alone, beside pilots, and on the subcarriers of OFDM with and without
    guards.

    Args:
        seed: Seed of noise and fading.

    Yields:
        Checks, each as soon as it is measured.
    """
    pictures = [
        photo.x[..., top : top + HEIGHT, left : left + WIDTH]
        for photo in sample_photos((2 * WIDTH, 2 * HEIGHT))
        for top in (0, HEIGHT)
        for left in (0, WIDTH)
    ]
    uses = Budget.from_rho("1/12", pictures[0].numel()).channel_uses
    amplifier = (ClippedAmplifier(3.0),)
    media: tuple[Channel, ...] = (
        Impaired(AWGN(), amplifier),
        PilotAided(Impaired(RayleighBlockFading(64), amplifier), 15),
        OFDM(amplifier, Numerology(64, 64, 16)),
        OFDM(amplifier, Numerology(64, 48, 16)),
    )
    for name in SCHEMES:
        transmission = names.scheme(name, IMAGE).transmission
        assert isinstance(transmission, Transmission)
        for channel in media:
            sent = [transmission.send(x, channel.data_uses(uses), None).symbols for x in pictures]
            symbols = torch.cat(sent)
            rng = NamedStreams(seed, tuple(f"item={i}" for i in range(len(sent))))
            received = transmit(channel, symbols, SNR_DB, rng.fork(f"{name} {channel.name}"))
            yield belief(f"{name} on {channel.name} at {SNR_DB:g} dB", symbols, received)
