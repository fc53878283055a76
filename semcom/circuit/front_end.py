"""Receiver front ends for sparse codes sent as analog symbols: linear, associative, and the circuit."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from channels import Received
from semcom.circuit.circuit import Circuit, respond
from semcom.errors import InvalidOption, InvalidSource

SPREAD = 2408  # seed of the order of symbols


@dataclass(frozen=True, eq=False, slots=True)
class NoisyCode:
    """A sparse code after the channel: y = code + noise where heard.

    Args:
        y: Received code, [receptions, cells]; 0 where lost. Noise may make it negative.
        noise_var: Variance of the noise of each number, above 0; infinite where lost.
    """

    y: Float[np.ndarray, "receptions cells"]
    noise_var: Float[np.ndarray, "receptions cells"]

    @property
    def heard(self) -> Bool[np.ndarray, "receptions cells"]:
        """Whether each number arrived."""
        return np.isfinite(self.noise_var)


def code_symbols(code: Float[np.ndarray, " cells"]) -> Tensor:
    """Send a sparse code as analog symbols of mean energy 1, two numbers each, in a fixed random order.

    Args:
        code: Sparse code of an even number of cells, not all 0.

    Returns:
        Symbols, complex64 [1, cells / 2].

    Raises:
        InvalidSource: The code is all 0, or has an odd number of cells.
    """
    power = float((code**2).mean())
    if len(code) % 2 or not power > 0:
        raise InvalidSource(
            f"code of {len(code)} cells and power {power:g}: expected an even number, not all 0"
        )
    scaled = code[_order(len(code))] / np.sqrt(2 * power)
    return torch.view_as_complex(torch.from_numpy(scaled).float().reshape(1, -1, 2).contiguous())


def received_code(received: Received, rms: float) -> NoisyCode:
    """Undo order and fading of symbols made by `code_symbols`.

    The receiver does not know the power of the code; it takes the usual one.

    Args:
        received: Receptions, y [receptions, cells / 2].
        rms: Root mean square of codes, above 0, known to both ends.

    Returns:
        The code, scaled to this root mean square, and the variance of its noise.
    """
    gain = received.h.abs().square().double()
    lost = gain <= 1e-12
    equal = torch.where(lost, 0, received.y / torch.where(lost, 1, received.h)).to(torch.complex128)
    variance = torch.where(lost, torch.inf, received.noise_var.double() / torch.where(lost, 1, gain)) / 2
    y = torch.view_as_real(equal.resolve_conj()).flatten(1).numpy()
    place = np.argsort(_order(y.shape[1]))
    return NoisyCode(
        y[:, place] * rms * np.sqrt(2), np.repeat(variance.numpy(), 2, axis=1)[:, place] * 2 * rms**2
    )


@dataclass(frozen=True, eq=False, slots=True)
class Wiener:
    """Linear minimum mean square error estimate of a code whose covariance is U diag(s) U^T + rest I.

    Args:
        mean: Mean code, [cells].
        axes: Orthonormal axes U, [cells, rank].
        power: Variances s along them, above 0, [rank].
        rest: Variance in every other direction, above 0.
    """

    mean: Float[np.ndarray, " cells"]
    axes: Float[np.ndarray, "cells rank"]
    power: Float[np.ndarray, " rank"]
    rest: float

    @classmethod
    def fitted(cls, codes: Float[np.ndarray, "samples cells"], rank: int) -> "Wiener":
        """Maximum likelihood estimate of mean and covariance (probabilistic principal components).

        Args:
            codes: Samples.
            rank: Number of axes, 1 .. samples - 2.

        Returns:
            The estimator.

        Raises:
            InvalidOption: The rank is out of range.

        Reference:
            Tipping and Bishop, Probabilistic principal component analysis, 1999.
        """
        samples, cells = codes.shape
        if not 1 <= rank <= min(samples, cells) - 2:
            raise InvalidOption(
                f"rank {rank} from {samples} codes of {cells} cells: choose 1..{min(samples, cells) - 2}"
            )
        mean = codes.mean(axis=0)
        _, singular, axes = np.linalg.svd(codes - mean, full_matrices=False)
        power = singular**2 / samples
        rest = float(power[rank:].sum() / (cells - rank))
        return cls(mean, np.ascontiguousarray(axes[:rank].T), np.maximum(power[:rank] - rest, 1e-12), rest)

    def __call__(self, code: NoisyCode) -> Float[np.ndarray, "receptions cells"]:
        """Estimate codes; lost numbers follow from the others by the covariance.

        Args:
            code: Received codes.

        Returns:
            Estimates.
        """
        found = np.empty(code.y.shape)
        for i, (y, noise_var) in enumerate(zip(code.y, code.noise_var, strict=True)):
            weight = 1 / (noise_var + self.rest)  # 0 where lost
            residual = np.where(np.isfinite(noise_var), y - self.mean, 0.0)
            precision = np.diag(1 / self.power) + (self.axes.T * weight) @ self.axes
            along = np.linalg.solve(precision, self.axes.T @ (weight * residual))
            shared = self.axes @ along
            found[i] = self.mean + shared + self.rest * weight * (residual - shared)
        return found


def recall(
    code: NoisyCode, patterns: Float[np.ndarray, "patterns cells"]
) -> Float[np.ndarray, "receptions cells"]:
    """Modern Hopfield recall: posterior mean of a code that is one of the patterns, all equally probable.

        M softmax(-sum over heard numbers of (y - pattern)^2 / (2 noise_var))

    Args:
        code: Received codes.
        patterns: Stored codes M, at least one.

    Returns:
        Estimates.

    Raises:
        InvalidOption: There is no pattern.
    """
    if not len(patterns):
        raise InvalidOption("recall from no pattern; store at least one")
    weight = np.where(code.heard, 1 / code.noise_var, 0.0)
    energy = weight @ (patterns**2).T - 2 * (weight * code.y) @ patterns.T
    exponent = -(energy - energy.min(axis=1, keepdims=True)) / 2
    share = np.exp(exponent)
    return (share / share.sum(axis=1, keepdims=True)) @ patterns


def settled(code: NoisyCode, circuit: Circuit) -> Float[np.ndarray, "receptions cells"]:
    """Late rates of a circuit that gets what was received, negative numbers cut off.

    Args:
        code: Received codes.
        circuit: The circuit, trained or not.

    Returns:
        Rates, which are not an estimate of the code but another representation of the picture.
    """
    return respond(circuit, np.maximum(code.y, 0.0)).rates


def _order(cells: int) -> np.ndarray:
    return np.random.default_rng(SPREAD).permutation(cells)
