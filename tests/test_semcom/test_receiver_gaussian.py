"""Receivers with the exact denoiser of a Gaussian prior, whose posterior is known."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from channels import NamedStreams
from channels.streams import SharedStreams
from semcom.cells import Cells
from semcom.denoisers import GaussianDenoiser
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.observation import Decoded, Linear, Nonlinear, Observation
from semcom.operators import BlockMean, DecimatedBlur, Grey, Identity, Mask, Operator
from semcom.receivers.consistency import Consistency
from semcom.receivers.ddnm import DDNM, rules
from semcom.receivers.ddrm import DDRM
from semcom.receivers.diffpir import DiffPIR
from semcom.receivers.dps import DPS
from semcom.receivers.evidence import PriorEvidence, in_prior_units, nothing_observed
from semcom.receivers.generative import Generative, Method
from semcom.receivers.loop import EncoderInTheLoop
from semcom.receivers.posterior import Posterior
from semcom.samplers import FromNoise

COUNT = 20_000
PRIOR = GaussianDenoiser(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
FIRST = Mask(torch.tensor([True, False]))
STANDARD_ERROR = 1 / math.sqrt(COUNT)


@dataclass(frozen=True)
class White(SharedStreams):
    """Normal numbers with mean 0 and covariance 1 over the items, so that moments have little error."""

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Whitened."""
        drawn = super().normal(purpose, shape).flatten(1).double()
        drawn = drawn - drawn.mean(0)
        root = torch.linalg.cholesky(drawn.T @ drawn / self.batch)
        white = torch.linalg.solve_triangular(root, drawn.T, upper=False).T
        return white.float().reshape(self.batch, *shape)


def last(estimates: Iterator[Tensor]) -> Tensor:
    return deque(estimates, maxlen=1)[0]


def first_is_one(noise_std: float, count: int) -> PriorEvidence:
    """The first of two values was observed as 1; for as many samples."""
    return PriorEvidence(torch.tensor([1.0, 0.0]).expand(count, 1, 1, 2), FIRST, noise_std)


def moments(receiver: Method, evidence: PriorEvidence) -> tuple[Tensor, Tensor]:
    """Mean and variance of samples, one per row of the evidence."""
    shape = tuple(evidence.y.shape)
    rng = White(torch.Generator().manual_seed(0), shape[0])
    samples = last(receiver.estimates(evidence, shape, rng)).flatten(1)
    return samples.mean(0), samples.var(0, correction=0)


def exact(noise_std: float) -> tuple[Tensor, Tensor]:
    gain = torch.tensor([1.0, 0.8]) / (1 + noise_std**2)
    return gain, torch.tensor([1.0, 1.0]) - gain * torch.tensor([1.0, 0.8])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "eta", "noise_std", "mean", "variance"),
    [  # checked independently of this code
        (100, 0.85, 0.0, (1.0, 0.736), (0.0, 0.282)),
        (1000, 0.85, 0.0, (1.0, 0.788), (0.0, 0.277)),
        (100, 0.0, 0.0, (1.0, 0.747), (0.0, 0.357)),
        (100, 0.85, 0.3, (0.913, 0.653), (0.027, 0.318)),
        (1000, 0.85, 0.3, (0.968, 0.722), (0.009, 0.305)),
    ],
)
def test_ddnm_has_the_bias_it_states(
    steps: int, eta: float, noise_std: float, mean: tuple[float, ...], variance: tuple[float, ...]
) -> None:
    found = moments(DDNM(PRIOR, FromNoise(steps), eta), first_is_one(noise_std, COUNT))
    torch.testing.assert_close(found[0], torch.tensor(mean), rtol=0, atol=0.01)
    torch.testing.assert_close(found[1], torch.tensor(variance), rtol=0, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise_std", "steps", "allowed"),
    [(0.0, 1000, 0.01), (0.3, 1000, 0.01), (2.0, 1000, 0.01), (0.0, 100, 0.03), (0.3, 100, 0.03)],
)
def test_posterior_is_exact_as_steps_grow(steps: int, allowed: float, noise_std: float) -> None:
    """A linear map of the noise it starts from, so that few samples tell."""
    found = moments(Posterior(PRIOR, FromNoise(steps), solver_steps=1), first_is_one(noise_std, 100))
    expected = exact(noise_std)
    assert float((found[0] - expected[0]).abs().max()) < allowed
    assert float((found[1] - expected[1]).abs().max()) < allowed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("receiver", "noise_std", "mean", "variance"),
    [  # as their docstrings say
        (DDRM(PRIOR), 0.0, (1.0, 0.671), (0.0, 0.305)),
        (DDRM(PRIOR), 0.3, (0.913, 0.655), (0.027, 0.318)),
        (DDRM(PRIOR, FromNoise(1000)), 0.3, (0.968, 0.726), (0.009, 0.307)),
        (DiffPIR(PRIOR), 0.3, (0.907, 0.540), (0.064, 0.470)),
        (DiffPIR(PRIOR, FromNoise(1000)), 0.3, (0.911, 0.677), (0.073, 0.405)),
        (DPS(PRIOR), 0.0, (1.004, 0.968), (0.319, 0.299)),
        (DPS(PRIOR, strength=0.3), 0.0, (1.0, 0.968), (0.030, 0.295)),
    ],
)
def test_the_others_have_the_bias_they_state(
    receiver: Method, noise_std: float, mean: tuple[float, ...], variance: tuple[float, ...]
) -> None:
    found = moments(receiver, first_is_one(noise_std, COUNT))
    torch.testing.assert_close(found[0], torch.tensor(mean), rtol=0, atol=6 * STANDARD_ERROR)
    torch.testing.assert_close(
        found[1], torch.tensor(variance), rtol=0, atol=6 * math.sqrt(2) * STANDARD_ERROR
    )


