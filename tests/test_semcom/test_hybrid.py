"""Fusion of evidence against closed forms, and the hybrid's accounting, cliff and grace."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from toys import picture

from channels import AWGN, Channel, NamedStreams, RayleighBlockFading, transmit
from semcom import names
from semcom.budget import Budget
from semcom.calibration import CosineGain, shipped_tables
from semcom.errors import InvalidOption, UnknownName, UnsuitableEvidence
from semcom.fusion import fused, merged
from semcom.hybrid import Hybrid, noisier
from semcom.jscc.cosine import centred_picture, coefficients_of, mean_color
from semcom.jscc.softcast import SoftCast
from semcom.meter import metered
from semcom.observation import Decoded, Evidence, Linear, Observation, Origin, Symbols
from semcom.operators import BlockMean
from semcom.receivers import Direct
from semcom.scheme import Outcome, Scheme
from semcom.separate import FixedMcs, Separate
from semcom.sweep import noise_streams
from semcom.transmission import Sent, Transmission

SNR_DB = (0.0, 5.0, 10.0, 20.0)
COARSE = Separate(names.codec("jpeg"), FixedMcs(3))
TABLE = {  # (D_c, abar): D at SNR_DB, spec of the hybrid scheme
    (1.0, 1.0): (0.500, 0.240, 0.091, 0.0099),
    (1.0, 0.9): (0.550, 0.316, 0.182, 0.109),
    (0.25, 1.0): (0.200, 0.140, 0.071, 0.0096),
    (0.25, 0.9): (0.208, 0.162, 0.118, 0.082),
    (0.25, 0.5): (0.231, 0.217, 0.207, 0.201),
    (0.05, 1.0): (0.0476, 0.0432, 0.0333, 0.0083),
}
SIDE = 320
"""Of a picture of Gaussian coefficients; 3 SIDE^2 values."""


def scalar_pieces(coarse_mse: float, abar: float, snr_db: float) -> tuple[Tensor, tuple[Symbols, Symbols]]:
    """Coefficients N(0, 1), and what is received of them: described coarsely, and uncoded with noise."""
    rng = NamedStreams(0, (f"{coarse_mse} {abar} {snr_db}",))
    shape = (3, SIDE, SIDE)
    x, test, e, n = (rng.normal(name, shape) for name in ("x", "test", "e", "n"))
    zero = mean_color(x).expand(1, *shape)
    x_c = (1 - coarse_mse) * x + math.sqrt(coarse_mse * (1 - coarse_mse)) * test  # x - x_c is apart from x_c
    precision = 1 / coarse_mse - 1
    gains = torch.full((1, *shape), math.sqrt(precision))
    w = x_c / (1 - coarse_mse) * gains if coarse_mse < 1 else torch.zeros_like(x)
    coarse = evidence(w, gains, zero)
    noise = math.sqrt((1 - abar) / abar)
    amplitude = torch.full((1, *shape), 10 ** (snr_db / 20))
    sent = math.sqrt(abar) * (x + noise * e)
    gains = math.sqrt(abar) * amplitude
    fine = evidence(amplitude * sent + n, gains, zero)
    return x, (coarse, replace(fine, linear=noisier(fine.linear, noise)))


def evidence(w: Tensor, gains: Tensor, zero: Tensor) -> Symbols:
    """Coefficients that were received; fusion does not look at the estimate made of them."""
    operator = CosineGain(gains)
    return Symbols(zero, 1.0, Linear(w + operator.A(zero), operator))


@pytest.mark.parametrize(("coarse_mse", "abar"), TABLE)
def test_two_descriptions_of_a_gaussian_source(coarse_mse: float, abar: float) -> None:
    """D = 1 / (1/D_c + 1/s^2), s^2 = (1 - abar + 1/SNR) / abar, within 1e-3 and the error of measurement.

    The squared error over 3 SIDE^2 = 3e5 values has a standard error of D sqrt(2 / 3e5) < 1.5e-3 D.
    """
    for snr_db, listed in zip(SNR_DB, TABLE[coarse_mse, abar], strict=True):
        s2 = (1 - abar + 10 ** (-snr_db / 10)) / abar
        formula = 1 / (1 / coarse_mse + 1 / s2)
        assert formula == pytest.approx(listed, abs=1e-3)
        x, pieces = scalar_pieces(coarse_mse, abar, snr_db)
        together = fused(pieces, {})
        measured = float((coefficients_of(together.estimate) - x).square().mean())
        standard_error = formula * math.sqrt(2 / x.numel())
        assert measured == pytest.approx(formula, abs=1e-3 * formula + 5 * standard_error)
        assert together.error_std**2 == pytest.approx(formula, rel=0.02)


def test_transmit_noise_is_a_floor_under_linear_transmission() -> None:
    """D -> 1 / (1/D_c + abar / (1 - abar)) however good the channel is."""
    x, pieces = scalar_pieces(0.25, 0.5, 60.0)
    measured = float((coefficients_of(fused(pieces, {}).estimate) - x).square().mean())
    floor = 1 / (1 / 0.25 + 1.0)
    assert measured == pytest.approx(floor, abs=5 * floor * math.sqrt(2 / x.numel()) + 1e-3 * floor)


def test_merged_evidence_is_a_sufficient_statistic() -> None:
    """The estimate of c from two gains equals that of least squares with both rows."""
    rng = NamedStreams(0, ("merge",))
    gains = [rng.normal(f"g{i}", (50,)).abs() for i in range(2)]
    values = [rng.normal(f"w{i}", (50,)) for i in range(2)]
    gains[0][:, :10] = 0
    gains[1][:, :5] = 0
    g, w = merged(list(zip(gains, values, strict=True)))
    variance = 2.0
    for i in range(50):
        a = torch.stack([part[0, i] for part in gains]).double()
        b = torch.stack([part[0, i] for part in values]).double()
        covariance = variance * torch.outer(a, a) + torch.eye(2, dtype=torch.float64)
        expected = variance * a @ torch.linalg.solve(covariance, b)
        assert float(variance * g[0, i] * w[0, i] / (1 + variance * g[0, i] ** 2)) == pytest.approx(
            float(expected), abs=1e-5
        )


@pytest.mark.parametrize(
    ("piece", "text"),
    [
        (Decoded(torch.zeros(1, 3, 16, 16)), "nobody has measured the errors of this scheme"),
        (
            Decoded(torch.zeros(1, 3, 16, 16), origin=Origin("magic", (0.0,))),
            "nobody has measured the errors of magic",
        ),
        (Decoded(torch.zeros(1, 3, 8, 8), BlockMean(2, 16, 16)), "through BlockMean cannot be fused"),
        (Linear(torch.zeros(1, 3, 8, 8), BlockMean(2, 16, 16)), "through BlockMean cannot be fused"),
    ],
)
def test_unknown_noise_and_other_operators_cannot_be_fused(piece: Evidence, text: str) -> None:
    with pytest.raises(UnsuitableEvidence, match=text) as raised:
        fused((piece, piece), shipped_tables())
    assert "\n" not in str(raised.value)


NATURAL = picture("natural", 64, 96)


def shown(
    hybrid: Transmission, snr_db: list[float], uses: int = 8000, channel: Channel | None = None
) -> list[Outcome[Tensor]]:
    """At every SNR, with the same noise."""
    x, rng = NATURAL.x, noise_streams(NATURAL.id, 0, len(snr_db))
    scheme = Scheme(hybrid.name, hybrid, Direct())
    return scheme.transmit(x, Budget(uses, x.numel()), channel or AWGN(), torch.tensor(snr_db), rng)


def psnr_db(outcome: Outcome[Tensor]) -> float:
    return -10 * math.log10(float((outcome.x_hat - NATURAL.x).square().mean()))


def observed(
    hybrid: Hybrid, sent: Sent, x: Tensor, uses: int, channel: Channel, snr_db: float, rng: NamedStreams
) -> list[Observation[Tensor]]:
    received = transmit(channel, sent.symbols.expand(rng.batch, -1), snr_db, rng.fork("channel"))
    return hybrid.receive(received, tuple(x.shape), uses)


@pytest.mark.parametrize("target", ["picture", "residual"])
def test_above_its_design_snr_the_digital_part_stands_still_and_the_hybrid_rises(target: str) -> None:
    """Bits are the same at every SNR; what is added by the analog part grows with it."""
    hybrid = Hybrid(COARSE, SoftCast(), 0.5, target="residual" if target == "residual" else "picture")
    outcomes = shown(hybrid, [0.0, 5.0, 10.0, 15.0, 20.0, 25.0])
    assert all(psnr_db(later) > psnr_db(earlier) for earlier, later in pairwise(outcomes))
    assert len({outcome.info["payload_bits"] for outcome in outcomes}) == 1
    assert {outcome.info["digital_outage"] for outcome in outcomes} == {0.0}
    assert not any(outcome.outage for outcome in outcomes)


def test_the_coarse_picture_alone_has_a_cliff_and_stands_still_above_it() -> None:
    """One modulation and code rate: lost below, one picture for all SNRs above."""
    outcomes = shown(COARSE, [-12.0, 0.0, 25.0], 4000)
    assert [outcome.outage for outcome in outcomes] == [True, False, False]
    assert torch.equal(outcomes[1].x_hat, outcomes[2].x_hat)


def test_without_its_bits_a_picture_is_left_of_a_picture_and_nothing_of_a_residual() -> None:
    """Of a picture what its symbols say by themselves: the estimate of the analog part."""
    coarse = Separate(names.codec("jpeg"), FixedMcs(20))
    (lost,) = shown(Hybrid(coarse, SoftCast(), 0.5, target="residual"), [0.0])
    assert (lost.info["digital_outage"], lost.outage) == (1.0, True)
    hybrid = Hybrid(coarse, SoftCast(), 0.5)
    (left,) = shown(hybrid, [0.0])
    assert (left.info["digital_outage"], left.outage) == (1.0, False)
    sent, rng = hybrid.send(NATURAL.x, 8000, None), noise_streams(NATURAL.id, 0)
    received = transmit(AWGN(), sent.symbols, 0.0, rng.fork("channel"))
    (alone,) = SoftCast().receive(received[4000:], tuple(NATURAL.x.shape), 4000)
    assert alone.shown is not None
    assert torch.equal(left.x_hat, alone.shown)


@pytest.mark.parametrize("power_db", [-6.0, 0.0, 6.0])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_power_is_shared_and_fully_spent(share: float, power_db: float) -> None:
    """k_d p_d + k_a p_a = k, to within the quantisation of SoftCast's amplitude."""
    hybrid = Hybrid(COARSE, SoftCast(), share, power_db)
    sent = hybrid.send(NATURAL.x, 8000, None)
    spent = metered(sent, Budget(8000, NATURAL.x.numel()), AWGN(), hybrid.name)
    assert spent.channel_uses == 8000
    assert 0.97 * 8000 < spent.energy <= 8000 * (1 + 1e-4)
    first = math.floor(share * 8000)
    assert sent.info["digital_uses"] == first
    powers = [
        float(part.abs().square().mean()) for part in (sent.symbols[:, :first], sent.symbols[:, first:])
    ]
    # SoftCast's own power is within 3 % of 1, in steps of 1/64 of an octave of amplitude
    assert powers[0] / powers[1] == pytest.approx(10 ** (power_db / 10), rel=0.03)


