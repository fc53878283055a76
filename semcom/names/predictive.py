"""Grammar of key frames and prediction: `predictive[:<codec>[:<predictor>[:<rho>[:<samples>]]]]`.

The codec is that of the key frames ("learned", "hevc-intra", ...); the predictor "hold", "linear", "block",
"mean" or "diffusion", the last two also with a network of one's own, "diffusion=weights.safetensors", and
"diffusion-10" with 10 steps; rho the threshold of the gate, "auto", "inf" or a number; samples the number of
samples to choose from. For instance "predictive:hevc-intra:diffusion:0.2:4".
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

HEAD = "predictive"
"""First part of the names."""
PARTS = ("codec", "predictor", "rho", "samples")
NETWORK = "predictor"
"""Name of the network of the package, if one ships."""
USUAL = ("learned", "block", "auto", "1")
PREDICTORS = ("hold", "linear", "block", "mean", "diffusion")
"""Names of predictors."""


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
        threshold, count = None if rho == "auto" else float(rho), int(samples)
    except ValueError:
        raise InvalidOption(spelled) from None
    return PredictiveCodec(codec(still), predictor_named(predictor), gate_here(), threshold, count)


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
    if not path and NETWORK not in zoo.names():
        raise MissingWeights(
            f"predictor {head}: no network of this kind ships with the package; train one by `semcom train "
            f"prediction` and name its file, {head}=weights.safetensors"
        )
    network = zoo.read(Path(zoo.find(path or NETWORK)))
    if not isinstance(network, FramePredictor):
        raise InvalidOption(f"{path} holds a {type(network).__name__}; name weights of a FramePredictor")
    if head == "mean":
        return MeanNetwork(network)
    return Diffusion(network, steps)
