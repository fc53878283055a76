"""Cost of video codecs and of the layered codec beside its own base layer, on one thread.

Run:     TORCH_HOME=../shared/torch-home python scripts/bench_video.py --clip CLIP
Cost:    about two minutes of one core for 48 frames of 416x240
Expect:  one JSON row per codec; layered decodes in at most 150 ms a frame of 416x240, and its search takes at
         most 20 times the CPU time of one encode by av1-slow in the same run

Without `--clip`, a photograph is panned.
"""

import argparse
import json
import math
import os
import time
from fractions import Fraction
from pathlib import Path

import torch

from semcom import names
from semcom.codecs.av import InterCodec
from semcom.codecs.codec import fit
from semcom.data import sample_photos
from semcom.modalities.video import VIDEO, Clip
from semcom.training.recipes import run_script
from semcom.video.layered import LayeredCodec
from semcom.video.search import BaseLayer, finest

CODECS = ("x264-slow", "x265-slow", "av1-slow", "x265-live", "av1-live", "layered")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, default=None)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--bpp", type=float, default=0.04)
    parser.add_argument("--codecs", nargs="+", default=CODECS, help="av1-slow before layered")
    options = parser.parse_args()
    torch.set_num_threads(1)
    whole = panned(options.frames) if options.clip is None else VIDEO.read(options.clip).x
    x = Clip(whole.frames[: options.frames], whole.frame_rate)
    reference_s = math.nan
    for name in options.codecs:
        row = measured(name, x, options.bpp)
        if name == "av1-slow":
            reference_s = row["encode_ms_per_frame"]
        row["search_over_av1_slow"] = round(row["search_ms_per_frame"] / reference_s, 1)
        about = {"codec": name, "frames": len(x.frames), "load": round(os.getloadavg()[0], 1)}
        told = about | {key: value for key, value in row.items() if value == value}
        print(json.dumps(told), flush=True)


def measured(name: str, x: Clip, bpp: float) -> dict[str, float]:
    """CPU milliseconds per frame of search, one encode and one decode, with rate and quality."""
    codec = names.codec(name, "video")
    frames, pixels = len(x.frames), x.frames.numel() // 3
    bits = int(bpp * pixels)
    start = time.process_time()
    if isinstance(codec, InterCodec):
        layer = BaseLayer(codec, x, 1)
        index = finest(layer.size, layer.settings, bits // 8, layer.settings // 3)
        payload, quality = layer.payload(max(index, 0)), layer.quality(max(index, 0))
    elif isinstance(codec, LayeredCodec):  # as `semcom video encode`: nothing is shown
        coded = codec.search(codec, x, bits)
        payload, quality = coded.payload, coded.quality
    else:
        fitted = fit(codec, x, bits)
        payload, quality = fitted.payload, fitted.quality
    searched = time.process_time()
    codec.encode(x, quality)
    encoded = time.process_time()
    shown = codec.decode(payload, VIDEO.shape(x))
    decoded = time.process_time()
    psnr_db, lpips = (names.metric(metric, "video") for metric in ("psnr_db", "lpips_squeeze"))
    return {
        "bpp": round(8 * len(payload) / pixels, 4),
        "psnr_db": round(psnr_db(shown, x), 2),
        "lpips_squeeze": round(lpips(shown, x), 4),
        "search_ms_per_frame": round(1e3 * (searched - start) / frames, 1),
        "encode_ms_per_frame": round(1e3 * (encoded - searched) / frames, 1),
        "ms_per_frame": round(1e3 * (decoded - encoded) / frames, 1),
    }


def panned(frames: int) -> Clip:
    """416x240 pixels of a photograph of the quickstart, moved by a pixel and a half per frame."""
    photo = sample_photos((540, 360))[0].x
    views = [photo[0, :, 20:260, (3 * t) // 2 : (3 * t) // 2 + 416] for t in range(frames)]
    return Clip((torch.stack(views).clamp(0, 1) * 255).round().to(torch.uint8), Fraction(25))


if __name__ == "__main__":
    run_script(main)
