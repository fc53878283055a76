"""Grammar of receivers, such as "ddrm:8:0.5" and "refine:0.5", and of their priors."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from semcom import zoo
from semcom.denoisers import Denoiser, OnDevice
from semcom.errors import InvalidOption, UnknownName
from semcom.foreign_priors import VariancePreserving, from_diffusers, from_guided_diffusion
from semcom.names.parser import IMPORTED, imported, optional, unknown
from semcom.prior import NaturalImagePrior
from semcom.receivers.consistency import Consistency
from semcom.receivers.ddnm import DDNM
from semcom.receivers.ddrm import DDRM
from semcom.receivers.diffpir import DiffPIR
from semcom.receivers.dps import DPS
from semcom.receivers.generative import Generative, Method
from semcom.receivers.loop import EncoderInTheLoop
from semcom.receivers.posterior import Posterior
from semcom.receivers.refiner import KNOB, Refiner
from semcom.refiner import PictureRefiner
from semcom.samplers import FromNoise, Matched
from semcom.tiles import Tiled

MARGIN = 2.0
"""Initial noise level of DiffPIR over the expected error. On photos/val, values above 1 gain more realism per
dB of PSNR. With this value and without fresh noise, 8 steps come within 1 % of the LPIPS of 100 steps.
"""

METHODS: dict[str, tuple[str, int, Callable[[Denoiser, int], Method]]] = {  # with the default steps
    "consistency": (
        "DiffPIR kept consistent with the received JPEG bytes; 8 steps from the decoded image",
        8,
        lambda prior, steps: Consistency(prior, Matched(steps, MARGIN), zeta=0.0),
    ),
    "ddnm": (
        "DDNM: a diffusion prior fills the null space of the observation; 100 steps from noise",
        100,
        lambda prior, steps: DDNM(prior, FromNoise(steps)),
    ),
    "ddrm": (
        "DDRM: restoration per singular direction; 8 steps from the decoded image",
        8,
        lambda prior, steps: DDRM(prior, Matched(steps)),
    ),
    "diffpir": (
        "DiffPIR: proximal steps of the data between denoising steps; 8 steps from the decoded image",
        8,
        lambda prior, steps: DiffPIR(prior, Matched(steps, MARGIN), zeta=0.0),
    ),
    "dps": (
        "DPS: guidance by the gradient of the residual; 1000 steps from noise, for comparison",
        1000,
        lambda prior, steps: DPS(prior, FromNoise(steps)),
    ),
    "loop": (
        "encoder in the loop: Gauss-Newton steps through the JSCC encoder; 4 steps",
        4,
        lambda prior, steps: EncoderInTheLoop(prior, Matched(steps, MARGIN)),
    ),
    "posterior": (
        "covariance-aware posterior sampling; 4 steps from the decoded image",
        4,
        lambda prior, steps: Posterior(prior, Matched(steps, MARGIN)),
    ),
}
# methods that cannot use the output of joint codes, with an example of a scheme that they can
NEEDS = {"consistency": "jpeg+ldpc:csit-average"}
REFINE = "refine"
"""Name of the one-step refiner, which has no steps and no prior, but a network of its own."""
PRIOR = "prior"
TILE = 1024  # pixels; side of the tiles in which the prior processes larger images
RECEIVER_PARTS = ("steps", "knob", "samples")


def prior(spec: str, device: str = "cpu") -> Denoiser:
    """Load a denoiser D(x, sigma) that serves as prior of a generative receiver.

    Args:
        spec: "prior" for the network of this package; a path that ends in .safetensors for a weights file in
            the format of this package; a path that ends in .pt for a checkpoint of guided-diffusion; any
            other path for a folder of diffusers; a name with a slash, such as "google/ddpm-celebahq-256", for
            a model of the Hugging Face hub; or `package.module:NAME`.
        device: PyTorch device of the network; an imported object stays where it is.

    Returns:
        The denoiser; networks of this package process large images in tiles.

    Raises:
        UnknownName: There is no such module or attribute.
        InvalidOption: The file holds another kind of network, or the imported object cannot be called.
        MissingWeights: The file or model is absent or damaged.
    """
    if not spec:
        raise InvalidOption("a prior without a name; leave the option out, or name one like prior")
    if IMPORTED.fullmatch(spec):
        return imported(spec, "prior", ("__call__",))
    if Path(spec).suffix == ".pt":
        return _placed(from_guided_diffusion(Path(spec)), device)
    if spec != PRIOR and Path(spec).suffix != ".safetensors":
        return _placed(from_diffusers(spec), device)
    network = zoo.load(PRIOR) if spec == PRIOR else zoo.read(Path(spec))
    if not isinstance(network, NaturalImagePrior):
        raise InvalidOption(
            f"prior {spec} holds a {type(network).__name__}, not a prior; `semcom train prior` makes one"
        )
    return _placed(Tiled(network.to(device), TILE, TILE // 8), device)


def receiver(spec: str, denoiser: Denoiser | None = None, device: str = "cpu") -> Generative | Refiner:
    """Make a receiver with a prior, `method[:<steps>[:<knob>[:<samples>]]]` ("ddrm:8:0.5"), or a refiner.

    Args:
        spec: The name; an empty part stands for the default.
        denoiser: Prior that replaces the one of this package.
        device: PyTorch device of this package's prior.

    Returns:
        The receiver.

    Raises:
        UnknownName: There is no such method.
        InvalidOption: A parameter is not a number, or out of range.
        MissingWeights: The prior is absent or damaged.
    """
    head, *rest = spec.split(":")
    if head == REFINE:
        if denoiser is not None:
            raise InvalidOption(f"receiver {spec!r} has a network of its own; leave the prior out")
        return _refiner(spec, rest, device)
    if head not in METHODS:
        raise UnknownName(unknown("receiver", head, (*METHODS, REFINE)))
    _, usual, build = METHODS[head]
    try:
        if len(rest) > len(RECEIVER_PARTS):
            raise ValueError
        steps_text, knob_text, samples_text = (*rest, *("",) * (len(RECEIVER_PARTS) - len(rest)))
        steps = int(steps_text) if steps_text else None
        knob = float(knob_text or 1)
        samples = int(samples_text or 1)
        if steps is not None and steps < 1:
            raise ValueError
    except ValueError:
        spelled = optional(head, RECEIVER_PARTS)
        raise InvalidOption(
            f"receiver {spec!r}: it is spelled {spelled}, for instance {head}:{usual}:0.5"
        ) from None
    return Generative(build(denoiser or prior(PRIOR, device), steps or usual), knob, samples)


def spelled(method: str, steps: int | None, knob: float, samples: int) -> str:
    """Compose the name of a receiver from its parameters.

    Args:
        method: Head of the name, such as "ddrm".
        steps: Number of noise levels; None for the default of the method.
        knob: Position between the posterior mean (0) and a posterior sample (1).
        samples: Number of samples that are averaged, at least 1.

    Returns:
        A name for `receiver`.

    Raises:
        InvalidOption: `method` already contains parameters.
    """
    if ":" in method:
        raise InvalidOption(f"receiver {method}: a name alone; steps, knob and samples tell the rest")
    return f"{method}:{'' if steps is None else steps}:{knob!r}:{samples}"


def _placed(denoiser: Denoiser, device: str) -> Denoiser:
    """The denoiser, its network moved to the device and its inputs moved there at every call."""
    if device == "cpu":
        return denoiser
    inner = denoiser.denoiser if isinstance(denoiser, Tiled) else denoiser
    network = inner.network if isinstance(inner, VariancePreserving) else inner
    if isinstance(network, nn.Module):
        network.to(device)
    return OnDevice(denoiser, device)


def _refiner(spec: str, rest: list[str], device: str) -> Refiner:
    """The refiner of this package, with the knob of its name."""
    try:
        (knob,) = map(float, rest or [str(KNOB)])
    except ValueError:
        raise InvalidOption(
            f"receiver {spec!r}: it is spelled refine[:knob], for instance refine:0.5"
        ) from None
    network = zoo.load("refiner", device)
    assert isinstance(network, PictureRefiner)
    return Refiner(network, knob)