@pytest.mark.parametrize(
    ("steps", "mean", "variance"),
    [(100, (0.916, 0.537), (0.054, 0.468)), (1000, (0.927, 0.689), (0.057, 0.399))],  # as its docstring says
)
def test_consistency_has_the_bias_it_states(
    steps: int, mean: tuple[float, ...], variance: tuple[float, ...]
) -> None:
    """Of two values the first is known to be in [0.5, 1.5]; every sample keeps to it."""
    interval = Cells(FIRST, torch.tensor([0.5, -math.inf]), torch.tensor([1.5, math.inf]))
    shape = (COUNT, 1, 1, 2)
    y = torch.tensor([1.0, 0.0]).expand(shape)
    method = Consistency(PRIOR, FromNoise(steps), bound=math.inf)
    rng = White(torch.Generator().manual_seed(0), COUNT)
    samples = last(method.estimates(PriorEvidence(y, FIRST, 12**-0.5, cells=interval), shape, rng))
    assert float(interval.misfit(samples).max()) == 0
    assert float((samples[..., 0] == 1.5).float().mean()) < 0.01  # inside, and not on the edge
    samples = samples.flatten(1)
    torch.testing.assert_close(samples.mean(0), torch.tensor(mean), rtol=0, atol=6 * STANDARD_ERROR)
    allowed = 6 * math.sqrt(2) * STANDARD_ERROR
    torch.testing.assert_close(samples.var(0), torch.tensor(variance), rtol=0, atol=allowed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "receiver",
    [
        DDNM(PRIOR),
        DDRM(PRIOR),
        Posterior(PRIOR),
        DiffPIR(PRIOR),
        DPS(PRIOR),
        Consistency(PRIOR, FromNoise(100)),
    ],
    ids=lambda r: r.name,
)
def test_a_lost_item_is_a_sample_of_the_prior(receiver: Method) -> None:
    mean, variance = moments(receiver, nothing_observed((COUNT, 1, 1, 2)))
    assert float(mean.abs().max()) < 5 * STANDARD_ERROR + 0.01
    if receiver.name in ("posterior", "dps"):  # the noise of the others narrows even the prior
        assert float((variance - 1).abs().max()) < 5 * math.sqrt(2) * STANDARD_ERROR + 0.03


