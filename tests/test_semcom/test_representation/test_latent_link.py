"""The predictive latent link: closed loop, payloads, packets, analog symbols, names."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from channels import AWGN, IndependentLoss, Lossy, NamedStreams, Received, transmit
from semcom import names, send, zoo
from semcom.budget import Budget
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption, UnknownName
from semcom.modalities import TEXT, VIDEO
from semcom.modalities.video import Clip, ClipShape
from semcom.names.latent import analog_latents, latent_codec
from semcom.observation import Gaps
from semcom.packetised import Packetised
from semcom.provenance import fingerprint
from semcom.receivers import Direct
from semcom.representation.analog import AnalogLatents, Layout, Metadata, estimated, measured
from semcom.representation.kalman import Motion, kalman
from semcom.representation.latents import clip_of, latents_of, tiles_of
from semcom.representation.link import (
    PREDICTORS,
    SETTINGS,
    STEPS,
    UNIT,
    LatentCodec,
    LatentPackets,
    filled,
)
from semcom.representation.sequences import MovingShapes
from semcom.representation.straightening import StraightAutoencoder
from semcom.scheme import Outcome, Scheme
from semcom.separate import GenieSeparate, Separate
from semcom.text.coding import LanguageModelCodec
from semcom.text.packets import RunPackets
from semcom.text.protection import Unequal


def network(seed: int = 0) -> StraightAutoencoder:
    """Small, with linear paths from random frames: it sees and shows something."""
    torch.manual_seed(seed)
    made = StraightAutoencoder(3, 16, (4, 4, 4, 4), (4, 4, 4, 4))
    made.start_from(MovingShapes(3).draw(40, 1, torch.Generator().manual_seed(seed)).frames.flatten(0, 1))
    return made.eval().requires_grad_(False)


NETWORK = network()


def moving(frames: int = 8, seed: int = 3, height: int = 64, width: int = 64) -> Clip:
    drawn = MovingShapes(3).draw(1, frames, torch.Generator().manual_seed(seed)).frames[0]
    wide = drawn.repeat(1, 1, -(-height // 64), -(-width // 64))[:, :, :height, :width]
    return Clip((wide * 255).round().byte().contiguous(), Fraction(25))


def still(frames: int = 8) -> Clip:
    return Clip(moving(1).frames.expand(frames, -1, -1, -1).clone(), Fraction(25))


def shape(x: Clip) -> ClipShape:
    return VIDEO.shape(x)


def error(a: Clip, b: Clip) -> float:
    return float((a.frames.double() - b.frames.double()).square().mean())


every_codec = pytest.mark.parametrize(
    "codec",
    [
        *(LatentCodec(NETWORK, predictor, gate) for predictor in PREDICTORS for gate in (0.0, None)),
        LatentCodec(NETWORK, "kalman", 0.3),
    ],
    ids=lambda codec: codec.name,
)


@every_codec
@pytest.mark.parametrize("setting", [0, 12, SETTINGS - 1])
def test_the_receiver_is_in_the_state_of_the_transmitter(codec: LatentCodec, setting: int) -> None:
    x = moving(6, height=70, width=100)
    coded = codec.coded(codec.latents(x), setting, 0.0 if codec.gate is None else codec.gate)
    assert np.array_equal(codec.decoded(coded.payload, shape(x)), coded.latents)
    stranger = LatentCodec(network(), codec.predictor, codec.gate)
    assert torch.equal(
        stranger.decode(coded.payload, shape(x)).frames, codec.shown(coded.latents, shape(x)).frames
    )
    assert codec.encode(x, codec.qualities[setting]) == codec.encode(x, codec.qualities[setting])


@every_codec
def test_the_quantiser_keeps_its_error(codec: LatentCodec) -> None:
    """No prediction makes errors grow: at a fine step every sent value is within rate-distortion rounding."""
    z, step = codec.latents(moving(20)), STEPS[20]
    coded = codec.coded(z, 20, codec.gate or 0.0)
    missed = np.abs(coded.latents - z)[coded.fired]
    assert missed.max() <= step * 1.5
    assert np.sqrt(np.square(missed / step).mean()) < 0.6
    quiet = (np.square((coded.latents - z) / UNIT).mean(2) <= (codec.gate or 0.0) ** 2) | coded.fired
    assert quiet.all()


def test_predictions_save_bits_on_frames_in_motion() -> None:
    clips = [moving(20, seed) for seed in range(4)]
    quality = LatentCodec(NETWORK).qualities[26]
    sizes = {p: sum(len(LatentCodec(NETWORK, p).encode(x, quality)) for x in clips) for p in PREDICTORS}
    assert sizes["linear"] < sizes["repeat"] < sizes["intra"]
    assert sizes["kalman"] <= 1.05 * min(sizes["linear"], sizes["repeat"])


@every_codec
def test_still_clips_cost_next_to_nothing(codec: LatentCodec) -> None:
    """A bit per frame with a gate, about 7 without, but for the first frame; without prediction, all."""
    one, many = (len(codec.encode(still(frames), codec.qualities[14])) for frames in (1, 101))
    most = 100 * 8.5 / 8 + 4 if not codec.gate and codec.gate is not None else 100 * 1.5 / 8 + 8
    if codec.predictor == "intra":
        assert many - one > 100
    else:
        assert many - one < most


@every_codec
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_and_constant_clips(codec: LatentCodec, frames: int) -> None:
    grey = Clip(torch.full((frames, 3, 64, 64), 128, dtype=torch.uint8), Fraction(25))
    for x in (grey, moving(frames), still(frames)):
        fitted = codec.fit(x, 4000)
        assert 8 * len(fitted.payload) <= 4000
        assert torch.equal(codec.decode(fitted.payload, shape(x)).frames, fitted.decoded.frames)
        assert VIDEO.shape(VIDEO.check(fitted.decoded)) == shape(x)


@every_codec
def test_more_bits_show_no_worse_clip_and_too_few_are_refused(codec: LatentCodec) -> None:
    x = moving(8)
    found = [codec.fit(x, bits) for bits in (600, 1500, 4000)]
    errors = [error(fitted.decoded, x) for fitted in found]
    assert all(b <= 1.03 * a for a, b in pairwise(errors))
    with pytest.raises(BudgetTooSmall, match=r"needs at least .* bits for a clip of 8 frames of 64x64"):
        codec.fit(x, 40)


@every_codec
def test_damaged_payloads_are_refused(codec: LatentCodec) -> None:
    x = moving(4)
    payload = codec.encode(x, codec.qualities[10])
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(payload)
        place = int(rng.integers(len(damaged) - 4))  # the last bytes of the stream may not be read
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            codec.decoded(bytes(damaged), shape(x))
        except CorruptPayload:
            continue
        assert place > len(payload) - 12
    for wrong in (b"", payload[:4], bytes(200), b"\xff" * 200):
        with pytest.raises(CorruptPayload):
            codec.decode(wrong, shape(x))
    with pytest.raises(CorruptPayload, match="another network or predictor"):
        LatentCodec(network(1), codec.predictor, codec.gate).decode(payload, shape(x))


def test_tiles_are_frames_of_their_own() -> None:
    """A clip of 128x64 is two clips of 64x64; odd sides are extended by reflection, and cut off again."""
    assert (tiles_of(64, 64), tiles_of(65, 128), tiles_of(1, 1)) == ((1, 1), (2, 2), (1, 1))
    left, right = moving(3, 1), moving(3, 2)
    both = Clip(torch.cat([left.frames, right.frames], 3), left.frame_rate)
    z = latents_of(NETWORK, both)
    np.testing.assert_allclose(z[:, 0], latents_of(NETWORK, left)[:, 0], atol=1e-5)
    np.testing.assert_allclose(z[:, 1], latents_of(NETWORK, right)[:, 0], atol=1e-5)
    odd = Clip(left.frames[:, :, :50, :40].contiguous(), left.frame_rate)
    assert latents_of(NETWORK, odd).shape == (3, 1, 16)
    codec = LatentCodec(NETWORK)
    shown = codec.decode(codec.encode(odd, codec.qualities[20]), shape(odd))
    assert shown.frames.shape == odd.frames.shape
    assert error(shown, odd) < 0.5 * float(odd.frames.double().var())


# Packets


def test_lost_packets_are_predicted_and_marked() -> None:
    x, packets = moving(12), LatentPackets(LatentCodec(NETWORK, "linear"))
    made = packets.encode(x, [120] * 4)
    assert len(made) == 4
    assert all(0 < len(packet) <= 120 for packet in made)
    whole = packets.decode(made, shape(x))
    assert whole is not None
    assert not any(whole.missing)
    holes = packets.decode((made[0], made[1], None, made[3]), shape(x))
    assert holes is not None
    assert holes.missing == (False,) * 6 + (True,) * 3 + (False,) * 3
    assert torch.equal(holes.x.frames[:6], whole.x.frames[:6])
    assert torch.equal(holes.x.frames[9:], whole.x.frames[9:])
    late = packets.decode((None, None, made[2], None), shape(x))
    assert late is not None
    assert torch.equal(late.x.frames[0], whole.x.frames[6])
    assert packets.decode((None,) * 4, shape(x)) is None
    assert packets.decode((b"",) * 4, shape(x)) is None


def test_packets_without_frames_are_empty_and_small_rooms_are_refused() -> None:
    packets = LatentPackets(LatentCodec(NETWORK))
    assert sum(map(bool, packets.encode(moving(2), [200] * 5))) == 2
    with pytest.raises(BudgetTooSmall):
        packets.encode(moving(4), [3, 3])


def test_missing_latents_of_straight_lines_are_found() -> None:
    """Constant velocity: the filter extrapolates exactly, while repetition falls behind step by step."""
    z = np.arange(12)[:, None, None] * np.array([1.0, -2.0, 0.5]) + 3
    missing = np.zeros(12, bool)
    missing[[4, 5, 9, 10, 11]] = True
    found = filled(np.where(missing[:, None, None], 0, z), missing)
    np.testing.assert_allclose(found, z, atol=1e-3)
    leading = np.array([True, True] + [False] * 10)
    np.testing.assert_array_equal(filled(z, leading)[:2], z[[2, 2]])
    alone = filled(z, np.array([False] + [True] * 11))
    np.testing.assert_allclose(alone, np.broadcast_to(z[:1], z.shape), atol=1e-3)


# Analog symbols


def sent(
    transmission: AnalogLatents, x: Clip, uses: int, snr_db: float, count: int = 1
) -> list[Outcome[Clip]]:
    scheme = Scheme(transmission.name, transmission, Direct(), VIDEO)
    rng = NamedStreams(0, tuple(f"run {i}" for i in range(count)))
    return scheme.transmit(x, Budget(uses, x.frames.numel()), AWGN(), snr_db, rng)


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("gate", [0.0, 0.4])
def test_without_noise_all_latents_arrive(predictor: str, gate: float) -> None:
    x = moving(6, height=64, width=128)
    transmission = AnalogLatents(NETWORK, predictor, gate)
    (outcome,) = sent(transmission, x, 4000, 70.0)
    z = latents_of(NETWORK, x)
    perfect = LatentCodec(NETWORK).shown(np.rint(z * UNIT).astype(np.int64), shape(x))
    away = error(outcome.x_hat, perfect)
    assert away < (1.0 if not gate else 500.0)
    assert outcome.energy <= outcome.channel_uses * (1 + 1e-4)
    assert 0 < outcome.info["sent_share"] <= 1


def test_measurements_have_the_noise_that_they_say() -> None:
    """Values repeated over faded symbols: the errors of measurements have variance N0 / (2 g^2 sum |h|^2)."""
    rng = np.random.default_rng(0)
    layout = Layout(40000, (5, 2, 30), False)
    places = layout.places(np.ones((5, 2), bool))
    z, gain, noise_var = rng.standard_normal((5, 2, 30)), 0.5, 0.7
    reals = torch.from_numpy(gain * z[places]).reshape(-1, 2)
    x = torch.complex(reals[:, 0], reals[:, 1])[None]
    h = torch.from_numpy(rng.normal(size=x.shape) + 1j * rng.normal(size=x.shape))
    n = torch.from_numpy(rng.normal(size=x.shape) + 1j * rng.normal(size=x.shape)) * math.sqrt(noise_var / 2)
    heard = Received(h * x + n, h, torch.full((1, 1), noise_var, dtype=torch.float64))
    y, variance = measured(heard, places, (5, 2, 30), gain)
    ratio = np.square(y - z) / variance
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / 300))
    # each value is sent some 263 times over channels of mean power 2
    assert variance.mean() == pytest.approx(
        noise_var / (2 * gain**2 * 2 * 2 * layout.analog_uses / 300), rel=0.05
    )


def test_symbols_are_shared_evenly_and_values_take_turns() -> None:
    layout = Layout(240 + 35, (5, 2, 8), False)
    frames, tiles, dims = layout.places(np.ones((5, 2), bool))
    counts = np.zeros((5, 2, 8), int)
    np.add.at(counts, (frames, tiles, dims), 1)
    assert counts.sum() == 2 * 35
    assert counts.sum(2).max() - counts.sum(2).min() <= 2
    assert counts.sum(0).max() - counts.sum(0).min() <= 1  # over time, every value is sent equally often
    alone = np.zeros((5, 2), bool)
    alone[2, 1] = True
    frames, tiles, _ = layout.places(alone)
    assert set(frames) == {2}
    assert set(tiles) == {1}


def test_metadata_keep_power_and_motion() -> None:
    for power in (1e-9, 0.3, 1.0, 700.0):
        metadata = Metadata.of(power, Motion(0.01, 0.77, 0.2))
        assert metadata.gain**2 * power <= 1 + 1e-9
        assert metadata.gain**2 * power > 0.9 or power < 1e-4
        again = Metadata.read(metadata.bits(None))
        assert again == metadata
        assert again.motion.damping == pytest.approx(0.77, abs=1 / 500)
        assert again.motion.acceleration_var == pytest.approx(0.01, rel=0.1)


def test_estimates_of_the_predictors() -> None:
    y = np.arange(5.0)[:, None, None] + 1
    noise_var = np.where(np.array([0, 0, 1, 1, 0]), np.inf, 0.0)[:, None, None]
    motion = Motion(1e-6, 1.0, 1.0, 10.0)
    found = {p: estimated(y, noise_var, motion, p).ravel().round(3).tolist() for p in PREDICTORS}
    assert found["intra"] == [1, 2, 0, 0, 5]
    assert found["repeat"] == [1, 2, 2, 2, 5]
    assert found["linear"] == found["kalman"] == [1, 2, 3, 4, 5]
    shrunk = estimated(y, np.full(y.shape, 10.0), motion, "intra")
    np.testing.assert_allclose(shrunk, y / 2)
    filtered = kalman(y[:, :, 0], np.full((5, 1), 10.0), motion).estimated
    np.testing.assert_allclose(estimated(y, np.full(y.shape, 10.0), motion, "kalman")[:, :, 0], filtered)


def test_filtering_beats_single_frames_in_noise_and_lost_frames_are_marked() -> None:
    x = moving(16)
    noisy = {p: sent(AnalogLatents(NETWORK, p), x, 400, 3.0, 4) for p in ("intra", "kalman")}
    means = {p: np.mean([error(o.x_hat, x) for o in outcomes]) for p, outcomes in noisy.items()}
    assert means["kalman"] < means["intra"]
    transmission = AnalogLatents(NETWORK, "kalman")
    symbols = transmission.send(x, 700, None).symbols
    h = torch.ones_like(symbols)
    h[:, 300:400] = 0
    received = Received(h * symbols, h, torch.full((1, 1), 1e-3))
    (seen,) = transmission.receive(received, shape(x), 700)
    assert isinstance(seen.evidence[0], Gaps)
    assert 0 < seen.info["frame_loss"] < 0.3
    silent = Received(0 * symbols, 0 * h, torch.full((1, 1), 1e-3))
    assert transmission.receive(silent, shape(x), 700)[0].shown is None


def test_too_few_uses_and_wrong_options_are_refused() -> None:
    (outcome,) = sent(AnalogLatents(NETWORK), moving(8), 240, 10.0)
    assert outcome.outage
    assert "needs 248 data symbols for 8 frames of 1 tiles, 240 fit; raise rho" in outcome.cause
    for make in (LatentCodec, AnalogLatents):
        with pytest.raises(InvalidOption, match="choose one of intra, repeat, linear, kalman"):
            make(NETWORK, "wrong")
        with pytest.raises(InvalidOption, match="at least 0"):
            make(NETWORK, "kalman", -1.0)
        with pytest.raises(InvalidOption, match="need 3"):
            make(StraightAutoencoder(1, 8, (4,) * 4, (4,) * 4))


# Names


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("latent", "latent:kalman"),
        ("latent:linear:0.25", "latent:linear:0.25"),
        ("latent+ldpc", "latent:kalman+ldpc:csit-average"),
        ("latent:kalman:auto+ldpc:mcs9", "latent:kalman:auto+ldpc:mcs9"),
        ("latent:kalman:-0", "latent:kalman"),
        ("latent:kalman:0.123456789", "latent:kalman:0.123456789"),
        ("latent:repeat:0+packets:128", "latent:repeat+packets:128:csit-average"),
    ],
)
def test_names_are_read_and_written(name: str, canonical: str) -> None:
    assert names.scheme(name, VIDEO).name == canonical
    assert names.scheme(canonical, VIDEO).name == canonical


def test_wrong_names_are_refused_in_one_line() -> None:
    for name, message in (
        ("latent:wrong", "predictor 'wrong'"),
        ("latent:kalman:x", "no number; choose auto"),
        ("latent:kalman:0.1:2", "it is spelled latent"),
        ("latent::1", "it is spelled latent"),
        ("latent:kalman:auto", "needs a link"),
    ):
        with pytest.raises(InvalidOption, match=message):
            names.scheme(name, VIDEO)
    with pytest.raises(UnknownName):
        names.scheme("latent:kalman")
    assert latent_codec("latent").name == analog_latents("latent").name == "latent:kalman"


@pytest.mark.parametrize("scheme", ["latent:linear+ldpc", "latent:kalman", "latent:kalman:auto+packets:200"])
def test_clips_of_any_size_are_sent(scheme: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    VIDEO.write(moving(5, height=72, width=90), path)
    sending = send(path, scheme, "awgn", 15.0, "1/24")
    assert not sending.outcome.outage
    assert sending.metrics["psnr_db"] > 12


def test_the_shipped_network_follows_the_laws() -> None:
    """On shapes not trained on: extrapolation saves bits as the gain of each clip says, 1/2 log2.

    Both predictions start from quantised latents, whose errors of variance step^2 / 12 count once in
    repetition, and 5 times in extrapolation.
    """
    codec, setting = latent_codec("latent:linear"), 26
    noise_var = (STEPS[setting] / UNIT) ** 2 / 12
    drawn = MovingShapes(3).draw(6, 20, torch.Generator().manual_seed(77)).frames
    latents = [codec.latents(Clip((frames * 255).round().byte(), Fraction(25))) for frames in drawn]
    expected: list[float] = []
    for z in latents:
        v = np.diff(z[:, 0], axis=0) / UNIT
        curved = float(np.square(np.diff(v, axis=0)).mean())
        assert curved < float(np.square(v[1:]).mean())  # c > 1/2
        expected.append(0.5 * math.log2((np.square(v[1:]).mean() + noise_var) / (curved + 5 * noise_var)))
    sizes = {
        p: sum(8 * len(replace(codec, predictor=p).coded(z, setting, 0.0).payload) for z in latents)
        for p in ("repeat", "linear")
    }
    saved = (sizes["repeat"] - sizes["linear"]) / sum(z[2:].size for z in latents)
    assert saved > 0.3
    assert saved == pytest.approx(float(np.mean(expected)), abs=0.15)


class Elsewhere(StraightAutoencoder):
    """Notes on which device it is asked, and answers from the CPU: device "meta" holds no numbers."""

    asked: ClassVar[list[str]] = []

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.append(x.device.type)
        return torch.zeros(len(x), self.dims)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        self.asked.append(z.device.type)
        return torch.zeros(len(z), 3, 64, 64, dtype=torch.float64)


def test_latents_are_computed_where_the_network_is() -> None:
    """Tiles go to the network, and come back to the CPU."""
    away = Elsewhere(3, 16, (4, 4, 4, 4), (4, 4, 4, 4)).to("meta")
    x = moving(2)
    assert latents_of(away, x).shape == (2, 1, 16)
    assert clip_of(away.in_fixed_point(), np.zeros((2, 1, 16)), shape(x)).frames.device.type == "cpu"
    assert Elsewhere.asked == ["meta", "meta"]


@pytest.mark.parametrize(
    "name",
    [
        "latent:kalman",
        "latent:kalman:0.2",
        "latent+ldpc",
        "latent:linear+ideal",
        "latent:kalman:auto+packets:512",
    ],
)
def test_the_network_is_loaded_on_the_device_of_the_scheme(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of the loader, which gives a network of the CPU in any case; no other test names "there"."""
    devices: list[str] = []

    def load_as(name: str, kind: type[StraightAutoencoder], device: str) -> StraightAutoencoder:
        devices.append(device)
        return NETWORK

    monkeypatch.setattr(zoo, "load_as", load_as)
    device = f"there:{name}"
    assert names.scheme(name, VIDEO, device).name.startswith("latent:")
    assert devices == [device]


