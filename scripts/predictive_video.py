"""Key frames and prediction in the paper's setting: crops of 128x128, 30 frames, payloads of single encodes.

Run:     TORCH_HOME=../shared/torch-home python scripts/predictive_video.py
Cost:    see results/predictive_video/README.md; killed, the same command goes on after the last whole crop
Expect:  see results/predictive_video/README.md

Every row is one encode, from which all its figures are: key frames, bits per pixel, PSNR, LPIPS, distance of
clip features. "genie" is told the motion of the originals for nothing, which bounds what a predictor of
motion can reach. "two-sided" ones interpolate between key frames. x264 and x265 stand beside it at fixed
rates, by the bytes of their payload, and, with the paper's settings, by the bytes of an MP4 file, whose boxes
and messages weigh more than such a short clip.
"""

import argparse
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import torch
from av.video.stream import VideoStream
from torch import Tensor

from semcom import names
from semcom.codecs.av import InterCodec
from semcom.codecs.codec import SourceCodec
from semcom.experiment import run_script, write, write_figure
from semcom.modalities.video import VIDEO, Clip
from semcom.names.predictive import interpolator_named, predictor_named
from semcom.statistics import bootstrap_mean
from semcom.surroundings import library_defaults
from semcom.video.gate import LpipsGate
from semcom.video.interpolators import Frame, Interpolator
from semcom.video.motion import block_motion, compensated
from semcom.video.predictive import PredictiveCodec
from semcom.video.predictors import Frames, Past, Predictor
from semcom.video.search import BaseLayer, finest
from semcom.video.two_sided import TwoSidedCodec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, FRAMES = 128, 30
PLACES = ((0.5, 0.5), (0.2, 0.2), (0.8, 0.8), (0.2, 0.8))
"""Places of the crops, as shares of what is left and above."""
TWO_SIDED = "two-sided-"
PREDICTORS = (
    *("hold", "linear", "block", "mean", "diffusion", "genie"),
    *(f"{TWO_SIDED}{interpolator}" for interpolator in ("fade", "block", "mean")),
)
GAP = 8
"""Distance of key frames between which the others are interpolated, before the gate adds any."""
RHOS = (0.1, 0.15, 0.2, 0.25, 0.3, math.inf)
METRICS = ("psnr_db", "lpips_squeeze", "clip_feature_distance")
REFERENCES = ("x264-live", "x265-live", "x265-slow")
REFERENCE_BPP = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1)
FILE_FACTORS = (51, 45, 39, 33, 27)
"""Rate factors at which files with the paper's settings are made."""


@dataclass(frozen=True, eq=False)
class GenieMotion:
    """Predictor that warps the last frame by the motion between the originals, which no receiver knows.

    Args:
        originals: Frames of the clip, uint8 [frames, 3, height, width].
    """

    originals: Tensor

    @property
    def name(self) -> str:
        """Name of the predictor: "genie"."""
        return "genie"

    @property
    def frames_needed(self) -> int:
        """One past frame."""
        return 1

    @property
    def is_random(self) -> bool:
        """False."""
        return False

    @property
    def digest(self) -> bytes:
        """Empty: there is no network."""
        return b""

    def predict(self, past: Past, count: int, seed: Sequence[int]) -> Frames:
        """Warp frame after frame; the second number of the seed is the index of the first one."""
        shown = [past[-1]]
        for place in range(seed[1], seed[1] + count):
            shown.append(warped(shown[-1], self.originals[place - 1], self.originals[place]))
        return torch.stack(shown[1:])


