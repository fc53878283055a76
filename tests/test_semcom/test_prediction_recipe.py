"""Training recipe of the frame predictor: losses by closed form, sequences, which frames are known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from channels.streams import SharedStreams
from semcom.training.prediction import (
    FRAMES,
    LEAST_ERROR,
    LPIPS_DB,
    SIDE,
    Sequences,
    cut,
    mean_loss,
    mean_score,
    moved,
    past_only,
    residual_scale,
    velocity_loss,
    which_known,
)
from semcom.video.network import FramePredictor


class Constant(nn.Module):
    """Stand-in for LPIPS: one distance for every pair."""

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """0.2 for every item."""
        return torch.full((len(x), 1, 1, 1), 0.2)


def still(batch: int) -> Tensor:
    """Sequences of grey frames that do not change, in [-1, 1]."""
    return torch.zeros(batch, 3 * FRAMES, 32, 32)


def stepping(batch: int, step: float) -> Tensor:
    """Flat sequences whose level rises by one step from frame to frame."""
    return (step * torch.arange(FRAMES)).repeat_interleave(3)[None, :, None, None].expand(batch, -1, 32, 32)


def test_a_still_sequence_has_the_least_loss() -> None:
    network = FramePredictor((8, 12, 16))  # untrained: the nearest frame
    value = mean_score(
        network, Sequences(torch.full((3, 32, 32, 3 * FRAMES), 127, dtype=torch.uint8), 32), Constant()
    )
    assert value == pytest.approx(-10 * math.log10(LEAST_ERROR / 4) - LPIPS_DB * 0.2, abs=1e-3)


def test_the_score_is_that_of_the_last_frame_held() -> None:
    pixels = (127 + 4 * torch.arange(FRAMES)).repeat_interleave(3).expand(2, 32, 32, -1).to(torch.uint8)
    value = mean_score(FramePredictor((8, 12, 16)), Sequences(pixels, 32), Constant())
    error = (4 / 127.5) ** 2 + LEAST_ERROR
    assert value == pytest.approx(-10 * math.log10(error / 4) - LPIPS_DB * 0.2, abs=1e-3)
    offset, slope = residual_scale(FramePredictor((8, 12, 16)), Sequences(pixels, 32)).tolist()
    assert offset + slope * 4 / 127.5 == pytest.approx(4 / 127.5, rel=1e-4)


def test_losses_train_their_own_network_alone() -> None:
    network = FramePredictor((8, 12, 16))
    streams = SharedStreams.seeded(0, 4)
    batch = stepping(4, 0.1) + 0.1 * torch.randn(4, 3 * FRAMES, 32, 32, generator=streams.generator)
    loss = mean_loss(network, batch, streams, Constant())
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.mean_network.parameters())
    assert all(p.grad is None for p in network.residual_network.parameters())
    network.zero_grad(set_to_none=True)
    velocity_loss(network, batch, streams).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.residual_network.parameters())
    assert all(p.grad is None for p in network.mean_network.parameters())


def test_shares_of_what_is_known() -> None:
    count = 20_000
    draws = SharedStreams.seeded(1, count).uniform("known", (2,))
    known = which_known(draws[:, 0], draws[:, 1])
    for flags, share in (
        (known[:, 0] & known[:, 1], 0.8),
        (known[:, 1] & ~known[:, 0], 0.09),
        (known[:, 0] & ~known[:, 1], 0.06),
        (~known[:, 2] & ~known[:, 3], 0.7),
    ):
        deviation = math.sqrt(share * (1 - share) / count)
        assert abs(float(flags.float().mean()) - share) < 4 * deviation


def test_prediction_sees_the_past_alone() -> None:
    batch = stepping(2, 0.1)
    target, frames, known, none = past_only(batch)
    assert torch.equal(target, batch[:, 6:9])
    assert torch.equal(frames[:, :6], batch[:, :6])
    assert frames[:, 6:].abs().max() == 0
    assert known[0, :, 0, 0].tolist() == [1, 1, 0, 0]
    assert none.tolist() == [0, 0]


def test_made_sequences_have_the_shape_and_move() -> None:
    rng = np.random.default_rng(0)
    pieces = torch.randint(0, 256, (4, SIDE, SIDE, 3), dtype=torch.uint8)
    made = moved(pieces, rng)
    assert made.shape == (SIDE, SIDE, 3 * FRAMES)
    assert (made[:, :, :3] != made[:, :, 3:6]).any()
    clip = torch.randint(0, 256, (9, 3, 150, 160), dtype=torch.uint8)
    assert cut(clip, rng).shape == (SIDE, SIDE, 3 * FRAMES)
