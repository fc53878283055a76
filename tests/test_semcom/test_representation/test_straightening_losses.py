"""Objectives, measures and the network of straightening, against closed forms."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from semcom.errors import InvalidOption, InvalidSource
from semcom.representation.sequences import MovingShapes
from semcom.representation.straightening import (
    EPSILON,
    OBJECTIVES,
    StraightAutoencoder,
    cosine_term,
    cosines,
    covariance_term,
    encoded,
    invariance_term,
    second_difference_term,
    speed_term,
    variance_term,
)
from semcom.representation.straightness import (
    RidgeDecoder,
    StepStatistics,
    attacked,
    difference_geometry,
    effective_dimension,
    extrapolated,
    extrapolation_ratios,
    novelty,
    straightness,
    straightness_by_layer,
)
from semcom.training.straightening import compare, loss, mixed, score, train


def lines(count: int = 50, length: int = 6, dims: int = 8) -> Tensor:
    """Straight trajectories of constant speed."""
    start, step = torch.randn(2, count, 1, dims, generator=torch.Generator().manual_seed(0)).double()
    return start + step * torch.arange(length)[:, None]


def polygon(angle: float, ratio: float = 1.0, length: int = 7) -> Tensor:
    """A plane trajectory that turns by one angle at every step, each step longer by one ratio."""
    turns = torch.arange(length - 1)
    step = torch.polar(ratio ** turns.double(), angle * turns.double())
    places = torch.cat([torch.zeros(1, dtype=step.dtype), step.cumsum(0)])
    return torch.view_as_real(places)[None]


def small() -> StraightAutoencoder:
    torch.manual_seed(0)
    return StraightAutoencoder(1, 8, (4, 4, 4, 4), (4, 4, 4, 4), linear=False)


def test_straight_lines_are_straight() -> None:
    z = lines()
    assert straightness(z) == pytest.approx(1, abs=1e-12)
    assert float(cosine_term(z)) == pytest.approx(-1, abs=1e-12)
    assert float(speed_term(z)) == pytest.approx(0, abs=1e-12)
    assert float(second_difference_term(z)) == pytest.approx(0, abs=1e-12)
    assert extrapolation_ratios(z)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, math.pi / 2, 3.0])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.7])
def test_polygons_have_the_angle_and_the_ratio_they_are_made_of(angle: float, ratio: float) -> None:
    z = polygon(angle, ratio)
    assert straightness(z) == pytest.approx(math.cos(angle), abs=1e-9)
    assert float(speed_term(z)) == pytest.approx(ratio + 1 / ratio - 2, abs=1e-9)


def test_random_walks_have_no_straightness() -> None:
    """Cosines of white steps in d dimensions have mean 0 and variance 1/d: four standard errors."""
    steps = torch.randn(500, 9, 16, generator=torch.Generator().manual_seed(0))
    z = steps.cumsum(1)
    assert abs(straightness(z)) < 4 / math.sqrt(16 * 500 * 7)
    assert float(second_difference_term(z)) == pytest.approx(2, rel=0.05)


def test_terms_of_white_latents() -> None:
    z = 0.5 * torch.randn(4000, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # the deviation of a standard deviation of 20000 values is 0.5 / sqrt(2 x 20000)
    assert float(variance_term(z)) == pytest.approx(1 - math.sqrt(0.25 + EPSILON), abs=4 * 0.0025)
    assert float(covariance_term(z)) < 12 * 0.25**2 / 20000 / 4 * 5
    # two frames of a white sequence differ by 2 sigma^2; of 5 frames each
    assert float(invariance_term(z)) == pytest.approx(2 * 0.25, rel=0.05)
    assert float(covariance_term(torch.ones(1, 1, 2) * z[..., :1])) == pytest.approx(0.25**2, rel=0.1)
    assert float(variance_term(3 * z)) == 0


def test_novelty_is_the_turn_of_the_trajectory() -> None:
    """0 on a line, 1 at a right angle, 2 where it turns back; rest and its end; too few frames."""
    places = [[0, 0], [1, 0], [3, 0], [3, 2], [3, 1], [3, 1], [3, 1], [4, 1], [5, 1]]
    z = torch.tensor([places], dtype=torch.float64)
    assert novelty(z)[0].tolist() == pytest.approx([0, 0, 0, 1, 2, 0, 0, 1, 0], abs=1e-12)
    for length in (1, 2):
        assert novelty(z[:, :length]).tolist() == [[0.0] * length]
    generator = torch.Generator().manual_seed(0)
    ends = torch.randn(2, 200, 2, 256, generator=generator, dtype=torch.float64)
    times = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None, None]
    # steps in a direction that is independent of the place
    first, second = (ends[i, :, 0] + times * 0.1 * ends[i, :, 1] for i in range(2))
    cut = novelty(torch.cat([first, second]).transpose(0, 1))
    # cosines of independent directions have the variance 1 / dims; six deviations, at the cut and after it
    assert cut[:, 6:8].sub(1).abs().max() < 6 / 16
    others = [2, 3, 4, 5, 8, 9, 10, 11]
    assert cut[:, others].abs().max() < 1e-9


def test_still_frames_have_no_direction() -> None:
    """Zero motion: masked in every mean, gradients are numbers; measures refuse it in one line."""
    moving = polygon(0.3)
    still = torch.cat([moving, moving[:, -1:].expand(-1, 3, -1)], 1)
    assert straightness(still) == pytest.approx(straightness(moving))
    for name, objective in OBJECTIVES.items():
        z = torch.ones(3, 5, 4, requires_grad=True)
        objective.loss(z).backward()
        assert z.grad is None or z.grad.isfinite().all(), name
    constant = torch.ones(3, 5, 4)
    assert not len(cosines(constant))
    assert float(cosine_term(constant)) == float(speed_term(constant)) == 0
    assert float(second_difference_term(constant)) == 0
    with pytest.raises(InvalidSource, match="no straightness; give sequences"):
        straightness(constant)
    with pytest.raises(InvalidSource, match="have no dimension"):
        effective_dimension(constant)
    with pytest.raises(InvalidSource, match="have no gain"):
        StepStatistics.of(constant)
    with pytest.raises(InvalidSource, match="no difference vectors"):
        difference_geometry(constant, torch.zeros(3, 5, 2), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("length", [1, 2])
def test_one_or_two_frames_have_no_curvature(length: int) -> None:
    z = torch.randn(3, length, 4)
    with pytest.raises(InvalidSource, match="at least 3 frames"):
        straightness(z)
    with pytest.raises(InvalidOption, match="at least 3"):
        OBJECTIVES["cosine"].loss(z)
    with pytest.raises(InvalidOption, match="at least 3"):
        extrapolated(z)


def test_effective_dimension_of_known_covariances() -> None:
    eye = torch.eye(6).repeat(50, 1)
    assert effective_dimension(torch.cat([eye, -eye])) == pytest.approx(6)
    assert effective_dimension(torch.randn(100, 1) @ torch.randn(1, 9)) == pytest.approx(1, abs=1e-5)


def test_ridge_finds_a_linear_map_and_r2_its_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3000, 6, generator=generator)
    weights = torch.randn(6, 2, generator=generator)
    y = z @ weights + 3
    assert RidgeDecoder.fit(z, y).r2(z, y) == pytest.approx(1, abs=1e-4)
    signal = float((z @ weights).var(0).sum())
    noisy = y + math.sqrt(signal / 2) * torch.randn(3000, 2, generator=generator)
    expected = signal / (signal + signal)  # noise of the power of the signal
    assert RidgeDecoder.fit(z, noisy).r2(z, noisy) == pytest.approx(expected, abs=0.05)


def test_an_attack_stays_in_its_ball_and_hurts_more_than_noise() -> None:
    """For a linear encoder the worst case of one value is known: radius times the sum of magnitudes."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(64 * 64, 3, generator=generator)
    frames = torch.rand(16, 1, 64, 64, generator=generator)

    def encode(x: Tensor) -> Tensor:
        return x.flatten(1) @ matrix

    y = encode(frames)[:, :1].double()
    decoder = RidgeDecoder(torch.eye(4, 1, dtype=torch.float64))
    moved = attacked(encode, decoder, frames, y + 1e-3, 0.01)
    assert (moved - frames).abs().max() <= 0.01 + 1e-6
    error = (decoder(encode(moved)) - y).abs()
    assert error.min() > 0.98 * 0.01 * float(matrix[:, 0].abs().sum())


