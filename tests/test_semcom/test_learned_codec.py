"""The learned codec: exact arithmetic, causal passes, honest rates, damage that is reported."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from semcom import zoo
from semcom.codecs import Quality
from semcom.codecs.hyperprior import (
    ACTIVATION_BITS,
    ACTIVATION_LIMIT,
    BLOCK,
    LEVELS,
    LEVELS_PER_OCTAVE,
    LOG2_SCALE_MAX,
    LOG2_SCALE_MIN,
    RATE_WEIGHT,
    SETTINGS,
    WEIGHT_BITS,
    Conv,
    MeanScaleHyperprior,
    decided,
    logistic_bits,
    steps,
)
from semcom.codecs.learned import HEADER_BYTES, PRECISION, LearnedCodec, frequencies, levels_of, reaches
from semcom.errors import CorruptPayload, InvalidOption
from semcom.training import learned_codec

ROOT = Path(__file__).parents[2]


def untrained(coefficients: int = 80, spread: float = 0.02) -> MeanScaleHyperprior:
    """A small network whose layers all do something."""
    torch.manual_seed(0)
    network = MeanScaleHyperprior(coefficients, features=16, side=8).eval().requires_grad_(False)
    network.start_from(texture(96, 96).expand(4, -1, -1, -1) + 0.02 * torch.randn(4, 3, 96, 96))
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=spread)
    return network


def texture(height: int, width: int) -> Tensor:
    """Smooth waves of three colours, [1, 3, height, width]."""
    rows, columns = torch.arange(height)[:, None] / 9, torch.arange(width)[None] / 7
    waves = [0.5 + 0.25 * torch.sin(rows * (1 + c / 2) + c) * torch.cos(columns - c) for c in range(3)]
    return torch.stack(waves)[None]


def psnr_db(x_hat: Tensor, x: Tensor) -> float:
    return -10 * torch.log10((x_hat - x).square().mean()).item()


@pytest.fixture(scope="module")
def shipped() -> LearnedCodec:
    network = zoo.load("learned")
    assert isinstance(network, MeanScaleHyperprior)
    return LearnedCodec(network)


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """An astronaut, [1, 3, 192, 256]."""
    from skimage import data

    return torch.from_numpy(data.astronaut()[:192, 128:384]).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_in_float64_is_integer_arithmetic(stride: int) -> None:
    """At the largest weights and activations, against 64-bit integers."""
    layer = Conv(400, 6, 3, stride)
    torch.nn.init.uniform_(layer.weight, -4, 4)
    torch.nn.init.uniform_(layer.bias, -1, 1)
    x = torch.round(
        (2 * torch.rand(1, 400, 7, 9, dtype=torch.float64) - 1) * ACTIVATION_LIMIT * 2**ACTIVATION_BITS
    )
    columns = F.unfold(x, 3, padding=1, stride=stride)[0].long()
    limit = 2 ** (WEIGHT_BITS + 2) - 1
    weights = torch.round(layer.weight.double() * 2**WEIGHT_BITS).long().clamp(-limit, limit).flatten(1)
    bias = torch.round(layer.bias.double() * 2**WEIGHT_BITS).long()
    sums = weights @ columns + (bias * 2**ACTIVATION_BITS)[:, None]
    assert sums.abs().max() < 2**53
    expected = torch.round(sums.double() / 2**WEIGHT_BITS) / 2**ACTIVATION_BITS
    expected = expected.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
    with torch.no_grad():
        found = layer(x / 2**ACTIVATION_BITS)
    assert torch.equal(found.flatten(), expected.flatten())


def parameters_of(network: MeanScaleHyperprior, y: Tensor, setting: Tensor) -> list[tuple[Tensor, ...]]:
    z = torch.round(network.hyper_analysis(y, setting)).double()
    kept = []
    y_hat = torch.zeros_like(y).double()
    for p in network.passes(z, y_hat, setting):
        kept.append((p.mean, p.log2_scale, p.mask, torch.tensor([p.first, p.last])))
        mask = p.mask[0, 0] > 0
        y_hat[0, p.first : p.last, mask] = torch.round(y[0, p.first : p.last, mask].double())
    return kept


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)], ids=str)
def test_passes_cover_every_coefficient_once(size: tuple[int, int]) -> None:
    network = untrained()
    y = torch.randn(1, 80, *size)
    covered = torch.zeros(80, *size)
    for _, _, mask, (first, last) in parameters_of(network, y, torch.tensor([20])):
        covered[first:last] += mask[0]
    assert torch.equal(covered, torch.ones_like(covered))


def test_a_pass_knows_nothing_of_itself_and_of_later_ones() -> None:
    network = untrained()
    setting = torch.tensor([20])
    y = 3 * torch.randn(1, 80, 6, 6)
    z = torch.round(network.hyper_analysis(y, setting)).double()
    y_hat = torch.round(y).double()
    knowing = [(p.mean, p.log2_scale) for p in network.passes(z, y_hat, setting)]  # all is there at once
    scrambled = torch.round(9 * torch.randn_like(y_hat))
    for p in network.passes(z, scrambled, setting):
        blocks = p.mask[0, 0] > 0
        for mine, other in zip((p.mean, p.log2_scale), knowing[p.number], strict=True):
            assert torch.equal(mine[0][:, blocks], other[0][:, blocks])
        scrambled[0, p.first : p.last, blocks] = y_hat[0, p.first : p.last, blocks]
    assert torch.equal(scrambled, y_hat)


def test_fixed_point_is_near_float32() -> None:
    """What was trained in float32 is what codes in fixed point: means within 0.05 steps, scales 5 percent."""
    network = untrained()
    setting = torch.tensor([20])
    y = 3 * torch.randn(1, 80, 6, 6)
    z = torch.round(network.hyper_analysis(y, setting))
    y_hat = torch.round(y)
    pairs = zip(
        network.passes(z, y_hat, setting), network.passes(z.double(), y_hat.double(), setting), strict=True
    )
    for single, double in pairs:
        assert (single.mean - double.mean).abs().max() < 0.05
        assert (single.log2_scale - double.log2_scale).abs().max() < 0.07
    assert double.mean.abs().max() > 0.1  # the layers do something


def test_bits_are_those_of_the_logistic_distribution() -> None:
    log2_scale = torch.tensor([LOG2_SCALE_MIN, -2.0, 0.0, 3.0, LOG2_SCALE_MAX]).double()
    values = torch.arange(-40, 41).double() / 4
    bits = logistic_bits(values[:, None], log2_scale)
    scale = 2 ** log2_scale.numpy()
    x = values.abs().numpy()[:, None]  # by symmetry, in the tail where a difference is exact
    mass = scipy.stats.logistic.sf(x - 0.5, scale=scale) - scipy.stats.logistic.sf(x + 0.5, scale=scale)
    torch.testing.assert_close(bits, -torch.log2(torch.from_numpy(mass)), rtol=1e-9, atol=1e-9)


def test_tables_of_the_range_coder_are_the_distributions() -> None:
    for level in (*range(0, LEVELS, 8), LEVELS - 1):
        table = frequencies(level)
        reach = reaches()[level]
        assert len(table) == 2 * reach + 3
        assert table[0] == 0
        assert table[-2:] == [1 << PRECISION] * 2  # the escape symbol cannot come out
        coded = np.diff(table[:-1])
        assert coded.min() > 0
        log2_scale = torch.tensor(LOG2_SCALE_MIN + level / LEVELS_PER_OCTAVE)
        bits = logistic_bits(torch.arange(-reach, reach + 1).double(), log2_scale.double())
        mass = 2 ** -bits.numpy()
        assert 1 - mass.sum() < 2**-16
        loss = (mass * (np.log2(mass) - np.log2(coded / 2**PRECISION))).sum()
        assert loss < 0.01 + 2 * len(coded) / 2**PRECISION  # each integer has 2^-16 at least


def test_levels_are_the_nearest() -> None:
    log2_scale = torch.tensor([-9.0, LOG2_SCALE_MIN + 0.07, 0.0, LOG2_SCALE_MAX, 20.0])
    assert levels_of(log2_scale).tolist() == [0, 1, 40, LEVELS - 1, LEVELS - 1]


def test_decisions_against_exhaustive_search() -> None:
    residual = 4 * torch.randn(2000).double()
    log2_scale = torch.empty(2000).uniform_(-2, 3).double()
    integers = torch.arange(-20, 21).double()
    cost = (residual[:, None] - integers).square() + RATE_WEIGHT * logistic_bits(
        integers, log2_scale[:, None]
    )
    found = decided(residual, log2_scale)
    assert torch.equal(found, integers[cost.argmin(1)])
    assert (found != torch.round(residual)).sum() > 20


def test_without_corrections_it_is_an_orthonormal_block_transform() -> None:
    network = MeanScaleHyperprior(3 * BLOCK**2, features=16, side=8).eval().requires_grad_(False)
    network.start_from(torch.rand(40, 3, 64, 64))
    x = texture(48, 64)
    setting = torch.tensor([30])
    y = network.analyse(x, setting)
    torch.testing.assert_close(network.synthesise(y, setting), x, atol=1e-5, rtol=0)
    energy = (y * steps(setting, y.dtype)).square().sum()
    torch.testing.assert_close(energy, (x - 0.5).square().sum(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("setting", [4, 20, 40])
def test_real_bits_are_the_estimated_bits(shipped: LearnedCodec, photo: Tensor, setting: int) -> None:
    payload = shipped.encode(photo, Quality(1, setting))
    with torch.no_grad():
        x_hat, bpp = shipped.network(photo, torch.tensor([setting]))
    estimated = bpp.item() * photo[0, 0].numel()
    # the coder flushes 8 bytes; scales are a sixteenth of an octave off at most, which costs 0.1 percent
    assert abs(8 * (len(payload) - HEADER_BYTES) - estimated) < 0.01 * estimated + 64
    decoded = shipped.decode(payload, tuple(photo.shape))
    # in float32 a few decisions differ, and nothing is rounded to 8 bits
    assert abs(psnr_db(decoded, photo) - psnr_db(x_hat.clamp(0, 1), photo)) < 0.1


def test_quality_and_size_grow_with_the_setting(shipped: LearnedCodec, photo: Tensor) -> None:
    ladder = [Quality(1, setting) for setting in range(0, SETTINGS, 7)]
    payloads = [shipped.encode(photo, quality) for quality in ladder]
    assert [len(payload) for payload in payloads] == sorted(map(len, payloads))
    quality_db = [psnr_db(shipped.decode(payload, tuple(photo.shape)), photo) for payload in payloads]
    assert quality_db == sorted(quality_db)
    assert 8 * len(payloads[0]) / photo[0, 0].numel() < 0.15
    assert quality_db[-1] > 40


def test_two_threads_and_another_process_with_one(
    shipped: LearnedCodec, photo: Tensor, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        payload = shipped.encode(photo, Quality(1, 30))
        x_hat = shipped.decode(payload, tuple(photo.shape))
    finally:
        torch.set_num_threads(threads)
    assert payload == shipped.encode(photo, Quality(1, 30))
    (tmp_path / "payload").write_bytes(payload)
    np.save(tmp_path / "expected.npy", x_hat.numpy())
    program = (
        "import sys, numpy as np, torch; from pathlib import Path; from semcom import names\n"
        "torch.set_num_threads(1); folder = Path(sys.argv[1]); expected = np.load(folder / 'expected.npy')\n"
        "x = names.codec('learned').decode((folder / 'payload').read_bytes(), expected.shape)\n"
        "assert np.array_equal(x.numpy(), expected)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


def test_cuts_and_flipped_bits_are_reported_or_harmless() -> None:
    codec = LearnedCodec(untrained())
    x = texture(32, 40)
    payload = codec.encode(x, Quality(1, 30))
    shape = tuple(x.shape)
    x_hat = codec.decode(payload, shape)
    damaged = [payload[:end] for end in range(0, len(payload), 20)]
    for bit in torch.randperm(8 * len(payload))[:40].tolist():
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    reported = 0
    for other in damaged:
        try:
            # a few bits at the end of a stream say nothing; the checksum misses one error in 65536
            assert torch.equal(codec.decode(other, shape), x_hat)
        except CorruptPayload:
            reported += 1
    assert reported > 0.9 * len(damaged)


def test_any_size() -> None:
    codec = LearnedCodec(untrained())
    for height, width in ((1, 1), (1, 40), (17, 1), (16, 16), (65, 33)):
        x = texture(height, width)
        for scale in (1, 8):
            payload = codec.encode(x, Quality(scale, 40))
            assert codec.decode(payload, tuple(x.shape)).shape == x.shape


def test_another_network_is_told_apart(photo: Tensor) -> None:
    """A decoder whose scales differ gets other integers, and says so."""
    mine, other = untrained(), untrained(spread=0.021)
    payload = LearnedCodec(mine).encode(photo, Quality(1, 30))
    with pytest.raises(CorruptPayload, match="checksum"):
        LearnedCodec(other).decode(payload, tuple(photo.shape))


def test_training_on_integers_reaches_the_decoder_only() -> None:
    network = untrained().requires_grad_(True)
    for uniform, reached in ((None, False), (lambda _, shape: torch.rand(1, *shape), True)):
        network.zero_grad()
        x_hat, bpp = network(texture(64, 64), torch.tensor([30]), uniform)
        (x_hat.square().mean() + bpp.mean()).backward()
        encoder = [p.grad for p in network.analysis.parameters()]
        assert any(grad is not None and bool(grad.any()) for grad in encoder) == reached
        for part in (network.synthesis, network.contexts[0], network.contexts[2], network.prior):
            assert any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())


def test_training_starts_from_the_block_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_codec, "VALIDATED", (20,))
    torch.manual_seed(1)
    x = (texture(256, 256) + 0.05 * torch.randn(1, 3, 256, 256)).clamp(0, 1)
    shard = tmp_path / "shard.npy"
    np.save(shard, (x * 255).byte().permute(0, 2, 3, 1).numpy())
    learned_codec.train(1.0, tmp_path, shard, shard, batch=1, crop=64, hard=True)
    trained = zoo.read(tmp_path / "weights.safetensors")
    torch.manual_seed(0)
    start = MeanScaleHyperprior()
    start.start_from(torch.from_numpy(np.load(shard)).permute(0, 3, 1, 2).float() / 255)
    start_of = {key: value.half().float() for key, value in start.state_dict().items()}
    changed = {
        key.split(".")[0] for key, p in trained.state_dict().items() if not torch.equal(p, start_of[key])
    }
    # the encoder and the transform are left alone by training on integers
    assert {"synthesis", "contexts"} <= changed
    assert changed <= {"synthesis", "contexts", "gain_up", "hyper_synthesis", "prior"}


@pytest.mark.parametrize("crop", [8, 100])
def test_crops_that_blocks_do_not_divide_are_refused_before_anything_is_packed(
    tmp_path: Path, crop: int
) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(InvalidOption, match=f"crops of {crop}x{crop}, .* take a multiple of 16"):
        learned_codec.train(1.0, tmp_path, nowhere, nowhere, crop=crop)


def test_a_network_of_another_synthesis_is_refused() -> None:
    """Integers are the same, so that only the parameters in the checksum tell the two networks apart."""
    ours, theirs = untrained(), untrained()
    assert theirs.synthesis.last.bias is not None
    theirs.synthesis.last.bias += 0.25
    x = texture(48, 64)
    quality = LearnedCodec(ours).qualities[-1]
    payload = LearnedCodec(ours).encode(x, quality)
    assert LearnedCodec(theirs).encode(x, quality)[HEADER_BYTES:] == payload[HEADER_BYTES:]
    assert torch.equal(
        LearnedCodec(untrained()).decode(payload, x.shape), LearnedCodec(ours).decode(payload, x.shape)
    )
    with pytest.raises(CorruptPayload, match="another network"):
        LearnedCodec(theirs).decode(payload, x.shape)
