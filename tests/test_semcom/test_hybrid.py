"""Fusion of evidence against closed forms, and the hybrid's accounting, cliff and grace."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from toys import picture

from channels import AWGN, NamedStreams, RayleighBlockFading
from semcom import presets
from semcom.budget import Budget
from semcom.calibration import CosineGain, shipped_tables
from semcom.errors import InvalidOption, UnknownName, UnsuitableEvidence
from semcom.fusion import fused, merged
from semcom.hybrid import Hybrid, noisier
from semcom.jscc.cosine import centred_picture, coefficients_of, mean_color
from semcom.jscc.softcast import SoftCast
from semcom.operators import BlockMean, Identity
from semcom.receivers import Direct
from semcom.scheme import Scheme
from semcom.separate import FixedMcs, Separate
from semcom.sweep import noise_streams
from semcom.transmission import Linear, Observation

SNR_DB = (0.0, 5.0, 10.0, 20.0)
COARSE = Separate(presets.codec("jpeg"), FixedMcs(3))
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


def scalar_observation(coarse_mse: float, abar: float, snr_db: float) -> tuple[Tensor, Observation]:
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
    symbols = noisier(fine.symbols[0], noise)
    fine = Linear(fine.y, fine.operator, fine.noise_std, symbols=(symbols,))
    observation = Observation((coarse, fine), (1, *shape), torch.ones(1, dtype=torch.long), torch.ones(1), {})
    return x, observation


def evidence(w: Tensor, gains: Tensor, zero: Tensor) -> Linear:
    operator = CosineGain(gains)
    symbols = Linear(w + operator.A(zero), operator, torch.ones(1))
    return Linear(zero, Identity(), torch.ones(1), symbols=(symbols,))


@pytest.mark.parametrize(("coarse_mse", "abar"), TABLE)
def test_two_descriptions_of_a_gaussian_source(coarse_mse: float, abar: float) -> None:
    """D = 1 / (1/D_c + 1/s^2), s^2 = (1 - abar + 1/SNR) / abar, within 1e-3 and the error of measurement.

    The squared error over 3 SIDE^2 = 3e5 values has a standard error of D sqrt(2 / 3e5) < 1.5e-3 D.
    """
    for snr_db, listed in zip(SNR_DB, TABLE[coarse_mse, abar], strict=True):
        s2 = (1 - abar + 10 ** (-snr_db / 10)) / abar
        formula = 1 / (1 / coarse_mse + 1 / s2)
        assert formula == pytest.approx(listed, abs=1e-3)
        x, observation = scalar_observation(coarse_mse, abar, snr_db)
        together = fused(observation, {})
        measured = float((coefficients_of(together.y) - x).square().mean())
        standard_error = formula * math.sqrt(2 / x.numel())
        assert measured == pytest.approx(formula, abs=1e-3 * formula + 5 * standard_error)
        assert float(together.noise_std) ** 2 == pytest.approx(formula, rel=0.02)


def test_transmit_noise_is_a_floor_under_linear_transmission() -> None:
    """D -> 1 / (1/D_c + abar / (1 - abar)) however good the channel is."""
    x, observation = scalar_observation(0.25, 0.5, 60.0)
    measured = float((coefficients_of(fused(observation, {}).y) - x).square().mean())
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


def test_unknown_noise_and_other_operators_cannot_be_fused() -> None:
    x = picture("toy", 16, 16).x
    unknown = Linear(x, Identity(), torch.tensor([torch.nan]))
    small = Linear(x[:, :, ::2, ::2], BlockMean(2, 16, 16), torch.ones(1))
    blocks = Linear(x, Identity(), torch.ones(1), symbols=(small,))
    for piece in (unknown, blocks):
        observation = Observation((piece, piece), tuple(x.shape), torch.ones(1).long(), torch.ones(1), {})
        with pytest.raises(UnsuitableEvidence, match="cannot be fused"):
            fused(observation, shipped_tables())


def psnr_db(hybrid: Hybrid, snr_db: float, uses: int = 8000) -> tuple[float, dict[str, float]]:
    item = picture("natural", 64, 96)
    scheme = Scheme(hybrid.name, hybrid, Direct())
    outcome = scheme.transmit(item.x, Budget(uses, item.x.numel()), AWGN(), snr_db, noise_streams(item.id, 0))
    mse = float((outcome.x_hat - item.x).square().mean())
    return -10 * math.log10(mse), {name: float(column) for name, column in outcome.info.items()}


@pytest.mark.parametrize("target", ["picture", "residual"])
def test_above_its_design_snr_the_digital_part_stands_still_and_the_hybrid_rises(target: str) -> None:
    """Bits are the same at every SNR; what is added by the analog part grows with it."""
    hybrid = Hybrid(COARSE, SoftCast(), 0.5, target="residual" if target == "residual" else "picture")
    rising = [psnr_db(hybrid, snr_db)[0] for snr_db in (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)]
    assert all(later > earlier for earlier, later in pairwise(rising))
    infos = [psnr_db(hybrid, snr_db)[1] for snr_db in (0.0, 25.0)]
    assert infos[0]["payload_bits"] == infos[1]["payload_bits"]
    assert infos[0]["digital_outage"] == infos[1]["digital_outage"] == 0


def test_the_coarse_picture_alone_has_a_cliff_and_stands_still_above_it() -> None:
    """One modulation and code rate: lost below, one picture for all SNRs above."""
    item = picture("natural", 64, 96)
    scheme = Scheme("coarse", COARSE, Direct())
    outcome = scheme.transmit(
        item.x, Budget(4000, item.x.numel()), AWGN(), torch.tensor([-12.0, 0.0, 25.0]), three(item.id)
    )
    assert outcome.info["outage"].tolist() == [1, 0, 0]
    assert torch.equal(outcome.x_hat[1], outcome.x_hat[2])


def three(item: str) -> NamedStreams:
    """One realisation, for three SNRs."""
    one = noise_streams(item, 0)
    return NamedStreams(one.root, one.items * 3)


def test_without_its_bits_a_picture_is_left_of_a_picture_and_nothing_of_a_residual() -> None:
    coarse = Separate(presets.codec("jpeg"), FixedMcs(20))
    for target, outage in (("picture", 0.0), ("residual", 1.0)):
        hybrid = Hybrid(coarse, SoftCast(), 0.5, target="residual" if outage else "picture")
        quality, info = psnr_db(hybrid, 0.0)
        assert (info["digital_outage"], info["outage"]) == (1.0, outage), target
        alone = Hybrid(coarse, SoftCast(), 0.5, target="picture")
        assert outage or quality == pytest.approx(psnr_db(alone, 0.0)[0])


@pytest.mark.parametrize("power_db", [-6.0, 0.0, 6.0])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_power_is_shared_and_fully_spent(share: float, power_db: float) -> None:
    """k_d p_d + k_a p_a = k, to within the quantisation of SoftCast's amplitude."""
    item = picture("natural", 64, 96)
    hybrid = Hybrid(COARSE, SoftCast(), share, power_db)
    budget = Budget(8000, item.x.numel())
    sent = hybrid.prepare(item.x, budget, AWGN(), None)
    observation = hybrid.deliver(sent, AWGN(), 10.0, noise_streams(item.id, 0))
    assert int(observation.channel_uses) == 8000
    assert 0.97 * 8000 < float(observation.energy) <= 8000 * (1 + 1e-4)
    assert float(observation.info["digital_uses"]) == math.floor(share * 8000)


