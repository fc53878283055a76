"""The commands `semcom video encode`, `semcom video decode` and `semcom video compare`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semcom.errors import InvalidOption, InvalidSource
from semcom.files import write_whole
from semcom.options import check_input, check_outputs, chosen_metrics, make_folder, names_of
from semcom.terminal import finite, note, print_row, progress_bar

if TYPE_CHECKING:
    from semcom.modalities.modality import Item
    from semcom.modalities.video import Clip

video = typer.Typer(
    name="video",
    help="Code clips at very low rates in files (.scv): a standard base layer and a refiner at the receiver.",
    no_args_is_help=True,
)
SUFFIX = ".scv"
RATES = "0.01,0.02,0.04,0.06"
COMPARED = "x264-slow,x265-slow,av1-slow,layered"
MOST_BPP = 24.0  # of 8-bit RGB without any coding

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and all else on stderr.")]


@video.command(
    epilog="Example: semcom video encode clip.mkv --bpp 0.02 --out clip.scv\n\n"
    "Example: semcom video encode clip.mp4 --bpp 0.05 --codec x265-slow --out clip.scv"
)
def encode(
    source: Annotated[Path, typer.Argument(help="A clip.", show_default=False)],
    bpp: Annotated[float, typer.Option("--bpp", help="Most bits per pixel of the whole file.")],
    out: Annotated[Path, typer.Option(help="File of coded video, .scv.", show_default=False)],
    codec: Annotated[
        str,
        typer.Option(
            "--codec", help="layered, predictive, two-sided, or x264, x265, av1, vp9 with -slow or -live."
        ),
    ] = "layered",
    as_json: JsonOption = False,
) -> None:
    """Encode a clip to a file of at most a number of bits per pixel.

    `layered` searches codec, frame step, size and strength of the refiner; all it chooses is in the file.
    """
    check_input(source)
    if not 0 < bpp <= MOST_BPP:
        raise InvalidOption(f"--bpp {bpp:g}: choose a number above 0, up to {MOST_BPP:g}")
    if out.suffix.lower() != SUFFIX:
        raise InvalidOption(f"{out}: a file of coded video ends in {SUFFIX}")
    check_outputs(out, inputs=[source])
    _check_file(source, "a clip")

    from semcom import names
    from semcom.video.container import CODECS, encode_file
    from semcom.video.layered import payload_within

    if codec not in CODECS:
        raise InvalidOption(f"--codec {codec}: choose one of {', '.join(CODECS)}")
    chosen = names.codec(codec, "video")
    with progress_bar("frames") as told:
        done = encode_file(source, out, codec, lambda x, bits: payload_within(chosen, x, bits), bpp, told)
    row = {
        "frames": done.shape.frames,
        "width": done.shape.width,
        "height": done.shape.height,
        "frame_rate": str(done.shape.frame_rate),
        "bytes": done.size,
        "bpp": done.bpp,
        "kbit_per_s": 8e-3 * done.size / done.shape.frames * float(done.shape.frame_rate),
    }
    print(json.dumps(finite(row), indent=1)) if as_json else print_row(row)


@video.command(epilog="Example: semcom video decode clip.scv --out clip.mkv")
def decode(
    source: Annotated[Path, typer.Argument(help="A file made by `semcom video encode`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Lossless clip: .mkv, .avi or .png.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Decode a file of coded video; damaged frames are concealed and named.

    The codec predicts or interpolates them; if it cannot, the last frame before them is repeated. The file
    alone is needed. Exit code 0 also if parts are damaged.
    """
    check_input(source)
    check_outputs(out, inputs=[source])

    from semcom import names
    from semcom.modalities.modality import check_writable
    from semcom.modalities.video import VIDEO
    from semcom.video.container import decode_file

    check_writable(out, VIDEO)
    _check_file(source, "a file of coded video")
    with progress_bar("frames") as told:
        done = decode_file(source, out, lambda name: names.codec(name, "video"), told)
    row = {"frames": done.shape.frames, "bytes": done.size, "bpp": done.bpp}
    if done.damaged:
        ranges = ", ".join(f"{part.start + 1}-{part.stop}" for part in done.damaged)
        row |= {"damaged_frames": ranges}
        note(f"damaged: frames {ranges} are concealed")
    print(json.dumps(finite(row), indent=1)) if as_json else print_row(row)


@video.command(
    epilog="Example: semcom video compare clip.mkv --bpp 0.02,0.04 --out comparison\n\n"
    "Example: semcom video compare clips/ --codecs x265-slow,av1-slow,layered --frames 48 --out comparison"
)
def compare(
    source: Annotated[Path, typer.Argument(help="A clip, or a folder of clips.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of records, loops and report.", show_default=False)],
    bpp: Annotated[str, typer.Option("--bpp", help="Bits per pixel, separated by commas.")] = RATES,
    codecs: Annotated[
        str, typer.Option("--codecs", help="Codecs of clips; findings are about the last.")
    ] = COMPARED,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Metrics of clips.", show_default="the usual ones")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", help="First frames of every clip.", min=1)] = 48,
) -> None:
    """Compare video codecs at equal payload; the same command goes on where it was stopped.

    OUT/report.html has findings, curves, clips side by side and all operating points.
    """
    check_input(source)

    from semcom import names
    from semcom.columns import Column
    from semcom.data import load_folder
    from semcom.modalities.video import VIDEO, Clip
    from semcom.records import Records
    from semcom.video.comparison import POINT, compared, decoded_at, page, side_by_side, whole_frames
    from semcom.wording import brief

    rates = list(dict.fromkeys(_rate(text) for text in names_of("--bpp", bpp)))
    chosen = {name: names.codec(name, "video") for name in names_of("--codecs", codecs)}
    items = list(whole_frames(load_folder(source, (VIDEO,)), frames))
    measures = chosen_metrics(metrics, items)
    make_folder(out)
    shown: dict[str, dict[str, Clip]] = {item.id: {} for item in items}

    def keep(item: "Item[Clip]", name: str, rate: float, decoded: Clip) -> None:
        if rate == rates[0]:
            shown[item.id][name] = decoded

    with progress_bar("operating points") as told:
        rows = compared(items, chosen, rates, measures, Records(out / "records.jsonl", POINT), told, keep)
    for item in items:
        path, clips = out / f"{item.id}.webp", shown[item.id]
        if clips or not path.is_file():  # points measured by a run that was stopped are decoded once more
            again = {name: clips.get(name) or decoded_at(item.x, chosen[name], rates[0]) for name in chosen}
            labelled = {f"{name}, {rates[0]:g} bpp": clip for name, clip in again.items() if clip is not None}
            if labelled:
                side_by_side({"original": item.x} | labelled, path)
    labels = {metric.name: brief(Column(metric.name, metric.unit)) for metric in measures}
    loops = [path for item in items if (path := out / f"{item.id}.webp").is_file()]
    ours = list(chosen)[-1]
    write_whole(out / "report.html", page(rows, ours, labels, loops))
    note(f"{len(rows)} operating points -> {out / 'report.html'}")


def _check_file(source: Path, what: str) -> None:
    """Refuse a folder where one file is read."""
    if source.is_dir():
        raise InvalidSource(f"{source}: a folder; name {what}")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MOST_BPP:
        raise InvalidOption(f"--bpp {text}: choose numbers above 0, up to {MOST_BPP:g}")
    return rate