def test_step_statistics_explain_the_gain() -> None:
    """Random angles and ratios: 1 / gain = spread + (1 - c) 2 E(ab) / E(b^2), by the law of cosines."""
    z = torch.randn(200, 8, 5, generator=torch.Generator().manual_seed(0)).cumsum(1).cumsum(1)
    found = StepStatistics.of(z)
    v = (z[:, 1:] - z[:, :-1]).norm(dim=2).double()
    cross = float((v[:, 1:] * v[:, :-1]).mean() / v[:, 1:].square().mean())
    assert 1 / found.gain == pytest.approx(found.ratio_spread + 2 * (1 - found.cosine) * cross, rel=1e-4)
    turning = StepStatistics.of(polygon(0.4))
    assert turning.gain == pytest.approx(turning.law_gain, rel=1e-9)
    assert turning.gain == pytest.approx(1 / (2 * (1 - math.cos(0.4))), rel=1e-9)


def test_differences_of_a_linear_representation_are_parallel_or_orthogonal() -> None:
    drawn = MovingShapes().draw(200, 4, torch.Generator().manual_seed(0))
    places = drawn.attributes[..., :2]
    found = difference_geometry(torch.cat([places, torch.zeros(200, 4, 3)], 2), places, drawn.kind)
    assert found.parallel.min() > 0.95 - 1e-5
    assert found.orthogonal.abs().max() < 0.3 + 1e-5


