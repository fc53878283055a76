"""Grammar of schemes: `source+link[+receiver]` ("avif+ldpc:csit-average+ddrm:8"), joint codes, hybrids.

The transmitter's channel knowledge follows a colon. Joint source-channel codes have no link. Without a
receiver the decoded item is shown as it is. Parts of a hybrid follow colons
("hybrid:avif:mcs9:softcast:0.4"). A semantic cache names the folder that both ends hold
("cache:circuit:avif+ldpc@album").
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from channels.link import IdealLink
from channels.mcs import MCS_TABLE
from semcom import zoo
from semcom.analog import Analog
from semcom.analog_clips import FrameByFrameAnalog
from semcom.circuit.cache import FamiliarityCache
from semcom.circuit.familiarity import JUDGES
from semcom.codecs.av import InterCodec
from semcom.codecs.clip import FrameByFrame
from semcom.codecs.groups import GroupPackets
from semcom.codecs.listed import INTER_CODECS
from semcom.codecs.packets import FramePackets, TextPackets
from semcom.envelope import Envelope, GenieEnvelope, shipped_choices
from semcom.errors import InvalidOption, UnknownName
from semcom.hybrid import Hybrid
from semcom.jscc.adaptive import AdaptiveDeepJSCC
from semcom.jscc.bank import Bank
from semcom.jscc.bourtsoulatze2019 import Bourtsoulatze2019
from semcom.jscc.refinement import DecoderRefinement
from semcom.jscc.softcast import SoftCast
from semcom.jscc.softcast_clips import ClipSoftCast
from semcom.memory.codebooks import pictures_of
from semcom.memory.codec import MemoryCodec
from semcom.modalities import IMAGE, TEXT, VIDEO, Modality
from semcom.names.codecs import BY_MODALITY, STILL, codec
from semcom.names.latent import analog_latents
from semcom.names.parser import IMPORTED, Listed, imported, optional, unknown
from semcom.names.receivers import (
    CACHE,
    HEADS,
    INTERPOLATE,
    MEMORY,
    METHODS,
    NEEDS,
    REFINE,
    RESTORE,
    clip_receiver,
    memory_named,
    receiver,
    text_receiver,
)
from semcom.packetised import PacketCodec, Packetised
from semcom.receivers import Direct
from semcom.receivers.generative import Generative
from semcom.receivers.memory import MemoryReceiver
from semcom.receivers.refiner import Refiner
from semcom.reduced import Reduced, ReducedAtLowRate
from semcom.representation.link import HEAD as LATENT
from semcom.representation.link import LatentCodec, LatentPackets
from semcom.scheme import Receiver, Scheme
from semcom.separate import Adapted, FixedMcs, GenieSeparate, Separate
from semcom.text.coding import LanguageModelCodec, weights_digest
from semcom.text.deepsc import DeepSC
from semcom.text.importance import ASKED, Equal, Importance, importance_named
from semcom.text.packets import RunPackets
from semcom.text.prior import LanguagePrior
from semcom.text.protection import Unequal
from semcom.text.token_jscc import TokenJSCC
from semcom.transmission import Genie, Transmission

MEMBERS = ("name", "transmission", "receiver", "modality", "transmit")
LINKS = ("ldpc", "ideal", "packets", "uep")
DEEPJSCC_2019 = ("deepjscc-2019-12", "deepjscc-2019-48", "deepjscc-2019-192")  # one network per rho
DEEPSC = "deepsc"
"""Name of joint source-channel coding of texts, of its network too."""
LM_PRIOR = "lm-prior"
"""First part of the name of uncoded tokens with a language model at the receiver."""
ALIASES = {"envelope": "envelope:csit-average"}
DEFAULT_SCHEMES = {"image": "avif+ldpc", "video": "x265+ldpc", "text": "zlib+ldpc"}
"""Scheme that is used if the user names none, by modality."""

OF_ONE_MODALITY = {DEEPSC: "text", LM_PRIOR: "text", LATENT: "video", "softcast-2d": "video"}
"""Modality of the items that a scheme without codec sends, by the first part of its name."""

# analog parts of a hybrid
ANALOG_PARTS = ("deepjscc", "deepjscc-perceptual", "softcast", "softcast-residual")
HYBRID_PARTS = ("codec", "link", "analog part", "share", "power in dB", "noise")
HYBRID = ("avif", "csit-average", "softcast-residual", "0.5", "0", "0")  # default parts of a hybrid

STANDARDS = {"x264": "H.264 (x264)", "x265": "H.265 (x265)", "av1": "AV1 (SVT-AV1)", "vp9": "VP9 (libvpx)"}
"""Standard and encoder of video codecs with motion compensation, by name."""

SPEEDS = {"medium": "medium preset", "slow": "slow preset", "live": "zero latency"}
"""Speeds of video encoders in plain words."""

SCHEMES: dict[str, tuple[str, Callable[[str], Transmission[Any] | Genie[Any]]]] = {
    "envelope:csit-average": (
        "digital: best codec, modulation and code rate per SNR and rho, chosen on validation photographs",
        lambda device: Envelope(
            tuple(map(codec, sorted({choice.codec for choice in shipped_choices()}))), shipped_choices()
        ),
    ),
    "genie-envelope": (
        "digital envelope that chooses per image after reception: an upper bound",
        lambda device: GenieEnvelope((codec("hevc-intra"),)),
    ),
    "softcast": (
        "SoftCast: scaled DCT coefficients as symbols, LMMSE estimation at the receiver",
        lambda device: SoftCast(),
    ),
    "softcast:csit-average": (
        "SoftCast whose power allocation knows the average SNR",
        lambda device: SoftCast(csit="average"),
    ),
    "deepjscc": (
        "DeepJSCC: one network for all SNRs, bandwidth ratios and image sizes",
        lambda device: _deepjscc(device),
    ),
    "deepjscc:csit-average": (
        "DeepJSCC whose encoder knows the average SNR",
        lambda device: replace(_deepjscc(device), csit="average"),
    ),
    "deepjscc-perceptual": (
        "DeepJSCC whose decoder was trained on LPIPS; the encoder is that of deepjscc",
        lambda device: Analog(_perceptual(device), device=device),
    ),
    "deepjscc-range": (
        "DeepJSCC of the means of 2x2 pixels, for a generative receiver (Yilmaz et al.)",
        lambda device: Reduced(_deepjscc(device)),
    ),
    "deepjscc-range4": (
        "DeepJSCC of the means of 4x4 pixels, for a generative receiver",
        lambda device: Reduced(_deepjscc(device), 4),
    ),
    "deepjscc-range-by-rho": (
        "DeepJSCC of the means of 4x4 pixels up to rho = 1/384, of all pixels above",
        lambda device: ReducedAtLowRate(_deepjscc(device)),
    ),
    "deepjscc-2019": (
        "DeepJSCC as published in 2019 (Bourtsoulatze et al.), one network per rho",
        lambda device: Analog(_bank("deepjscc-2019", DEEPJSCC_2019, device), device=device),
    ),
}
"""Image transmissions with a name of their own, as functions of the device."""

CLIP_SCHEMES: dict[str, tuple[str, Callable[[str], Transmission[Any]]]] = {
    "softcast": (
        "SoftCast of groups of frames: their cosine transform over time and space as symbols",
        lambda device: ClipSoftCast(),
    ),
    "softcast:csit-average": (
        "SoftCast of groups of frames whose power allocation knows the average SNR",
        lambda device: ClipSoftCast(SoftCast(csit="average")),
    ),
    "softcast-2d": (
        "SoftCast of every frame of a clip by itself",
        lambda device: FrameByFrameAnalog(SoftCast(), "softcast-2d"),
    ),
    "deepjscc": (
        "DeepJSCC of every frame of a clip by itself",
        lambda device: FrameByFrameAnalog(_deepjscc(device)),
    ),
    "deepjscc:csit-average": (
        "DeepJSCC of every frame by itself, whose encoder knows the average SNR",
        lambda device: FrameByFrameAnalog(replace(_deepjscc(device), csit="average")),
    ),
    "deepjscc-perceptual": (
        "DeepJSCC of every frame by itself, whose decoder was trained on LPIPS",
        lambda device: FrameByFrameAnalog(Analog(_perceptual(device), device=device)),
    ),
}
"""Transmissions of clips with a name of their own, as functions of the device."""


def scheme(name: str, modality: Modality[Any] = IMAGE, device: str = "cpu") -> Scheme[Any]:
    """Make a scheme from its name; its own name is canonical ("avif+ldpc" becomes "avif+ldpc:csit-average").

    Args:
        name: Name, or `package.module:NAME`.
        modality: Modality of the items that the scheme sends.
        device: PyTorch device of its networks, such as "cpu" or "cuda".

    Returns:
        The scheme.

    Raises:
        UnknownName: The modality has no such scheme, or there is no such codec, link, module or attribute.
        InvalidOption: A parameter is out of range, or an imported object is not a scheme or has the name of a
            scheme of this package.
        MissingWeights: The network of a learned scheme is absent or damaged.
    """
    if name.split(":")[0] == CACHE:
        cache = _cache(name, modality, device)
        return Scheme(cache.name, cache, Direct(), modality)
    if IMPORTED.fullmatch(name) and name.split(":")[0] not in ("hybrid", LATENT):
        return _checked(imported(name, "scheme", MEMBERS), name)
    if name.startswith(f"{MEMORY}:"):
        transmission = _with_memory(name, modality, device)
        return Scheme(transmission.name, transmission, Direct(), modality)
    spelled, at, prior = name.partition("@")  # a prior may be a path, with any character in it
    source, plus, last = spelled.rpartition("+")
    head = last.split(":")[0]
    if plus and IMPORTED.fullmatch(last) and head not in (*LINKS, *HEADS):
        if at:
            raise InvalidOption(f"scheme {name!r}: receiver {last} takes no prior; leave @{prior} out")
        return refined(scheme(source, modality, device), receiver_named(last))
    if plus and head in HEADS:
        spelled = f"{last}{at}{prior}"
        makers = {VIDEO.name: clip_receiver, TEXT.name: text_receiver}
        make = makers.get(modality.name)
        added = make(spelled, device) if make else receiver(spelled, device=device)
        return refined(scheme(source, modality, device), added)
    if at:
        raise InvalidOption(f"scheme {name!r} has no receiver that takes a prior; leave @{prior} out")
    transmission = _transmission(ALIASES.get(name, name), modality, device)
    return Scheme(transmission.name, transmission, Direct(), modality)


def receiver_named(spec: str) -> Receiver[Any]:
    """The receiver that `package.module:NAME` stands for.

    Args:
        spec: The name.

    Returns:
        The receiver.

    Raises:
        UnknownName: No such module or attribute.
        InvalidOption: The imported object is not a receiver.
    """
    return imported(spec, "receiver", ("name", "__call__"))


def refined(plain: Scheme[Any], receiver: Receiver[Any]) -> Scheme[Any]:
    """Give a receiver to a scheme that shows what was decoded; the transmission stays the same.

    Args:
        plain: A scheme with the receiver `Direct`.
        receiver: The new receiver.

    Returns:
        A scheme named "transmission+receiver".

    Raises:
        InvalidOption: The scheme has another receiver already; two cannot be chained, since the second would
            need the statistics of the errors that the first one makes. Or the scheme sends clips or texts,
            and the receiver has a prior of images.
    """
    if not isinstance(plain.receiver, Direct):
        raise InvalidOption(
            f"scheme {plain.name} has a receiver, {plain.receiver.name}; {receiver.name} cannot follow it, "
            "name one"
        )
    if isinstance(receiver, Generative | Refiner | MemoryReceiver) and plain.modality.name != IMAGE.name:
        raise InvalidOption(
            f"scheme {plain.name} sends {plain.modality.name} items; {receiver.name} refines image items only"
        )
    return replace(plain, name=f"{plain.transmission.name}+{receiver.name}", receiver=receiver)


def plain(refined: Scheme[Any]) -> Scheme[Any]:
    """Remove the receiver of a scheme, so that the decoded item is shown as it is.

    Args:
        refined: Any scheme.

    Returns:
        A scheme with the name of the transmission.
    """
    return replace(refined, name=refined.transmission.name, receiver=Direct())


def with_codec(name: str, codec: str | None) -> str:
    """Replace the codec in the name of a scheme.

    Args:
        name: Name of a scheme, such as "avif+ldpc".
        codec: Name of the new codec; None keeps the scheme unchanged.

    Returns:
        The new name.

    Raises:
        InvalidOption: The scheme has no codec, or the name of the new one is empty.
    """
    if codec is None:
        return name
    if not codec:
        raise InvalidOption("--codec '': an empty name; leave the option out, or name one like avif")
    if name.startswith(f"{MEMORY}:"):
        inner, at, rest = name.removeprefix(f"{MEMORY}:").partition("@")
        folder, plus, link = (rest if at else inner).rpartition("+")
        return f"{MEMORY}:{codec}{at}{folder if at else ''}{plus}{link}"
    cache = re.match(rf"{CACHE}:((?:{'|'.join(JUDGES)}):)?", name)
    _, _, link = name.partition("+")
    if not link.startswith(("ldpc", "ideal")):
        raise InvalidOption(
            f"codec {codec}: scheme {name!r} has no codec to replace; take one like avif+ldpc"
        )
    return f"{cache[0] if cache else ''}{codec}+{link}"


def schemes() -> tuple[Listed, ...]:
    """List schemes by name; more names follow from the patterns of this module.

    Returns:
        Names that work as they are, with a description of one line each.
    """
    digital = [
        Listed(
            f"{name}+ldpc:csit-average", f"{name}, LDPC and QAM, modulation and code rate by the average SNR"
        )
        for name in STILL
    ]
    fixed = [
        Listed(
            f"avif+ldpc:mcs{row.index}",
            f"avif, LDPC, {row.constellation.name}, code rate {row.code_rate:.2f}",
        )
        for row in MCS_TABLE
    ]
    ideal = [
        Listed("avif+ideal:csit-average", "AVIF over an error-free link at channel capacity: an upper bound")
    ]
    single = [Listed(name, about) for name, (about, _) in SCHEMES.items()]
    generative = [
        *(
            Listed(f"{NEEDS.get(name, 'deepjscc')}+{name}:{usual}", about)
            for name, (about, usual, _) in METHODS.items()
        ),
        Listed(
            "deepjscc-range+ddnm:100",
            "block means by DeepJSCC, refined by DDNM (the system of Yilmaz et al.)",
        ),
        Listed("avif+ldpc:csit-average+ddrm:8", "AVIF over the digital link, refined by DDRM"),
        Listed(
            f"envelope:csit-average+{REFINE}", "the envelope, its picture refined by one call of a network"
        ),
        Listed(f"avif+ldpc:csit-average+{REFINE}", "AVIF over the digital link, refined in one call"),
        Listed("softcast+ddrm:8", "SoftCast, its symbols as the observation of DDRM"),
    ]
    hybrid = [
        Listed(
            ":".join(("hybrid", *HYBRID[:3])),
            "AVIF for a coarse image, SoftCast for its residual, half of the uses each; short: hybrid",
        ),
        Listed(
            "hybrid:avif:mcs9:softcast-residual:0.6",
            "AVIF in 60 % of the channel uses, SoftCast of the residual in the rest",
        ),
        Listed(
            "hybrid:avif:mcs9:deepjscc",
            "AVIF and DeepJSCC of the whole image in half of the uses each, fused",
        ),
        Listed(
            "hybrid:avif:mcs9:deepjscc:0.5:0:0.1",
            "AVIF, and DeepJSCC of the image with transmit noise (Niu et al.), fused",
        ),
    ]
    clips = [
        *(
            Listed(
                f"{inter.name}+ldpc:csit-average",
                f"clips: {STANDARDS[inter.library]}, {SPEEDS[inter.speed]}, LDPC and QAM, "
                "rate by the average SNR",
            )
            for inter in INTER_CODECS
        ),
        Listed(
            "av1+packets:4096:csit-average", "clips: AV1 in groups of pictures, in packets with a CRC each"
        ),
        Listed(
            "x265+packets:4096:csit-average", "clips: H.265 in groups of pictures, in packets with a CRC each"
        ),
        Listed(
            "predictive:learned:block:auto+ldpc:csit-average",
            "clips: key frames, the others predicted at the receiver",
        ),
        Listed(
            "two-sided:learned:block:auto+ldpc:csit-average",
            "clips: key frames, the others interpolated between them at the receiver",
        ),
        Listed("avif+packets:4096:csit-average", "clips: AVIF frame by frame, in packets with a CRC each"),
        Listed(
            "latent:linear+ldpc:csit-average", "clips: latents of 64x64 pixels, extrapolated at both ends"
        ),
        Listed(
            "latent:kalman:auto+packets:512:csit-average",
            "clips: latents in packets, lost frames predicted by a Kalman filter",
        ),
        Listed("latent:kalman", "clips: latents as analog symbols, Kalman filter at the receiver"),
        Listed(
            "layered+ldpc:csit-average",
            "clips: AV1 or H.265 below, interpolated and refined frames on top, rate by the average SNR",
        ),
        Listed("softcast-2d", f"clips: {CLIP_SCHEMES['softcast-2d'][0]}; softcast: of groups of frames"),
        Listed(f"x265+ldpc:csit-average+{REFINE}", "clips: H.265, every frame refined by one network call"),
        Listed(f"av1+ldpc:csit-average+{REFINE}", "clips: AV1, every frame refined by one network call"),
        Listed(
            f"x265+packets:4096:csit-average+{INTERPOLATE}",
            "clips: H.265 in packets, lost frames interpolated by optical flow",
        ),
    ]
    texts = [
        Listed("zlib+ldpc:csit-average", "texts: DEFLATE, LDPC and QAM, rate by the average SNR"),
        Listed("utf8+ldpc:csit-average", "texts: UTF-8 as it is, LDPC and QAM, rate by the average SNR"),
        Listed("huffman+ldpc:csit-average", "texts: Huffman code of English bytes, rate by the average SNR"),
        Listed("brotli+ldpc:csit-average", "texts: Brotli, LDPC and QAM, rate by the average SNR"),
        Listed("zstd+ldpc:csit-average", "texts: Zstandard with a dictionary, rate by the average SNR"),
        Listed("smollm2+ldpc:csit-average", "texts: entropy coding by SmolLM2, rate by the average SNR"),
        Listed("tiny+ldpc:csit-average", "texts: entropy coding by a language model of 0.3 M parameters"),
        Listed("zlib+packets:512:csit-average", "texts: DEFLATE of runs of characters, in packets"),
        Listed("smollm2+packets:512:csit-average", "texts: entropy coding by SmolLM2, in packets"),
        Listed("smollm2+uep:256:rules", "texts: SmolLM2, important sentences at lower code rates"),
        Listed("smollm2+uep:256:equal", "texts: SmolLM2, all sentences at one code rate"),
        Listed(f"smollm2+uep:256:rules+{RESTORE}", "texts: the same, with marked guesses for what was lost"),
        Listed(DEEPSC, "texts: a transformer maps tokens to symbols and back, as DeepSC does"),
        Listed("lm-prior:smollm2", "texts: uncoded tokens, decoded with SmolLM2 as prior"),
    ]
    return (*single, *hybrid, *generative, *digital, *ideal, *fixed, *clips, *texts)


def _transmission(name: str, modality: Modality[Any], device: str) -> Transmission[Any] | Genie[Any]:
    source, plus, link = name.partition("+")
    pictures_only = name in SCHEMES or name.split(":")[0] == "hybrid"
    if modality.name == TEXT.name and name.split(":")[0] == LM_PRIOR:
        return _language_prior(name, device)
    if modality.name == TEXT.name and name == DEEPSC:
        return DeepSC(zoo.load_as(DEEPSC, TokenJSCC, device), device=device)
    if modality.name == VIDEO.name and name in CLIP_SCHEMES:
        return CLIP_SCHEMES[name][1](device)
    if modality.name == VIDEO.name and not plus and name.split(":")[0] == LATENT:
        return analog_latents(name, device)
    own = OF_ONE_MODALITY.get(name.split(":")[0])
    if own and not plus and own != modality.name:
        raise UnknownName(
            f"scheme {name!r} sends {own} items, not {modality.name}; for those there is for instance "
            f"{DEFAULT_SCHEMES.get(modality.name, 'one of your own')}"
        )
    if pictures_only and modality.name != IMAGE.name:
        analog = CLIP_SCHEMES if modality.name == VIDEO.name else ()
        digital = (f"{codec}+ldpc" for codec in BY_MODALITY.get(modality.name, {}))
        known = ", ".join((*analog, *digital))
        raise UnknownName(
            f"scheme {name!r} sends image items, not {modality.name}; for those there are {known}"
        )
    if name in SCHEMES:
        return SCHEMES[name][1](device)
    if pictures_only:
        return _hybrid(name, device)
    if plus:
        return _separate(source, link, name, modality, device)
    if name in BY_MODALITY.get(modality.name, {}):
        raise UnknownName(f"scheme {name!r} is a codec without a link; did you mean {name}+ldpc?")
    raise UnknownName(unknown("scheme", name, [listed.name for listed in schemes()]))


def _checked(scheme: Scheme[Any], spec: str) -> Scheme[Any]:
    """A scheme of the user's, unless it goes by the name of one of ours."""
    known = {listed.name for listed in schemes()} | set(SCHEMES) | set(CLIP_SCHEMES)
    codecs = tuple(f"{codec}+" for codecs in BY_MODALITY.values() for codec in codecs)
    if scheme.name in known or scheme.name.startswith((*codecs, "hybrid:", f"{LATENT}:", f"{LM_PRIOR}:")):
        raise InvalidOption(
            f"scheme {spec!r} calls itself {scheme.name}, which is a scheme of this package; "
            "give it a name of its own"
        )
    return scheme