def test_where_the_analog_part_has_no_room_the_bits_get_all_of_the_power() -> None:
    """50 symbols are too few for SoftCast: the others are sent alone, at power 1 whatever its ratio."""
    hybrid, uses = Hybrid(COARSE, SoftCast(), 0.95, 6.0), 1000
    sent = hybrid.send(NATURAL.x, uses, None)
    assert sent.info["analog_silent"] == 1.0
    assert sent.symbols.shape == (1, 950)
    assert float(sent.symbols.abs().square().mean()) == pytest.approx(1, abs=1e-5)
    rng = noise_streams(NATURAL.id, 0)
    (observation,) = observed(hybrid, sent, NATURAL.x, uses, AWGN(), 10.0, rng)
    (evidence,) = observation.evidence
    assert isinstance(evidence, Decoded)
    assert evidence.payload is not None


def test_both_parts_meet_one_realisation_of_the_channel() -> None:
    """A gain that does not change during the item: where the stronger code is lost, so is the weaker."""
    hybrid = Hybrid(Separate(names.codec("jpeg"), FixedMcs(6)), SoftCast(), 0.5)
    x, channel = picture("natural", 32, 48).x, RayleighBlockFading(10**6)
    rng = NamedStreams(0, tuple(f"{seed}" for seed in range(100)))
    observations = observed(hybrid, hybrid.send(x, 3000, None), x, 3000, channel, 5.0, rng)
    coarse = [not any(isinstance(piece, Decoded) for piece in o.evidence) for o in observations]
    fine = [not any(isinstance(piece, Symbols) for piece in o.evidence) for o in observations]
    assert 0 < sum(fine) < sum(coarse) < 100
    assert all(weaker for weaker, stronger in zip(coarse, fine, strict=True) if stronger)
    assert [o.info["digital_outage"] for o in observations] == [float(lost) for lost in coarse]


