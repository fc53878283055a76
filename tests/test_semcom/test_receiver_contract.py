"""What every receiver keeps, those of third parties included."""

import copy
import pickle
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from guests.modality import WAVEFORM
from guests.receiver import SMOOTHING
from instances import CLIP_REFINER, GENERATIVE
from toys import picture

from channels import AWGN, NamedStreams, transmit
from semcom.codecs.av import InterCodec
from semcom.modalities import IMAGE, VIDEO, Clip, Modality
from semcom.observation import Decoded, Gaps, Observation, Payload
from semcom.provenance import fingerprint
from semcom.receivers import Direct
from semcom.receivers.clips import Interpolation
from semcom.scheme import Decides, Receiver
from semcom.transmission import ChannelKnowledge, Genie

USES = 6000
SOUND = (9000 * np.sin(np.arange(600) / 3)).astype(np.int16)


@dataclass(frozen=True)
class Case:
    """A receiver, and what a transmission has observed of an item that arrived."""

    receiver: Receiver[Any]
    modality: Modality[Any]
    arrived: Observation[Any]
    shape: Any

    @property
    def name(self) -> str:
        return self.receiver.name


def of_pictures() -> list[Case]:
    cases: list[Case] = []
    x = picture("toy", 24, 40).x
    for scheme in GENERATIVE:
        transmission = scheme.transmission
        if isinstance(transmission, Genie):
            continue
        known = ChannelKnowledge(AWGN(), 20.0) if transmission.csit == "average" else None
        sent = transmission.send(x.clone(), USES, known)
        received = transmit(AWGN(), sent.symbols, 20.0, NamedStreams(0, ("channel",)))
        (arrived,) = transmission.receive(received, tuple(x.shape), USES)
        cases.append(Case(scheme.receiver, IMAGE, arrived, tuple(x.shape)))
    return cases


def of_clips() -> list[Case]:
    levels = torch.arange(5 * 3 * 18 * 26, dtype=torch.int64).remainder(251).to(torch.uint8)
    clip = Clip(levels.reshape(5, 3, 18, 26), Fraction(25))
    shape, codec = VIDEO.shape(clip), InterCodec("x264")
    payload = codec.encode(clip, codec.quality(40.0))
    decoded = Decoded(clip, payload=Payload(codec, payload, codec.name))
    gaps = Gaps(clip, (True, False, False, False, True))
    return [
        Case(CLIP_REFINER, VIDEO, Observation(clip, (decoded,)), shape),
        Case(Interpolation(), VIDEO, Observation(clip, (gaps,)), shape),
    ]


CASES = (
    *of_clips(),
    Case(Direct(), IMAGE, Observation(picture("toy", 24, 40).x), (1, 3, 24, 40)),
    *of_pictures(),
    Case(SMOOTHING, WAVEFORM, Observation(SOUND), ("samples", 600)),
)
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def rng(name: str = "receiver") -> NamedStreams:
    return NamedStreams(0, (name,))


@every
def test_shows_an_item_of_the_shape(case: Case) -> None:
    shown = case.receiver(case.arrived, case.shape, rng())
    assert case.modality.shape(case.modality.check(shown)) == case.shape


@every
def test_a_decision_is_that_of_the_call_in_finite_numbers(case: Case) -> None:
    if not isinstance(case.receiver, Decides):
        pytest.skip("nothing to decide")
    shown, columns = case.receiver.decided(case.arrived, case.shape, rng())
    assert case.modality.digest(shown) == case.modality.digest(case.receiver(case.arrived, case.shape, rng()))
    assert columns
    assert all(np.isfinite(value) for value in columns.values())
    lost, of_lost = case.receiver.decided(Observation(None), case.shape, rng())
    assert lost is None or of_lost


@every
def test_the_same_observation_and_noise_give_the_same_item(case: Case) -> None:
    one, two = (case.receiver(case.arrived, case.shape, rng()) for _ in range(2))
    assert case.modality.digest(one) == case.modality.digest(two)


@every
def test_what_was_lost_is_none_or_an_item_of_the_shape(case: Case) -> None:
    shown = case.receiver(Observation(None), case.shape, rng())
    assert shown is None or case.modality.shape(case.modality.check(shown)) == case.shape


@every
def test_the_observation_stays_as_it_is(case: Case) -> None:
    if case.arrived.shown is None:
        pytest.skip("nothing is shown without the receiver")
    before = copy.deepcopy(case.arrived.shown)
    case.receiver(case.arrived, case.shape, rng())
    assert case.modality.digest(case.arrived.shown) == case.modality.digest(before)


@every
def test_a_receiver_is_a_value_with_a_name(case: Case) -> None:
    """It travels to other processes, and gives the same there."""
    assert case.receiver.name
    assert not set(" \n+") & set(case.receiver.name)
    twin = pickle.loads(pickle.dumps(case.receiver))
    assert twin.name == case.receiver.name
    assert fingerprint(twin) == fingerprint(case.receiver)
    shown = [receiver(case.arrived, case.shape, rng()) for receiver in (case.receiver, twin)]
    assert case.modality.digest(shown[0]) == case.modality.digest(shown[1])


@every
def test_networks_leave_the_random_state_of_the_caller_alone(case: Case) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    case.receiver(case.arrived, case.shape, rng())
    assert torch.equal(torch.get_rng_state(), before)