def _deepjscc(device: str) -> Analog:
    return Analog(zoo.load_as("deepjscc", AdaptiveDeepJSCC, device), device=device)


def _perceptual(device: str) -> AdaptiveDeepJSCC:
    network = zoo.load_as("deepjscc", AdaptiveDeepJSCC, device)
    network.decoder = zoo.load_as("deepjscc-perceptual", DecoderRefinement, device)
    return network


def _bank(name: str, networks: tuple[str, ...], device: str) -> Bank:
    return Bank(name, tuple(zoo.load_as(network, Bourtsoulatze2019, device) for network in networks))


def _separate(
    source: str, link: str, name: str, modality: Modality[Any], device: str = "cpu"
) -> Separate[Any] | GenieSeparate[Any] | Packetised[Any] | Unequal:
    if link in ("ldpc", "ldpc:csit-average"):
        return Separate(codec(source, modality.name, device), Adapted())
    if link in ("ideal", "ideal:csit-average"):
        return GenieSeparate(codec(source, modality.name, device), IdealLink())
    fixed = re.fullmatch(r"ldpc:mcs(\d{1,4})", link)
    if fixed:
        return Separate(codec(source, modality.name, device), FixedMcs(int(fixed[1])))
    packets = re.fullmatch(r"packets:(\d{1,9})(?::(csit-average|mcs\d{1,4}(?:-mcs\d{1,4})*))?", link)
    if packets:
        in_packets = _in_packets(source, name, modality, device)
        rows = tuple(map(int, re.findall(r"mcs(\d+)", packets[2] or "")))
        return Packetised(in_packets, int(packets[1]), rows)
    unequal = re.fullmatch(r"uep:(\d{1,9})(?::(.+))?", link)
    if unequal and modality.name == TEXT.name:
        return _unequal(source, int(unequal[1]), unequal[2] or "rules", device)
    raise UnknownName(
        f"no link called {link!r} in scheme {name!r}; there are ldpc:csit-average, ldpc:mcs<N>, "
        "ideal:csit-average, and for clips and texts packets:<uses>[:csit-average | :mcs<N>[-mcs<M>...]], "
        "for texts uep:<uses>[:<importance>]"
    )


