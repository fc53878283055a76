"""Grammar of clips as predicted latents: `latent[:<predictor>[:<gate>]]`, with a link behind it or alone.

With a link, as in "latent:linear+ldpc:csit-average" or "latent:kalman:auto+packets:512:csit-average", latents
are quantised and coded; alone, as in "latent:kalman", they are analog symbols. The predictor is "intra",
"repeat", "linear" or "kalman"; the gate the largest error of a prediction, in units of latents, that is not
corrected, or "auto", with a link only: in proportion to the quantiser step.
"""

from functools import cache

from semcom import zoo
from semcom.errors import InvalidOption
from semcom.names.parser import optional
from semcom.representation.analog import AnalogLatents
from semcom.representation.link import HEAD, LatentCodec
from semcom.representation.straightening import StraightAutoencoder

PARTS = ("predictor", "gate")
USUAL = ("kalman", "0")
AUTO = "auto"
NETWORK = "straight"
"""Name of the network of the package."""


def latent_codec(name: str, device: str = "cpu") -> LatentCodec:
    """Make a codec of latents from its name.

    Args:
        name: Name, for instance "latent", "latent:linear" or "latent:kalman:auto".
        device: PyTorch device of the network.

    Returns:
        The codec.

    Raises:
        InvalidOption: A part is out of range, or there are too many parts.
        MissingWeights: The network is absent or damaged.
    """
    predictor, gate = _parts(name)
    return LatentCodec(_network(device), predictor, gate)


def analog_latents(name: str, device: str = "cpu") -> AnalogLatents:
    """Make an analog transmission of latents from its name.

    Args:
        name: Name, for instance "latent:kalman" or "latent:linear:0.2".
        device: PyTorch device of the network.

    Returns:
        The transmission.

    Raises:
        InvalidOption: A part is out of range, there are too many parts, or the gate is "auto".
        MissingWeights: The network is absent or damaged.
    """
    predictor, gate = _parts(name)
    if gate is None:
        raise InvalidOption(
            f"scheme {name!r}: a gate in proportion to the quantiser step needs a link; give a number, "
            f"or add one, {name}+ldpc"
        )
    return AnalogLatents(_network(device), predictor, gate)


def _parts(name: str) -> tuple[str, float | None]:
    given = name.split(":")[1:]
    if len(given) > len(PARTS) or not all(given):
        raise InvalidOption(
            f"{name!r}: it is spelled {optional(HEAD, PARTS)}, for instance latent:kalman:0.2"
        )
    predictor, gate = (*given, *USUAL[len(given) :])
    try:
        return predictor, None if gate == AUTO else float(gate)
    except ValueError:
        raise InvalidOption(f"{name!r}: gate {gate!r} is no number; choose auto, or 0 and more") from None


@cache
def _network(device: str) -> StraightAutoencoder:
    return zoo.load_as(NETWORK, StraightAutoencoder, device)
