"""Every operator: linear, adjoint, the four Penrose conditions; and closed forms of some."""

import numpy as np
import pytest
import torch
from instances import OPERATORS
from scipy.ndimage import convolve
from torch import Tensor

from semcom.errors import InvalidOption, InvalidSource
from semcom.operators import (
    BlockMean,
    DecimatedBlur,
    Grey,
    Identity,
    IterativePinv,
    Linearised,
    Mask,
    Operator,
    Tight,
    diagonal_form,
)

TOLERANCE = 1e-9  # relative, in double precision


def random(shape: tuple[int, ...], seed: int, like: Tensor | None = None) -> Tensor:
    dtype = torch.float64 if like is None else like.dtype
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inner(a: Tensor, b: Tensor) -> complex:
    return complex((a.conj() * b).sum())


def assert_close(a: Tensor, b: Tensor) -> None:
    assert float((a - b).abs().max()) <= TOLERANCE * max(float(b.abs().max()), 1e-3)


@pytest.mark.parametrize(("operator", "shape"), OPERATORS, ids=lambda o: type(o).__name__)
def test_linear_with_adjoint_and_pseudo_inverse(operator: Operator, shape: tuple[int, ...]) -> None:
    dtype = torch.complex128 if len(shape) == 2 else torch.float64
    x, other = (torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=dtype) for i in (0, 1))
    y = operator.A(x)
    v = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    w = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    assert_close(operator.A(2 * x - other), 2 * y - operator.A(other))
    scale = float(y.norm() * v.norm())
    assert abs(inner(v, y) - inner(operator.adjoint(v), x)) < TOLERANCE * scale
    assert_close(operator.A(operator.pinv(y)), y)
    u = operator.pinv(v)
    assert_close(operator.pinv(operator.A(u)), u)
    projected = operator.A(u)  # A A+ v
    assert abs(inner(w, projected) - inner(operator.A(operator.pinv(w)), v)) < TOLERANCE * scale
    kept = operator.pinv(y)  # A+ A x
    assert abs(inner(other, kept) - inner(operator.pinv(operator.A(other)), x)) < TOLERANCE * scale


@pytest.mark.parametrize(
    ("operator", "shape"),
    [(o, s) for o, s in OPERATORS if isinstance(o, Identity | Mask | Grey)],
    ids=lambda o: type(o).__name__,
)
def test_tight_operators_have_one_gain(operator: Tight, shape: tuple[int, ...]) -> None:
    y = operator.A(random(shape, 0))
    assert_close(operator.A(operator.adjoint(y)), operator.gain**2 * y)


@pytest.mark.parametrize(
    ("operator", "shape"),
    [(o, s) for o, s in OPERATORS if diagonal_form(o) is not None],
    ids=lambda o: type(o).__name__,
)
def test_singular_vectors_are_orthonormal(operator: Operator, shape: tuple[int, ...]) -> None:
    """A x = g V* x, V* x and V c have equal products, and V V* is a projection that loses nothing heard."""
    diagonal = diagonal_form(operator)
    assert diagonal is not None
    x = random(shape, 0)
    c = diagonal.coordinates(x)
    assert_close(diagonal.A(x), diagonal.gains * c)
    v = random(tuple(c.shape), 1, c)
    scale = float(v.norm() * x.norm())
    assert abs(inner(v, c) - inner(diagonal.from_coordinates(v), x)) < TOLERANCE * scale
    kept = diagonal.from_coordinates(c)
    assert_close(diagonal.coordinates(kept), c)
    assert_close(diagonal.A(kept), diagonal.A(x))


def test_block_means_repeat() -> None:
    """Spec of DDNM: A A+ = 1, all singular values 1 / s, on whole blocks."""
    operator = BlockMean(2, 6, 4)
    y = random((1, 3, 3, 2), 0)
    assert_close(operator.A(operator.pinv(y)), y)
    assert_close(operator.A(operator.adjoint(y)), y / 4)
    x = random((1, 3, 6, 4), 1)
    assert_close(operator.A(x)[:, :, 1, 1], x[:, :, 2:4, 2:4].mean((2, 3)))


def test_means_at_the_edge_are_of_what_is_there() -> None:
    x = random((1, 1, 5, 7), 0)
    y = BlockMean(3, 5, 7).A(x)
    assert y.shape == (1, 1, 2, 3)
    assert_close(y[0, 0, 1, 2], x[0, 0, 3:, 6:].mean())


def test_blur_is_scipys() -> None:
    kernel = random((3, 5), 0)
    x = random((1, 1, 12, 16), 1)
    y = DecimatedBlur(kernel, 2, 12, 16).A(x)
    expected = convolve(x[0, 0].numpy(), kernel.numpy(), mode="wrap")[::2, ::2]
    assert_close(y[0, 0], torch.from_numpy(expected))


def test_pseudo_inverses_are_numpys() -> None:
    for operator, shape in OPERATORS:
        if len(shape) == 2 or isinstance(operator, Linearised):  # complex; of one batch, that of its place
            continue
        basis = torch.eye(int(np.prod(shape[1:])), dtype=torch.float64).reshape(-1, *shape[1:])
        matrix = operator.A(basis).flatten(1).T
        y = operator.A(random((1, *shape[1:]), 0))
        v = random(tuple(y.shape), 1)
        expected = torch.from_numpy(np.linalg.pinv(matrix.numpy(), rcond=1e-9)) @ v.flatten()
        assert_close(operator.pinv(v).flatten(), expected)


def test_a_blur_that_hides_frequencies_has_a_pseudo_inverse_all_the_same() -> None:
    kernel = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    operator = DecimatedBlur(kernel, 1, 4, 12)  # the mean of three lets nothing through at 1/3
    x = random((1, 1, 4, 12), 0)
    once = operator.pinv(operator.A(x))
    assert_close(operator.pinv(operator.A(once)), once)
    assert float((once - x).abs().max()) > 0.01


def test_iterations_stop_at_their_tolerance() -> None:
    blur = DecimatedBlur(torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64), 2, 8, 16)
    y = random((1, 3, 4, 8), 0)
    for tolerance in (1e-2, 1e-8):
        x = IterativePinv(blur, tolerance).pinv(y)
        residual = blur.adjoint(y - blur.A(x)).norm() / blur.adjoint(y).norm()
        assert float(residual) <= tolerance
    assert float(residual) < 1e-2 * 0.1


def test_what_does_not_fit_is_one_line() -> None:
    with pytest.raises(InvalidOption, match="at least 1"):
        BlockMean(0, 4, 4)
    with pytest.raises(InvalidOption, match="must be odd"):
        DecimatedBlur(torch.ones(2, 2), 1, 4, 4)
    with pytest.raises(InvalidOption, match="must divide both"):
        DecimatedBlur(torch.ones(1, 1), 3, 4, 4)
    with pytest.raises(InvalidSource, match="picture of 4x4"):
        BlockMean(2, 8, 8).A(torch.zeros(1, 3, 4, 4))


def test_grey_is_luma() -> None:
    white = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    assert_close(Grey().A(white), torch.ones(1, 1, 2, 2, dtype=torch.float64))
