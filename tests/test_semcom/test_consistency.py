"""The receiver that keeps to the bytes that arrived."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from toys import picture

from channels import AWGN, Channel, NamedStreams, RayleighBlockFading, Received, transmit
from semcom import names
from semcom.calibration import shipped_tables
from semcom.cells import Cells
from semcom.codecs import Jpeg, Quality, StreamCodec
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.observation import Decoded, Observation, Payload
from semcom.receivers.consistency import Consistency
from semcom.receivers.diffpir import DiffPIR
from semcom.receivers.evidence import in_prior_units
from semcom.receivers.generative import Generative
from semcom.samplers import Matched
from semcom.separate import FixedMcs, Separate
from semcom.transmission import ChannelKnowledge, Genie, Transmission, Whispered

PLAIN = AWGN()
REACHED = 1e-5
"""In units of pictures in [0, 1]: how far outside of its cell a coefficient of the picture shown may be."""


def prior(x: Tensor, sigma: Tensor) -> Tensor:
    """Shrinks towards the mean of the neighbours, and overshoots the box."""
    smooth = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    share = (0.3 / (0.3 + sigma))[:, None, None, None]
    return 1.2 * (smooth + share * (x - smooth))


TOY = picture("toy", 42, 54).x
SHAPE = tuple(TOY.shape)


def sent(transmission: Transmission | Genie, channel: Channel, uses: int) -> Whispered:
    """By a transmitter that knows of 10 dB, if it is told anything."""
    known = ChannelKnowledge(channel, 10.0) if transmission.csit == "average" else None
    if isinstance(transmission, Genie):
        (whispered,) = transmission.send_all(TOY, uses, known)
    else:
        whispered = Whispered(transmission.send(TOY, uses, known), None)
    assert not whispered.sent.cause
    return whispered


def receptions(whispered: Whispered, channel: Channel, snr_db: list[float]) -> Received:
    rng = NamedStreams(0, tuple(map(str, range(len(snr_db)))))
    symbols = whispered.sent.symbols.expand(rng.batch, -1)
    return transmit(channel, symbols, torch.tensor(snr_db), rng.fork("channel"))


def delivered(transmission: Transmission | Genie, snr_db: float = 10.0, uses: int = 1500) -> Observation:
    whispered = sent(transmission, PLAIN, uses)
    received = receptions(whispered, PLAIN, [snr_db])
    if isinstance(transmission, Genie):
        (observation,) = transmission.receive_knowing([whispered], [received], SHAPE, uses)
    else:
        (observation,) = transmission.receive(received, SHAPE, uses)
    return observation


def rng(seed: int = 0) -> NamedStreams:
    return NamedStreams(seed, ("toy",))


def decoded(observation: Observation) -> Decoded:
    (evidence,) = observation.evidence
    assert isinstance(evidence, Decoded)
    return evidence


def payload(observation: Observation) -> Payload:
    found = decoded(observation).payload
    assert found is not None
    return found


def cells_of(observation: Observation) -> Cells:
    cells = StreamCodec(Jpeg()).cells(payload(observation).data, SHAPE)
    assert cells is not None
    return cells


@pytest.mark.parametrize("name", ["jpeg+ldpc:csit-average", "jpeg+ldpc:mcs3", "jpeg+ideal:csit-average"])
@pytest.mark.parametrize("snr_db", [10.0, 30.0])
@pytest.mark.parametrize("uses", [700, 1500, 2500])
def test_what_is_shown_codes_to_what_arrived(name: str, uses: int, snr_db: float) -> None:
    """At every knob, with every number of samples: two points of a convex set and what lies between them."""
    observation = delivered(names.scheme(name).transmission, snr_db, uses)
    cells = cells_of(observation)
    for spec in ("consistency:2", "consistency:2:0.5", "consistency:1:0", "consistency:2:0.7:3"):
        receiver = names.receiver(spec, prior)
        shown = receiver(observation, SHAPE, rng())
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
        assert float(cells.misfit(shown.double()).max()) < REACHED
        assert torch.equal(shown, receiver(observation, SHAPE, rng()))
    other = Generative(DiffPIR(prior, Matched(2)))(observation, SHAPE, rng())
    assert float(cells.misfit(other.double()).max()) > 100 * REACHED  # this prior alone does not keep to them


def test_samples_differ_by_seed_and_from_the_decoded_picture() -> None:
    observation = delivered(names.scheme("jpeg+ldpc").transmission)
    receiver = names.receiver("consistency:2", prior)
    first, second = (receiver(observation, SHAPE, rng(seed)) for seed in (0, 1))
    assert float((first - second).abs().max()) > 0.01
    shown = replace(receiver, knob=0.0)(observation, SHAPE, rng())
    assert float((shown - decoded(observation).y).abs().mean()) < 1 / 255


def test_cells_are_in_the_units_of_the_prior() -> None:
    observation = delivered(names.scheme("jpeg+ldpc").transmission)
    evidence = in_prior_units(observation, SHAPE, "consistency", "cells", shipped_tables())
    assert evidence.cells is not None
    assert evidence.guess is not None
    assert float(evidence.cells.misfit(evidence.guess.double())) < 2 * REACHED
    x = torch.rand(SHAPE, dtype=torch.float64)
    torch.testing.assert_close(evidence.cells.misfit(2 * x - 1), 2 * cells_of(observation).misfit(x))


def test_payloads_go_with_their_items() -> None:
    """Of a batch in fading some arrive; those bring their bytes, which are the same, and a lost one none."""
    transmission, channel = names.scheme("jpeg+ldpc:mcs3").transmission, RayleighBlockFading(2000)
    assert isinstance(transmission, Transmission)
    received = receptions(sent(transmission, channel, 1500), channel, [3.0] * 12)
    observations = transmission.receive(received, SHAPE, 1500)
    arrived = [observation for observation in observations if observation.shown is not None]
    assert 0 < len(arrived) < 12
    assert len({payload(observation).data for observation in arrived}) == 1
    receiver = names.receiver("consistency:2", prior)
    for i, observation in enumerate(observations):
        (alone,) = transmission.receive(received.item(i), SHAPE, 1500)
        if observation.shown is None:
            assert observation.evidence == alone.evidence == ()
            assert alone.shown is None
        else:
            assert payload(alone).data == payload(observation).data
            shown = receiver(observation, SHAPE, NamedStreams(0, (f"{i}",)))
            assert float(cells_of(observation).misfit(shown.double())) < REACHED


def test_what_has_no_cells_is_one_line() -> None:
    receiver = names.receiver("consistency:2", prior)
    for name in ("avif+ldpc:mcs3", "softcast", "deepjscc"):
        observation = delivered(names.scheme(name).transmission)
        with pytest.raises(UnsuitableEvidence, match="choose jpeg as the codec, or ddrm") as raised:
            receiver(observation, SHAPE, rng())
        assert "\n" not in str(raised.value)
    for wrong in (
        lambda: Consistency(prior, strength=0.0),
        lambda: Consistency(prior, zeta=1.1),
        lambda: Consistency(prior, bound=0.0),
    ):
        with pytest.raises(InvalidOption, match="above 0, 0 to 1, above 0"):
            wrong()


def test_bytes_that_only_a_decoder_forgives_bound_nothing() -> None:
    codec = StreamCodec(Jpeg())
    observation = delivered(names.scheme("jpeg+ldpc").transmission)
    evidence, data = decoded(observation), payload(observation).data + b"\0\0"
    assert torch.equal(codec.decode(data, SHAPE), evidence.y)  # libjpeg-turbo reads over it
    forgiven = replace(observation, evidence=(replace(evidence, payload=Payload(codec, data, codec.name)),))
    shown = names.receiver("consistency:2", prior)(forgiven, SHAPE, rng())
    assert shown.shape == SHAPE
    assert float(cells_of(observation).misfit(shown.double())) > REACHED


@dataclass(frozen=True)
class Mute:
    """A codec of third parties that has never heard of cells."""

    name: str = "jpeg"
    qualities: tuple[Quality, ...] = (Quality(1, 40),)

    def encode(self, x: Tensor, quality: Quality) -> bytes:
        return StreamCodec(Jpeg()).encode(x, quality)

    def decode(self, payload: bytes, shape: tuple[int, ...]) -> Tensor:
        return StreamCodec(Jpeg()).decode(payload, shape)


def test_codecs_of_third_parties_need_no_cells() -> None:
    observation = delivered(Separate(Mute(), FixedMcs(3)), uses=12000)
    assert names.receiver("ddrm:2", prior)(observation, SHAPE, rng()).shape == SHAPE
    with pytest.raises(UnsuitableEvidence, match="choose jpeg"):
        names.receiver("consistency:2", prior)(observation, SHAPE, rng())