@pytest.mark.parametrize(
    "name", ["tiny+ldpc", "lm:tiny+ideal", "tiny+packets:512", "tiny+uep:256", "tiny+uep:256:equal"]
)
def test_language_models_of_codecs_are_on_the_device_of_the_scheme(name: str) -> None:
    """They are read at the first use; the device is no part of the definition."""
    here, there = (names.scheme(name, TEXT, device).transmission for device in ("cpu", "meta"))
    assert isinstance(there, Separate | GenieSeparate | Packetised | Unequal)
    inner = there.codec
    codec = inner.codec if isinstance(inner, RunPackets) else inner
    assert isinstance(codec, LanguageModelCodec)
    assert codec.device == "meta"
    assert fingerprint(here) == fingerprint(there)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_latents_on_a_gpu_show_what_those_of_the_cpu_show() -> None:
    """The decoder is exact on both; the encoder differs by rounding of single precision, 10 of 24 bits."""
    x = moving(4)
    here, there = latent_codec("latent:linear"), latent_codec("latent:linear", "cuda")
    assert latents_of(there.network, x) == pytest.approx(latents_of(here.network, x), abs=2e-3)
    payload = here.encode(x, here.qualities[20])
    assert torch.equal(there.decode(payload, shape(x)).frames, here.decode(payload, shape(x)).frames)


