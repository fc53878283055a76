"""Smooth areas of clips at 0.02 bits per pixel, four times enlarged: the original, AV1, and AV1 refined.

Run:     TORCH_HOME=../shared/torch-home python scripts/crops_video.py --further ../further-clips
Needs:   the clips of scripts/further_clips.py, and OpenCV; pip install 'semcom[video]'
Cost:    about 6 minutes of one core
Expect:  results/video/crops.png; results/video/README.md says what is to be seen

A row per crop, of frame 24 of each clip. The encodes are those of
scripts/compare_video_codecs.py.
"""

import argparse
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageDraw

from semcom import names
from semcom.data import load_folder
from semcom.experiment import write
from semcom.modalities.modality import Item
from semcom.modalities.video import VIDEO, Clip
from semcom.records import Records
from semcom.terminal import progress_bar
from semcom.training.recipes import run_script
from semcom.video.comparison import POINT, compared, whole_frames

CODECS = ("av1-slow", "layered")
CROPS = (
    ("basketballpass", 170, 70, "floor"),
    ("davis_bmx-trees", 165, 240, "roadside"),
    ("sam2_dog", 170, 200, "path"),
    ("cup", 20, 20, "wall"),
    ("bikes", 40, 20, "road"),
    ("vtest", 130, 20, "grass"),
)
"""Clip, top, left, and what there is to see."""
FRAME, FRAMES, BPP = 24, 48, 0.02
HEIGHT, WIDTH, ZOOM, HEAD = 48, 64, 4, 14


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/video/eval"))
    parser.add_argument("--further", type=Path, required=True, help="folder of further clips")
    parser.add_argument("--out", type=Path, default=Path("results/video/crops.png"))
    options = parser.parse_args()
    named = tuple(name for name, *_ in CROPS)
    items = [item for folder in (options.data, options.further) for item in load_folder(folder, (VIDEO,))]
    items = list(whole_frames([item for item in items if item.id.startswith(named)], FRAMES))
    shown = {item.id: {"original": item.x} for item in items}

    def keep(item: Item[Clip], name: str, bpp: float, decoded: Clip) -> None:
        shown[item.id][name] = decoded

    codecs = {name: names.codec(name, "video") for name in CODECS}
    with progress_bar("encodes") as told, TemporaryDirectory() as folder:
        compared(items, codecs, (BPP,), (), Records(Path(folder) / "records.jsonl", POINT), told, keep)
    buffer = BytesIO()
    drawn(shown).save(buffer, "PNG", optimize=True)
    write(options.out, buffer.getvalue())


def drawn(shown: Mapping[str, Mapping[str, Clip]]) -> Image.Image:
    """All crops, of clips by item and codec."""
    width, height = WIDTH * ZOOM, HEIGHT * ZOOM
    sheet = Image.new("RGB", ((len(CODECS) + 1) * width, len(CROPS) * (height + HEAD)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, top, left, what) in enumerate(CROPS):
        (clips,) = (clips for item, clips in shown.items() if item.startswith(name))
        for column, (title, clip) in enumerate(clips.items()):
            crop = clip.frames[FRAME, :, top : top + HEIGHT, left : left + WIDTH].permute(1, 2, 0).numpy()
            at = column * width, row * (height + HEAD) + HEAD
            sheet.paste(Image.fromarray(crop).resize((width, height), Image.Resampling.NEAREST), at)
            pen.text((at[0] + 2, at[1] - HEAD + 1), f"{name}, {what}: {title}", fill="black")
    return sheet


if __name__ == "__main__":
    run_script(main)
