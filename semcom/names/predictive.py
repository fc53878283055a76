"""Grammar of codecs of clips by key frames, with prediction or interpolation of the others.

Prediction is spelled `predictive[:<codec>[:<predictor>[:<rho>[:<samples>]]]]`. The codec is that of the
key frames ("learned", "hevc-intra", ...); the predictor "hold", "linear", "block", "mean" or "diffusion", the
last two also with a network of one's own, "diffusion=weights.safetensors", and "diffusion-10" with 10 steps;
rho the threshold of the gate, "auto", "inf" or a number; samples the number of samples to choose from. For
instance "predictive:hevc-intra:diffusion:0.2:4".

Interpolation is spelled `two-sided[:<codec>[:<interpolator>[:<rho>[:<gap>]]]]`. The interpolator is "fade",
"block" or "mean", the last one also with a network of one's own; gap the distance of key frames before the
gate adds any, from 1 to 64 frames, or "auto": 8, or what fitting finds. For instance
"two-sided:hevc-intra:block:inf:8".
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semcom import zoo
from semcom.codecs.codec import SourceCodec
from semcom.errors import InvalidOption, MissingWeights, UnknownName
from semcom.names.parser import optional, unknown
from semcom.video.gate import gate_here
from semcom.video.interpolators import Fade, Interpolator, MeanBetween, SymmetricBlockMotion
from semcom.video.network import FramePredictor
from semcom.video.predictive import PredictiveCodec
from semcom.video.predictors import (
    STEPS,
    BlockMotion,
    Diffusion,
    HoldLast,
    Linear,
    MeanNetwork,
    Predictor,
)
from semcom.video.two_sided import TwoSidedCodec

HEAD = "predictive"
"""First part of the names."""
PARTS = ("codec", "predictor", "rho", "samples")
TWO_SIDED = "two-sided"
"""First part of the names of codecs that interpolate between key frames."""
TWO_SIDED_PARTS = ("codec", "interpolator", "rho", "gap")
AUTO = "auto"
NETWORK = "predictor"
"""Name of the network of the package, if one ships."""
USUAL = ("learned", "block", AUTO, "1")
TWO_SIDED_USUAL = ("learned", "block", AUTO, AUTO)
PREDICTORS = ("hold", "linear", "block", "mean", "diffusion")
"""Names of predictors."""
INTERPOLATORS = ("fade", "block", "mean")
"""Names of interpolators."""


def predictive(name: str, codec: Callable[[str], SourceCodec[Any]]) -> PredictiveCodec:
    """Make a codec of key frames and prediction from its name.

    Args:
        name: Name, for instance "predictive" or "predictive:hevc-intra:block:0.2".
        codec: Function that makes a codec of pictures from its name.

    Returns:
        The codec.

    Raises:
        UnknownName: There is no such codec, predictor or file of weights.
        InvalidOption: A part is out of range, there are too many parts, or the weights are of another
            network.
        MissingWeights: The weights cannot be read.
    """
    parts = name.split(":")[1:]
    spelled = (
        f"codec {name!r}: it is spelled {optional(HEAD, PARTS)}, for instance predictive:hevc-intra:block"
    )
    if len(parts) > len(PARTS) or not all(parts):
        raise InvalidOption(spelled)
    still, predictor, rho, samples = (*parts, *USUAL[len(parts) :])
    try:
        threshold, count = None if rho == AUTO else float(rho), int(samples)
    except ValueError:
        raise InvalidOption(spelled) from None
    return PredictiveCodec(codec(still), predictor_named(predictor), gate_here(), threshold, count)


def two_sided(name: str, codec: Callable[[str], SourceCodec[Any]]) -> TwoSidedCodec:
    """Make a codec of key frames and interpolation between them from its name.

    Args:
        name: Name, for instance "two-sided" or "two-sided:hevc-intra:block:inf:8".
        codec: Function that makes a codec of pictures from its name.

    Returns:
        The codec.

    Raises:
        UnknownName: There is no such codec, interpolator or file of weights.
        InvalidOption: A part is out of range, there are too many parts, or the weights are of another
            network.
        MissingWeights: The weights cannot be read.
    """
    parts = name.split(":")[1:]
    pattern = optional(TWO_SIDED, TWO_SIDED_PARTS)
    spelled = f"codec {name!r}: it is spelled {pattern}, for instance two-sided:hevc-intra:block"
    if len(parts) > len(TWO_SIDED_PARTS) or not all(parts):
        raise InvalidOption(spelled)
    still, interpolator, rho, gap = (*parts, *TWO_SIDED_USUAL[len(parts) :])
    try:
        threshold, distance = None if rho == AUTO else float(rho), None if gap == AUTO else int(gap)
    except ValueError:
        raise InvalidOption(spelled) from None
    return TwoSidedCodec(codec(still), interpolator_named(interpolator), gate_here(), threshold, distance)


KEYED: dict[str, Callable[[str, Callable[[str], SourceCodec[Any]]], SourceCodec[Any]]] = {
    HEAD: predictive,
    TWO_SIDED: two_sided,
}
"""Codecs of clips by key frames, by the first part of their names."""


def interpolator_named(name: str) -> Interpolator:
    """Make an interpolator from its name.

    Args:
        name: "fade", "block" or "mean"; the last one also with a file of weights, "mean=weights.safetensors".

    Returns:
        The interpolator.

    Raises:
        UnknownName: There is no such interpolator, or no such file.
        InvalidOption: The weights are of another network.
        MissingWeights: The weights cannot be read.
    """
    for plain in (Fade(), SymmetricBlockMotion()):
        if name == plain.name:
            return plain
    head, _, path = name.partition("=")
    if head != "mean":
        raise UnknownName(unknown("interpolator", name, INTERPOLATORS))
    return MeanBetween(_network(f"interpolator {head}", f"{head}=weights.safetensors", path))


def predictor_named(name: str) -> Predictor:
    """Make a predictor from its name.

    Args:
        name: "hold", "linear", "block", "mean", "diffusion", "diffusion-10"; the last three also with a file
            of weights, "mean=weights.safetensors".

    Returns:
        The predictor.

    Raises:
        UnknownName: There is no such predictor, or no such file.
        InvalidOption: The number of steps is out of range, or the weights are of another network.
        MissingWeights: The weights cannot be read.
    """
    for plain in (HoldLast(), Linear(), BlockMotion()):
        if name == plain.name:
            return plain
    head, _, path = name.partition("=")
    found = re.fullmatch(r"mean|diffusion(?:-(\d{1,3}))?", head)
    if not found:
        raise UnknownName(unknown("predictor", name, PREDICTORS))
    steps = int(found[1] or STEPS)
    if steps < 1:
        raise InvalidOption(f"predictor {name}: at least one step")
    network = _network(f"predictor {head}", f"{head}=weights.safetensors", path)
    if head == "mean":
        return MeanNetwork(network)
    return Diffusion(network, steps)


def _network(what: str, example: str, path: str) -> FramePredictor:
    """Network of a file, or without a path the one of the package."""
    if not path and NETWORK not in zoo.names():
        raise MissingWeights(
            f"{what}: no network of this kind ships with the package; train one by `semcom train prediction` "
            f"and name its file, {example}"
        )
    network = zoo.read(Path(zoo.find(path or NETWORK)))
    if not isinstance(network, FramePredictor):
        raise InvalidOption(f"{path} holds a {type(network).__name__}; name weights of a FramePredictor")
    return network