@dataclass(frozen=True, eq=False)
class Remembered:
    """Predictor that keeps its last predictions: several thresholds ask for the same ones.

    Args:
        predictor: Any predictor.
    """

    predictor: Predictor
    _kept: OrderedDict[tuple[bytes, int, tuple[int, ...]], Tensor] = field(default_factory=OrderedDict)

    @property
    def name(self) -> str:
        """Name of the predictor."""
        return self.predictor.name

    @property
    def frames_needed(self) -> int:
        """Past frames that the predictor needs."""
        return self.predictor.frames_needed

    @property
    def is_random(self) -> bool:
        """Whether other seeds give other frames."""
        return self.predictor.is_random

    @property
    def digest(self) -> bytes:
        """Digest of the predictor's network."""
        return self.predictor.digest

    def predict(self, past: Past, count: int, seed: Sequence[int]) -> Frames:
        """Predict, or repeat what was predicted from the same frames."""
        key = (past.numpy().tobytes(), count, tuple(seed))
        if key not in self._kept:
            self._kept[key] = self.predictor.predict(past, count, seed)
            while len(self._kept) > 500:
                self._kept.popitem(last=False)
        return self._kept[key].clone()


@dataclass(frozen=True, eq=False)
class RememberedBetween:
    """Interpolator that keeps what it has interpolated: several thresholds ask for the same gaps.

    Args:
        interpolator: Any interpolator.
    """

    interpolator: Interpolator
    _kept: dict[tuple[bytes, bytes, int], Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the interpolator."""
        return self.interpolator.name

    @property
    def digest(self) -> bytes:
        """Digest of the interpolator's network."""
        return self.interpolator.digest

    def between(self, before: Frame, after: Frame, count: int) -> Frames:
        """Interpolate, or repeat what was interpolated between the same frames."""
        key = (before.numpy().tobytes(), after.numpy().tobytes(), count)
        if key not in self._kept:
            self._kept[key] = self.interpolator.between(before, after, count)
        return self._kept[key]


def warped(frame: Tensor, earlier: Tensor, later: Tensor) -> Tensor:
    """Warp a frame by the motion between two others: DIS flow where OpenCV is, else blocks of 8x8."""
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError:
        return compensated(frame[None], block_motion(earlier[None], later[None]))[0]
    grey = [cv2.cvtColor(x.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for x in (later, earlier)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    height, width = frame.shape[1:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows], -1).float().numpy() + flow
    found = cv2.remap(
        frame.permute(1, 2, 0).numpy(), places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return torch.from_numpy(found).permute(2, 0, 1).contiguous()


def crops(folder: Path, most: int) -> Iterator[tuple[str, Clip]]:
    """Crops of all clips, one place after the other, so that few of them are of many clips."""
    files = sorted(path for path in folder.iterdir() if path.suffix in VIDEO.suffixes)
    jobs = [(path, place) for place in range(len(PLACES)) for path in files][:most]
    for path, place in jobs:
        clip = VIDEO.read(path).x
        down, right = PLACES[place]
        top, left = round(down * (clip.frames.shape[2] - SIDE)), round(right * (clip.frames.shape[3] - SIDE))
        piece = clip.frames[:FRAMES, :, top : top + SIDE, left : left + SIDE].contiguous()
        yield f"{path.stem}-{place}", Clip(piece, clip.frame_rate)


def rows_of(name: str, clip: Clip, shown_as: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per encode of one crop by one predictor."""
    still = names.codec(options.still)
    ladder = [quality for quality in still.qualities if quality.scale == 1]
    psnr_db, _, features = (names.metric(metric, "video") for metric in METRICS)
    values = clip.frames[:, 0].numel()
    coded = two_sided(shown_as, still) if TWO_SIDED in shown_as else one_sided(shown_as, still, clip, options)
    known: dict[bytes, dict[str, float]] = {}  # several thresholds may give the same frames
    for share in options.qualities:
        quality = ladder[round(share * (len(ladder) - 1))]
        for rho in options.rhos:
            made = coded(rho).encoding(clip, quality)
            frames = made.frames.numpy().tobytes()
            if frames not in known:
                shown = Clip(made.frames, clip.frame_rate)
                known[frames] = {
                    "psnr_db": psnr_db(shown, clip),
                    "lpips_squeeze": math.fsum(made.distances) / len(made.distances),  # as the gate saw it
                    "clip_feature_distance": features(shown, clip),
                }
            row = {"item": name, "codec": shown_as, "still": still.name, "setting": quality.setting}
            row |= {"rho": rho, "key_frames": made.key_frames, "bpp": 8 * len(made.payload) / values}
            yield row | known[frames]


def one_sided(
    name: str, still: SourceCodec[Tensor], clip: Clip, options: argparse.Namespace
) -> Callable[[float], PredictiveCodec]:
    """Codecs with a predictor by threshold."""
    predictor = Remembered(GenieMotion(clip.frames) if name == "genie" else predictor_named(name))
    samples = options.samples if predictor.is_random else 1
    return lambda rho: PredictiveCodec(still, predictor, LpipsGate(), rho, samples)


def two_sided(name: str, still: SourceCodec[Tensor]) -> Callable[[float], TwoSidedCodec]:
    """Codecs with an interpolator by threshold."""
    interpolator = RememberedBetween(interpolator_named(name.removeprefix(TWO_SIDED)))
    return lambda rho: TwoSidedCodec(still, interpolator, LpipsGate(), rho, GAP)


def reference_rows(name: str, clip: Clip, reference: str) -> Iterator[dict[str, Any]]:
    """One row per rate of a slow codec, and per rate factor of a live one with the size of its MP4 file."""
    metrics = [names.metric(metric, "video") for metric in METRICS]
    values = clip.frames[:, 0].numel()

    def row(codec: InterCodec, setting: int, payload: int, shown: Clip) -> dict[str, Any]:
        found = dict(zip(METRICS, (metric(shown, clip) for metric in metrics), strict=True))
        about = {"item": name, "codec": codec.name, "still": "", "setting": setting, "rho": math.nan}
        return about | {"key_frames": 1, "bpp": 8 * payload / values} | found

    codec = names.codec(reference, "video")
    assert isinstance(codec, InterCodec)
    layer = BaseLayer(codec, clip, 1)
    before = -1
    for bpp in REFERENCE_BPP if codec.speed == "slow" else ():
        place = finest(layer.size, layer.settings, int(bpp * values / 8), layer.settings // 3)
        if place > before:
            before = place
            payload = layer.payload(place)
            shown = codec.decode(payload, VIDEO.shape(clip))
            yield row(codec, layer.quality(place).setting, len(payload), shown)
    for factor in FILE_FACTORS if codec.speed == "live" else ():
        payload = codec.encode(clip, codec.quality(factor))
        shown = codec.decode(payload, VIDEO.shape(clip))
        size = file_bytes(clip, {"x264": "libx264", "x265": "libx265"}[codec.library], factor)
        yield row(codec, factor, len(payload), shown) | {"file_bpp": 8 * size / values}


def file_bytes(clip: Clip, encoder: str, factor: int) -> int:
    """Size in bytes of the MP4 file that the paper's settings give: veryfast, zerolatency, a rate factor."""
    into = BytesIO()
    with av.open(into, "w", format="mp4") as container:
        stream = cast(VideoStream, container.add_stream(encoder, rate=30))
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(factor)}
        if encoder == "libx265":
            stream.options |= {"x265-params": "log-level=none"}
        for frame in clip.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.permute(1, 2, 0).numpy(), "rgb24")))
        container.mux(stream.encode(None))
    return len(into.getvalue())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: means over the crops, with 95 % bootstrap intervals of the number of key frames."""
    lines = [
        "| predictor | setting | rho | key frames | 95 % | bpp | PSNR in dB | LPIPS | features | crops |",
        "| --- " * 10 + "|",
    ]
    for key in dict.fromkeys((row["codec"], row["setting"], row["rho"]) for row in rows if row["still"]):
        own = [row for row in rows if (row["codec"], row["setting"], row["rho"]) == key]
        keys = bootstrap_mean([float(row["key_frames"]) for row in own], [row["item"] for row in own])
        bpp, psnr_db, distance, features = (
            math.fsum(row[column] for row in own) / len(own) for column in ("bpp", *METRICS)
        )
        lines.append(
            f"| {key[0]} | {key[1]} | {key[2]:g} | {keys.mean:.2f} | {keys.low:.2f} to {keys.high:.2f} "
            f"| {bpp:.4f} | {psnr_db:.2f} | {distance:.4f} | {features:.2f} "
            f"| {len(own)} |"
        )
    columns = ("bpp", "file_bpp", *METRICS)
    heading = "| codec | setting | bpp, payload | bpp, MP4 file | PSNR in dB | LPIPS | features | crops |"
    lines += ["", "At the bits per pixel below or equal to", "", heading, "| --- " * 8 + "|"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if not row["still"]:
            of_file = "file_bpp" in row
            rate = f"CRF {row['setting']}" if of_file else f"{allowed(row['bpp']):g}"
            groups.setdefault((row["codec"], rate), []).append(row)
    for (codec, rate), own in sorted(groups.items()):
        means = [
            math.fsum(row[column] for row in own) / len(own) if column in own[0] else None
            for column in columns
        ]
        cells = ["-" if mean is None else f"{mean:.4f}" for mean in means]
        lines.append(f"| {codec} | {rate} | {' | '.join(cells)} | {len(own)} |")
    return "\n".join(lines) + "\n"


def allowed(bpp: float) -> float:
    """Smallest of the rates asked for that is not below a payload."""
    return next((rate for rate in REFERENCE_BPP if bpp <= rate), REFERENCE_BPP[-1])


def figure(rows: Sequence[dict[str, Any]], metric: str, label: str) -> "Figure":
    """Mean over the crops against mean bits per pixel: predictors over all thresholds, and the codecs."""
    import matplotlib
    from matplotlib.figure import Figure

    from semcom.plots import COLORS, FIGURE_STYLE, MARKERS

    curves: dict[str, set[tuple[float, float]]] = {}
    points: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for row in rows:
        if "file_bpp" not in row:
            setting = row["setting"] if row["still"] else allowed(row["bpp"])
            points.setdefault((row["codec"], setting, str(row["rho"])), []).append(row)
    crops = len({row["item"] for row in rows})
    for (codec, _, _), own in points.items():
        if len(own) == crops:  # else the mean would be of other crops
            bpp, value = (math.fsum(row[column] for row in own) / crops for column in ("bpp", metric))
            curves.setdefault(codec, set()).add((bpp, value))
    with matplotlib.rc_context(FIGURE_STYLE):
        drawn = Figure(figsize=(6.4, 4.2), layout="constrained")
        panel = drawn.subplots()
        for number, (codec, curve) in enumerate(sorted(curves.items())):
            is_codec = codec.startswith("x26")
            panel.plot(
                *zip(*sorted(curve), strict=True),
                label=codec,
                color=COLORS[number % len(COLORS)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                linestyle="--" if is_codec else "-",
            )
        panel.set_xscale("log")
        panel.set_xlabel("bits per pixel, payload")
        panel.set_ylabel(label)
        panel.legend(fontsize=7)
    return drawn


def main() -> None:
    """Parse, encode, write a row per encode and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data/video/eval"))
    add("--out", type=Path, default=Path("results/predictive_video"))
    add("--crops", type=int, default=24)
    add("--still", default="hevc-intra", help="codec of the key frames")
    add("--predictors", nargs="+", default=PREDICTORS)
    add("--qualities", nargs="+", type=float, default=[0.25, 0.4], help="shares of the ladder of settings")
    add("--rhos", nargs="+", type=float, default=RHOS)
    add("--samples", type=int, default=1)
    add("--references", nargs="*", default=REFERENCES, help="codecs that stand beside")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "rows.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    done = {(row["item"], row["codec"]) for row in rows}
    with library_defaults():
        for name, clip in crops(options.data, options.crops):
            for codec in (*options.predictors, *options.references):
                if (name, codec) not in done:
                    is_reference = codec in options.references
                    found = (
                        reference_rows(name, clip, codec)
                        if is_reference
                        else rows_of(name, clip, codec, options)
                    )
                    rows += found
                    write(kept, "".join(json.dumps(row) + "\n" for row in rows))
            print(f"{name}: {len(rows)} rows", flush=True)
    write(options.out / "table.md", table(rows))
    for metric, label in zip(METRICS, ("PSNR (dB)", "LPIPS (SqueezeNet)", "clip features"), strict=True):
        write_figure(options.out / f"{metric}.svg", figure(rows, metric, label))
    print((options.out / "table.md").read_text())


if __name__ == "__main__":
    run_script(main)
