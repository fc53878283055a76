"""Muon optimiser for networks of convolutions: orthogonalised steps for wide ones, Adam for the rest."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
LEAST_WIDTH = 48
"""Least number of inputs and outputs of a wide convolution; narrower ones see colours or a few numbers."""

STEPS = 5
POLYNOMIAL = (3.4445, -4.7750, 2.0315)
"""Coefficients of the polynomial that maps singular values in 0..1 to about 1 in five steps."""


class Muon(torch.optim.Optimizer):
    """Optimiser with orthogonalised momentum for wide convolutions, and Adam for all other weights.

    With M the running mean of gradients G of one convolution, as a matrix [outputs, inputs * kernel],

        W <- W - learning_rate 0.2 sqrt(max(rows, columns)) U V',   U S V' = (1 - m) G + m M, m = 0.95

    so that all directions of the matrix are learned at the same pace. Adam first follows the directions of
    the largest gradients, and a run of minutes ends before it turns to the others. The factor makes steps as
    large as typical steps of Adam, so that both share a learning rate.

    Args:
        weights: All trained weights.
        learning_rate: Learning rate of both parts; `param_groups` has it as "lr".

    Reference:
        Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, Muon: an optimizer for hidden layers in
        neural networks, 2024. Liu et al., Muon is scalable for LLM training, 2025 (the factor).
    """

    def __init__(self, weights: Iterable[nn.Parameter], learning_rate: float) -> None:
        weights = [weight for weight in weights if weight.requires_grad]
        wide = [weight for weight in weights if is_wide(weight)]
        others = [weight for weight in weights if not is_wide(weight)]
        super().__init__([{"params": wide}, {"params": others}], {"lr": learning_rate})
        self.adam = torch.optim.Adam(others, learning_rate, fused=True) if others else None

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update all weights that have a gradient."""
        wide, others = self.param_groups
        for weight in wide["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            mean = state.setdefault("mean", torch.zeros_like(weight))
            mean.lerp_(weight.grad, 1 - MOMENTUM)
            ahead = weight.grad.lerp(mean, MOMENTUM).flatten(1)
            factor = 0.2 * math.sqrt(max(ahead.shape))
            weight.sub_(wide["lr"] * factor * orthogonal(ahead).reshape(weight.shape))
        if self.adam is not None:
            self.adam.param_groups[0]["lr"] = others["lr"]
            self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        """State of both parts of the optimiser."""
        adam = None if self.adam is None else self.adam.state_dict()
        return {"wide": super().state_dict(), "others": adam}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of both parts of the optimiser.

        Args:
            state_dict: State returned by `state_dict`.
        """
        super().load_state_dict(state_dict["wide"])
        if self.adam is not None:
            self.adam.load_state_dict(state_dict["others"])


def is_wide(weight: Tensor) -> bool:
    """Whether a weight belongs to a convolution with many inputs and outputs.

    Args:
        weight: Weight tensor.

    Returns:
        True for wide convolutions.
    """
    return weight.ndim == 4 and min(weight.shape[:2]) >= LEAST_WIDTH


def orthogonal(matrix: Tensor) -> Tensor:
    """Approximate the nearest matrix with orthonormal rows or columns, whichever are fewer.

    Newton-Schulz iteration, whose polynomial acts on the singular values alone: they end in 0.7..1.2, except
    those far below the largest.

    Args:
        matrix: Matrix, [rows, columns].

    Returns:
        Matrix of the same shape.
    """
    a, b, c = POLYNOMIAL
    x = matrix.bfloat16()
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)
