"""SoftCast against linear-Gaussian theory, and its metadata."""

import math

import numpy as np
import pytest
import torch

from channels import AWGN, Channel, NamedStreams, RayleighBlockFading, SnrDb, transmit
from channels.symbols import average_power
from channels.symbols import pack as pack_symbols
from semcom.budget import Budget
from semcom.data import load_folder
from semcom.errors import CorruptPayload, InvalidOption
from semcom.jscc.softcast import (
    HIGHEST_SNR_DB,
    LOWEST_SNR_DB,
    SCALE_VALUES,
    Allocation,
    Description,
    Layout,
    SoftCast,
    estimate,
    evidence_of,
    inverse_transform,
    share_power,
    transform,
)
from semcom.jscc.spectrum import (
    LARGEST_NODE,
    LEVELS,
    NODE_RANGE,
    NODE_TABLE,
    Histogram,
    PictureModel,
    Spectrum,
    Unpacker,
    fits,
    pack,
)
from semcom.observation import Symbols
from semcom.receivers import Direct
from semcom.scheme import Scheme
from semcom.transmission import ChannelKnowledge, Csit, Sent


def photo_like(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Gaussian with a power-law spectrum, clipped to [0, 1]."""
    rng = np.random.default_rng(seed)
    u, v = np.arange(height)[:, None] / height, np.arange(width) / width
    deviation = 0.002 * math.sqrt(height * width) / (1 + np.hypot(u, v) * 60) ** 1.2
    return inverse_transform(rng.standard_normal((3, height, width)) * deviation * [[[1]], [[0.3]], [[0.2]]])


def delivered(
    scheme: SoftCast, sent: Sent, shape: tuple[int, ...], uses: int, snr_db: SnrDb, rng: NamedStreams
) -> list[Symbols | None]:
    """What each reception on AWGN tells of the picture; None of one that was lost."""
    received = transmit(AWGN(), sent.symbols.expand(rng.batch, -1), snr_db, rng.fork("channel"))
    found: list[Symbols | None] = []
    for observation in scheme.receive(received, shape, uses):
        symbols = next(iter(observation.evidence), None)
        assert symbols is None or isinstance(symbols, Symbols)
        if symbols is None:
            assert observation.shown is None
        else:
            assert observation.shown is not None
            assert torch.equal(symbols.estimate, observation.shown)
        found.append(symbols)
    return found


def estimates(found: list[Symbols | None]) -> torch.Tensor:
    """One below the other; none of them was lost."""
    arrived = [symbols.estimate for symbols in found if symbols is not None]
    assert len(arrived) == len(found)
    return torch.cat(arrived)


def psnr_db(x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return -10 * torch.log10((x_hat - x).square().mean((1, 2, 3)))


# Power allocation


@pytest.mark.parametrize("snr_db", [-10, 0, 10, 30])
def test_shared_power_meets_the_optimality_conditions(snr_db: float) -> None:
    variance = np.sort(np.random.default_rng(0).lognormal(0, 3, 200))[::-1]
    noise_var = 10 ** (-snr_db / 10) / 2
    power = share_power(variance, 100.0, noise_var)
    assert power.min() >= 0
    assert power.sum() == pytest.approx(100)
    gain = variance * noise_var / (power + noise_var) ** 2  # -dD/dp: equal where p > 0, smaller elsewhere
    assert gain[power > 0] == pytest.approx(gain[0])
    assert (gain[power == 0] <= gain[0] * (1 + 1e-9)).all()
    assert (power == 0).any() == (snr_db < 30)


def test_at_high_snr_amplitudes_follow_the_rule_of_the_paper() -> None:
    variance = np.geomspace(1000, 0.1, 50)
    amplitude = np.sqrt(share_power(variance, 25.0, 1e-9) / variance)
    assert amplitude * variance**0.25 == pytest.approx(amplitude[0] * variance[0] ** 0.25, rel=1e-5)


# Distortion


@pytest.mark.parametrize("channel", [AWGN(), RayleighBlockFading(7)], ids=lambda channel: channel.name)
@pytest.mark.parametrize("snr_db", [0.0, 12.0])
def test_distortion_is_that_of_linear_gaussian_theory(channel, snr_db: float) -> None:
    """D = sum of lambda N / (|h|^2 a^2 lambda + N) over sent + sum of lambda over unsent, N = N0/2."""
    height, width, trials, sent = 12, 16, 300, 400
    rng = np.random.default_rng(1)
    variance = np.sort(rng.lognormal(-8, 1.5, 3 * height * width))[::-1].clip(max=0.02)
    index = rng.permutation(len(variance))
    allocation = Allocation(index[:sent], variance[:sent], rng.uniform(1, 30, sent), variance[sent:].sum())
    coefficients = rng.standard_normal((trials, len(variance))) * np.sqrt(variance)  # in falling order
    x = pack_symbols(torch.from_numpy(coefficients[:, :sent] * allocation.amplitude).float())
    received = transmit(channel, x, snr_db, NamedStreams(2, tuple(map(str, range(trials)))))
    squared = np.empty(trials)
    expected = np.empty(trials)
    noise_var = 10 ** (-snr_db / 10) / 2
    for i in range(trials):
        image, noise_std = estimate(received.item(i), allocation, (1, 3, height, width))
        assert 0 < float(image.min()) < float(image.max()) < 1  # nothing was clipped
        error = transform(image.double()).reshape(-1)[index] - coefficients[i]
        squared[i] = (error**2).sum()
        gain = received.h[i].abs().square().repeat_interleave(2).double().numpy()
        carried = gain * allocation.amplitude**2 * allocation.variance
        expected[i] = (allocation.variance * noise_var / (carried + noise_var)).sum() + variance[sent:].sum()
        assert noise_std**2 * len(variance) == pytest.approx(expected[i], rel=1e-4)
    difference = squared - expected
    assert abs(difference.mean()) < 5 * difference.std() / math.sqrt(trials)
    assert difference.std() / math.sqrt(trials) < 0.02 * expected.mean()  # the test has teeth


@pytest.mark.parametrize("channel", [AWGN(), RayleighBlockFading(8)], ids=lambda channel: channel.name)
def test_symbols_are_evidence_with_white_noise(channel: Channel) -> None:
    """y - A x has variance 1 on every coefficient that was sent, fading or not, and is 0 on all others."""
    height, width, sent = 48, 64, 6000
    rng = np.random.default_rng(1)
    count = 3 * height * width
    variance = np.sort(rng.lognormal(-8, 1.5, count))[::-1].clip(max=0.02)
    index = rng.permutation(count)
    allocation = Allocation(index[:sent], variance[:sent], rng.uniform(1, 30, sent), variance[sent:].sum())
    coefficients = np.zeros(count)
    coefficients[index] = rng.standard_normal(count) * np.sqrt(variance)
    values = torch.from_numpy(coefficients[index[:sent]] * allocation.amplitude).float()
    received = transmit(channel, pack_symbols(values[None]), 5.0, NamedStreams(2, ("a",)))
    x = inverse_transform(coefficients.reshape(3, height, width))
    evidence = evidence_of(received, allocation, tuple(x.shape))
    misfit = (evidence.y - evidence.operator.A(x)).reshape(-1)
    heard = misfit[index[:sent]]
    assert float(heard.square().mean()) == pytest.approx(1, abs=5 * math.sqrt(2 / sent))
    assert abs(float(heard.mean())) < 5 / math.sqrt(sent)
    assert not bool(misfit[index[sent:]].any())


def test_a_scheme_loses_what_theory_says() -> None:
    """End to end on AWGN, given the coefficients: bias (1 - w a)^2 c^2 and noise w^2 N per coefficient."""
    x = photo_like(64, 96)
    snr_db, trials, uses = 5.0, 64, x.numel() // 4
    scheme, layout = SoftCast(), Layout(uses, x.numel(), 0.1)
    sent = scheme.send(x, uses, None)
    rng = NamedStreams(3, tuple(map(str, range(trials))))
    received = transmit(AWGN(), sent.symbols.expand(trials, -1), 200.0, rng.fork("channel"))
    metadata, _ = layout.places()
    bits = (torch.view_as_real(received.y[0, metadata]).reshape(-1) < 0).to(torch.uint8)  # QPSK of TS 38.211
    decoded = layout.block.decode(20.0 - 40.0 * bits[None].float())
    number = int("".join(map(str, decoded.bits[0].tolist())), 2)
    description = Description.unpack(number, layout.metadata_bits, PictureModel((64, 96)), "none", 10)
    allocation = description.allocation(layout.coefficients)
    amplitude = allocation.amplitude * description.amplitude
    energy = transform(x).reshape(-1) ** 2
    noise_var = 10 ** (-snr_db / 10) / 2
    weight = allocation.variance * amplitude / (amplitude**2 * allocation.variance + noise_var)
    kept = energy[allocation.index]
    expected = energy.sum() - kept.sum()
    expected += ((1 - weight * amplitude) ** 2 * kept + weight**2 * noise_var).sum()
    shown = estimates(delivered(scheme, sent, tuple(x.shape), uses, snr_db, rng))
    squared = (shown - x).double().square().sum((1, 2, 3)).numpy()
    # Clipping to [0, 1] can only help, and hardly any pixel of this picture is near the ends.
    assert abs(squared.mean() - expected) < 5 * squared.std() / math.sqrt(trials) + 0.002 * expected
    assert squared.std() / math.sqrt(trials) < 0.01 * expected


def test_transform_is_orthonormal_and_inverted() -> None:
    x = torch.rand(1, 3, 9, 14, dtype=torch.float64)
    coefficients = transform(x)
    mean = torch.tensor([0.4813, 0.4574, 0.4078], dtype=torch.float64)[None, :, None, None]
    assert (coefficients**2).sum() == pytest.approx(float((x - mean).square().sum()))
    torch.testing.assert_close(inverse_transform(coefficients).double(), x, rtol=0, atol=1e-6)


# Metadata


def test_coded_values_come_back_in_the_length_of_their_information() -> None:
    rng = np.random.default_rng(0)
    total = sum(NODE_TABLE)
    values = rng.choice(len(NODE_TABLE), size=300, p=np.array(NODE_TABLE) / total).tolist()
    symbols = [(value, NODE_TABLE) for value in values]
    bits = math.ceil(-sum(math.log2(NODE_TABLE[value] / total) for value in values))
    assert fits(symbols, bits)
    assert not fits(symbols, bits - 1)
    message = Unpacker(pack(symbols, bits), bits)
    assert [message.take(NODE_TABLE) for _ in values] == values


def test_every_number_stands_for_the_values_of_its_interval() -> None:
    table = (1, 2, 5)
    edges = np.cumsum(np.outer(table, table))
    for number in range(64):
        message = Unpacker(number, 6)
        pair = [message.take(table) for _ in range(2)]
        assert pair == list(divmod(int(np.searchsorted(edges, number, "right")), 3))


@pytest.mark.parametrize("level", range(len(LEVELS)))
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (30, 50), (129, 64)])
def test_a_description_comes_back(level: int, shape: tuple[int, int]) -> None:
    x = photo_like(*shape, seed=level)
    spectrum = Spectrum.fit([Histogram.of(plane) for plane in transform(x)], level)
    description = Description(spectrum, 17, -100)
    bits = next(bits for bits in range(2000) if fits(description.symbols("average"), bits))
    assert bits >= Spectrum.least_bits(shape, level)
    number = pack(description.symbols("average"), bits)
    back = Description.unpack(number, bits, PictureModel(shape), "average", 0)
    assert (back.snr_db, back.scale, back.spectrum.level) == (17, -100, level)
    assert back.spectrum.constants == spectrum.constants
    assert all((a == b).all() for a, b in zip(back.spectrum.nodes, spectrum.nodes, strict=True))


def test_numbers_that_nobody_packed_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        number = int.from_bytes(rng.bytes(100), "big")
        try:
            description = Description.unpack(number, 800, PictureModel((40, 60)), "average", 10)
        except CorruptPayload:
            refused += 1
            continue
        assert LOWEST_SNR_DB <= description.snr_db <= HIGHEST_SNR_DB
        assert -SCALE_VALUES // 2 <= description.scale < SCALE_VALUES // 2
    assert refused > 190


def test_the_usual_spectrum_is_described_in_the_least_bits() -> None:
    sizes = tuple((round(math.log2(40) / o) + 1, round(math.log2(20) / o) + 1) for o in LEVELS[2].octaves)
    usual = Spectrum((40, 20), 2, tuple(np.zeros(size, np.int64) for size in sizes), (0, 0, 0))
    least = Spectrum.least_bits((40, 20), 2)
    assert fits(usual.symbols(), least + 1)
    assert not fits(usual.symbols(), least)


def test_no_node_needs_more_than_the_alphabet() -> None:
    checkered = np.where(np.indices((5, 6)).sum(0) % 2, LARGEST_NODE, -LARGEST_NODE)
    spectrum = Spectrum((40, 40), 1, (checkered,) * 3, (LARGEST_NODE, -LARGEST_NODE, 0))
    assert all(0 <= value <= 2 * NODE_RANGE for value, _ in spectrum.symbols())


def test_the_spectrum_of_gaussian_coefficients_is_found() -> None:
    shape = (96, 128)
    truth = Spectrum(shape, 6, (np.array([[3, -1], [2, 0]]), np.array([[1]]), np.array([[-2]])), (1, 0, -1))
    count = 3 * math.prod(shape)
    variance = truth.variances(np.arange(count))
    rng = np.random.default_rng(0)
    coefficients = (rng.standard_normal(count) * np.sqrt(variance)).reshape(3, *shape)
    found = Spectrum.fit([Histogram.of(plane) for plane in coefficients], 6)
    for a, b in zip(found.nodes, truth.nodes, strict=True):
        assert np.abs(a - b).max() <= 1  # few coefficients lie near the nodes of low frequency
        assert a[-1, -1] == b[-1, -1]
    # One squared Gaussian sample tells its variance to within a factor 2^-12..8 only.
    assert all(-6 <= a - b <= 4 for a, b in zip(found.constants, truth.constants, strict=True))


def test_the_largest_coefficients_come_first() -> None:
    spectrum = Spectrum.fit([Histogram.of(plane) for plane in transform(photo_like(32, 48))], 3)
    index = spectrum.largest(3 * 32 * 48)
    assert sorted(index.tolist()) == list(range(3 * 32 * 48))
    assert (np.diff(spectrum.variances(index)) <= 0).all()


# The scheme


@pytest.mark.parametrize("csit", ["none", "average"])
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (64, 64), (33, 77)])
def test_uses_and_energy_keep_to_the_budget(csit: Csit, size: tuple[int, int]) -> None:
    transmission, x = SoftCast(csit=csit), photo_like(*size)
    scheme = Scheme(transmission.name, transmission, Direct())
    known = ChannelKnowledge(AWGN(), 3.0) if csit == "average" else None
    cause = ""
    for uses in (1, 360, 361, 500, 5000):
        sent = transmission.send(x, uses, known)
        outcomes = scheme.transmit(x, Budget(uses, x.numel()), AWGN(), 3.0, NamedStreams(0, ("a", "b")))
        for outcome in outcomes:
            assert outcome.x_hat.shape == x.shape
            assert bool(torch.isfinite(outcome.x_hat).all())
            assert outcome.channel_uses == sent.symbols.shape[1] <= uses
            assert outcome.cause == sent.cause
        if cause := sent.cause:
            assert sent.symbols.shape == (1, 0)
            assert "raise rho" in sent.cause
            assert all(outcome.outage for outcome in outcomes)
        else:
            assert float(average_power(sent.symbols)) <= 1 + 1e-5
            assert outcomes[0].energy == pytest.approx(float(sent.symbols.abs().square().sum()), rel=1e-5)
    assert not cause


@pytest.mark.parametrize("color", [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.4813, 0.4574, 0.4078)])
def test_a_flat_picture_arrives_flat(color: tuple[float, ...]) -> None:
    x = torch.tensor(color)[None, :, None, None].expand(1, 3, 48, 64).contiguous()
    scheme = SoftCast()
    found = delivered(
        scheme, scheme.send(x, 768, None), tuple(x.shape), 768, 0.0, NamedStreams(0, tuple("abcdefgh"))
    )
    assert float(psnr_db(estimates(found), x).min()) > 20


def test_a_picture_of_more_energy_than_is_described_is_believed_to_have_it() -> None:
    """A black and white edge, whose spectrum no coarse description meets: the common amplitude is below 1."""
    x = torch.zeros(1, 3, 64, 64)
    x[..., 32:] = 1.0
    scheme, uses = SoftCast(), x.numel() // 12
    sent = scheme.send(x, uses, None)
    found = delivered(scheme, sent, tuple(x.shape), uses, 10.0, NamedStreams(0, tuple("abcdefgh")))
    quality = psnr_db(estimates(found), x)
    assert float(quality.mean()) > 30
    believed = -20 * torch.tensor([symbols.error_std for symbols in found if symbols]).log10()
    assert float((believed - quality).max()) < 1


def test_lost_metadata_is_an_outage() -> None:
    transmission, x = SoftCast(), photo_like(48, 64)
    rng, snr_db = NamedStreams(0, ("a", "b", "c")), torch.tensor([-20.0, 10.0, -20.0])
    sent = transmission.send(x, 1500, None)
    found = delivered(transmission, sent, tuple(x.shape), 1500, snr_db, rng)
    assert [symbols is None for symbols in found] == [True, False, True]
    scheme = Scheme("softcast", transmission, Direct())
    outcomes = scheme.transmit(x, Budget(1500, x.numel()), AWGN(), snr_db, rng)
    assert [outcome.outage for outcome in outcomes] == [True, False, True]
    assert float(outcomes[0].x_hat[0].std((1, 2)).max()) == 0
    assert [outcome.channel_uses for outcome in outcomes] == [sent.symbols.shape[1]] * 3


def test_the_receiver_knows_nothing_but_what_it_received() -> None:
    """One that has sent another picture before reads what a new one reads."""
    a, b = photo_like(48, 64, seed=1), photo_like(48, 64, seed=2)
    rng, shape = NamedStreams(0, ("x",)), tuple(a.shape)
    sent = SoftCast().send(b, 1500, None)
    busy = SoftCast()
    busy.send(a, 1500, None)
    of_busy, of_new = (
        estimates(delivered(scheme, sent, shape, 1500, 15.0, rng)) for scheme in (busy, SoftCast())
    )
    assert torch.equal(of_busy, of_new)
    assert float(psnr_db(of_busy, b)) > float(psnr_db(of_busy, a)) + 5


def test_quality_rises_with_snr_and_with_rho_and_with_knowledge() -> None:
    x, rng = photo_like(96, 128), NamedStreams(0, ("x",) * 4)
    snr_db = torch.tensor([-4.0, 4.0, 12.0, 25.0])
    curves = []
    for inverse_rho in (24, 12, 6):
        scheme, uses = SoftCast(), x.numel() // inverse_rho
        sent = scheme.send(x, uses, None)
        curves.append(psnr_db(estimates(delivered(scheme, sent, tuple(x.shape), uses, snr_db, rng)), x))
    assert all(bool((curve.diff() > 0).all()) for curve in curves)
    assert bool((curves[1] > curves[0]).all())
    assert bool((curves[2] > curves[1]).all())
    knowing, uses = SoftCast(csit="average"), x.numel() // 12
    sent = knowing.send(x, uses, ChannelKnowledge(AWGN(), -4.0))
    informed = psnr_db(estimates(delivered(knowing, sent, tuple(x.shape), uses, -4.0, rng)), x)
    assert float(informed[0]) > float(curves[1][0])


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidOption, match="design SNR of 99 dB"):
        SoftCast(design_snr_db=99)
    with pytest.raises(InvalidOption, match=r"code rate of 1\.5"):
        SoftCast(code_rate=1.5)
    x = photo_like(32, 32)
    with pytest.raises(InvalidOption, match="needs the average SNR"):
        SoftCast(csit="average").send(x, 1000, None)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("rho", "pilot"), [("1/12", (25.0, 27.7, 30.7, 34.0)), ("1/48", (22.5, 24.4, 26.2, 27.6))]
)
def test_kodak_is_at_least_as_good_as_in_the_pilot(shared_data, rho: str, pilot: tuple[float, ...]) -> None:
    """Mean PSNR at 0, 5, 10 and 20 dB of an earlier implementation with rectangular chunks."""
    scheme, curves = SoftCast(), []
    expected, measured = [], []
    for item in load_folder(shared_data / "kodak"):
        uses = Budget.from_rho(rho, item.x.numel()).channel_uses
        sent = scheme.send(item.x, uses, None)
        snr_db, rng = torch.tensor([0.0, 5.0, 10.0, 20.0]), NamedStreams(0, (item.id,) * 4)
        found = delivered(scheme, sent, tuple(item.x.shape), uses, snr_db, rng)
        shown = estimates(found)
        curves.append(psnr_db(shown, item.x))
        expected.append(torch.tensor([symbols.error_std for symbols in found if symbols]))
        measured.append((shown - item.x).square().mean((1, 2, 3)).sqrt())
    mean = torch.stack(curves).mean(0)
    assert bool((mean > torch.tensor(pilot)).all()), mean
    assert bool((mean < torch.tensor(pilot) + 1).all()), mean
    ratio = torch.stack(expected) / torch.stack(measured)
    assert 0.7 < float(ratio.min()) < float(ratio.max()) < 1.3