def _with_memory(
    name: str, modality: Modality[Any], device: str
) -> Separate[Any] | GenieSeparate[Any] | Packetised[Any]:
    """A digital scheme whose codec has a memory: `memory:<codec>@<folder>+<link>`."""
    source, _, link = name.rpartition("+")
    if modality.name not in BY_MODALITY:
        raise UnknownName(f"scheme {name!r} sends pictures, clips or texts, not {modality.name} items")
    if "@" not in source or link.split(":")[0] not in ("ldpc", "ideal", "packets"):
        usual = DEFAULT_SCHEMES[modality.name] if modality.name == TEXT.name else "avif+ldpc"
        inner, _, usual = usual.partition("+")
        raise InvalidOption(
            f"scheme {name!r}: it is spelled {MEMORY}:<codec>@<folder>+<link>, for instance "
            f"{MEMORY}:{inner}@folder+{usual}, or {MEMORY}:{inner}+{usual} with --memory folder"
        )
    made = _separate(source, link, name, modality, device)
    assert not isinstance(made, Unequal)
    return made


def _cache(name: str, modality: Modality[Any], device: str) -> FamiliarityCache:
    """The cache of a name; its folder may have any character in it but #, which begins a digest."""
    text, _, folder = name.partition("@")
    found = re.fullmatch(rf"{CACHE}:(?:({'|'.join(JUDGES)}):)?([^+]+)\+(ldpc(?::.*)?)", text)
    if modality.name != IMAGE.name:
        raise InvalidOption(f"scheme {name!r} sends image items, not {modality.name}")
    if not found or not folder:
        raise InvalidOption(
            f"scheme {name!r}: it is spelled {CACHE}[:{'|'.join(JUDGES)}]:codec+ldpc[:link]@folder, "
            f"for instance {CACHE}:circuit:avif+ldpc@album, or without @album and with --memory album"
        )
    separate = _separate(found[2], found[3], text, modality, device)
    if not isinstance(separate, Separate):
        raise InvalidOption(f"scheme {name!r}: its link is ldpc:csit-average or ldpc:mcs<N>")
    return FamiliarityCache(
        separate, memory_named(folder, pictures_of), "nearest" if found[1] == "nearest" else "circuit"
    )


