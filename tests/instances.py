"""One list per interface; every contract test runs over all of it."""

from types import SimpleNamespace

import torch
from guests.channel import HUM
from guests.metric import ROUGHNESS
from torch import Tensor

from channels import (
    AWGN,
    MCS_TABLE,
    OFDM,
    TDL,
    CarrierOffset,
    ClippedAmplifier,
    Constellation,
    DigitalLink,
    GenieCSI,
    GilbertElliott,
    Impaired,
    IndependentLoss,
    Interleaved,
    JakesFading,
    Lossy,
    NoCSI,
    Numerology,
    PhaseNoise,
    PilotAided,
    Pilots,
    RayleighBlockFading,
    RicianBlockFading,
)
from channels.fec import NRLDPC, ChannelCode, SmallBlock
from channels.link import IdealLink
from semcom import codecs, names, zoo
from semcom.analog import Analog
from semcom.analog_clips import FrameByFrameAnalog
from semcom.calibration import CosineGain
from semcom.circuit.cache import FamiliarityCache
from semcom.codecs import Avif, FileCodec, HevcIntra, Jpeg, Jpeg2000, Memo, StreamCodec, WebP, Zlib
from semcom.codecs.clip import FrameByFrame
from semcom.codecs.jpeg_cells import JpegCoefficients, Plane
from semcom.codecs.learned import LearnedCodec
from semcom.envelope import Choice, Envelope, GenieEnvelope
from semcom.foreign_priors import VariancePreserving
from semcom.hybrid import Hybrid
from semcom.jscc.adaptive import AdaptiveDeepJSCC
from semcom.jscc.bank import Bank
from semcom.jscc.bourtsoulatze2019 import Bourtsoulatze2019
from semcom.jscc.jscc import DeepJSCC
from semcom.jscc.softcast import SoftCast
from semcom.jscc.softcast_clips import ClipSoftCast
from semcom.memory.codebooks import PictureMemory
from semcom.memory.codec import MemoryCodec
from semcom.memory.gate import Gate
from semcom.memory.sentences import SentenceCodec, SentenceMemory
from semcom.metrics import metrics_of
from semcom.modalities import TEXT, VIDEO
from semcom.operators import (
    BlockMean,
    Composed,
    DecimatedBlur,
    Fade,
    Grey,
    Identity,
    IterativePinv,
    Linearised,
    Mask,
)
from semcom.receivers import Direct
from semcom.receivers.clips import ClipRefiner
from semcom.receivers.consistency import Consistency
from semcom.receivers.ddnm import DDNM
from semcom.receivers.ddrm import DDRM
from semcom.receivers.diffpir import DiffPIR
from semcom.receivers.dps import DPS
from semcom.receivers.generative import Generative, Method
from semcom.receivers.loop import EncoderInTheLoop
from semcom.receivers.memory import MemoryReceiver
from semcom.receivers.posterior import Posterior
from semcom.reduced import Reduced
from semcom.refiner import PictureRefiner
from semcom.samplers import FromNoise, Matched
from semcom.scheme import Scheme
from semcom.separate import Adapted, FixedMcs, GenieSeparate, Separate
from semcom.surroundings import library_defaults
from semcom.transmission import Transmission
from semcom.video.refinement import FrameRefiner

