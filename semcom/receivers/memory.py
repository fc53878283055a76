"""Receiver with a memory: recalls a stored picture where the evidence says that it was sent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from channels import Streams
from semcom.calibration import CosineGain, ErrorTable, shipped_tables
from semcom.colors import MEAN_COLOR
from semcom.memory.codebooks import PictureMemory
from semcom.memory.gate import Decision, Gate, columns_of
from semcom.observation import Decoded, Observation
from semcom.receivers.evidence import in_prior_units
from semcom.spelling import digits

BLOCK = 8
"""Stored pictures that are compared at once."""
ALWAYS = "always"
"""Part of the name of a receiver without a gate, which shows stored pictures alone."""


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """Comparison of an observation with all stored pictures of its size.

    Args:
        pictures: The stored pictures rho_i.
        energies: |y - A rho_i|^2 in units of the noise variance per value, in double precision, [pictures].
        signals: Energy of A (rho_i - mean colour) in the same units, [pictures].
        values: Number of observed real values.
    """

    pictures: tuple[Tensor, ...]
    energies: Float[Tensor, " pictures"]
    signals: Float[Tensor, " pictures"]
    values: int

    def posterior(self) -> Float[Tensor, " pictures"]:
        """Posterior probabilities softmax(-energies / 2) of equiprobable pictures, [pictures]."""
        return torch.softmax(-self.energies / 2, 0)

    def decision(self, gate: Gate) -> Decision:
        """Decision of a gate on the nearest stored picture."""
        energy, index = self.energies.min(0)
        signal = float(self.signals[index])
        return gate.decide(float(energy), self.values, signal, len(self.pictures))

    def mean(self) -> Float[Tensor, "1 3 height width"]:
        """Posterior mean of the picture, [1, 3, height, width]."""
        shares = self.posterior()
        shown = torch.zeros_like(self.pictures[0], dtype=torch.float64)
        for share, picture in zip(shares.tolist(), self.pictures, strict=True):
            if share > 0:
                shown += share * picture
        return shown.to(self.pictures[0]).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class MemoryReceiver:
    """Receiver with a memory of pictures: posterior mean of the stored pictures, or what was decoded.

        x_hat = sum over i of w_i rho_i,  w = softmax(-|y - A rho_i|^2 / 2)    if the gate says RETRIEVE
        x_hat = the decoded picture                                           otherwise

    y = A x + n is the evidence with noise of variance 1, so that the channel estimate sets the temperature.
    For DeepJSCC y are the received symbols and A its encoder with the fading; for SoftCast they are the
    received coefficients; for digital schemes y is the decoded picture and n the measured error of its codec
    per band of frequencies. Several pieces of evidence are fused first. If no stored picture has the size of
    the item, the decoded picture is shown. A lost item stays lost.

    The stored pictures are knowledge that the receiver has before anything is sent; their digest is part of
    the name.

    Args:
        memory: Stored pictures.
        gate: Gate; None shows stored pictures always.
        tables: Measured error tables of decoders, by name; by default those of the package.

    Reference:
        Niu et al., arXiv 2405.08707: with beta = 1 / noise variance, the retrieval update is the Bayes
        receiver.
    """

    memory: PictureMemory
    gate: Gate | None = field(default_factory=Gate)
    tables: Mapping[str, ErrorTable] = field(default_factory=shipped_tables, repr=False)

    @property
    def name(self) -> str:
        """Canonical name, such as "memory@faces#1a2b3c4d", "memory:0.2@..." or "memory:always@..."."""
        if self.gate is None:
            return f"memory:{ALWAYS}@{self.memory.name}"
        usual = self.gate.tolerance == Gate().tolerance
        return f"memory{'' if usual else f':{digits(self.gate.tolerance)}'}@{self.memory.name}"

    @property
    def bytes_per_value(self) -> float:
        """Peak memory per source value: pictures, their transforms and symbols, a block at a time."""
        return 40.0 * BLOCK  # 240 (SoftCast) to 304 (DeepJSCC) measured at 768 x 768

    def __call__(
        self, observation: Observation[Tensor], shape: tuple[int, ...], rng: Streams
    ) -> Float[Tensor, "1 3 height width"] | None:
        """Recall a stored picture, or show what was decoded.

        Args:
            observation: Observation of the picture.
            shape: Shape of the picture, (1, 3, height, width).
            rng: Random numbers, which are not used.

        Returns:
            The picture, [1, 3, height, width] in [0, 1]; None for a lost one.

        Raises:
            UnsuitableEvidence: The scheme provides no evidence, or the error of its decoder is not measured.
        """
        return self.decided(observation, shape, rng)[0]

    def decided(
        self, observation: Observation[Tensor], shape: tuple[int, ...], rng: Streams
    ) -> tuple[Float[Tensor, "1 3 height width"] | None, dict[str, float]]:
        """Recall a stored picture, or show what was decoded, and say which of both for the record.

        Columns, none for a lost item: "retrieved" is 1 if a stored picture is shown, "generated"
        if the gate says that the picture is not stored, or none of its size is, "retransmit" if the gate
        would ask for more; the other two are 0. "memory_energy" is the energy at the nearest stored picture
        per observed value, about 1 for the picture that was sent.

        Args:
            observation: Observation of the picture.
            shape: Shape of the picture, (1, 3, height, width).
            rng: Random numbers, which are not used.

        Returns:
            The picture, [1, 3, height, width] in [0, 1], or None for a lost one; and the columns.

        Raises:
            UnsuitableEvidence: The scheme provides no evidence, or the error of its decoder is not measured.
        """
        if observation.shown is None and not observation.evidence:
            return None, {}
        compared = self.compare(observation, shape)
        if compared is None:
            return observation.shown, columns_of(Decision.GENERATE)
        decision = Decision.RETRIEVE if self.gate is None else compared.decision(self.gate)
        shown = compared.mean() if decision is Decision.RETRIEVE else observation.shown
        energy = float(compared.energies.min()) / compared.values
        return shown, {**columns_of(decision), "memory_energy": energy}

    @torch.no_grad()
    def compare(self, observation: Observation[Tensor], shape: tuple[int, ...]) -> Comparison | None:
        """Compare an observation with all stored pictures of its size.

        Args:
            observation: Observation of a picture that arrived.
            shape: Shape of the picture, (1, 3, height, width).

        Returns:
            Energies of all stored pictures of this size; None if there are none.

        Raises:
            UnsuitableEvidence: The scheme provides no evidence, or the error of its decoder is not measured.
        """
        pictures = self.memory.of_shape(shape)
        if not pictures:
            return None
        evidence = observation.evidence
        if len(evidence) == 1 and isinstance(evidence[0], Decoded) and evidence[0].symbols is not None:
            symbols = evidence[0].symbols
            energies, signals = [], []
            for rows in _blocks(pictures):
                expected = symbols.measurement(rows).double().flatten(1)
                energies.append((symbols.y.double().flatten(1) - expected).square().sum(1))
                signals.append(expected.square().sum(1))
            return Comparison(pictures, torch.cat(energies), torch.cat(signals), symbols.y.numel())
        found = in_prior_units(observation, shape, "memory", "colored", self.tables)
        precision = max(found.noise_std, LEAST_NOISE) ** -2
        colour = torch.tensor(MEAN_COLOR, dtype=torch.float32)[:, None, None].expand(*shape)
        level = found.operator.A(2 * colour - 1).double()
        energies, signals = [], []
        for rows in _blocks(pictures):
            expected = found.operator.A(2 * rows - 1).double()
            energies.append(precision * (found.y.double() - expected).square().flatten(1).sum(1))
            signals.append(precision * (expected - level).square().flatten(1).sum(1))
        values = found.y.numel()
        if isinstance(found.operator, CosineGain):
            values = int((found.operator.gains > 0).sum())
        return Comparison(pictures, torch.cat(energies), torch.cat(signals), max(values, 1))


LEAST_NOISE = 1e-6  # of evidence without noise, so that energies stay finite


def _blocks(pictures: tuple[Tensor, ...]) -> Iterator[Tensor]:
    for start in range(0, len(pictures), BLOCK):
        yield torch.cat(pictures[start : start + BLOCK])
