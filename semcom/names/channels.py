"""Grammar of channel names: `family:parameters`, with wrappers before a slash ("interleaved/rayleigh:64")."""

from functools import partial
from typing import Any

from channels import AWGN, Channel
from channels.csi import GenieCSI, NoCSI, PilotAided
from channels.errors import ChannelError
from channels.fading import JakesFading, RayleighBlockFading, RicianBlockFading
from channels.impairments import CarrierOffset, ClippedAmplifier, Impaired, PhaseNoise
from channels.interleave import Interleaved
from channels.lossy import GilbertElliott, IndependentLoss, Lossy
from channels.ofdm import OFDM, Pilots
from channels.realisations import check_hashable
from channels.tdl import PROFILES, TDL
from channels.waveform import Numerology, Stage
from semcom.names.parser import IMPORTED, Family, Listed, built, family, imported

MEMBERS = ("name", "draw", "apply", "overhead", "data_uses")


def _dashed(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-"))


def _tdl(profile: Any, delay_spread_ns: float = 100.0, doppler_hz: float = 0.0) -> TDL:
    return TDL(profile, delay_spread_ns, doppler_hz)


STAGES = {
    f"tdl-{profile.lower()}": family(
        f"tdl-{profile.lower()}[:<delay spread in ns>[:<Doppler in Hz>]]",
        f"multipath of TR 38.901, profile {profile}",
        partial(_tdl, profile),
        float,
        float,
        example=f"tdl-{profile.lower()}:100:10",
    )
    for profile in PROFILES
} | {
    "clip": family(
        "clip:<PAPR in dB>", "amplifier that clips peaks", ClippedAmplifier, float, example="clip:6"
    ),
    "phase-noise": family(
        "phase-noise:<linewidth in Hz>",
        "oscillator phase noise",
        PhaseNoise,
        float,
        example="phase-noise:100",
    ),
    "offset": family(
        "offset:<share of the subcarrier spacing>",
        "carrier offset",
        CarrierOffset,
        float,
        example="offset:0.02",
    ),
}
TRACKING = {
    "tracking": family(
        "tracking:<symbols or subcarriers between two pilots>",
        "pilots that track the phase; 0 for none",
        int,
        int,
        example="tracking:8",
    )
}
GRID = {
    "grid": family(
        "grid:<FFT size>:<subcarriers>:<prefix>:<spacing in Hz>",
        "OFDM symbols",
        Numerology,
        int,
        int,
        int,
        float,
        example="grid:64:64:16:60000",
    ),
    "pilots": family(
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


def _tracking(parts: list[Any]) -> int | None:
    return next((part for part in parts if isinstance(part, int)), None)


def _impaired(channel: Any, text: str) -> Impaired:
    parts = [built("stage", STAGES | TRACKING, part) for part in text.split("+")]
    return Impaired(channel, tuple(part for part in parts if isinstance(part, Stage)), _tracking(parts))


def _ofdm(text: str = "") -> OFDM:
    parts = [built("part of OFDM", STAGES | GRID | TRACKING, part) for part in text.split("+") if part]
    grid = next((part for part in parts if isinstance(part, Numerology)), Numerology())
    pilots = next((part for part in parts if isinstance(part, Pilots)), Pilots())
    stages = tuple(part for part in parts if isinstance(part, Stage))
    return OFDM(stages, grid, pilots, _tracking(parts))


CHANNELS = {
    "awgn": family("awgn", "additive white Gaussian noise", AWGN, example="awgn"),
    "rayleigh": family(
        "rayleigh:<block length>",
        "Rayleigh fading, constant over blocks of channel uses",
        RayleighBlockFading,
        int,
        example="rayleigh:64",
    ),
    "rician": family(
        "rician:<block length>:<K in dB>",
        "Rician fading in blocks; K is line of sight over scattered power",
        RicianBlockFading,
        int,
        float,
        example="rician:64:6",
    ),
    "jakes": family(
        "jakes:<Doppler times symbol time>",
        "Rayleigh fading correlated in time, Jakes' Doppler spectrum",
        JakesFading,
        float,
        example="jakes:0.01",
    ),
    "ofdm": family(
        "ofdm[:<stage>+<stage>...]",
        "OFDM with prefix, pilots and estimation, over multipath and impairments",
        _ofdm,
        str,
        example="ofdm:tdl-a:100:10",
        whole=True,
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
    "interleaved": family(
        "interleaved/<channel>",
        "interleaving of all data symbols over the fades of the item",
        Interleaved,
        example="interleaved/rayleigh:64",
    ),
    "lossy": Family(
        LOSSY,
        "packet loss, independent or in bursts (Gilbert-Elliott)",
        _lossy,
        (int, float, float, float, float),
        2,
        "lossy:256:0.1/awgn",
    ),
    "pilots": family(
        "pilots:<spacing>[:linear]/<channel>",
        "channel estimation from pilots on a flat channel; pilots are counted",
        PilotAided,
        int,
        str,
        example="pilots:15/rayleigh:64",
        wraps=FLAT,
    ),
    "genie": family(
        "genie/<channel with pilots>",
        "pilots are sent and counted, but the receiver is given the true gain",
        GenieCSI,
        example="genie/ofdm:tdl-a:100:10",
        wraps=("apply_genie", "channels with pilots"),
    ),
    "no-csi": family(
        "no-csi/<channel>",
        "receiver without channel knowledge: it assumes h = 1",
        NoCSI,
        example="no-csi/rician:64:6",
    ),
    "impaired": family(
        "impaired:<stage>+<stage>.../<channel>",
        "single carrier with impairments of the radio; the phase is tracked by pilots, which are counted",
        _impaired,
        str,
        example="impaired:clip:3+phase-noise:100/awgn",
        whole=True,
        wraps=FLAT,
    ),
}


def channel(spec: str) -> Channel:
    """Make a channel from its name; `channel(c.name)` equals c for every channel of this package.

    Args:
        spec: Name such as "awgn" or "interleaved/rayleigh:64", or `package.module:NAME`.

    Returns:
        The channel.

    Raises:
        UnknownName: There is no such channel, wrapper, module or attribute.
        InvalidOption: A parameter is missing, not a number, or out of range.
        ChannelError: The imported channel is not hashable.
    """
    if IMPORTED.fullmatch(spec) and spec.split(":")[0] not in CHANNELS:
        thing = imported(spec, "channel", MEMBERS)
        check_hashable(thing)
        return thing
    wrapper, slash, inner = spec.partition("/")
    return (
        built("wrapper of channels", WRAPPERS, wrapper, channel(inner))
        if slash
        else built("channel", CHANNELS, spec)
    )


def channels() -> tuple[Listed, ...]:
    """List all channels and wrappers.

    Returns:
        One working example of each, with a description of one line.
    """
    return tuple(
        Listed(family.example, f"{family.about} ({family.pattern})")
        for family in (*CHANNELS.values(), *WRAPPERS.values())
    )
