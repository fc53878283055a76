"""Refiner: one call of a network that makes a decoded picture look like a photograph."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from channels import Streams
from semcom.calibration import ErrorTable, shipped_tables
from semcom.codecs.codec import HasScale
from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.observation import Decoded, Observation
from semcom.receivers.evidence import in_prior_units
from semcom.refiner import PictureRefiner, in_tiles

KNOB = 0.85
"""Default knob: on validation photographs LPIPS is within 4 % of its least, for 0.4 to 0.6 dB."""
MOST = 1.5
"""Largest knob."""
LEAST_SPREAD = 0.004  # of [-1, 1]: half a level of 8 bits, the least that the network has seen


@dataclass(frozen=True, eq=False)
class Refiner:
    """One-step refiner of decoded pictures, with a trade-off between distortion and realism.

        x_hat = y + knob (R(y, s, scale, z) - y)

    with R the network (`semcom.refiner.PictureRefiner`), y the decoded picture, s its expected root mean
    square error, scale the factor by which the codec reduced the picture, and z noise drawn by the receiver.
    Nothing is sent for it: s follows from the measured error tables of the decoder, from the length of the
    payload and from y, and the scale stands in the payload. Knob 0 shows the decoded picture, 1 has about
    the least mean LPIPS on validation photographs, larger values have more texture. An item that was lost
    stays lost. With `cells`, x_hat moves to a nearby picture that the codec would code to the received bytes:
    every quantised coefficient keeps its received value (JPEG alone tells its cells).

    Args:
        network: The network.
        knob: From 0 to 1.5.
        cells: Whether the refined picture is moved into the quantisation cells of the received bytes.
        tables: Measured error tables of decoders, by name; by default those of the package.

    Raises:
        InvalidOption: `knob` is out of range.

    Reference:
        Blau and Michaeli, The perception-distortion tradeoff, CVPR 2018.
    """

    network: PictureRefiner
    knob: float = KNOB
    cells: bool = False
    tables: Mapping[str, ErrorTable] = field(default_factory=shipped_tables, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.knob <= MOST:
            raise InvalidOption(f"knob {self.knob:g} of refine: from 0 (as decoded) to {MOST:g}")

    @property
    def name(self) -> str:
        """Canonical name: "refine", "refine:0.5" with another knob than the default, "refine:1:cells"."""
        if self.cells:
            return f"refine:{self.knob:g}:cells"
        return "refine" if self.knob == KNOB else f"refine:{self.knob:g}"

    @property
    def nfe(self) -> int:
        """Network calls per picture, always 1; a large picture is processed in tiles, which count as one."""
        return 1

    @torch.no_grad()
    def __call__(
        self, observation: Observation[Tensor], shape: tuple[int, ...], rng: Streams
    ) -> Float[Tensor, "1 3 height width"] | None:
        """Refine the decoded picture of an observation.

        Args:
            observation: Observation of the picture; several pieces of evidence are fused first.
            shape: Shape of the picture, (1, 3, height, width).
            rng: Random numbers of the receiver.

        Returns:
            The picture, [1, 3, height, width] in [0, 1]; None for a lost one.

        Raises:
            UnsuitableEvidence: The error of the decoder has not been measured, or nothing was decoded; with
                `cells`, the codec does not tell its quantisation cells.
        """
        if not observation.evidence and observation.shown is None:
            return None
        noise_model = "cells" if self.cells else "white"
        evidence = in_prior_units(observation, shape, "refine", noise_model, self.tables)
        if evidence.guess is None or evidence.spread is None:
            raise UnsuitableEvidence("refine takes decoded pictures; this scheme hands over none")
        if self.cells and evidence.cells is None:
            raise UnsuitableEvidence(
                f"{self.name} needs quantised coefficients, which only the payloads of JPEG tell; "
                "choose jpeg as the codec, or leave :cells out"
            )
        y, cells, spread = evidence.guess, evidence.cells, max(evidence.spread, LEAST_SPREAD)
        del evidence  # as large as the picture
        noise = rng.normal("texture", shape[1:])
        refined = in_tiles(self.network, y, spread, scale_of(observation, shape), noise)
        refined.sub_(y).mul_(self.knob).add_(y)  # in place: y + knob (refined - y) of a large picture
        if cells is not None:
            refined = cells.settled(refined, -1.0, 1.0).to(refined)
        return refined.add_(1).div_(2).clamp_(0, 1)


def scale_of(observation: Observation[Tensor], shape: tuple[int, ...]) -> int:
    """Factor by which the codec reduced the picture before coding it, as the receiver reads it.

    Args:
        observation: Observation of a picture.
        shape: Shape of the picture, (1, 3, height, width).

    Returns:
        The factor in the payload of a source codec; 1 for other evidence.
    """
    for evidence in observation.evidence:
        if isinstance(evidence, Decoded) and evidence.payload is not None:
            codec = evidence.payload.codec
            return codec.scale(evidence.payload.data, shape) if isinstance(codec, HasScale) else 1
    return 1