# The network


def test_the_fixed_point_decoder_shows_what_the_network_shows_and_is_exact() -> None:
    """Sums in another order: a batch, and one latent at a time, give the very same numbers."""
    torch.manual_seed(0)
    network = StraightAutoencoder()
    network.start_from(torch.rand(100, 3, 64, 64))
    exact = network.in_fixed_point()
    z = network.encode(torch.rand(5, 3, 64, 64)).detach()
    with torch.no_grad():
        together = exact.decode(z.double())
        alone = torch.cat([exact.decode(row[None].double()) for row in z])
        assert torch.equal(together, alone)
        assert torch.equal(together * 2**14, (together * 2**14).round())
        assert (together - network.decode(z)).abs().max() < 0.02


def test_training_starts_from_principal_components() -> None:
    """Frames that are constant in 8x8 pixels and span 8 dimensions come back through 8 latents."""
    torch.manual_seed(0)
    network = StraightAutoencoder(1, 8, (4, 4, 4, 4), (4, 4, 4, 4))
    coarse = (0.1 * torch.randn(50, 8) @ torch.randn(8, 64) + 0.5).reshape(50, 1, 8, 8)
    frames = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    network.start_from(frames)
    torch.nn.init.zeros_(network.encoder.out.weight)
    torch.nn.init.zeros_(network.encoder.out.bias)
    network.center.zero_()
    shown = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear", align_corners=False)
    assert (network.decode(network.encode(frames)) - shown).abs().max() < 1e-3
    with pytest.raises(InvalidOption, match="without linear paths"):
        small().start_from(frames)


def test_straightness_by_layer_begins_with_the_pixels() -> None:
    frames = MovingShapes().draw(8, 4, torch.Generator().manual_seed(0)).frames
    network = small()
    found = straightness_by_layer(network.encoder, frames)
    assert len(found) == 6
    assert found[0] == pytest.approx(straightness(frames.flatten(2)))
    assert found[-1] == pytest.approx(straightness(encoded(network, frames).detach()), abs=1e-5)


# Training


def test_training_by_steps_is_repeated_and_resumed(tmp_path: Path) -> None:
    first = compare("second-difference", 3, 3, tmp_path / "a")
    again = compare("second-difference", 3, 3, tmp_path / "b")
    other = compare("second-difference", 4, 3, tmp_path / "c")
    frames = MovingShapes().draw(2, 3, torch.Generator().manual_seed(0)).frames
    one, two, three = (encoded(network, frames) for network in (first, again, other))
    assert torch.equal(one, two)
    assert not torch.allclose(one, three)
    assert torch.equal(encoded(compare("second-difference", 3, 3, tmp_path / "a"), frames), one)


def test_a_few_steps_of_an_objective_lower_it(tmp_path: Path) -> None:
    frames = MovingShapes().draw(64, 6, torch.Generator().manual_seed(9)).frames

    def measured(steps: int, objective: str) -> float:
        network = compare(objective, 0, steps, tmp_path / f"{objective}{steps}")
        return float(OBJECTIVES[objective].loss(encoded(network, frames)).detach())

    assert measured(25, "second-difference") < measured(2, "second-difference") - 0.3


def test_the_loss_of_the_link_counts_pictures_and_moves_the_mean() -> None:
    from channels.streams import SharedStreams

    photos = (torch.rand(4, 80, 80, 3, generator=torch.Generator().manual_seed(0)) * 255).byte()
    frames = mixed(photos).draw(4, 6, torch.Generator().manual_seed(0)).frames
    torch.manual_seed(0)
    network = StraightAutoencoder(3, 8, (4, 4, 4, 4), (4, 4, 4, 4))
    before = network.center.clone()
    rng = SharedStreams(torch.Generator().manual_seed(0), 4)
    assert float(loss(network, frames, rng, "cosine-speed").detach()) > 0
    assert not torch.equal(network.center, before)
    assert math.isfinite(score(network, frames))


def test_wrong_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="64x64 only"):
        train(1.0, tmp_path, crop=32)
    for call in (lambda: train(1.0, tmp_path, objective="wrong"), lambda: compare("wrong", 0, 5, tmp_path)):
        with pytest.raises(InvalidOption, match="choose one of regularisers, cosine"):
            call()
    with pytest.raises(InvalidOption, match="at least 2"):
        compare("cosine", 0, 1, tmp_path)
