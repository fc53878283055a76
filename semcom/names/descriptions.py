"""Names of schemes in plain words, part by part, for readers who meet them for the first time."""

import re

from channels.mcs import MCS_TABLE
from semcom.names.latent import USUAL as LATENT_USUAL
from semcom.names.predictive import HEAD as PREDICTIVE
from semcom.names.predictive import TWO_SIDED, TWO_SIDED_USUAL, USUAL
from semcom.names.receivers import CACHE, HEADS, INTERPOLATE, MEMORY, METHODS, REFINE, RESTORE
from semcom.names.schemes import (
    ALIASES,
    CLIP_SCHEMES,
    DEEPSC,
    HYBRID,
    LATENT,
    LM_PRIOR,
    SCHEMES,
)

CODECS = {
    "jpeg": "JPEG",
    "jpeg2000": "JPEG 2000",
    "webp": "WebP",
    "avif": "AVIF",
    "hevc-intra": "HEVC intra",
    "learned": "a learned codec",
    "x264": "H.264",
    "x265": "H.265",
    "av1": "AV1",
    "vp9": "VP9",
    "layered": "AV1 or H.265 refined by a network at the receiver",
    "zlib": "DEFLATE",
    "utf8": "UTF-8 without compression",
    "huffman": "Huffman code of English bytes",
    "brotli": "Brotli",
    "zstd": "Zstandard with an English dictionary",
    "smollm2": "entropy coding by the language model SmolLM2",
    "tiny": "entropy coding by a small language model",
}
INTER = ("x264", "x265", "av1", "vp9")
FORMS = {"file": "in a whole file", "slow": "by a slow preset", "live": "with zero latency"}
CACHE_JUDGES = {
    "circuit": "a trained cortical circuit finds familiar",
    "nearest": "are near in their sparse codes",
}
PREDICTED = {
    "intra": "every frame by itself",
    "repeat": "predicted by the last ones",
    "linear": "predicted by linear extrapolation",
    "kalman": "predicted by a Kalman filter",
}
"""Predictors of latents in plain words."""
OUTSIDE = "a scheme of another package"


def described(name: str) -> str:
    """Say what a scheme is, from the parts of its name.

    Args:
        name: Canonical name of a scheme.

    Returns:
        A line in plain words, without full stop; "a scheme of another package" if the name does not follow
        the grammar of this package.

    Example:
        >>> described("avif+ldpc:mcs8")
        'AVIF, sent by LDPC and 16-QAM at code rate 0.37 whatever the channel'
    """
    name = ALIASES.get(name, name)
    if name.split(":")[0] == CACHE:
        return _cache(name)
    source, plus, last = name.rpartition("+")
    method, *settings = last.split(":")
    if plus and method.split("@")[0] in HEADS:
        return f"{_transmission(source)}; then {_receiver(method, settings)}"
    found = _transmission(name)
    if found == OUTSIDE and plus and _transmission(source) != OUTSIDE:
        return f"{_transmission(source)}; then {last}, a receiver of another package"
    return found


def _transmission(name: str) -> str:
    if name in SCHEMES or name in CLIP_SCHEMES:
        about = (SCHEMES if name in SCHEMES else CLIP_SCHEMES)[name][0].removeprefix("digital: ")
        return about[0].upper() + about[1:]
    source, plus, link = name.partition("+")
    parts = name.split(":")
    if name == DEEPSC:
        return "A transformer maps the tokens of a text to symbols and back (DeepSC)"
    if parts[0] == LM_PRIOR and not plus:
        return f"Uncoded tokens, decoded by a beam search with the language model {parts[1:2] and parts[1]}"
    if parts[0] == LATENT and not plus:
        about = _latents(parts[1:])
        return f"{about[0].upper()}{about[1:]}, as analog symbols"
    if parts[0] == "hybrid" and not plus and len(parts) <= 1 + len(HYBRID):
        return _hybrid([part or usual for part, usual in zip(parts[1:], HYBRID, strict=False)])
    sent = _link(link)
    return f"{_codec(source)}, {sent}" if plus and sent else OUTSIDE


def _cache(name: str) -> str:
    text, _, album = name.partition("@")
    _, *parts = text.split(":")
    judge = parts[0] if parts[0] in CACHE_JUDGES else "circuit"
    plain = text.removeprefix(f"{CACHE}:").removeprefix(f"{judge}:")
    told = f"an index for pictures of {album} that {CACHE_JUDGES[judge]}"
    return f"{_transmission(plain)}; {told}"