def test_ddnm_leaves_the_noise_of_the_next_level_in_every_direction() -> None:
    """lambda^2 q^2 and the variance drawn anew are sigma'^2, whether q is 0, below or above sigma'."""
    q = torch.cat((torch.zeros(1), torch.logspace(-4, 4, 81))).double()
    for following in (1e-3, 0.5, 1.0, 40.0):
        for eta in (0.0, 0.5, 0.85):
            gain, spread = rules(q, torch.tensor(following).double(), eta)
            total = (gain * q) ** 2 + spread**2
            torch.testing.assert_close(total, torch.full_like(q, following**2), rtol=1e-6, atol=0)
            assert bool((gain[q < following] == 1).all())


def photograph_evidence(operator: BlockMean | DecimatedBlur, noise_std: float) -> Observation:
    x = torch.rand(PICTURE, generator=torch.Generator().manual_seed(0))
    return observed(Linear(operator.A(x), operator, noise_std))


def observed(*evidence: Decoded | Linear) -> Observation:
    """The receivers look at the evidence, and not at what is shown of it."""
    return Observation(torch.zeros(PICTURE), evidence)


PICTURE = (1, 3, 16, 16)
SMOOTH = GaussianDenoiser(torch.zeros(768), 0.2 * torch.eye(768))


@pytest.mark.parametrize("operator", [BlockMean(4, 16, 16), BlockMean(2, 16, 16)], ids=["4", "2"])
def test_without_noise_the_sample_agrees_with_what_was_observed(operator: BlockMean) -> None:
    evidence = in_prior_units(photograph_evidence(operator, 0.0), PICTURE, "ddnm", "white", {})
    rng = NamedStreams(0, ("a",))
    sample = last(DDNM(SMOOTH, FromNoise(20)).estimates(evidence, PICTURE, rng))
    assert float((operator.A(sample) - evidence.y).abs().max()) < 1e-5
    sample = last(Posterior(SMOOTH, FromNoise(20)).estimates(evidence, PICTURE, rng))
    assert float((operator.A(sample) - evidence.y).abs().max()) < 1e-5


KERNEL = torch.tensor([[0.2, 0.6, 0.2]])


def shrinking(x: Tensor, sigma: Tensor) -> Tensor:
    """Exact for independent values of variance 0.04."""
    return 0.04 / (0.04 + sigma[:, None, None, None] ** 2) * x


@pytest.mark.parametrize(
    "operator",
    [
        BlockMean(4, 16, 16),
        BlockMean(3, 16, 16),
        Mask(torch.arange(256).reshape(16, 16) % 3 > 0),
        Grey(),
        DecimatedBlur(KERNEL, 2, 16, 16),
    ],
    ids=lambda operator: type(operator).__name__,
)
@pytest.mark.parametrize("contents", ["random", "saturated", "dark"])
def test_a_picture_shown_keeps_what_is_known_exactly(operator: Operator, contents: str) -> None:
    """A x = y within 1e-5 and x in [0, 1], at any knob; parts of the picture at the ends of the range."""
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    if contents == "saturated":
        x = (3 * x).clamp_max(1)
    elif contents == "dark":
        x = torch.where(torch.arange(16)[:, None] < 8, torch.zeros(()), 0.01 * x)
    evidence = Linear(operator.A(x), operator, 0.0)
    methods = [Posterior(shrinking, FromNoise(10))]
    if not isinstance(operator, DecimatedBlur):
        methods += [
            DDNM(shrinking, FromNoise(10)),
            DDRM(shrinking, FromNoise(10)),
            DiffPIR(shrinking, FromNoise(10)),
        ]
    for method in methods:
        for knob in (1.0, 0.3):
            shown = Generative(method, knob)(observed(evidence), PICTURE, NamedStreams(0, ("a",)))
            assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
            assert float((operator.A(shown.double()) - evidence.y).abs().max()) < 1e-5


def test_pictures_come_back_in_their_range() -> None:
    observation = photograph_evidence(BlockMean(4, 16, 16), 0.05)
    for method in (DDNM, DDRM, DiffPIR, DPS, Posterior):
        shown = Generative(method(SMOOTH, FromNoise(10)))(observation, PICTURE, NamedStreams(0, ("a",)))
        assert shown.shape == PICTURE
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1