CHANNELS = (
    AWGN(),
    RayleighBlockFading(1),
    RayleighBlockFading(24),
    RicianBlockFading(16, 6.0),
    JakesFading(0.01),
    PilotAided(JakesFading(0.01), 9),
    PilotAided(RayleighBlockFading(10), 4, "linear"),
    GenieCSI(PilotAided(RicianBlockFading(16, 6.0), 7)),
    NoCSI(RayleighBlockFading(24)),
    Interleaved(RayleighBlockFading(24)),
    Interleaved(PilotAided(RayleighBlockFading(10), 9)),
    Impaired(RayleighBlockFading(24), (PhaseNoise(1000.0), CarrierOffset(0.001))),
    PilotAided(Impaired(AWGN(), (PhaseNoise(1000.0), CarrierOffset(0.001))), 7),
    GenieCSI(Impaired(AWGN(), (PhaseNoise(1000.0),))),
    Impaired(JakesFading(0.01), (PhaseNoise(3000.0),), tracking=4),
    Impaired(RayleighBlockFading(24), (CarrierOffset(0.01), TDL("D", 0.0, 300.0)), tracking=7),
    Impaired(AWGN(), (PhaseNoise(20.0),), tracking=0),
    Impaired(AWGN(), (ClippedAmplifier(3.0),)),
    Impaired(RayleighBlockFading(24), (ClippedAmplifier(1.0), PhaseNoise(1000.0))),
    PilotAided(Impaired(RayleighBlockFading(10), (ClippedAmplifier(3.0),)), 9),
    PilotAided(Impaired(JakesFading(0.01), (ClippedAmplifier(1.0),)), 4, "linear"),
    GenieCSI(PilotAided(Impaired(RayleighBlockFading(16), (ClippedAmplifier(2.0),)), 7)),
    Lossy(AWGN(), 64, IndependentLoss(0.1)),
    Lossy(RayleighBlockFading(24), 50, GilbertElliott(0.05, 0.4)),
    Lossy(PilotAided(RayleighBlockFading(10), 9), 32, GilbertElliott(0.1, 0.3, 0.02, 0.7)),
    Lossy(OFDM((TDL("A", 100.0, 100.0),)), 48, IndependentLoss(0.05)),
    Interleaved(Lossy(AWGN(), 64, IndependentLoss(0.2))),
    OFDM(),
    OFDM((TDL("A", 100.0, 100.0),)),
    OFDM((TDL("C", 300.0, 1000.0),), pilots=Pilots(7, (0,), 1)),
    OFDM((TDL("D", 300.0, 50.0),), pilots=Pilots(1, (0,), 4, "linear")),
    OFDM((TDL("E", 100.0),), Numerology(128, 72, 9, 15e3)),
    GenieCSI(OFDM((TDL("B", 300.0, 1000.0),))),
    OFDM((ClippedAmplifier(6.0), TDL("A", 100.0, 10.0), PhaseNoise(50.0), CarrierOffset(0.01))),
    OFDM((ClippedAmplifier(4.0), TDL("A", 100.0)), Numerology(64, 48, 16)),
    OFDM((ClippedAmplifier(5.0), TDL("C", 100.0, 300.0)), Numerology(128, 72, 9, 15e3)),
    OFDM((PhaseNoise(300.0), CarrierOffset(0.02)), Numerology(64, 48, 16), tracking=8),
    OFDM((TDL("B", 300.0), PhaseNoise(500.0)), tracking=0),
    GenieCSI(OFDM((TDL("E", 700.0, 2000.0), PhaseNoise(500.0)), Numerology(64, 36, 8))),
    HUM,
)

LOSS_PROCESSES = (IndependentLoss(0.1), GilbertElliott(0.05, 0.4), GilbertElliott(0.1, 0.3, 0.02, 0.7))

CONSTELLATIONS = tuple(Constellation(size) for size in (2, 4, 16, 64, 256))

# code, information bits, coded bits
CODES: tuple[tuple[ChannelCode, int, int], ...] = (
    (NRLDPC(), 12, 40),
    (NRLDPC(), 100, 2000),
    (NRLDPC(bits_per_symbol=6), 1000, 1200),
    (NRLDPC(bits_per_symbol=2, base_graph=1), 4224, 8448),
    (SmallBlock(), 3, 20),
    (SmallBlock(), 11, 48),
)

LINKS = (
    DigitalLink(MCS_TABLE[3]),
    DigitalLink(MCS_TABLE[6]),
    DigitalLink(MCS_TABLE[12], adapted=True),
    DigitalLink(MCS_TABLE[17], max_iterations=8),
    DigitalLink(MCS_TABLE[30], adapted=True),
)


