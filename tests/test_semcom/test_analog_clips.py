"""Clips as analog symbols, frame by frame and in groups, against the pictures and linear-Gaussian theory."""

import copy
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from instances import CLIP_TRANSMISSIONS, LATENT_TRANSMISSIONS
from torch import Tensor

from channels import AWGN, Channel, NamedStreams, RayleighBlockFading, Received, transmit
from channels.lossy import IndependentLoss, Lossy
from channels.symbols import average_power
from semcom import names
from semcom.analog_clips import FrameByFrameAnalog
from semcom.budget import Budget
from semcom.codecs.clip import from_image, squared_error, to_image
from semcom.errors import InvalidOption
from semcom.jscc.softcast import SoftCast, inverse_transform, transform
from semcom.jscc.softcast_clips import (
    ClipSoftCast,
    GroupModel,
    GroupSpectrum,
    octaves,
    restored,
    transformed,
    typical,
)
from semcom.jscc.spectrum import LEVELS, Unpacker, fits, pack
from semcom.modalities import VIDEO, Clip
from semcom.observation import Gaps
from semcom.provenance import fingerprint
from semcom.receivers import Direct
from semcom.scheme import Outcome, Scheme
from semcom.transmission import ChannelKnowledge, Transmission

SIZES = ((1, 1, 1), (3, 17, 13), (2, 24, 40), (19, 5, 8))
each = pytest.mark.parametrize("transmission", CLIP_TRANSMISSIONS, ids=lambda transmission: transmission.name)
every = pytest.mark.parametrize(
    "transmission", [*CLIP_TRANSMISSIONS, *LATENT_TRANSMISSIONS], ids=lambda transmission: transmission.name
)


def moving(frames: int, height: int, width: int, seed: int = 0, speed: int = 1) -> Clip:
    """A window that moves over a Gaussian picture with a power-law spectrum, hardly clipped."""
    rng = np.random.default_rng(seed)
    tall, wide = height + speed * frames, width + speed * frames
    u, v = np.arange(tall)[:, None] / tall, np.arange(wide) / wide
    deviation = 0.008 * math.sqrt(tall * wide) / (1 + np.hypot(u, v) * 60) ** 1.2
    photo = from_image(
        inverse_transform(rng.standard_normal((3, tall, wide)) * deviation * [[[1]], [[0.3]], [[0.2]]])
    )
    windows = [photo[:, speed * t : speed * t + height, speed * t : speed * t + width] for t in range(frames)]
    return Clip(torch.stack(windows), Fraction(25))


def noise(count: int, seed: int = 0) -> NamedStreams:
    return NamedStreams(seed, tuple(f"run {i}" for i in range(count)))


def sent(
    transmission: Transmission[Clip],
    x: Clip,
    uses: int,
    snr_db: list[float],
    channel: Channel | None = None,
    rng: NamedStreams | None = None,
) -> list[Outcome[Clip]]:
    scheme = Scheme(transmission.name, transmission, Direct(), VIDEO)
    budget, over = Budget(uses, x.frames.numel()), channel or AWGN()
    return scheme.transmit(x, budget, over, torch.tensor(snr_db), rng or noise(len(snr_db)))


def psnr_db(x_hat: Clip, x: Clip) -> float:
    return 10 * math.log10(255**2 / max(squared_error(x_hat, x), 1e-9))


# What every transmission of clips keeps


@every
@pytest.mark.parametrize("size", SIZES)
def test_uses_and_energy_keep_to_the_budget(transmission: Any, size: tuple[int, int, int]) -> None:
    x = moving(*size)
    arrived = False
    for uses in (1, 61, 902, 3 * x.frames.numel() + 9007):
        (outcome,) = sent(transmission, x, uses, [20.0])
        assert VIDEO.shape(VIDEO.check(outcome.x_hat)) == VIDEO.shape(x)
        assert outcome.channel_uses <= uses
        assert outcome.energy <= outcome.channel_uses * (1 + 1e-5)
        assert (outcome.channel_uses == 0) == bool(outcome.cause)
        assert outcome.outage == bool(outcome.cause)
        arrived = not outcome.outage
    assert arrived


@every
def test_an_item_does_not_depend_on_its_batch(transmission: Any) -> None:
    x = moving(3, 24, 40)
    rng = noise(3)
    together = sent(transmission, x, 4001, [3.0, 20.0, 8.0], rng=rng)
    for i, snr_db in enumerate((3.0, 20.0, 8.0)):
        (alone,) = sent(transmission, x, 4001, [snr_db], rng=rng.select([i]))
        assert VIDEO.digest(alone.x_hat) == VIDEO.digest(together[i].x_hat)
        assert alone.info == together[i].info


