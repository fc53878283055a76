"""Analog schemes behind an amplifier that clips."""

import math
from collections.abc import Iterator

import pytest
import torch

from channels import (
    AWGN,
    Channel,
    ClippedAmplifier,
    Impaired,
    IndependentLoss,
    Lossy,
    NamedStreams,
    PilotAided,
    RayleighBlockFading,
    transmit,
)
from semcom import names
from semcom.budget import Budget
from semcom.data import sample_photos
from semcom.modalities import IMAGE
from semcom.observation import Decoded, Symbols
from semcom.scheme import Scheme
from semcom.selfcheck_analog import analog_rows
from semcom.transmission import Sent, Transmission

ANALOG = ("softcast", "deepjscc", "deepjscc-2019", "hybrid:jpeg:mcs6:softcast-residual:0.5")
"""Every way to send analog symbols."""


@pytest.fixture(scope="module", params=ANALOG)
def scheme(request: pytest.FixtureRequest) -> Scheme:
    return names.scheme(request.param, IMAGE)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return sample_photos((96, 128))[0].x


def uses_of(x: torch.Tensor) -> int:
    return Budget.from_rho("1/12", x.numel()).channel_uses


def sent_by(scheme: Scheme, x: torch.Tensor) -> Sent:
    assert isinstance(scheme.transmission, Transmission)
    return scheme.transmission.send(x, uses_of(x), None)


def psnr_db(scheme: Scheme, x: torch.Tensor, channel: Channel, snr_db: float, seeds: int) -> torch.Tensor:
    rng = NamedStreams(4, tuple(map(str, range(seeds))))
    outcomes = scheme.transmit(x, Budget.from_rho("1/12", x.numel()), channel, snr_db, rng)
    shown = torch.cat([outcome.x_hat for outcome in outcomes])
    return -10 * (shown - x).square().mean((1, 2, 3)).log10()


def test_peaks_are_those_of_gaussian_symbols(scheme: Scheme, photo: torch.Tensor) -> None:
    """P(max |x|^2 > (ln k + t) power) < e^-t, here 1e-3, of the part with the larger power."""
    power = sent_by(scheme, photo).symbols.abs().square()[0]
    limit = math.log(len(power)) + math.log(1e3)
    assert float(power.max()) < limit * max(float(half.mean()) for half in power.tensor_split(2))


@pytest.mark.parametrize(
    "channel",
    [
        Impaired(AWGN(), (ClippedAmplifier(3.0),)),
        Impaired(RayleighBlockFading(64), (ClippedAmplifier(6.0),)),
        PilotAided(Impaired(RayleighBlockFading(32), (ClippedAmplifier(3.0),)), 15),
    ],
    ids=lambda channel: channel.name,
)
def test_the_noise_of_clipped_symbols_is_what_the_receiver_believes(
    scheme: Scheme, photo: torch.Tensor, channel: Channel
) -> None:
    symbols, items = sent_by(scheme, photo).symbols, 100
    rng = NamedStreams(5, tuple(map(str, range(items))))
    received = transmit(channel, symbols.expand(items, -1), 30.0, rng)
    ratio = ((received.y - received.h * symbols).abs().square() / received.noise_var).mean(1)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(items)


def test_clipping_at_6_db_costs_less_than_a_decibel(scheme: Scheme, photo: torch.Tensor) -> None:
    clipped = Impaired(AWGN(), (ClippedAmplifier(6.0),))
    kept, lost = (psnr_db(scheme, photo, channel, 20.0, 8).mean() for channel in (AWGN(), clipped))
    assert kept - 1 < lost < kept + 0.1


@pytest.mark.parametrize("name", ANALOG[:3])
def test_no_packet_matters_more_than_the_others(name: str, photo: torch.Tensor) -> None:
    """Of 16 packets one is lost on average; as they come, the first one holds most of the picture."""
    scheme = names.scheme(name, IMAGE)
    channel = Lossy(AWGN(), -(-uses_of(photo) // 16), IndependentLoss(1 / 16))
    quality, whole = psnr_db(scheme, photo, channel, 15.0, 40), psnr_db(scheme, photo, AWGN(), 15.0, 1)
    assert float(quality.min()) > float(whole) - 6


def found(scheme: Scheme, x: torch.Tensor, snr_db: float, seeds: int) -> Iterator[Symbols]:
    received = transmit(
        RayleighBlockFading(32),
        sent_by(scheme, x).symbols.expand(seeds, -1),
        snr_db,
        NamedStreams(6, tuple(map(str, range(seeds)))),
    )
    assert isinstance(scheme.transmission, Transmission)
    for observation in scheme.transmission.receive(received, tuple(x.shape), uses_of(x)):
        for evidence in observation.evidence:
            assert isinstance(evidence, Symbols)
            yield evidence


@pytest.mark.parametrize("snr_db", [5.0, 20.0])
def test_softcast_knows_its_error_under_fading(photo: torch.Tensor, snr_db: float) -> None:
    """Evidence: white noise of variance 1 on every coefficient sent. Estimate: the error that is expected."""
    scheme, seeds = names.scheme("softcast", IMAGE), 30
    ratios, misfits = [], []
    for symbols in found(scheme, photo, snr_db, seeds):
        ratios.append(float((symbols.estimate - photo).square().mean().sqrt()) / symbols.error_std)
        sent = symbols.linear.operator.gains.expand_as(photo) > 0  # pyright: ignore
        misfit = symbols.linear.y - symbols.linear.operator.A(photo)
        misfits.append(misfit[sent].square().mean())
    mean = torch.stack(misfits)
    assert len(mean) > 0.9 * seeds
    assert abs(mean.mean() - 1) < 4 * mean.std() / math.sqrt(len(mean)) + 0.015
    assert 0.7 < min(ratios) < max(ratios) < 1.3


def test_symbols_of_a_network_are_evidence_of_the_picture_under_fading(photo: torch.Tensor) -> None:
    """y - M(x) is the noise itself, of variance 1."""
    scheme = names.scheme("deepjscc", IMAGE)
    received = transmit(
        RayleighBlockFading(32), sent_by(scheme, photo).symbols, 10.0, NamedStreams(6, ("a",))
    )
    assert isinstance(scheme.transmission, Transmission)
    (observation,) = scheme.transmission.receive(received, tuple(photo.shape), uses_of(photo))
    (evidence,) = observation.evidence
    assert isinstance(evidence, Decoded)
    assert evidence.symbols is not None
    with torch.no_grad():
        misfit = evidence.symbols.y - evidence.symbols.measurement(photo)
    assert float(misfit.square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / misfit.numel()))


def test_selfcheck_finds_the_noise_that_is_told() -> None:
    rows = list(analog_rows())
    assert len({row.name for row in rows}) == len(rows) == 12
    assert [row for row in rows if not row.ok] == []