@pytest.mark.parametrize("noise_std", [0.0, 0.4, None])
def test_samples_do_not_depend_on_each_other(noise_std: float | None) -> None:
    """Three together are each alone: without noise, with some, and of an item that was lost."""

    def of(rows: int) -> PriorEvidence:
        if noise_std is None:
            return nothing_observed((rows, 1, 1, 2))
        return PriorEvidence(torch.ones(rows, 1, 1, 2), FIRST, noise_std)

    few = FromNoise(30)
    others = (kind(PRIOR, few) for kind in (DDNM, DDRM, DiffPIR, Posterior))
    for receiver in (*others, DPS(PRIOR, few, 0.01)):
        together = last(receiver.estimates(of(3), (3, 1, 1, 2), NamedStreams(0, ("a", "b", "c"))))
        for i, item in enumerate("abc"):
            expected = last(receiver.estimates(of(1), (1, 1, 1, 2), NamedStreams(0, (item,))))
            torch.testing.assert_close(together[i : i + 1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise_std", [math.nan, math.inf, -0.1])
def test_the_noise_of_linear_evidence_is_known(noise_std: float) -> None:
    with pytest.raises(InvalidOption, match="noise of standard deviation"):
        photograph_evidence(BlockMean(4, 16, 16), noise_std)


def test_what_cannot_be_used_is_one_line() -> None:
    rng = NamedStreams(0, ("a",))
    unknown = observed(Decoded(torch.zeros(PICTURE)))
    with pytest.raises(UnsuitableEvidence, match="nobody has measured"):
        Generative(DDNM(SMOOTH))(unknown, PICTURE, rng)
    with pytest.raises(UnsuitableEvidence, match="ddnm needs evidence"):
        Generative(DDNM(SMOOTH))(observed(), PICTURE, rng)
    kernel = torch.tensor([[0.25, 0.5, 0.25]])
    blurred = photograph_evidence(DecimatedBlur(kernel, 2, 16, 16), 0.1)
    with pytest.raises(UnsuitableEvidence, match="singular vectors of DecimatedBlur"):
        Generative(DDNM(SMOOTH))(blurred, PICTURE, rng)
    with pytest.raises(UnsuitableEvidence, match="singular vectors of DecimatedBlur"):
        Generative(DDRM(SMOOTH))(blurred, PICTURE, rng)
    shown = Generative(Posterior(SMOOTH, FromNoise(10)))(blurred, PICTURE, rng)
    assert shown.shape == PICTURE
    with pytest.raises(InvalidOption, match="forgets"):
        DDNM(SMOOTH, eta=1.0)
    with pytest.raises(InvalidOption, match="solver steps"):
        Posterior(SMOOTH, solver_steps=0)
    (means,) = photograph_evidence(BlockMean(4, 16, 16), 0.1).evidence
    with pytest.raises(UnsuitableEvidence, match="cannot be fused"):
        Generative(Posterior(SMOOTH))(Observation(torch.zeros(PICTURE), (means, means)), PICTURE, rng)


def test_an_operator_of_two_pictures_is_refused() -> None:
    """One picture would go through the operators of both, and two would be shown."""
    x, operator = torch.ones(1, 3, 4, 4), Mask(torch.arange(2).reshape(2, 1, 1, 1) > 0)
    observation = Observation(x, (Linear(operator.A(x), operator, 0.0),))
    with pytest.raises(UnsuitableEvidence, match=r"\[2, 3, 4, 4\].*one picture"):
        Generative(DiffPIR(shrinking, FromNoise(10)))(observation, (1, 3, 4, 4), NamedStreams(0, ("a",)))


def test_evidence_of_another_shape_is_refused() -> None:
    small = observed(Linear(torch.zeros(1, 3, 4, 4), BlockMean(2, 16, 16), 0.0))
    with pytest.raises(UnsuitableEvidence, match=r"\[1, 3, 4, 4\], but BlockMean makes \[1, 3, 8, 8\]"):
        Generative(DiffPIR(shrinking, FromNoise(10)))(small, PICTURE, NamedStreams(0, ("a",)))


def test_identity_without_noise_shows_what_was_received() -> None:
    x = torch.rand(PICTURE, generator=torch.Generator().manual_seed(0))
    exactly = observed(Linear(x, Identity(), 0.0))
    shown = Generative(DDNM(SMOOTH, FromNoise(10)))(exactly, PICTURE, NamedStreams(0, ("a",)))
    torch.testing.assert_close(shown, x, rtol=0, atol=1e-6)


def symbols_evidence(count: int, measurement: Callable[[Tensor], Tensor], y: Tensor) -> PriorEvidence:
    """Symbols of a picture of two values, of which nothing else is known."""
    nothing = torch.zeros(count, 1, 1, 2)
    return PriorEvidence(nothing, Identity(), 1.0, symbols=Nonlinear(y, measurement))


@pytest.mark.parametrize("steps", [10, 100])
def test_the_loop_through_a_linear_encoder_is_diffpir_without_fresh_noise(steps: int) -> None:
    """Sample by sample; on the toy, means .909 and .331, variances .069 and .671 in 100 steps."""
    shape = (COUNT, 1, 1, 2)
    y = torch.full((COUNT, 1), 1 / 0.3)
    evidence = symbols_evidence(COUNT, lambda x: x[..., 0].reshape(len(x), 1) / 0.3, y)
    masked = first_is_one(0.3, COUNT)

    def rng() -> White:
        return White(torch.Generator().manual_seed(0), COUNT)

    ours = last(EncoderInTheLoop(PRIOR, FromNoise(steps)).estimates(evidence, shape, rng()))
    theirs = last(DiffPIR(PRIOR, FromNoise(steps), zeta=0.0).estimates(masked, shape, rng()))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    if steps == 100:
        mean, variance = ours.flatten(1).mean(0), ours.flatten(1).var(0)
        torch.testing.assert_close(mean, torch.tensor([0.909, 0.331]), rtol=0, atol=0.01)
        torch.testing.assert_close(variance, torch.tensor([0.069, 0.671]), rtol=0, atol=0.01)


def test_the_loop_explains_what_a_nonlinear_encoder_sent() -> None:
    """With next to no noise M(x) = y, for M = (tanh x1, x2^3 + x2)."""

    def measurement(x: Tensor) -> Tensor:
        first, second = x.flatten(1).unbind(1)
        return 1e3 * torch.stack((first.tanh(), second**3 + second), 1)

    truth = torch.tensor([0.4, -0.7]).reshape(1, 1, 1, 2)
    evidence = symbols_evidence(1, measurement, measurement(truth))
    rng = SharedStreams(torch.Generator().manual_seed(0), 1)
    loop = EncoderInTheLoop(PRIOR, FromNoise(50))
    torch.testing.assert_close(last(loop.estimates(evidence, truth.shape, rng)), truth, rtol=0, atol=1e-2)


def test_the_loop_counts_its_encoder() -> None:
    """Forward products go through the measurement once more; a backward one is counted by a hook."""
    calls = 0

    def count(gradient: Tensor) -> None:
        nonlocal calls
        calls += 1

    def measurement(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        sent = x.flatten(1) ** 3 + 0.1 * x.flatten(1).roll(1, 1)
        if sent.requires_grad:
            sent.register_hook(count)
        return sent

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return PRIOR(x, sigma)

    evidence = symbols_evidence(1, measurement, torch.tensor([[0.3, -0.2]]))
    loop = EncoderInTheLoop(denoiser, FromNoise(10), 1)
    last(loop.estimates(evidence, (1, 1, 1, 2), SharedStreams(torch.Generator().manual_seed(0), 1)))
    assert calls == loop.nfe == 50


def test_the_loop_needs_symbols() -> None:
    evidence = PriorEvidence(torch.zeros(1, 1, 1, 2), Identity(), 1.0)
    rng = SharedStreams(torch.Generator().manual_seed(0), 1)
    with pytest.raises(UnsuitableEvidence, match=r"of a joint code.* \(deepjscc, deepjscc-perceptual\)"):
        last(EncoderInTheLoop(PRIOR).estimates(evidence, (1, 1, 1, 2), rng))
    with pytest.raises(InvalidOption, match="0 solver steps"):
        EncoderInTheLoop(PRIOR, solver_steps=0)
