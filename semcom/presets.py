"""Names to objects: the only place where a string becomes a scheme, a channel, a codec or a metric.

A scheme is spelled `source+link+receiver`, with the transmitter's channel knowledge behind a colon
("avif+ldpc:csit-average+ddrm:8"); joint codes have no link, and without a receiver what arrives is shown. The
parts of a hybrid stand behind colons ("hybrid:avif:mcs9:softcast:0.4"). A channel is spelled
`family:parameters`, with wrappers before a slash ("interleaved/rayleigh:64"). `package.module:NAME` stands
for a ready object wherever a name does.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from channels import AWGN, Channel
from channels.csi import GenieCSI, NoCSI, PilotAided
from channels.errors import ChannelError
from channels.fading import JakesFading, RayleighBlockFading, RicianBlockFading
from channels.impairments import CarrierOffset, ClippedAmplifier, Impaired, PhaseNoise
from channels.interleave import Interleaved
from channels.link import IdealLink
from channels.lossy import GilbertElliott, IndependentLoss, Lossy
from channels.mcs import MCS_TABLE
from channels.ofdm import OFDM, Pilots
from channels.tdl import PROFILES, TDL
from channels.waveform import Numerology, Stage
from semcom import zoo
from semcom.analog import Analog
from semcom.codecs import CODECS, Memo, SourceCodec
from semcom.codecs.hyperprior import MeanScaleHyperprior
from semcom.codecs.learned import LearnedCodec
from semcom.denoisers import Denoiser
from semcom.envelope import Envelope, GenieEnvelope, shipped_choices
from semcom.errors import InvalidOption, MissingWeights, UnknownName
from semcom.foreign_priors import from_diffusers, from_guided_diffusion
from semcom.hybrid import Hybrid
from semcom.jscc.adaptive import AdaptiveDeepJSCC
from semcom.jscc.bank import Bank
from semcom.jscc.jscc import DeepJSCC
from semcom.jscc.refinement import DecoderRefinement
from semcom.jscc.softcast import SoftCast
from semcom.metrics import Availability, Metric, metric_named
from semcom.metrics.catalogue import ALL_METRICS
from semcom.prior import NaturalImagePrior
from semcom.receivers import Direct
from semcom.receivers.consistency import Consistency
from semcom.receivers.ddnm import DDNM
from semcom.receivers.ddrm import DDRM
from semcom.receivers.diffpir import DiffPIR
from semcom.receivers.dps import DPS
from semcom.receivers.generative import Generative, Method
from semcom.receivers.loop import EncoderInTheLoop
from semcom.receivers.posterior import Posterior
from semcom.receivers.refiner import ConditionalDenoiser, Refiner
from semcom.reduced import Reduced, ReducedAtLowRate
from semcom.samplers import FromNoise, Matched
from semcom.scheme import Receiver, Scheme
from semcom.separate import Adapted, FixedMcs, IdealSeparate, Separate
from semcom.tiles import Tiled
from semcom.transmission import Transmission

IMPORTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
MEMBERS = {
    "channel": ("name", "draw", "apply", "overhead", "data_uses"),
    "codec": ("name", "qualities", "encode", "decode"),
    "scheme": ("name", "transmission", "receiver", "transmit"),
    "prior": ("__call__",),
    "metric": ("name", "higher_is_better", "needs", "min_side", "__call__"),
}


@dataclass(frozen=True)
class Listed:
    """A line of a listing: a name that works, and what it stands for."""

    name: str
    about: str


@dataclass(frozen=True)
class Family:
    """Objects that are spelled alike: `head:parameter:parameter`.

    Args:
        pattern: Their spelling, optional parameters in brackets.
        about: One line for the listing.
        build: From the parameters to the object; wrappers get the channel before them.
        kinds: From the text of each parameter to its value.
        least: Parameters that cannot be left out.
        example: A name that works.
        wraps: Of a wrapper that does not take every channel: the member it needs, and who has it.
    """

    pattern: str
    about: str
    build: Callable[..., Any]
    kinds: tuple[Callable[[str], Any], ...]
    least: int
    example: str
    wraps: tuple[str, str] = ("", "")


def _family(
    pattern: str,
    about: str,
    build: Callable[..., Any],
    *kinds: Callable[[str], Any],
    example: str,
    wraps: tuple[str, str] = ("", ""),
) -> Family:
    return Family(pattern, about, build, kinds, len(kinds) - pattern.count("["), example, wraps)


def _dashed(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-"))


def _tdl(profile: Any, delay_spread_ns: float = 100.0, doppler_hz: float = 0.0) -> TDL:
    return TDL(profile, delay_spread_ns, doppler_hz)


STAGES = {
    f"tdl-{profile.lower()}": _family(
        f"tdl-{profile.lower()}[:<delay spread in ns>[:<Doppler in Hz>]]",
        f"multipath of TR 38.901, profile {profile}",
        partial(_tdl, profile),
        float,
        float,
        example=f"tdl-{profile.lower()}:100:10",
    )
    for profile in PROFILES
} | {
    "clip": _family(
        "clip:<PAPR in dB>", "amplifier that clips peaks", ClippedAmplifier, float, example="clip:6"
    ),
    "phase-noise": _family(
        "phase-noise:<linewidth in Hz>",
        "oscillator phase noise",
        PhaseNoise,
        float,
        example="phase-noise:100",
    ),
    "offset": _family(
        "offset:<share of the subcarrier spacing>",
        "carrier offset",
        CarrierOffset,
        float,
        example="offset:0.02",
    ),
}
GRID = {
    "grid": _family(
        "grid:<FFT size>:<subcarriers>:<prefix>:<spacing in Hz>",
        "OFDM symbols",
        Numerology,
        int,
        int,
        int,
        float,
        example="grid:64:64:16:60000",
    ),
    "pilots": _family(
        "pilots:<slot symbols>:<pilot symbols>:<every nth subcarrier>:<interpolation>",
        "OFDM pilots",
        Pilots,
        int,
        _dashed,
        int,
        str,
        example="pilots:14:0-7:2:wiener",
    ),
}


def _stages(text: str) -> tuple[Stage, ...]:
    return tuple(_built("stage", STAGES, part) for part in text.split("+"))


def _ofdm(text: str = "") -> OFDM:
    parts = [_built("part of OFDM", STAGES | GRID, part) for part in text.split("+") if part]
    grid = next((part for part in parts if isinstance(part, Numerology)), Numerology())
    pilots = next((part for part in parts if isinstance(part, Pilots)), Pilots())
    return OFDM(tuple(part for part in parts if not isinstance(part, Numerology | Pilots)), grid, pilots)


CHANNELS = {
    "awgn": _family("awgn", "additive white Gaussian noise", AWGN, example="awgn"),
    "rayleigh": _family(
        "rayleigh:<block length>",
        "Rayleigh fading, constant over blocks of so many channel uses",
        RayleighBlockFading,
        int,
        example="rayleigh:64",
    ),
    "rician": _family(
        "rician:<block length>:<K in dB>",
        "Rician fading in blocks; K is line of sight over scattered power",
        RicianBlockFading,
        int,
        float,
        example="rician:64:6",
    ),
    "jakes": _family(
        "jakes:<Doppler times symbol time>",
        "Rayleigh fading correlated in time, Jakes' Doppler spectrum",
        JakesFading,
        float,
        example="jakes:0.01",
    ),
    "ofdm": _family(
        "ofdm[:<stage>+<stage>...]",
        "OFDM with prefix, pilots and estimation, over multipath and impairments",
        _ofdm,
        str,
        example="ofdm:tdl-a:100:10",
    ),
}


LOSSY = (
    "lossy:<packet uses>:<loss>/<channel> or, in bursts, "
    "lossy:<packet uses>:<good to bad>:<bad to good>[:<loss good>:<loss bad>]/<channel>"
)


def _lossy(channel: Channel, packet_uses: int, *numbers: float) -> Lossy:
    if len(numbers) == 1:
        return Lossy(channel, packet_uses, IndependentLoss(*numbers))
    if len(numbers) == 3:
        raise ChannelError(f"losses take 1, 2 or 4 numbers, not 3; it is spelled {LOSSY}")
    return Lossy(channel, packet_uses, GilbertElliott(*numbers))


FLAT = ("correlation", "flat channels")
WRAPPERS = {
    "interleaved": _family(
        "interleaved/<channel>",
        "neighbouring symbols meet different fades",
        Interleaved,
        example="interleaved/rayleigh:64",
    ),
    "lossy": Family(
        LOSSY,
        "packets of so many channel uses are lost, each or in bursts (Gilbert-Elliott)",
        _lossy,
        (int, float, float, float, float),
        2,
        "lossy:256:0.1/awgn",
    ),
    "pilots": _family(
        "pilots:<spacing>[:linear]/<channel>",
        "the receiver estimates a flat channel from pilots, which are counted",
        PilotAided,
        int,
        str,
        example="pilots:15/rayleigh:64",
        wraps=FLAT,
    ),
    "genie": _family(
        "genie/<channel with pilots>",
        "pilots are sent, and the receiver is told the truth all the same",
        GenieCSI,
        example="genie/ofdm:tdl-a:100:10",
        wraps=("apply_genie", "channels with pilots"),
    ),
    "no-csi": _family(
        "no-csi/<channel>", "the receiver knows nothing of the fading", NoCSI, example="no-csi/rician:64:6"
    ),
    "impaired": _family(
        "impaired:<stage>+<stage>.../<channel>",
        "a single carrier from an imperfect transmitter",
        lambda channel, text: Impaired(channel, _stages(text)),
        str,
        example="impaired:clip:3+phase-noise:100/awgn",
        wraps=FLAT,
    ),
}
UNSPLIT = ("ofdm", "impaired")  # their one parameter has colons of its own

CODECS_BY_NAME: dict[str, Callable[[], SourceCodec]] = {
    **{codec.name: lambda codec=codec: codec for codec in CODECS},
    "learned": lambda: LearnedCodec(cast(MeanScaleHyperprior, zoo.load("learned"))),
}

SCHEMES: dict[str, tuple[str, Callable[[], Transmission]]] = {
    "envelope:csit-average": (
        "best codec, modulation and code rate per SNR and rho, frozen on validation photographs",
        lambda: Envelope(
            tuple(map(codec, sorted({choice.codec for choice in shipped_choices()}))), shipped_choices()
        ),
    ),
    "genie-envelope": (
        "the same chosen per image after the fact: a bound",
        lambda: GenieEnvelope((codec("hevc-intra"),)),
    ),
    "softcast": (
        "DCT coefficients with allotted power, straight to symbols, LMMSE at the receiver",
        SoftCast,
    ),
    "softcast:csit-average": (
        "softcast whose power allocation knows the average SNR",
        lambda: SoftCast(csit="average"),
    ),
    "deepjscc": (
        "one DeepJSCC for all SNRs and bandwidths, nested, that starts where linear coding ends",
        lambda: Analog(cast(DeepJSCC, zoo.load("deepjscc"))),
    ),
    "deepjscc:csit-average": (
        "deepjscc whose encoder knows the average SNR",
        lambda: Analog(cast(DeepJSCC, zoo.load("deepjscc")), "average"),
    ),
    "deepjscc-perceptual": (
        "deepjscc, the same symbols, whose receiver is tuned to look like the picture (LPIPS)",
        lambda: Analog(_perceptual()),
    ),
    "deepjscc-range": (
        "deepjscc of the means of 2x2 pixels, for a receiver that fills in the rest (Yilmaz et al.)",
        lambda: Reduced(Analog(cast(DeepJSCC, zoo.load("deepjscc")))),
    ),
    "deepjscc-range4": (
        "the same of 4x4 pixels",
        lambda: Reduced(Analog(cast(DeepJSCC, zoo.load("deepjscc"))), 4),
    ),
    "deepjscc-range-by-rho": (
        "the same of 4x4 pixels up to rho = 1/384, the whole picture above, for a receiver with a prior",
        lambda: ReducedAtLowRate(Analog(cast(DeepJSCC, zoo.load("deepjscc")))),
    ),
    "deepjscc-2019": (
        "the reference DeepJSCC of Bourtsoulatze et al.",
        lambda: Analog(_bank("deepjscc-2019", DEEPJSCC_2019)),
    ),
}
DEEPJSCC_2019 = ("deepjscc-2019-12", "deepjscc-2019-48", "deepjscc-2019-192")  # one network per rho
ALIASES = {"envelope": "envelope:csit-average"}

MARGIN = 2.0
"""Noise at the start over the expected error: on photos/val more realism per dB than 1. With it, and without
fresh noise, 8 steps of DiffPIR come within 1 % of the LPIPS of 100."""

METHODS: dict[str, tuple[str, int, Callable[[Denoiser, int], Method]]] = {  # with the default steps
    "consistency": (
        "diffpir whose pictures code to the very bytes that arrived, for JPEG; 8 steps from what arrived",
        8,
        lambda prior, steps: Consistency(prior, Matched(steps, MARGIN), zeta=0.0),
    ),
    "ddnm": (
        "keeps what was observed, a prior fills the null space; 100 steps from noise",
        100,
        lambda prior, steps: DDNM(prior, FromNoise(steps)),
    ),
    "ddrm": (
        "a rule per frequency, by the noise measured there; 8 steps from what arrived",
        8,
        lambda prior, steps: DDRM(prior, Matched(steps)),
    ),
    "diffpir": (
        "between denoising and noising the point that data and prior agree on; 8 steps from what arrived",
        8,
        lambda prior, steps: DiffPIR(prior, Matched(steps, MARGIN), zeta=0.0),
    ),
    "dps": (
        "pulled down the gradient of the misfit; 1000 steps from noise, for comparison only",
        1000,
        lambda prior, steps: DPS(prior, FromNoise(steps)),
    ),
    "loop": (
        "the picture whose transmission explains the symbols, the encoder in the loop; 4 steps",
        4,
        lambda prior, steps: EncoderInTheLoop(prior, Matched(steps, MARGIN)),
    ),
    "posterior": (
        "the Gaussian posterior at every level, by the prior's own covariance; 4 steps from what arrived",
        4,
        lambda prior, steps: Posterior(prior, Matched(steps, MARGIN)),
    ),
    "refiner": (
        "a network that has learned to refine what arrived, trained by scripts/train/refiner.py; 8 steps",
        8,
        lambda prior, steps: _refiner(prior, steps),
    ),
}
ANALOG_PARTS = ("deepjscc", "deepjscc-perceptual", "softcast", "softcast-residual")  # of a hybrid
HYBRID_PARTS = ("codec", "link", "analog part", "share", "power in dB", "noise")
HYBRID = ("avif", "csit-average", "softcast-residual", "0.5", "0", "0")  # defaults
NEEDS = {"consistency": "jpeg+ldpc:csit-average"}  # methods that do not take what joint codes deliver
UNSHIPPED = ("refiner",)  # methods that need a network of the user's
PRIOR = "prior"
TILE = 1024  # pixels, side of the pieces in which larger pictures go through it
RECEIVER_PARTS = ("steps", "knob", "samples")

DEFAULT_METRICS = ("psnr_db", "ms_ssim", "swd", "lpips_squeeze")


def channel(spec: str) -> Channel:
    """The channel of a name; `channel(c.name)` equals c for every channel of this package.

    Raises:
        UnknownName: No such channel or wrapper, no such module or attribute.
        InvalidOption: A parameter is missing, not a number, or out of range.
    """
    if IMPORTED.fullmatch(spec) and spec.split(":")[0] not in CHANNELS:
        return imported(spec, "channel")
    wrapper, slash, inner = spec.partition("/")
    return (
        _built("wrapper of channels", WRAPPERS, wrapper, channel(inner))
        if slash
        else _built("channel", CHANNELS, spec)
    )


@cache
def codec(name: str) -> SourceCodec:
    """The codec of a name: elementary stream ("avif", "learned"), whole file ("avif-file"), or imported.

    It comes in a `Memo` that all schemes of this process share, so that each image is encoded once for all.

    Raises:
        UnknownName: No such codec.
        InvalidOption: The imported object is not a codec.
        MissingWeights: The network of the learned codec is absent or damaged.
    """
    if IMPORTED.fullmatch(name):
        return Memo(imported(name, "codec"))
    if name not in CODECS_BY_NAME:
        raise UnknownName(f"no codec called {name!r}; there are {', '.join(CODECS_BY_NAME)}")
    return Memo(CODECS_BY_NAME[name]())


def scheme(name: str) -> Scheme:
    """The scheme of a name, under its canonical name: "avif+ldpc" is "avif+ldpc:csit-average".

    Raises:
        UnknownName: No such scheme, codec, link, module or attribute.
        InvalidOption: A parameter out of range, or an imported object that is not a scheme.
        MissingWeights: The network of a learned scheme is absent or damaged.
    """
    if IMPORTED.fullmatch(name) and name.split(":")[0] != "hybrid":
        return imported(name, "scheme")
    source, plus, last = name.rpartition("+")
    if plus and last.split(":")[0] in METHODS:
        return refined(scheme(source), receiver(last))
    name = ALIASES.get(name, name)
    source, plus, link = name.partition("+")
    if name.split(":")[0] == "hybrid":
        transmission = _hybrid(name)
    elif plus:
        transmission = _separate(source, link, name)
    elif name in SCHEMES:
        transmission = SCHEMES[name][1]()
    elif name in CODECS_BY_NAME:
        raise UnknownName(f"scheme {name!r} is a codec without a link; did you mean {name}+ldpc?")
    else:
        raise UnknownName(_unknown("scheme", name, [listed.name for listed in schemes()]))
    return Scheme(transmission.name, transmission, Direct())


def refined(plain: Scheme, receiver: Receiver) -> Scheme:
    """The same transmission with another receiver."""
    return Scheme(f"{plain.transmission.name}+{receiver.name}", plain.transmission, receiver)


def plain(refined: Scheme) -> Scheme:
    """The same transmission, and what arrived is shown."""
    return Scheme(refined.transmission.name, refined.transmission, Direct())


def prior(spec: str) -> Denoiser:
    """A denoiser D(x, sigma): "prior", a file of our weights, a model of diffusers, or an imported object.

    Args:
        spec: A path that ends in .safetensors is a file of ours, in .pt a checkpoint of guided-diffusion;
            another one, or a name with a slash, is a folder of diffusers or a model on the hub,
            "google/ddpm-celebahq-256" for instance.

    Raises:
        UnknownName: No such module or attribute.
        InvalidOption: The file holds another kind of network, or the imported object cannot be called.
        MissingWeights: The file or model is absent or damaged.
    """
    if IMPORTED.fullmatch(spec):
        return imported(spec, "prior")
    if Path(spec).suffix == ".pt":
        return from_guided_diffusion(Path(spec))
    if spec != PRIOR and Path(spec).suffix != ".safetensors":
        return from_diffusers(spec)
    network = zoo.load(PRIOR) if spec == PRIOR else zoo.read(Path(spec))
    if not isinstance(network, NaturalImagePrior):
        raise InvalidOption(
            f"prior {spec} holds a {type(network).__name__}, not a prior; `semcom train prior` makes one"
        )
    return Tiled(network, TILE, TILE // 8)


def receiver(spec: str, denoiser: Denoiser | None = None) -> Generative:
    """The receiver of a name, `method[:<steps>[:<knob>[:<samples>]]]`, like "ddrm:8:0.5".

    Args:
        spec: The name; an empty part is the default.
        denoiser: The prior, in place of the one that is shipped.

    Raises:
        UnknownName: No such method.
        InvalidOption: Not a number, or out of range.
        MissingWeights: The prior is absent or damaged.
    """
    head, *rest = spec.split(":")
    if head not in METHODS:
        raise UnknownName(_unknown("receiver", head, METHODS))
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
        spelled = _optional(head, RECEIVER_PARTS)
        raise InvalidOption(
            f"receiver {spec!r}: it is spelled {spelled}, for instance {head}:{usual}:0.5"
        ) from None
    return Generative(build(denoiser or prior(PRIOR), steps or usual), knob, samples)


def _refiner(prior: Denoiser, steps: int) -> Refiner:
    """A prior of this package must be one that takes a guess."""
    network = prior.denoiser if isinstance(prior, Tiled) else None
    if network is not None and not (isinstance(network, NaturalImagePrior) and network.conditional):
        raise InvalidOption(
            "this prior takes no guess; train a refiner by scripts/train/refiner.py and name its file, "
            "--prior weights.safetensors, or choose diffpir"
        )
    return Refiner(cast(ConditionalDenoiser, prior), Matched(steps, MARGIN))


def metric(name: str) -> Metric:
    """The metric of a column name, or an imported object.

    Raises:
        UnknownName: No such metric.
        MissingWeights: Its network is not here.
        InvalidOption: The imported object is not a metric.
    """
    if IMPORTED.fullmatch(name):
        return imported(name, "metric")
    known = [metric.name for metric in ALL_METRICS]
    if name not in known:
        raise UnknownName(f"no metric called {name!r}; there are {', '.join(known)}")
    return metric_named(name)


def default_metrics() -> Availability:
    """Those of `DEFAULT_METRICS` that work here, and a line for each other."""
    metrics, left_out = [], []
    for name in DEFAULT_METRICS:
        try:
            metrics.append(metric_named(name))
        except MissingWeights as error:
            left_out.append(str(error))
    return Availability(tuple(metrics), tuple(left_out))


def schemes() -> tuple[Listed, ...]:
    """Names that work as they are, with one line each; more follow from the patterns."""
    digital = [
        Listed(
            f"{name}+ldpc:csit-average", f"{name}, LDPC and QAM, modulation and code rate by the average SNR"
        )
        for name in CODECS_BY_NAME
    ]
    fixed = [
        Listed(
            f"avif+ldpc:mcs{row.index}",
            f"avif, LDPC, {row.constellation.name}, code rate {row.code_rate:.2f}",
        )
        for row in MCS_TABLE
    ]
    ideal = [Listed("avif+ideal:csit-average", "avif over an error-free link at channel capacity: a bound")]
    single = [Listed(name, about) for name, (about, _) in SCHEMES.items()]
    generative = [
        *(
            Listed(f"{NEEDS.get(name, 'deepjscc')}+{name}:{usual}", about)
            for name, (about, usual, _) in METHODS.items()
            if name not in UNSHIPPED
        ),
        Listed("deepjscc-range+ddnm:100", "the system of Yilmaz et al.: block means by deepjscc, then ddnm"),
        Listed("avif+ldpc:csit-average+ddrm:8", "a decoded AVIF picture, then ddrm"),
        Listed("softcast+ddrm:8", "the symbols of softcast as evidence for ddrm"),
    ]
    hybrid = [
        Listed(
            ":".join(("hybrid", *HYBRID[:3])),
            "bits for a coarse picture, analog symbols for what it lacks; hybrid for short",
        ),
        Listed("hybrid:avif:mcs9:softcast-residual:0.6", "softcast of what 60 % of the channel uses leave"),
        Listed("hybrid:avif:mcs9:deepjscc", "deepjscc of the picture itself, fused by precision"),
        Listed("hybrid:avif:mcs9:deepjscc:0.5:0:0.1", "deepjscc of the picture with noise (Niu et al.)"),
    ]
    return (*single, *hybrid, *generative, *digital, *ideal, *fixed)


def channels() -> tuple[Listed, ...]:
    """An example of every channel and wrapper, with one line each."""
    return tuple(
        Listed(family.example, f"{family.about} ({family.pattern})")
        for family in (*CHANNELS.values(), *WRAPPERS.values())
    )


def imported(spec: str, what: str) -> Any:
    """The object that `package.module:NAME` stands for.

    Args:
        spec: The name.
        what: "scheme", "channel", "codec" or "metric"; the object must have its members.

    Raises:
        UnknownName: No such module or attribute, or importing the module fails.
        InvalidOption: The object is a class, or lacks a member.
    """
    module_name, attribute = spec.split(":")
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever a foreign module raises while it is imported
        raise UnknownName(f"{what} {spec!r}: importing {module_name} failed ({_first_line(error)})") from None
    if attribute not in dir(module):
        near = _closest(attribute, [name for name in dir(module) if not name.startswith("_")])
        raise UnknownName(f"{what} {spec!r}: {module_name} has no {attribute}{near}")
    thing = getattr(module, attribute)
    if isinstance(thing, type):
        raise InvalidOption(f"{what} {spec!r} is a class; name an object made from it")
    missing = [member for member in MEMBERS[what] if member not in dir(thing)]
    if missing:
        raise InvalidOption(f"{what} {spec!r} is a {type(thing).__name__} without {', '.join(missing)}")
    return thing


def _built(what: str, families: Mapping[str, Family], text: str, *first: Any) -> Any:
    head, colon, rest = text.partition(":")
    if head not in families:
        raise UnknownName(_unknown(what, text, [family.example for family in families.values()]))
    family = families[head]
    parameters = ([rest] if head in UNSPLIT else rest.split(":")) if colon else []
    spelled = f"{what} {text!r}: it is spelled {family.pattern}, for instance {family.example}"
    if not family.least <= len(parameters) <= len(family.kinds):
        raise InvalidOption(spelled)
    try:
        values = [kind(parameter) for kind, parameter in zip(family.kinds, parameters, strict=False)]
    except ValueError:
        raise InvalidOption(spelled) from None
    member, owners = family.wraps
    for inner in first:
        if member and member not in dir(inner):
            raise InvalidOption(
                f"{what} {text!r} works on {owners}, not on {inner.name}; see {family.example}"
            )
    try:
        return family.build(*first, *values)
    except ChannelError as error:
        raise InvalidOption(f"{what} {text!r}: {error}") from None


def _perceptual() -> AdaptiveDeepJSCC:
    network = cast(AdaptiveDeepJSCC, zoo.load("deepjscc"))
    network.decoder = cast(DecoderRefinement, zoo.load("deepjscc-perceptual"))
    return network


def _bank(name: str, networks: Iterable[str]) -> Bank:
    return Bank(name, tuple(cast(DeepJSCC, zoo.load(network)) for network in networks))


def _separate(source: str, link: str, name: str) -> Separate | IdealSeparate:
    if link in ("ldpc", "ldpc:csit-average"):
        return Separate(codec(source), Adapted())
    if link in ("ideal", "ideal:csit-average"):
        return IdealSeparate(codec(source), IdealLink())
    fixed = re.fullmatch(r"ldpc:mcs(\d{1,4})", link)
    if fixed:
        return Separate(codec(source), FixedMcs(int(fixed[1])))
    raise UnknownName(
        f"no link called {link!r} in scheme {name!r}; "
        "there are ldpc:csit-average, ldpc:mcs<N>, ideal:csit-average"
    )


def _hybrid(name: str) -> Hybrid:
    given = name.split(":")[1:]
    spelled = (
        f"scheme {name!r}: it is spelled {_optional('hybrid', HYBRID_PARTS)}, "
        "for instance hybrid:avif:mcs9:deepjscc:0.5"
    )
    if len(given) > len(HYBRID_PARTS):
        raise InvalidOption(spelled)
    source, link, analog, *numbers = (
        part or usual for part, usual in zip((*given, *HYBRID[len(given) :]), HYBRID, strict=True)
    )
    try:
        share, power_db, noise = map(float, numbers)
    except ValueError:
        raise InvalidOption(spelled) from None
    if analog not in ANALOG_PARTS:
        raise UnknownName(
            f"no analog part called {analog!r} of {name!r}; there are {', '.join(ANALOG_PARTS)}"
        )
    digital = _separate(source, f"ldpc:{link}", name)
    if not isinstance(digital, Separate):
        raise InvalidOption(f"{spelled}; its link is csit-average or mcs<N>")
    target = "residual" if analog.endswith("-residual") else "picture"
    transmission = SCHEMES[analog.removesuffix("-residual")][1]()
    return Hybrid(digital, transmission, share, power_db, noise, target)


def _optional(head: str, parts: Sequence[str]) -> str:
    """How a name with trailing parts is spelled."""
    return head + "".join(f"[:<{part}>" for part in parts) + "]" * len(parts)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    return f"no {what} called {name!r}{_closest(name, known) or '; for instance ' + ', '.join(known[:4])}"


def _closest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else ""


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
