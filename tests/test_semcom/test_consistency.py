"""The receiver that keeps to the bytes that arrived."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from toys import picture

from channels import AWGN, Channel, NamedStreams, RayleighBlockFading
from semcom import presets
from semcom.budget import Budget
from semcom.calibration import shipped_tables
from semcom.cells import Cells
from semcom.codecs import Jpeg, Quality, StreamCodec
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.receivers.consistency import Consistency
from semcom.receivers.diffpir import DiffPIR
from semcom.receivers.evidence import in_prior_units
from semcom.receivers.generative import Generative
from semcom.samplers import Matched
from semcom.transmission import Observation, Payload, Transmission

PLAIN = AWGN()
REACHED = 1e-5
"""In units of pictures in [0, 1]: how far outside of its cell a coefficient of the picture shown may be."""


def prior(x: Tensor, sigma: Tensor) -> Tensor:
    """Shrinks towards the mean of the neighbours, and overshoots the box."""
    smooth = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    share = (0.3 / (0.3 + sigma))[:, None, None, None]
    return 1.2 * (smooth + share * (x - smooth))


def delivered(
    transmission: Transmission, snr_db: list[float], channel: Channel = PLAIN, uses: int = 1500
) -> Observation:
    item = picture("toy", 42, 54)
    sent = transmission.prepare(item.x, Budget(uses, item.x.numel()), channel, 10.0)
    assert not sent.cause
    return transmission.deliver(sent, channel, torch.tensor(snr_db), streams(len(snr_db)))


def streams(batch: int = 1) -> NamedStreams:
    return NamedStreams(0, tuple(map(str, range(batch))))


def cells_of(observation: Observation, index: int = 0) -> Cells:
    payload = observation.evidence[0].payloads[index]
    assert payload is not None
    cells = StreamCodec(Jpeg()).cells(payload.data, observation.shape)
    assert cells is not None
    return cells


@pytest.mark.parametrize("name", ["jpeg+ldpc:csit-average", "jpeg+ldpc:mcs3", "jpeg+ideal:csit-average"])
@pytest.mark.parametrize("uses", [700, 1500, 2500])
def test_what_is_shown_codes_to_what_arrived(name: str, uses: int) -> None:
    """At every knob, with every number of samples: two points of a convex set and what lies between them."""
    observation = delivered(presets.scheme(name).transmission, [10.0, 30.0], uses=uses)
    assert observation.info["outage"].tolist() == [0, 0]
    cells = cells_of(observation)
    for spec in ("consistency:2", "consistency:2:0.5", "consistency:1:0", "consistency:2:0.7:3"):
        receiver = presets.receiver(spec, prior)
        shown = receiver(observation, streams(2))
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
        assert float(cells.misfit(shown.double()).max()) < REACHED
        assert torch.equal(shown, receiver(observation, streams(2)))
    other = Generative(DiffPIR(prior, Matched(2)))(observation, streams(2))
    assert float(cells.misfit(other.double()).max()) > 100 * REACHED  # this prior alone does not keep to them


def test_samples_differ_by_seed_and_from_the_decoded_picture() -> None:
    observation = delivered(presets.scheme("jpeg+ldpc").transmission, [10.0])
    receiver = presets.receiver("consistency:2", prior)
    first, second = (receiver(observation, NamedStreams(seed, ("toy",))) for seed in (0, 1))
    assert float((first - second).abs().max()) > 0.01
    decoded = replace(receiver, knob=0.0)(observation, streams())
    assert float((decoded - observation.evidence[0].y).abs().mean()) < 1 / 255


def test_cells_are_in_the_units_of_the_prior() -> None:
    observation = delivered(presets.scheme("jpeg+ldpc").transmission, [10.0])
    evidence = in_prior_units(observation, "consistency", "cells", shipped_tables())
    assert evidence.cells is not None
    assert evidence.guess is not None
    assert float(evidence.cells.misfit(evidence.guess.double())) < 2 * REACHED
    x = torch.rand(observation.shape, dtype=torch.float64)
    torch.testing.assert_close(evidence.cells.misfit(2 * x - 1), 2 * cells_of(observation).misfit(x))


def test_payloads_go_with_their_items() -> None:
    """Of a batch in fading some arrive; those bring their bytes, which are the same, and a lost one none."""
    transmission = presets.scheme("jpeg+ldpc:mcs3").transmission
    observation = delivered(transmission, [3.0] * 12, RayleighBlockFading(2000))
    (evidence,) = observation.evidence
    lost = observation.info["outage"] == 1
    assert 0 < int(lost.sum()) < 12
    assert [payload is None for payload in evidence.payloads] == lost.tolist()
    for i in range(12):
        (alone,) = observation.item(i).evidence
        assert alone.payloads == evidence.payloads[i : i + 1]
    shown = presets.receiver("consistency:2", prior)(observation, streams(12))
    for i in range(12):
        if not lost[i]:
            assert float(cells_of(observation, i).misfit(shown[i : i + 1].double())) < REACHED


def test_what_has_no_cells_is_one_line() -> None:
    receiver = presets.receiver("consistency:2", prior)
    for name in ("avif+ldpc:mcs3", "softcast", "deepjscc"):
        observation = delivered(presets.scheme(name).transmission, [10.0])
        with pytest.raises(UnsuitableEvidence, match="choose jpeg as the codec, or ddrm") as raised:
            receiver(observation, streams())
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
    observation = delivered(presets.scheme("jpeg+ldpc").transmission, [10.0])
    (evidence,) = observation.evidence
    assert evidence.payloads[0] is not None
    data = evidence.payloads[0].data + b"\0\0"
    assert torch.equal(codec.decode(data, observation.shape), evidence.y)  # libjpeg-turbo reads over it
    forgiven = replace(observation, evidence=(replace(evidence, payloads=(Payload(codec, data),)),))
    shown = presets.receiver("consistency:2", prior)(forgiven, streams())
    assert shown.shape == observation.shape
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
    jpeg = presets.scheme("jpeg+ldpc:mcs3").transmission
    observation = delivered(replace(jpeg, codec=Mute()), [10.0], uses=12000)  # pyright: ignore
    assert presets.receiver("ddrm:2", prior)(observation, streams()).shape == observation.shape
    with pytest.raises(UnsuitableEvidence, match="choose jpeg"):
        presets.receiver("consistency:2", prior)(observation, streams())