@each
def test_the_halves_never_meet(transmission: Any) -> None:
    """A receiver half that has never seen the sender half observes the same."""
    stranger = copy.deepcopy(transmission)
    x, other = moving(3, 24, 40), moving(3, 24, 40, seed=1)
    known = ChannelKnowledge(AWGN(), 20.0) if transmission.csit == "average" else None
    symbols = transmission.send(x, 4001, known).symbols
    received = transmit(AWGN(), symbols, 20.0, noise(1))
    assert transmission.send(other, 4001, known).symbols.shape == symbols.shape
    shown = [half.receive(received, VIDEO.shape(x), 4001)[0].shown for half in (transmission, stranger)]
    assert torch.equal(shown[0].frames, shown[1].frames)
    assert psnr_db(shown[0], x) > psnr_db(shown[0], other) + 5
    assert fingerprint(stranger) == fingerprint(transmission)


@each
@pytest.mark.parametrize(
    "channel",
    [RayleighBlockFading(64), Lossy(AWGN(), 64, IndependentLoss(0.2))],
    ids=lambda channel: channel.name,
)
def test_fades_and_lost_packets_cost_quality_and_no_frames(transmission: Any, channel: Channel) -> None:
    x = moving(4, 24, 40)
    (clean,), (faded,) = (sent(transmission, x, 6000, [25.0], over) for over in (AWGN(), channel))
    assert not faded.outage
    assert 15 < psnr_db(faded.x_hat, x) < psnr_db(clean.x_hat, x)


# Frame by frame


def test_every_frame_is_sent_as_the_picture_is() -> None:
    picture = names.scheme("deepjscc").transmission
    assert not isinstance(picture, FrameByFrameAnalog)
    clips = FrameByFrameAnalog(picture)  # pyright: ignore[reportArgumentType]
    x, uses = moving(3, 24, 40), 1000
    symbols = clips.send(x, uses, None).symbols
    assert symbols.shape[1] == uses
    received = transmit(AWGN(), symbols.expand(2, -1), 10.0, noise(2))
    shown = clips.receive(received, VIDEO.shape(x), uses)
    for i, share in enumerate((334, 333, 333)):
        own = symbols[:, i::3]
        assert own.shape[1] == share
        assert torch.equal(own, picture.send(to_image(x.frames[i]), share, None).symbols)
        torch.testing.assert_close(average_power(own), torch.ones(1), rtol=1e-5, atol=0, check_dtype=False)
        observed = picture.receive(received[i::3], (1, 3, 24, 40), share)
        for clip, frame in zip(shown, observed, strict=True):
            assert torch.equal(clip.shown.frames[i], from_image(frame.shown))


def test_frames_that_need_fewer_symbols_get_equally_many() -> None:
    """The metadata of SoftCast grow with the symbols allowed: one more could be 40 more."""
    clips = FrameByFrameAnalog(SoftCast(), "softcast-2d")
    x = moving(3, 5, 7)
    for uses in (5183, 5184, 5185, 5186):  # from 1728 symbols a frame on, the metadata have 8 bits more
        symbols = clips.send(x, uses, None).symbols
        assert symbols.shape[1] % 3 == 0
        assert 0 < symbols.shape[1] < uses
        (observation,) = clips.receive(transmit(AWGN(), symbols, 60.0, noise(1)), VIDEO.shape(x), uses)
        assert observation.shown is not None
        assert psnr_db(observation.shown, x) > 40


def test_a_frame_that_is_lost_alone_repeats_the_one_before() -> None:
    clips, x, uses = FrameByFrameAnalog(SoftCast(), "softcast-2d"), moving(3, 24, 40, speed=3), 6000
    y = clips.send(x, uses, None).symbols.clone()
    y[:, 1::3] = torch.view_as_complex(torch.randn(1, y[:, 1::3].shape[1], 2, dtype=torch.float32))
    received = Received(y, torch.ones_like(y), torch.full((1, 1), 0.01, dtype=torch.float32))
    (observation,) = clips.receive(received, VIDEO.shape(x), uses)
    (gaps,) = observation.evidence
    assert isinstance(gaps, Gaps)
    assert gaps.missing == (False, True, False)
    assert torch.equal(gaps.x.frames[1], gaps.x.frames[0])
    assert not torch.equal(gaps.x.frames[2], gaps.x.frames[1])


# SoftCast of groups


@pytest.mark.parametrize("size", [(1, 9, 14), (5, 9, 14), (8, 1, 3)])
def test_transform_is_orthonormal_and_inverted(size: tuple[int, int, int]) -> None:
    x = moving(*size)
    coefficients = transformed(x.frames)
    mean = torch.tensor([0.4813, 0.4574, 0.4078], dtype=torch.float64)[None, :, None, None]
    energy = float((x.frames.double() / 255 - mean).square().sum())
    assert (coefficients**2).sum() == pytest.approx(energy, rel=1e-5)
    assert torch.equal(torch.stack(restored(coefficients)), x.frames)
    if size[0] == 1:
        np.testing.assert_allclose(coefficients[0], transform(to_image(x.frames[0])), atol=1e-12)


