"""The optimizer for wide convolutions, against PyTorch's own for matrices and the singular values."""

from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from channels import SharedStreams
from semcom.training.loop import Settings, Training
from semcom.training.muon import LEAST_WIDTH, POLYNOMIAL, STEPS, Muon, orthogonal

# The polynomial adds terms of 3.4, 4.8 and 2.0 to about 1, in bfloat16; of the steps before the last two,
# whose slope is about 1, little is left
STEP_ERROR = sum(map(abs, POLYNOMIAL)) * torch.finfo(torch.bfloat16).eps / 2


def a_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 96, 3, padding=1), nn.Conv2d(96, 64, 1)
    )


@pytest.mark.parametrize("shape", [(64, 64), (48, 432), (256, 64)])
def test_singular_values_follow_the_polynomial(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    expected = values / values.square().sum().sqrt()
    a, b, c = POLYNOMIAL
    for _ in range(STEPS):
        expected = a * expected + b * expected**3 + c * expected**5
    found = left.T @ orthogonal(matrix).double() @ right.T
    assert (found.diag() - expected).abs().max() < 2 * STEP_ERROR
    assert (found - found.diag().diag()).abs().max() < 2 * STEP_ERROR
    assert expected.max() < 1.25
    assert expected[values > 0.05 * values[0]].min() > 0.6


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_wide_convolutions_move_as_the_matrices_of_pytorch(memory_format: torch.memory_format) -> None:
    reference = pytest.importorskip("torch", minversion="2.9").optim.Muon
    network = a_network()
    ours = deepcopy(network).to(memory_format=memory_format)
    optimizer = Muon(ours.parameters(), 1e-2)
    matrices = [nn.Parameter(network[i].weight.detach().flatten(1).clone()) for i in (1, 2)]
    theirs = reference(matrices, lr=1e-2, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    others = [p for i, p in enumerate(network.parameters()) if i not in (2, 4)]
    adam = torch.optim.Adam(others, 1e-2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for parameter, other in zip(ours.parameters(), network.parameters(), strict=True):
            other.grad = torch.randn(other.shape, generator=generator)
            parameter.grad = torch.empty_like(parameter).copy_(other.grad)  # laid out as autograd does
        for i, matrix in zip((1, 2), matrices, strict=True):
            matrix.grad = ours[i].weight.grad.flatten(1).clone()
        for part in (optimizer, theirs, adam):
            part.step()
    for i, matrix in zip((1, 2), matrices, strict=True):
        moved = (ours[i].weight - network[i].weight).flatten(1)
        apart = moved - (matrix - network[i].weight.flatten(1))
        assert apart.norm() < 2 * STEP_ERROR * moved.norm()  # sums in another order, on either side
    for i, other in enumerate(network.parameters()):
        if i not in (2, 4):
            torch.testing.assert_close(list(ours.parameters())[i], other)


def test_weights_without_a_gradient_stay(tmp_path: Path) -> None:
    network = a_network()
    network[0].requires_grad_(False)
    before = deepcopy(network)
    optimizer = Muon(network.parameters(), 1e-2)
    network[1](torch.randn(1, 64, 4, 4)).square().mean().backward()
    optimizer.step()
    moved = [not torch.equal(a.weight, b.weight) for a, b in zip(network, before, strict=True)]
    assert moved == [False, True, False]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1
        return now

    def loss(network: nn.Module, x: Tensor, rng: SharedStreams) -> Tensor:
        return (network(x) - x.mean(1, keepdim=True)).square().mean()

    def sample(batch: int, generator: torch.Generator) -> Tensor:
        return torch.randn(batch, 3, 6, 6, generator=generator)

    def score(network: nn.Module) -> float:
        return -float(network(torch.ones(1, 3, 6, 6)).square().mean())

    def a_run(folder: Path, loss=loss) -> Training:
        settings = Settings(60.0, batch=2, validate_seconds=10.0, optimizer="muon")
        return Training(a_network(), loss, sample, score, settings, folder, clock)

    steps = 0

    def interrupted(network: nn.Module, x: Tensor, rng: SharedStreams) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 33:
            raise ZeroDivisionError
        return loss(network, x, rng)

    whole = a_run(tmp_path / "whole")
    whole.run()
    with pytest.raises(ZeroDivisionError):
        a_run(tmp_path / "parts", interrupted).run()
    second = a_run(tmp_path / "parts")
    assert 0 < second.step < 33
    second.run()
    for p, q in zip(second.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("named", [True, False], ids=["named", "of-before-names"])
def test_a_run_begun_with_adam_goes_on_with_muon(
    tmp_path: Path, named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = count()

    def a_run(optimizer: Literal["adam", "muon"], seconds: float) -> Training:
        settings = Settings(seconds, batch=2, validate_seconds=10.0, optimizer=optimizer)
        return Training(
            a_network(),
            lambda network, x, rng: (network(x) - x.mean(1, keepdim=True)).square().mean(),
            lambda batch, generator: torch.randn(batch, 3, 6, 6, generator=generator),
            lambda network: 0.0,
            settings,
            tmp_path,
            lambda: float(next(ticks)),
        )

    first = a_run("adam", 20.0)
    first.run()
    if not named:
        state = torch.load(first.checkpoint)
        del state["optimizer_name"]
        torch.save(state, first.checkpoint)
    second = a_run("muon", 40.0)
    assert caplog.messages == [f"{first.checkpoint} was made with adam; muon starts anew"]
    assert second.step == first.step
    assert second.curve == first.curve
    for p, q in zip(second.network.parameters(), first.network.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not second.optimizer.state
    second.run()
    assert second.step > first.step


def test_narrow_layers_are_left_to_adam() -> None:
    narrow = nn.Conv2d(LEAST_WIDTH - 1, 64, 3)
    optimizer = Muon([*narrow.parameters(), *nn.Linear(64, 64).parameters()], 1e-3)
    assert [len(group["params"]) for group in optimizer.param_groups] == [0, 4]
