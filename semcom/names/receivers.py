"""Grammar of receivers, such as "ddrm:8:0.5" and "refine:0.5", and of their priors."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from torch import nn

from semcom import zoo
from semcom.denoisers import Denoiser, OnDevice
from semcom.errors import InvalidOption, MissingWeights, UnknownName
from semcom.foreign_priors import VariancePreserving, from_diffusers, from_guided_diffusion
from semcom.memory.codebooks import PictureMemory, pictures_of
from semcom.memory.gate import Gate
from semcom.memory.sentences import SentenceMemory
from semcom.names.parser import IMPORTED, imported, optional, unknown
from semcom.prior import NaturalImagePrior
from semcom.provenance import fingerprint
from semcom.receivers.clips import ClipRefiner, Interpolation
from semcom.receivers.consistency import Consistency
from semcom.receivers.ddnm import DDNM
from semcom.receivers.ddrm import DDRM
from semcom.receivers.diffpir import DiffPIR
from semcom.receivers.dps import DPS
from semcom.receivers.generative import Generative, Method
from semcom.receivers.loop import EncoderInTheLoop
from semcom.receivers.memory import ALWAYS, MemoryReceiver
from semcom.receivers.posterior import Posterior
from semcom.receivers.refiner import KNOB, Refiner
from semcom.refiner import PictureRefiner
from semcom.samplers import FromNoise, Matched
from semcom.text.lm import located
from semcom.text.restoration import Restoration
from semcom.tiles import Tiled
from semcom.video.interpolation import flow_is_there
from semcom.video.refinement import FrameRefiner

Stored = TypeVar("Stored", PictureMemory, SentenceMemory)

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
CELLS = "cells"
"""Last part of the name of a refiner whose pictures keep to the quantisation cells of the received bytes."""
INTERPOLATE = "interpolate"
"""Name of the receiver of clips that interpolates lost frames, which has neither network nor prior."""
RESTORE = "restore"
"""Name of the receiver of texts that adds guesses of a language model for lost parts."""
MEMORY = "memory"
"""Name of the receiver that recalls stored pictures, and first part of the name of a codec with them."""
CACHE = "cache"
"""First part of the name of a semantic cache of pictures, which has a folder of pictures as well."""
HEADS = (*METHODS, REFINE, INTERPOLATE, RESTORE, MEMORY)
"""First part of the name of every receiver of this package."""
PRIOR = "prior"
TILE = 1024  # pixels; side of the tiles in which the prior processes larger images
RECEIVER_PARTS = ("steps", "knob", "samples")
DIGITS = 8  # hexadecimal, of the fingerprint of a prior in the name of its receiver
DIGEST = re.compile(rf"(.+)#([0-9a-f]{{{DIGITS}}})")


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


def receiver(
    spec: str, denoiser: Denoiser | None = None, device: str = "cpu"
) -> Generative | Refiner | MemoryReceiver:
    """Make a receiver from its name.

    A name is `method[:<steps>[:<knob>[:<samples>]]][@<prior>]`, `refine[:<knob>[:cells]]` or
    `memory[:<tolerance> | :always]@<folder>`.
    A prior that is not the one of this package is part of the name of the receiver, with a digest of its
    definition: "ddrm:8@mine.safetensors#1a2b3c4d". The digest may be left out; if it is given, it must be
    that of the prior found.

    Args:
        spec: The name, such as "ddrm:8:0.5" or "ddrm@mine.safetensors"; an empty part stands for the default.
        denoiser: Prior in place of the one that is named; the name of the receiver has its digest alone.
        device: PyTorch device of the prior that is named.

    Returns:
        The receiver.

    Raises:
        UnknownName: There is no such method.
        InvalidOption: A parameter is not a number, or out of range, or the prior has another digest.
        MissingWeights: The prior is absent or damaged.
    """
    text, at, source = spec.partition("@")
    head, *rest = text.split(":")
    if head == REFINE:
        if denoiser is not None or at:
            raise InvalidOption(f"receiver {spec!r} has a network of its own; leave the prior out")
        return _refiner(spec, rest, device)
    if head == MEMORY:
        return _memory_receiver(spec, rest, source)
    if head == INTERPOLATE:
        raise InvalidOption(f"receiver {spec!r} shows lost frames of clips; leave it out for other items")
    if head == RESTORE:
        raise InvalidOption(f"receiver {spec!r} restores lost parts of texts; leave it out for other items")
    if head not in METHODS:
        raise UnknownName(unknown("receiver", head, HEADS))
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
            f"receiver {text!r}: it is spelled {spelled}, for instance {head}:{usual}:0.5"
        ) from None
    if denoiser is not None:
        label = _labelled(denoiser, "")
    elif at:
        denoiser, label = _named_prior(source, device)
    else:
        denoiser, label = prior(PRIOR, device), ""
    return Generative(build(denoiser, steps or usual), knob, samples, prior=label)


def clip_receiver(spec: str, device: str = "cpu") -> ClipRefiner | Interpolation:
    """Make a receiver of clips from its name, `refine[:<knob>]` or `interpolate`.

    Args:
        spec: The name.
        device: PyTorch device of the network.

    Returns:
        The receiver.

    Raises:
        InvalidOption: The name has other parts, the knob is out of range, clips have no such receiver, or
            frames cannot be interpolated since OpenCV is not installed.
        UnknownName: There is no such receiver.
        MissingWeights: The network is absent or damaged.
    """
    head, *rest = spec.split(":")
    if head == INTERPOLATE:
        if rest:
            raise InvalidOption(f"receiver {spec!r}: {INTERPOLATE} takes no parameters")
        if not flow_is_there():
            raise InvalidOption(
                f"receiver {INTERPOLATE} needs OpenCV, which is not installed; pip install 'semcom[video]'"
            )
        return Interpolation()
    if head == REFINE:
        try:
            (knob,) = rest or ("",)
            number = float(knob or KNOB)
        except ValueError:
            raise InvalidOption(
                f"receiver {spec!r}: for clips it is spelled refine[:knob], for instance refine:0.5"
            ) from None
        return ClipRefiner(FrameRefiner.shipped(device), number)
    if head.partition("@")[0] in (*METHODS, MEMORY):
        memory = f"; a memory of clips is part of the codec, {MEMORY}:avif@folder+ldpc" * (
            head.partition("@")[0] == MEMORY
        )
        raise InvalidOption(
            f"receiver {spec!r} refines image items only; clips take {REFINE}, {INTERPOLATE}{memory}"
        )
    raise UnknownName(unknown("receiver", head, (REFINE, INTERPOLATE)))


def text_receiver(spec: str, device: str = "cpu") -> Restoration:
    """Make a receiver of texts from its name, `restore[:<model>]`.

    Args:
        spec: The name; the model is a language model as in `semcom.text.lm.load`.
        device: PyTorch device of the model.

    Returns:
        The receiver; the model is read at the first use.

    Raises:
        InvalidOption: Texts have no such receiver.
        UnknownName: There is no such model.
        MissingWeights: The model is not installed.
    """
    head, _, model = spec.partition(":")
    if head != RESTORE:
        memory = f"; a memory of texts is part of the codec, {MEMORY}:zlib@folder+ldpc" * (
            head.partition("@")[0] == MEMORY
        )
        raise InvalidOption(f"receiver {spec!r} refines image items only; texts take {RESTORE}{memory}")
    made = Restoration(model or "smollm2", device=device)
    located(made.model)
    return made


def with_receiver(
    name: str,
    receiver: str | None,
    steps: int | None = None,
    knob: float | None = None,
    samples: int | None = None,
    prior: str | None = None,
    memory: str | None = None,
) -> str:
    """Add a receiver, or a prior or memory for the receiver, to the name of a scheme.

    Args:
        name: Name of a scheme without a prior; with a generative receiver if a prior alone is added.
        receiver: Method without parameters, such as "ddrm", or `package.module:NAME`; None keeps that of the
            scheme.
        steps: Number of noise levels; None for the default of the method.
        knob: Position between the posterior mean (0) and a posterior sample (1); None for 1.
        samples: Number of samples that are averaged; None for 1.
        prior: Name of the prior, as for `prior`; None for the one of this package.
        memory: Folder of stored pictures, for the receiver "memory", which need not be named then, for a
            codec with a memory ("memory:avif+ldpc"; with clips or texts for those), or for a semantic cache
            ("cache:circuit:avif+ldpc").

    Returns:
        A name for `semcom.names.scheme`.

    Raises:
        UnknownName: There is no such method.
        InvalidOption: The receiver has parameters already or takes none, or the scheme has no receiver that
            takes a prior, or has one already.
    """
    parameters = {"--steps": steps, "--knob": knob, "--samples": samples}
    given = [option for option, value in parameters.items() if value is not None]
    if prior == "":
        raise InvalidOption("--prior '': an empty name; leave the option out, or name one like prior")
    told = "" if prior is None else f"@{prior}"
    if memory is not None or receiver == MEMORY:
        return _with_memory(name, receiver, memory, given, told)
    if receiver is None:
        if given:
            raise InvalidOption(f"{', '.join(given)} belong to --receiver; name one, like ddrm")
        if told and (name.rpartition("+")[2].split(":")[0] not in METHODS or "@" in name):
            raise InvalidOption(
                f"--prior {prior}: scheme {name} has no receiver that takes one; add --receiver, like ddrm"
            )
        return name + told
    if IMPORTED.fullmatch(receiver):
        if given or told:
            options = ", ".join((*given, *("--prior",) * bool(told)))
            raise InvalidOption(f"{options}: receiver {receiver} takes none; it is used as it is")
        return f"{name}+{receiver}"
    if receiver.split(":")[0] not in HEADS:
        raise UnknownName(unknown("receiver", receiver, HEADS))
    if ":" in receiver or "@" in receiver:
        raise InvalidOption(
            f"receiver {receiver}: a name alone; --steps, --knob, --samples, --prior tell the rest"
        )
    if receiver == INTERPOLATE:
        if told or given:
            raise InvalidOption(
                "receiver interpolate: it takes no options; leave --steps, --knob, --samples, --prior out"
            )
        return f"{name}+{INTERPOLATE}"
    if receiver == RESTORE:
        if told or given:
            raise InvalidOption(
                "receiver restore: it takes no options; leave --steps, --knob, --samples, --prior out"
            )
        return f"{name}+{RESTORE}"
    if receiver == REFINE:
        if told or given not in ([], ["--knob"]):
            raise InvalidOption(
                "receiver refine: it takes --knob alone; leave --steps, --samples, --prior out"
            )
        return f"{name}+{REFINE}" if knob is None else f"{name}+{REFINE}:{knob!r}"
    parts = [receiver, *("" if value is None else f"{value!r}" for value in parameters.values())]
    return f"{name}+{':'.join(parts).rstrip(':')}{told}"


def memory_named(spec: str, read: Callable[[str], Stored]) -> Stored:
    """Read the memory of a name, a folder with or without its digest, "faces#1a2b3c4d".

    Args:
        spec: Folder; with a digest, which must be the one of what is in it.
        read: Function that reads a folder: pictures, key frames of clips, or sentences of texts.

    Returns:
        The memory.

    Raises:
        InvalidSource: The folder is missing or holds nothing of the kind.
        InvalidOption: The name is empty, or the digest is another.
    """
    if not spec:
        raise InvalidOption("a memory without a folder; name one, like --memory pictures")
    source, digest = found.groups() if (found := DIGEST.fullmatch(spec)) else (spec, "")
    memory = read(source)
    if digest and memory.digest != digest:
        raise InvalidOption(
            f"memory {source} is not the one of digest {digest}, but #{memory.digest}; "
            "give the right folder, or leave the digest out"
        )
    return memory


def _with_memory(name: str, receiver: str | None, memory: str | None, given: list[str], told: str) -> str:
    """Name of a scheme with a memory, in its codec or at its receiver."""
    if receiver not in (None, MEMORY) or given or told:
        options = ", ".join((*given, *("--prior",) * bool(told))) or f"--receiver {receiver}"
        raise InvalidOption(f"{options}: no part of a receiver with a memory; leave it or --memory out")
    if not memory:
        raise InvalidOption(f"receiver {MEMORY} recalls stored pictures; name their folder by --memory")
    head, has_memory = name.split(":")[0], "@" in name
    if has_memory and (head in (CACHE, MEMORY) or f"+{MEMORY}" in name):
        raise InvalidOption(f"--memory {memory}: scheme {name} names its memory; leave one of both out")
    if receiver is None and head == CACHE:
        return f"{name}@{memory}"
    if receiver is None and name.startswith(f"{MEMORY}:"):
        codec, plus, link = name.rpartition("+")
        return f"{codec}@{memory}{plus}{link}" if plus else f"{name}@{memory}"
    return f"{name}+{MEMORY}@{memory}"


def _memory_receiver(spec: str, rest: list[str], source: str) -> MemoryReceiver:
    try:
        (tolerance,) = rest or ("",)
        gate = None if tolerance == ALWAYS else Gate(float(tolerance)) if tolerance else Gate()
    except ValueError as error:
        if isinstance(error, InvalidOption):
            raise
        raise InvalidOption(
            f"receiver {spec!r}: it is spelled {MEMORY}[:<tolerance> | :{ALWAYS}]@<folder>, "
            f"for instance {MEMORY}:0.2@pictures"
        ) from None
    return MemoryReceiver(memory_named(source, pictures_of), gate)


def _named_prior(spec: str, device: str) -> tuple[Denoiser, str]:
    """The prior of a name with or without digest, and its name with digest (empty for the shipped prior)."""
    source, digest = spec, ""
    if found := DIGEST.fullmatch(spec):
        source, digest = found.groups()
    denoiser = prior(source, device)
    label = _labelled(denoiser, Path(source).name if Path(source).exists() else source)
    if digest and not label.endswith(f"#{digest}"):
        there = label.rpartition("#")[2] if "#" in label else "the one of this package"
        raise InvalidOption(
            f"prior {source} is not the one of digest {digest}, but {there}; "
            "give the right file, or leave the digest out"
        )
    return denoiser, label


def _labelled(denoiser: Denoiser, name: str) -> str:
    """Name of a prior with its digest; empty for the prior of this package, bare without a canonical form."""
    try:
        digest = fingerprint(denoiser)
    except InvalidOption:
        return name or type(denoiser).__name__
    with suppress(MissingWeights):
        if digest == fingerprint(prior(PRIOR)):
            return ""
    return f"{name}#{digest[:DIGITS]}"


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
    """The refiner of this package, with the knob and the cells of its name."""
    try:
        knob, cells = (*rest, *("",) * (2 - len(rest)))
        if cells not in ("", CELLS):
            raise ValueError
        number = float(knob or KNOB)
    except ValueError:
        raise InvalidOption(
            f"receiver {spec!r}: it is spelled refine[:knob[:{CELLS}]], for instance refine:0.5"
        ) from None
    return Refiner(zoo.load_as("refiner", PictureRefiner, device), number, bool(cells))