def test_a_still_clip_has_the_energy_of_its_mean_alone() -> None:
    x = Clip(moving(1, 9, 14).frames.expand(6, -1, -1, -1).contiguous(), Fraction(25))
    coefficients = transformed(x.frames)
    np.testing.assert_allclose(coefficients[0], math.sqrt(6) * transform(to_image(x.frames[0])), atol=1e-12)
    assert np.abs(coefficients[1:]).max() < 1e-12


@pytest.mark.parametrize("size", [(1, 17, 13), (5, 17, 13), (18, 4, 5)])
def test_without_noise_and_with_room_for_all_it_is_exact(size: tuple[int, int, int]) -> None:
    """White noise as the clip, of which no description is right: all coefficients arrive all the same."""
    frames = torch.randint(0, 256, (size[0], 3, *size[1:]), generator=torch.Generator().manual_seed(0))
    x = Clip(frames.to(torch.uint8), Fraction(25))
    generous = ClipSoftCast(SoftCast(design_snr_db=60))  # at 10 dB, weak coefficients get no power
    (outcome,) = sent(generous, x, 20_000, [120.0])
    assert torch.equal(outcome.x_hat.frames, x.frames)


def test_the_error_is_that_of_theory() -> None:
    """On AWGN, given the coefficients: bias (1 - w a)^2 c^2 and noise w^2 N each, and rounding to 8 bits."""
    x, snr_db, trials = moving(6, 32, 48), 0.0, 32
    clips, uses = ClipSoftCast(), x.frames.numel() // 12
    model = GroupModel(6, (32, 48))
    symbols = clips.send(x, uses, None).symbols
    clean = Received(symbols, torch.ones_like(symbols), torch.full((1, 1), 1e-3, dtype=torch.float32))
    (told,) = clips.coder.receive_coefficients(clean, model, uses)
    assert told is not None
    allocation = told[1]
    energy = transformed(x.frames).reshape(-1) ** 2
    noise_var = 10 ** (-snr_db / 10) / 2
    carried = allocation.amplitude**2 * allocation.variance
    weight = allocation.variance * allocation.amplitude / (carried + noise_var)
    kept = energy[allocation.index]
    expected = energy.sum() - kept.sum()
    expected += ((1 - weight * allocation.amplitude) ** 2 * kept + weight**2 * noise_var).sum()
    expected += x.frames.numel() / 12 / 255**2
    shown = sent(clips, x, uses, [snr_db] * trials)
    squared = np.array([squared_error(outcome.x_hat, x) * x.frames.numel() / 255**2 for outcome in shown])
    # Clipping can only help, and hardly any pixel of this clip is near the ends.
    standard_error = squared.std() / math.sqrt(trials)
    assert abs(squared.mean() - expected) < 5 * standard_error + 0.005 * expected
    assert standard_error < 0.01 * expected


@pytest.mark.parametrize("level", range(len(LEVELS)))
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 1, 9), (16, 20, 12)])
def test_a_description_comes_back(level: int, size: tuple[int, int, int]) -> None:
    model = GroupModel(size[0], (size[1], size[2]))
    spectrum = model.fits(transformed(moving(*size, seed=level).frames))(level)
    bits = next(bits for bits in range(9000) if fits(spectrum.symbols(), bits))
    assert bits >= model.least_bits(level)
    back = model.read(Unpacker(pack(spectrum.symbols(), bits), bits), level)
    assert back.symbols() == spectrum.symbols()
    index = back.largest(model.values)
    assert np.array_equal(index, spectrum.largest(model.values))
    assert sorted(index.tolist()) == list(range(model.values))
    variances = back.variances(index)
    assert (np.diff(variances) <= 0).all()
    assert back.total() == pytest.approx(variances.sum())