def _codec(name: str) -> str:
    stem, _, form = name.rpartition("-")
    head, *parts = name.split(":")
    if head == MEMORY and "@" in name:
        inner, _, folder = name.removeprefix(f"{MEMORY}:").partition("@")
        source, *settings = re.split(r":(?=[\d.]+(?::|$)|minilm$)", inner)
        near = next(
            (f", or of about the same words (energy up to {s})" for s in settings if s != "minilm"), ""
        )
        return f"{_codec(source)}, or an index of what both ends store ({folder}){near}"
    if head == PREDICTIVE:
        still, predictor, *_ = (*parts, *USUAL[len(parts) :])
        return f"key frames by {_codec(still)}, the others predicted ({predictor}) at the receiver"
    if head == TWO_SIDED:
        still, interpolator, *_ = (*parts, *TWO_SIDED_USUAL[len(parts) :])
        return f"key frames by {_codec(still)}, the others interpolated ({interpolator}) between them"
    if head == LATENT:
        return _latents(parts)
    if head == "lm" and parts:
        return f"entropy coding by the language model {':'.join(parts)}"
    if stem in CODECS and form in FORMS and (stem in INTER) == (form != "file"):
        return f"{CODECS[stem]} {FORMS[form]}"
    return CODECS.get(name, f"codec {name} of another package")


def _latents(parts: list[str]) -> str:
    predictor, gate, *_ = (*parts, *LATENT_USUAL[len(parts) :])
    how = PREDICTED.get(predictor, f"predicted by {predictor}")
    skipped = "" if gate == "0" else ", what is predicted well left out"
    return f"latents of 64x64 pixels, {how}{skipped}"


def _link(link: str) -> str:
    if link == "ideal:csit-average":
        return "over an error-free link at channel capacity: a bound, not a scheme"
    policy = re.fullmatch(r"ldpc:(csit-average|mcs\d+)", link)
    if policy:
        return f"sent by LDPC and {_policy(policy[1])}"
    unequal = re.fullmatch(r"uep:(\d+):(.+)", link)
    if unequal:
        rule, _, question = unequal[2].partition(":")
        how = {"equal": "all at one code rate"}.get(rule, "important sentences at lower code rates")
        how = f"sentences that answer {question!r} at lower code rates" if rule == "ehpc" else how
        return f"sent in packets of {unequal[1]} channel uses with a CRC each, {how}"
    packets = re.fullmatch(r"packets:(\d+):(csit-average|mcs\d+(?:-mcs\d+)*)", link)
    if packets:
        return f"sent in packets of {packets[1]} channel uses with a CRC each, {_policy(packets[2])}"
    return ""


def _policy(policy: str) -> str:
    if policy == "csit-average":
        return "QAM, both chosen by the average SNR"
    rows = [MCS_TABLE[int(row)] for row in re.findall(r"mcs(\d+)", policy) if int(row) < len(MCS_TABLE)]
    spelled = [f"{row.constellation.name.upper()} at code rate {row.code_rate:.2f}" for row in rows]
    return f"{', then '.join(spelled)} whatever the channel"


def _hybrid(parts: list[str]) -> str:
    source, link, analog, share, *_ = (*parts, *HYBRID[len(parts) :])
    first = f"{_codec(source)} over the digital link in {float(share):.0%} of the channel uses"
    code, residual, _ = analog.partition("-residual")
    of = "of what it leaves" if residual else "of the whole picture"
    knows = ", rate chosen by the average SNR" if link == "csit-average" else ""
    return f"{first}{knows}, {code} {of} as analog symbols in the rest"


def _receiver(method: str, settings: list[str]) -> str:
    if method.split("@")[0] == MEMORY:
        gated = ":".join((method, *settings)).startswith(f"{MEMORY}:always")
        when = "always" if gated else "where the energy says that it was sent"
        return f"a stored picture recalled {when}"
    if method == RESTORE:
        return "lost parts guessed by a language model, and marked"
    if method == INTERPOLATE:
        return "lost frames interpolated by optical flow between frames that arrived"
    if method == REFINE:
        knob = f", knob {settings[0]} (0: as received)" if settings and settings[0] else ""
        cells = ", kept consistent with the received JPEG bytes" if settings[1:] else ""
        return f"refined by one call of a network{knob}{cells}"
    about = re.sub(r"; \d+ steps?.*$", "", METHODS[method][0])
    steps = settings[0] if settings else str(METHODS[method][1])
    knob = f", knob {settings[1]} (0: as received, 1: a sample)" if len(settings) > 1 else ""
    samples = f", mean of {settings[2]} samples" if len(settings) > 2 else ""
    return f"refined by a diffusion prior in {steps} steps{knob}{samples} ({about})"