def test_loss_over_a_channel_is_recorded() -> None:
    scheme = names.scheme("latent:kalman+packets:64", VIDEO)
    x = moving(12)
    rng = NamedStreams(1, tuple(f"run {i}" for i in range(6)))
    channel = Lossy(AWGN(), 64, IndependentLoss(0.3))
    outcomes = scheme.transmit(x, Budget(640, x.frames.numel()), channel, 15.0, rng)
    assert any(0 < outcome.info["packet_loss"] < 1 for outcome in outcomes)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_the_halves_never_meet_and_losses_cost_quality(predictor: str) -> None:
    """A receiver that has never seen the transmitter shows the same; fades and losses make it no better."""
    x, other = moving(16), moving(16, 8)
    near, far = AnalogLatents(NETWORK, predictor), AnalogLatents(network(), predictor)
    symbols = near.send(x, 1200, None).symbols
    assert near.send(other, 1200, None).symbols.shape == symbols.shape
    received = transmit(AWGN(), symbols, 15.0, NamedStreams(0, ("run",)))
    shown = [half.receive(received, shape(x), 1200)[0].shown for half in (near, far)]
    assert shown[0] is not None
    assert shown[1] is not None
    assert torch.equal(shown[0].frames, shown[1].frames)
    assert error(shown[0], x) < error(shown[0], other) / 2
    scheme = Scheme(near.name, near, Direct(), VIDEO)
    rng, budget = NamedStreams(0, tuple(f"run {i}" for i in range(8))), Budget(1200, x.frames.numel())
    worse = [
        np.mean([error(o.x_hat, x) for o in scheme.transmit(x, budget, channel, 10.0, rng)])
        for channel in (AWGN(), Lossy(AWGN(), 64, IndependentLoss(0.3)))
    ]
    assert worse[0] < worse[1]
