"""The commands `semcom video encode` and `semcom video decode`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from semcom.errors import InvalidOption, InvalidSource
from semcom.options import check_input, check_outputs
from semcom.terminal import finite, note, print_row, progress_bar

video = typer.Typer(
    name="video",
    help="Code clips at very low rates in files (.scv): a standard base layer and a refiner at the receiver.",
    no_args_is_help=True,
)
SUFFIX = ".scv"
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
        str, typer.Option("--codec", help="layered, predictive, or x264, x265, av1, vp9 with -slow or -live.")
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

    from semcom import names
    from semcom.codecs.codec import fit
    from semcom.video.container import CODECS, encode_file

    if codec not in CODECS:
        raise InvalidOption(f"--codec {codec}: choose one of {', '.join(CODECS)}")
    chosen = names.codec(codec, "video")
    with progress_bar("frames") as told:
        done = encode_file(source, out, codec, lambda x, bits: fit(chosen, x, bits).payload, bpp, told)
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
    """Decode a file of coded video; frames of damaged parts repeat the last frame before them.

    The file alone is needed. Exit code 0 also if parts are damaged; they are named.
    """
    check_input(source)
    check_outputs(out, inputs=[source])

    from semcom import names
    from semcom.modalities.modality import check_writable
    from semcom.modalities.video import VIDEO
    from semcom.video.container import decode_file

    check_writable(out, VIDEO)
    if source.is_dir():
        raise InvalidSource(f"{source}: a folder; name a file of coded video")
    with progress_bar("frames") as told:
        done = decode_file(source, out, lambda name: names.codec(name, "video"), told)
    row = {"frames": done.shape.frames, "bytes": done.size, "bpp": done.bpp}
    if done.damaged:
        ranges = ", ".join(f"{part.start + 1}-{part.stop}" for part in done.damaged)
        row |= {"damaged_frames": ranges}
        note(f"damaged: frames {ranges} repeat the last frame before them")
    print(json.dumps(finite(row), indent=1)) if as_json else print_row(row)