@library_defaults()
def a_memory() -> PictureMemory:
    """Smooth random pictures of three sizes."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((24, 40), (24, 40), (48, 64), (8, 8))
    coarse = (torch.rand(1, 3, height // 4, width // 4, generator=generator) for height, width in sizes)
    smooth = (torch.nn.functional.interpolate(x, scale_factor=4, mode="bilinear") for x in coarse)
    return PictureMemory(tuple((255 * x).round() / 255 for x in smooth), "smooth")


A_MEMORY = a_memory()

LETTERS = SentenceMemory(
    (
        "It rained all day on the hills above the town.",
        "The ferry leaves at nine in the morning.",
        "Bread is sold at the corner of the street.",
        "The boat was painted blue before the summer.",
        "We write to each other on every Sunday of the year when nobody else has time.",
    ),
    "letters",
)
"""Sentences of which no two are alike."""

CODECS = (*codecs.CODECS, LearnedCodec(zoo.load("learned")), MemoryCodec(StreamCodec(Avif()), A_MEMORY))

CODECS_WITH_MEMORY = (
    (VIDEO, FrameByFrame(MemoryCodec(StreamCodec(Avif()), A_MEMORY))),
    (TEXT, SentenceCodec(Zlib(), LETTERS)),
    (TEXT, SentenceCodec(Zlib(), LETTERS, 0.3)),
)
"""Codecs of clips and texts with a memory at both ends, with their modality."""

METRICS = (
    *((modality, m) for modality in ("image", "video", "text") for m in metrics_of(modality)),
    ("waveform", ROUGHNESS),
)


class Shrinking(torch.nn.Module):
    """Tells half of what it is given, in the form of networks of diffusers."""

    def forward(self, x: Tensor, step: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=0.5 * x)


@library_defaults()
def an_adaptive_network() -> AdaptiveDeepJSCC:
    """Small, with corrections that are not zero."""
    torch.manual_seed(0)
    network = AdaptiveDeepJSCC((8, 16, 24), (1, 1), (1, 1, 1)).requires_grad_(False)
    falling = -0.8 * torch.arange(9.0)
    network.believe(falling[:, None] + falling + torch.tensor([4.0, 1.0, 0.0])[:, None, None])
    torch.nn.init.normal_(network.encoder.out.weight, std=0.03)
    torch.nn.init.normal_(network.decoder.out.weight, std=0.02)
    return network


@library_defaults()
def networks_of_2019() -> tuple[DeepJSCC, ...]:
    """Small, untrained; in single precision, whatever the default."""
    pair = (Bourtsoulatze2019(8, widths=(4, 6, 6, 6)), Bourtsoulatze2019(2, widths=(4, 6, 6, 6)))
    return Bourtsoulatze2019(2, (2, 2, 2, 1, 1), (4, 6, 6, 6)), Bank("bank", pair)


NETWORKS = (
    an_adaptive_network(),
    *networks_of_2019(),
    *(network for name in zoo.names() if isinstance(network := zoo.load(name), DeepJSCC)),
)

UNTRAINED = NETWORKS[:3]
"""Networks of random weights: what they show has nothing to do with the picture."""

JPEG, AVIF = Memo(StreamCodec(Jpeg())), Memo(StreamCodec(Avif()))

ALBUM = PictureMemory(
    (torch.rand(1, 3, 24, 40, generator=torch.Generator(device="cpu").manual_seed(0), dtype=torch.float32),),
    "noise",
)
"""None of the pictures of the tests: transmissions of a cache differ in length for those in its album."""

TRANSMISSIONS: tuple[Transmission, ...] = (
    Separate(JPEG, FixedMcs(3)),
    Separate(AVIF, FixedMcs(9)),
    Separate(FileCodec(WebP()), FixedMcs(17)),
    Separate(JPEG, Adapted()),
    Separate(Memo(FileCodec(Jpeg2000())), Adapted(0.1)),
    Separate(Memo(StreamCodec(HevcIntra())), FixedMcs(5)),
    GenieSeparate(AVIF, IdealLink()),
    Envelope((JPEG, AVIF), tuple(Choice(c.name, "1/2", 0.0, "jpeg", 2, 0, 30.0, 0.0) for c in CHANNELS)),
    GenieEnvelope((JPEG,)),
    SoftCast(),
    SoftCast(csit="average"),
    *(Analog(network) for network in NETWORKS),
    names.scheme("deepjscc-perceptual").transmission,
    Hybrid(Separate(JPEG, FixedMcs(3)), SoftCast(), 0.7, target="residual"),
    Hybrid(Separate(AVIF, FixedMcs(9)), SoftCast(), 0.5, -2.0, 0.1),
    Hybrid(Separate(JPEG, Adapted()), names.scheme("deepjscc").transmission, 0.4, 3.0),
    FamiliarityCache(Separate(JPEG, FixedMcs(3)), ALBUM, "nearest"),
)

CLIP_TRANSMISSIONS: tuple[Transmission, ...] = (
    ClipSoftCast(),
    ClipSoftCast(SoftCast(csit="average"), 3),
    FrameByFrameAnalog(SoftCast(), "softcast-2d"),
    names.scheme("deepjscc", VIDEO).transmission,
)
"""Analog transmissions of clips."""

LATENT_TRANSMISSIONS: tuple[Transmission, ...] = (
    names.scheme("latent:kalman", VIDEO).transmission,
    names.scheme("latent:repeat:0.3", VIDEO).transmission,
)
"""Analog transmissions of clips whose quality has a limit, however many channel uses there are."""


TEXT_SCHEMES = (
    "utf8+ldpc:mcs9",
    "zlib+ldpc:csit-average",
    "huffman+packets:128:mcs12",
    "zlib+packets:128:csit-average",
    "zlib+uep:128:rules",
    "zlib+uep:128:equal",
    "tiny+ldpc:mcs6",
    "tiny+packets:256:mcs12",
    "deepsc",
    "lm-prior:tiny",
    "lm-prior:tiny:0:1",
)
"""Names of schemes of texts; those with a network need `transformers`, and load it at the first use."""


@library_defaults()
def a_refiner_of_clips() -> ClipRefiner:
    """Small, of random weights."""
    torch.manual_seed(0)
    network = PictureRefiner((8, 16, 24), (1, 1, 1)).requires_grad_(False)
    torch.nn.init.normal_(network.out.weight, std=0.05)
    return ClipRefiner(FrameRefiner(network, b"toys"))


CLIP_REFINER = a_refiner_of_clips()

SCHEMES = tuple(Scheme(transmission.name, transmission, Direct()) for transmission in TRANSMISSIONS)

SHRINKING = VariancePreserving(Shrinking(), torch.linspace(0.999, 0.01, 50, dtype=torch.float32), "sample")
METHODS: tuple[Method, ...] = (
    DDNM(SHRINKING, FromNoise(10)),
    DDRM(SHRINKING, Matched(3)),
    DiffPIR(SHRINKING, Matched(3)),
    DPS(SHRINKING, Matched(2), 0.01),
    Posterior(SHRINKING, Matched(2)),
)
REFINED: tuple[tuple[Transmission, Generative | MemoryReceiver], ...] = (
    *((names.scheme("deepjscc").transmission, Generative(method)) for method in METHODS),
    (names.scheme("deepjscc").transmission, Generative(METHODS[1], 0.3, 2)),
    (Reduced(names.scheme("deepjscc").transmission), Generative(METHODS[0])),
    (names.scheme("deepjscc-range-by-rho").transmission, Generative(METHODS[2])),
    (Separate(JPEG, FixedMcs(3)), Generative(METHODS[1])),
    (Separate(JPEG, FixedMcs(3)), Generative(Consistency(SHRINKING, Matched(3)))),
    (GenieSeparate(JPEG, IdealLink()), Generative(Consistency(SHRINKING, Matched(2)), 0.5, 2)),
    (SoftCast(), Generative(METHODS[2])),
    (names.scheme("deepjscc").transmission, Generative(EncoderInTheLoop(SHRINKING, Matched(2)))),
    (Hybrid(Separate(JPEG, FixedMcs(3)), SoftCast(), noise=0.05), Generative(METHODS[1])),
    (TRANSMISSIONS[-1], Generative(METHODS[0])),
    (SoftCast(), MemoryReceiver(A_MEMORY)),
    (names.scheme("deepjscc").transmission, MemoryReceiver(A_MEMORY, Gate(0.2))),
    (Separate(JPEG, FixedMcs(3)), MemoryReceiver(A_MEMORY, None)),
)
GENERATIVE = tuple(
    Scheme(f"{transmission.name}+{receiver.name}", transmission, receiver)
    for transmission, receiver in REFINED
)


def _kept() -> Tensor:
    return torch.rand(1, 1, 6, 8, generator=torch.Generator().manual_seed(0)) < 0.5


def _point() -> Tensor:
    return torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


_KERNEL = torch.tensor([[0.1, 0.2, 0.1], [0.2, 0.5, 0.2], [0.0, 0.2, 0.1]], dtype=torch.float64)


def _gains() -> Tensor:
    """Some of them 0."""
    gains = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.where(gains < 0.2, 0.0, gains)


JPEG_420 = (Plane(), Plane(2, 2), Plane(2, 2))
OPERATORS = (  # with the shape of what they act on
    (Identity(), (2, 3, 6, 8)),
    (BlockMean(2, 6, 8), (2, 3, 6, 8)),
    (BlockMean(4, 6, 9), (2, 3, 6, 9)),
    (DecimatedBlur(_KERNEL, 2, 6, 8), (2, 3, 6, 8)),
    (DecimatedBlur(_KERNEL, 1, 5, 7), (2, 1, 5, 7)),
    (Mask(_kept()), (2, 3, 6, 8)),
    (Grey(), (2, 3, 6, 8)),
    (CosineGain(_gains()), (2, 3, 6, 8)),
    (Fade(torch.tensor([1.0, 0.5j, 0.0, -2.0 + 1.0j], dtype=torch.complex128)), (3, 4)),
    (Composed(BlockMean(2, 6, 8), Grey()), (2, 3, 6, 8)),
    (IterativePinv(JpegCoefficients((16, 8), (16, 8), (Plane(),) * 3), 1e-13), (2, 3, 8, 16)),
    (IterativePinv(JpegCoefficients((16, 16), (16, 16), JPEG_420), 1e-13), (1, 3, 16, 16)),
    (IterativePinv(JpegCoefficients((11, 9), (11, 9), JPEG_420), 1e-13), (2, 3, 9, 11)),
    (IterativePinv(JpegCoefficients((13, 17), (7, 9), JPEG_420), 1e-13), (1, 3, 17, 13)),
    (IterativePinv(JpegCoefficients((9, 4), (9, 4), (Plane(),)), 1e-13), (2, 3, 4, 9)),
    (
        Linearised(lambda x: x[..., ::2] + x[..., 1::2].sin() / 2, _point(), 1e-13),
        (2, 3, 6, 8),
    ),
    (
        IterativePinv(Composed(Mask(_kept()[:, :, ::2, ::2]), DecimatedBlur(_KERNEL, 2, 6, 8)), 1e-13),
        (1, 3, 6, 8),
    ),
)