def test_the_division_does_not_tell_of_the_picture() -> None:
    """A coarse picture that does not fit leaves its channel uses silent."""
    hybrid = Hybrid(COARSE, SoftCast(), 0.35)
    blank = torch.full((1, 3, SIDE, SIDE), 0.5)
    patches = NamedStreams(0, ("patches",)).uniform("colours", (3, SIDE // 16, SIDE // 16))
    busy = patches.repeat_interleave(16, 2).repeat_interleave(16, 3)
    sent = [hybrid.send(x, 6000, None) for x in (blank, busy)]
    assert [s.info["digital_silent"] for s in sent] == [0.0, 1.0]
    assert sent[0].symbols.shape == sent[1].symbols.shape
    assert not bool(sent[1].symbols[:, :2100].any())


def test_power_for_one_part_is_taken_from_the_other() -> None:
    """With 6 dB more for the bits these survive at an SNR where they would not; the analog part pays."""
    coarse = Separate(names.codec("jpeg"), FixedMcs(6))
    (equal,) = shown(Hybrid(coarse, SoftCast(), 0.3), [-1.5])
    (louder,) = shown(Hybrid(coarse, SoftCast(), 0.3, 6.0), [-1.5])
    assert (equal.info["digital_outage"], louder.info["digital_outage"]) == (1.0, 0.0)
    (quiet,) = shown(Hybrid(COARSE, SoftCast(), 0.3, 6.0, target="residual"), [25.0])
    (loud,) = shown(Hybrid(COARSE, SoftCast(), 0.3, 0.0, target="residual"), [25.0])
    assert psnr_db(quiet) < psnr_db(loud)


def test_names_are_canonical_and_read_back() -> None:
    spelled = (
        "hybrid:jpeg:mcs3:softcast",
        "hybrid:jpeg:mcs3:softcast-residual:0.7",
        "hybrid:avif:csit-average:deepjscc:0.5:-3:0.1",
    )
    for name in spelled:
        assert names.scheme(name).name == name
    assert names.scheme("hybrid").name == names.scheme("hybrid::::0.5").name
    assert names.scheme("hybrid:::softcast:0.40:0:0+ddrm:4").name.endswith("softcast:0.4+ddrm:4")


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("hybrid:avif:mcs9:deepjscc:x", InvalidOption, "it is spelled hybrid"),
        ("hybrid:a:b:c:1:2:3:4", InvalidOption, "it is spelled hybrid"),
        ("hybrid:avif:mcs9:deepjscc:1", InvalidOption, "share of 1: between 0 and 1"),
        ("hybrid:avif:mcs9:deepjscc:0.5:99", InvalidOption, "power of 99 dB"),
        ("hybrid:avif:mcs9:deepjscc:0.5:0:nan", InvalidOption, "transmit noise of nan"),
        (
            "hybrid:avif:mcs9:deepjscc:0.5:0:0.5",
            InvalidOption,
            r"deepjscc, measured up to 0\.2; take less",
        ),
        (
            "hybrid:avif:mcs9:deepjscc-perceptual:0.5:0:0.1",
            InvalidOption,
            "nobody has measured; choose",
        ),
        ("hybrid:avif:mcs9:vinyl", UnknownName, "no analog part called 'vinyl'"),
        ("hybrid:gif", UnknownName, "no codec called 'gif'"),
        ("hybrid:avif:mcs99", InvalidOption, "MCS 99 is not in the table"),
    ],
)
def test_wrong_names_are_one_line(name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        names.scheme(name)


@pytest.mark.parametrize(("rho", "noise"), [("1/3", 0.1), ("1/3", 0.2), ("1/24", 0.1)])
def test_more_is_not_claimed_of_noise_than_arrived(rho: str, noise: float) -> None:
    """At large rho the network sends the noise as well as the picture; it was measured up to 1/24."""
    x = picture("natural", 192, 192).x
    network = names.scheme("deepjscc").transmission
    assert isinstance(network, Transmission)
    hybrid, uses = Hybrid(COARSE, network, noise=noise), Budget.from_rho(rho, x.numel()).channel_uses
    rng = noise_streams("natural", 0)
    (observation,) = observed(hybrid, hybrid.send(x, uses, None), x, uses, AWGN(), 12.0, rng)
    fine = observation.evidence[1]
    if rho == "1/24":
        assert isinstance(fine, Decoded)
        assert fine.origin is not None
        assert fine.origin.code == "deepjscc-noised"
        assert fine.origin.point[-1] == noise
    else:
        assert isinstance(fine, Symbols)
        assert noise < fine.error_std
        assert float((fine.estimate - x).square().mean().sqrt()) < fine.error_std
        told = fine.linear
        assert isinstance(told.operator, CosineGain)
        assert told.noise_std == 1
        heard = told.operator.gains > 0
        assert float((told.y - told.operator.A(x))[heard].square().mean()) < 1


def test_soft_cast_takes_any_noise() -> None:
    assert names.scheme("hybrid:avif:mcs9:softcast:0.5:0:3").name.endswith(":3")


def test_a_network_is_given_no_residuals() -> None:
    network = names.scheme("deepjscc").transmission
    assert isinstance(network, Transmission)
    with pytest.raises(InvalidOption, match="knows pictures, not residuals"):
        Hybrid(COARSE, network, target="residual")


def test_the_fused_picture_is_at_least_as_good_as_what_is_known() -> None:
    """Equal evidence twice has half the noise: the fused error falls as the formula says."""
    rng = NamedStreams(0, ("twice",))
    x = rng.normal("x", (3, SIDE, SIDE))
    zero = mean_color(x).expand(1, 3, SIDE, SIDE)
    gains = torch.ones(1, 3, SIDE, SIDE)
    pieces = tuple(evidence(x + rng.normal(f"n{i}", (3, SIDE, SIDE)), gains, zero) for i in range(2))
    together = fused(pieces, {})
    error = float((together.estimate - zero - centred_picture(x)).square().mean())
    assert error == pytest.approx(1 / 3, abs=5 / 3 * math.sqrt(2 / x.numel()) + 1e-3)