def test_the_spectrum_of_gaussian_coefficients_is_found() -> None:
    """Every temporal octave has its own variance, to within what a step of the description is."""
    frames, shape = 8, (48, 64)
    model = GroupModel(frames, shape)
    flat = model.fits(np.zeros((frames, 3, *shape)))(7)  # one node per plane
    usual = [spectrum.variances(np.arange(3 * math.prod(shape))) for spectrum in flat.spectra]
    wanted = np.array([3.0, 0.0, -2.0, -4.0])  # octaves of variance above the typical
    rng = np.random.default_rng(0)
    coefficients = np.zeros((frames, 3, *shape))
    for octave, above, variance in zip(octaves(frames), wanted, usual, strict=True):
        nodes = flat.spectra[0].nodes[0][0, 0] * LEVELS[7].step  # what zeros are described as
        exact = np.log2(variance) - nodes + above + typical(octave, frames)
        for t in octave:
            coefficients[t] = (rng.standard_normal(exact.size) * 2 ** (exact / 2)).reshape(3, *shape)
    found = model.fits(coefficients)(7)
    assert isinstance(found, GroupSpectrum)
    for above, spectrum in zip(wanted, found.spectra, strict=True):
        for nodes in spectrum.nodes:
            assert abs(nodes[0, 0] * LEVELS[7].step - above) <= LEVELS[7].step


def test_one_frame_is_as_good_as_the_picture() -> None:
    x, uses = moving(1, 48, 64), 2000
    snr_db = [0.0, 10.0, 20.0]
    group = [psnr_db(o.x_hat, x) for o in sent(ClipSoftCast(), x, uses, snr_db)]
    picture = [psnr_db(o.x_hat, x) for o in sent(FrameByFrameAnalog(SoftCast()), x, uses, snr_db)]
    assert group == pytest.approx(picture, abs=0.1)


def test_what_stands_still_is_sent_once() -> None:
    """Eight equal frames: the mean has all the energy, and eight times the symbols of a frame's own."""
    x = Clip(moving(1, 48, 64).frames.expand(8, -1, -1, -1).contiguous(), Fraction(25))
    uses = x.frames.numel() // 24
    (group,), (frames,) = (sent(t, x, uses, [10.0]) for t in (ClipSoftCast(), FrameByFrameAnalog(SoftCast())))
    assert psnr_db(group.x_hat, x) > psnr_db(frames.x_hat, x) + 6


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 0, 0), (123, 117, 104)])
def test_a_flat_clip_arrives_flat(colour: tuple[int, int, int]) -> None:
    frames = torch.tensor(colour, dtype=torch.uint8)[None, :, None, None].expand(4, 3, 24, 32)
    x = Clip(frames.contiguous(), Fraction(25))
    for outcome in sent(ClipSoftCast(), x, 1500, [0.0] * 4):
        assert psnr_db(outcome.x_hat, x) > 20


def test_a_group_whose_metadata_are_lost_repeats_the_frame_before() -> None:
    clips, x, uses = ClipSoftCast(group=2), moving(5, 24, 40, speed=3), 9000
    symbols = clips.send(x, uses, None).symbols
    y = symbols.clone()
    middle = slice(uses * 2 // 5 + 5, uses * 4 // 5 - 5)  # groups of 2, 2 and 1 frames
    y[:, middle] = torch.view_as_complex(torch.randn(1, middle.stop - middle.start, 2, dtype=torch.float32))
    received = Received(y, torch.ones_like(y), torch.full((1, 1), 0.01, dtype=torch.float32))
    (observation,) = clips.receive(received, VIDEO.shape(x), uses)
    (gaps,) = observation.evidence
    assert isinstance(gaps, Gaps)
    assert gaps.missing == (False, False, True, True, False)
    held: Tensor = gaps.x.frames
    assert torch.equal(held[2], held[1])
    assert torch.equal(held[3], held[1])
    lost = torch.view_as_complex(torch.randn(1, uses, 2, dtype=torch.float32))
    received = Received(lost, torch.ones_like(lost), torch.full((1, 1), 0.01, dtype=torch.float32))
    (observation,) = clips.receive(received, VIDEO.shape(x), uses)
    assert observation.shown is None
    assert not observation.evidence


def test_knowledge_of_the_snr_helps_and_is_needed() -> None:
    x, uses = moving(4, 24, 40), 3000
    knowing = ClipSoftCast(SoftCast(csit="average"))
    (informed,), (blind,) = (sent(t, x, uses, [-3.0]) for t in (knowing, ClipSoftCast()))
    assert psnr_db(informed.x_hat, x) > psnr_db(blind.x_hat, x)
    with pytest.raises(InvalidOption, match="needs the average SNR"):
        knowing.send(x, uses, None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("softcast", ClipSoftCast),
        ("softcast:csit-average", ClipSoftCast),
        ("softcast-2d", FrameByFrameAnalog),
        ("deepjscc", FrameByFrameAnalog),
        ("deepjscc:csit-average", FrameByFrameAnalog),
        ("deepjscc-perceptual", FrameByFrameAnalog),
    ],
)
def test_they_have_names(name: str, kind: type) -> None:
    scheme = names.scheme(name, VIDEO)
    assert (scheme.name, scheme.modality) == (name, VIDEO)
    assert isinstance(scheme.transmission, kind)