def test_both_parts_meet_one_realisation_of_the_channel() -> None:
    """A gain that does not change during the item: where the stronger code is lost, so is the weaker."""
    hybrid = Hybrid(Separate(presets.codec("jpeg"), FixedMcs(6)), SoftCast(), 0.5)
    item, channel = picture("natural", 32, 48), RayleighBlockFading(10**6)
    sent = hybrid.prepare(item.x, Budget(3000, item.x.numel()), channel, None)
    rng = NamedStreams(0, tuple(f"{seed}" for seed in range(100)))
    coarse, fine = (part.noise_std.isinf() for part in hybrid.deliver(sent, channel, 5.0, rng).evidence)
    assert 0 < int(fine.sum()) < int(coarse.sum()) < 100
    assert not bool((fine & ~coarse).any())


def test_the_division_does_not_tell_of_the_picture() -> None:
    """A coarse picture that does not fit leaves its channel uses silent."""
    hybrid = Hybrid(Separate(presets.codec("jpeg"), FixedMcs(3)), SoftCast(), 0.35)
    budget = Budget(6000, 3 * SIDE**2)
    blank = torch.full((1, 3, SIDE, SIDE), 0.5)
    patches = NamedStreams(0, ("patches",)).uniform("colours", (3, SIDE // 16, SIDE // 16))
    busy = patches.repeat_interleave(16, 2).repeat_interleave(16, 3)
    sent = [hybrid.prepare(x, budget, AWGN(), None) for x in (blank, busy)]
    assert [s.info["digital_silent"] for s in sent] == [0.0, 1.0]
    assert sent[0].channel_uses == sent[1].channel_uses
    assert sent[0].symbols.shape == sent[1].symbols.shape
    assert not bool(sent[1].symbols[:, :2100].any())


def test_power_for_one_part_is_taken_from_the_other() -> None:
    """With 6 dB more for the bits these survive at an SNR where they would not; the analog part pays."""
    coarse = Separate(presets.codec("jpeg"), FixedMcs(6))
    _, equal = psnr_db(Hybrid(coarse, SoftCast(), 0.3), -1.5)
    _, louder = psnr_db(Hybrid(coarse, SoftCast(), 0.3, 6.0), -1.5)
    assert (equal["digital_outage"], louder["digital_outage"]) == (1.0, 0.0)
    quiet, _ = psnr_db(Hybrid(COARSE, SoftCast(), 0.3, 6.0, target="residual"), 25.0)
    loud, _ = psnr_db(Hybrid(COARSE, SoftCast(), 0.3, 0.0, target="residual"), 25.0)
    assert quiet < loud


def test_names_are_canonical_and_read_back() -> None:
    names = (
        "hybrid:jpeg:mcs3:softcast",
        "hybrid:jpeg:mcs3:softcast-residual:0.7",
        "hybrid:avif:csit-average:deepjscc:0.5:-3:0.1",
    )
    for name in names:
        assert presets.scheme(name).name == name
    assert presets.scheme("hybrid").name == presets.scheme("hybrid::::0.5").name
    assert presets.scheme("hybrid:::softcast:0.40:0:0+ddrm:4").name.endswith("softcast:0.4+ddrm:4")


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
        presets.scheme(name)


@pytest.mark.parametrize(("rho", "noise"), [("1/3", 0.1), ("1/3", 0.2), ("1/24", 0.1)])
def test_more_is_not_claimed_of_noise_than_arrived(rho: str, noise: float) -> None:
    """At large rho the network sends the noise as well as the picture; it was measured up to 1/24."""
    item = picture("natural", 192, 192)
    hybrid = Hybrid(COARSE, presets.scheme("deepjscc").transmission, noise=noise)
    sent = hybrid.prepare(item.x, Budget.from_rho(rho, item.x.numel()), AWGN(), None)
    observation = hybrid.deliver(sent, AWGN(), 12.0, noise_streams(item.id, 0))
    fine = observation.evidence[1]
    told = fine.symbols[0] if fine.symbols else None
    assert (told is None) == (rho == "1/24")
    if told is not None:
        assert noise < float(fine.noise_std)
        assert float((fine.y - item.x).square().mean().sqrt()) < float(fine.noise_std)
        assert isinstance(told.operator, CosineGain)
        heard = told.operator.gains > 0
        assert float((told.y - told.operator.A(item.x))[heard].square().mean()) < 1


def test_soft_cast_takes_any_noise() -> None:
    assert presets.scheme("hybrid:avif:mcs9:softcast:0.5:0:3").name.endswith(":3")


def test_a_network_is_given_no_residuals() -> None:
    with pytest.raises(InvalidOption, match="knows pictures, not residuals"):
        Hybrid(COARSE, presets.scheme("deepjscc").transmission, target="residual")


def test_the_fused_picture_is_at_least_as_good_as_what_is_known() -> None:
    """Equal evidence twice has half the noise: the fused error falls as the formula says."""
    rng = NamedStreams(0, ("twice",))
    x = rng.normal("x", (3, SIDE, SIDE))
    zero = mean_color(x).expand(1, 3, SIDE, SIDE)
    gains = torch.ones(1, 3, SIDE, SIDE)
    pieces = tuple(evidence(x + rng.normal(f"n{i}", (3, SIDE, SIDE)), gains, zero) for i in range(2))
    observation = Observation(pieces, (1, 3, SIDE, SIDE), torch.ones(1).long(), torch.ones(1), {})
    together = fused(observation, {})
    error = float((together.y - zero - centred_picture(x)).square().mean())
    assert error == pytest.approx(1 / 3, abs=5 / 3 * math.sqrt(2 / x.numel()) + 1e-3)