def _language_prior(name: str, device: str) -> LanguagePrior:
    """The prior of a name; its model may be a path, with any character but a colon in it."""
    model, *numbers = name.split(":")[1:] or ["smollm2"]
    try:
        alpha, beam = (*numbers, *("1", "8")[len(numbers) :])
        return LanguagePrior(
            model or "smollm2", float(alpha), int(beam), weights_digest(model or "smollm2"), device
        )
    except ValueError as error:
        if isinstance(error, InvalidOption):
            raise
        raise InvalidOption(
            f"scheme {name!r}: it is spelled {LM_PRIOR}[:model[:alpha[:beam]]], "
            f"for instance {LM_PRIOR}:smollm2:0.5:8"
        ) from None


def _unequal(source: str, uses: int, rule: str, device: str) -> Unequal:
    found = codec(source, TEXT.name, device)
    if rule == Equal().name:
        return Unequal(found, uses, Equal(), 1)
    own: Importance = (
        imported(rule, "importance", ("name", "__call__"))
        if IMPORTED.fullmatch(rule) and rule.split(":")[0] != ASKED
        else importance_named(rule)
    )
    return Unequal(found, uses, own)


def _in_packets(source: str, name: str, modality: Modality[Any], device: str) -> PacketCodec[Any]:
    """The codec of a name in packets: groups of pictures, frames, or runs of characters."""
    if modality.name == "text":
        found = codec(source, TEXT.name, device)
        return RunPackets(found) if isinstance(found, LanguageModelCodec) else TextPackets(found)
    if modality.name != "video":
        raise UnknownName(f"scheme {name!r}: only clips and texts are sent in packets; take {source}+ldpc")
    found = codec(source, "video", device)
    if isinstance(found, LatentCodec):
        return LatentPackets(found)
    if isinstance(found, FrameByFrame) and isinstance(found.codec, MemoryCodec):
        return FramePackets(found.codec)
    return GroupPackets(found) if isinstance(found, InterCodec) else FramePackets(codec(source))


def _hybrid(name: str, device: str) -> Hybrid:
    given = name.split(":")[1:]
    spelled = (
        f"scheme {name!r}: it is spelled {optional('hybrid', HYBRID_PARTS)}, "
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
    digital = _separate(source, f"ldpc:{link}", name, IMAGE)
    if not isinstance(digital, Separate):
        raise InvalidOption(f"{spelled}; its link is csit-average or mcs<N>")
    target = "residual" if analog.endswith("-residual") else "picture"
    transmission = cast(Transmission[Any], SCHEMES[analog.removesuffix("-residual")][1](device))
    return Hybrid(digital, transmission, share, power_db, noise, target)
