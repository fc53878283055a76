"""The `semcom` command: a thin shell over the library. Commands import what they need when they run."""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semcom.errors import InvalidOption, SemcomError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from semcom.data import Item
    from semcom.metrics import Metric
    from semcom.presets import Listed
    from semcom.sweep import Sweep


def _examples(*commands: str) -> str:
    return "\n\n".join(f"Example: {command}" for command in commands)


app = typer.Typer(
    name="semcom",
    help="Images over noisy channels, digital and by joint source-channel coding, at equal channel uses.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples("semcom quickstart", "semcom send photo.png --scheme avif+ldpc --snr 10"),
)
LOSSLESS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM"}
RECORDS = "records.sqlite"
KEPT = "pictures"
MAX_GRID = 1000  # values of one option; more is a typing error

SchemeOption = Annotated[
    str, typer.Option("--scheme", help="A name from `semcom schemes`, or package.module:NAME.")
]
ChannelOption = Annotated[
    str, typer.Option("--channel", help="A name from `semcom channels`, or package.module:NAME.")
]
CodecOption = Annotated[
    str, typer.Option("--codec", help="Codec in place of the scheme's own: a name, or package.module:NAME.")
]
RhoOption = Annotated[str, typer.Option("--rho", help="Channel uses per source value, like 1/12 or 0.02.")]
MetricsOption = Annotated[
    str,
    typer.Option(
        "--metrics", help="Columns, separated by commas.", show_default="psnr_db,ms_ssim,swd,lpips_squeeze"
    ),
]
ResultsArgument = Annotated[Path, typer.Argument(help="Folder of a sweep.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout; all else goes to stderr.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    What a user can cause becomes one line on stderr and code 2; Ctrl-C is 130. Anything else is a bug, and
    is not hidden.
    """
    if os.getcwd() not in sys.path:  # package.module:NAME may lie in the current folder
        sys.path.append(os.getcwd())
    try:
        code = app(args=arguments, prog_name="semcom", standalone_mode=False)
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not at interpreter exit
        return code or 0
    except typer.TyperException as error:
        return _complain(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", 130)
    except BrokenPipeError:  # the reader of our output, `head` for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SemcomError as error:
        return _complain(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _complain(where + (error.strerror or str(error)))
    except ValueError as error:
        from channels.errors import ChannelError

        if not isinstance(error, ChannelError):
            raise
        return _complain(str(error))


@app.command(
    epilog=_examples(
        "semcom send photo.png --scheme avif+ldpc --channel rayleigh:64 --snr 10 --rho 1/12 --out out.png",
        "semcom send photo.png --scheme softcast --snr -5 --strip strip.png --json > record.json",
    )
)
def send(
    image: Annotated[Path, typer.Argument(help="A picture file.", show_default=False)],
    snr: Annotated[str, typer.Option("--snr", help="Average received Es/N0 in dB.", show_default=False)],
    scheme: SchemeOption = "avif+ldpc",
    channel: ChannelOption = "awgn",
    rho: RhoOption = "1/12",
    codec: CodecOption = "",
    seed: Annotated[int, typer.Option(help="Of noise and fading.")] = 0,
    metrics: MetricsOption = "",
    out: Annotated[Path | None, typer.Option(help="Write the received picture.", show_default=False)] = None,
    strip: Annotated[
        Path | None,
        typer.Option(help="Write original, received and error side by side.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send one picture once: what arrives, what it cost, and how good it is.

    A lost picture is no error: the record says outage=1, and the picture shown is the scheme's concealment.
    """
    from tempfile import TemporaryDirectory

    from semcom import presets
    from semcom.data import load_image, to_picture
    from semcom.results import ResultStore
    from semcom.sweep import Sweep, kept_path, run

    for path in (out, strip):
        _check_picture_name(path)
    snrs_db = _snr_grid(snr)
    if len(snrs_db) != 1:
        raise InvalidOption(f"--snr {snr}: one SNR is sent at; `semcom sweep` takes several")
    item = load_image(image)
    point = Sweep(
        (presets.scheme(_with_codec(scheme, codec)),),
        (presets.channel(channel),),
        (item,),
        snrs_db,
        (rho,),
        _metrics(metrics, (item,)),
        (seed,),
    )
    with TemporaryDirectory() as folder, ResultStore(Path(folder) / "records.sqlite") as store:
        (record,) = run(point, store, keep=Path(folder))
        received = load_image(kept_path(Path(folder), record.scheme, record.key))
    if out is not None:
        _write_picture(out, to_picture(received.x))
    if strip is not None:
        from semcom.plots import image_strip

        _write_picture(strip, image_strip(item.x, {record.scheme: received.x}))
    if as_json:
        print(json.dumps(_finite(record.row()), indent=1))
    else:
        _print_row(record.row())
    if record.outage:
        _note(f"outage: {record.cause or 'the payload was lost'}; the picture shown is the concealment")


@app.command(
    epilog=_examples(
        "semcom sweep --schemes avif+ldpc,softcast --channels awgn,rayleigh:64 --snr 0:20:5 --rho 1/12,1/48 "
        "--data photos/ --seeds 3 --workers 2 --out results/first",
        "semcom sweep --out results/first --dry-run",
    )
)
def sweep(
    out: Annotated[Path, typer.Option(help="Folder of records.sqlite.", show_default=False)],
    schemes: Annotated[str, typer.Option(help="Names, separated by commas.")] = "avif+ldpc,softcast",
    channels: Annotated[str, typer.Option(help="Names, separated by commas.")] = "awgn",
    snr: Annotated[str, typer.Option("--snr", help="In dB: first:last:step, or a list.")] = "0:20:5",
    rho: Annotated[str, typer.Option(help="Channel uses per source value, separated by commas.")] = "1/12",
    data: Annotated[
        Path | None, typer.Option(help="Folder of pictures; without it, photographs of scikit-image.")
    ] = None,
    codec: CodecOption = "",
    metrics: MetricsOption = "",
    seeds: Annotated[int, typer.Option(help="Noise realisations per picture.")] = 1,
    workers: Annotated[int, typer.Option(help="Local processes.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the received pictures.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Send a folder of pictures by several schemes over several channels, at every SNR and rho.

    The same command resumes a run that was stopped, in whatever way.
    """
    from semcom import presets
    from semcom.data import load_folder, sample_photos
    from semcom.results import ResultStore
    from semcom.sweep import Sweep, progress_bar, run

    items = load_folder(data) if data is not None else sample_photos()
    if not 1 <= seeds <= MAX_GRID:
        raise InvalidOption(f"--seeds {seeds}: choose 1..{MAX_GRID}")
    design = Sweep(
        tuple(presets.scheme(_with_codec(name, codec)) for name in _names("--schemes", schemes)),
        tuple(presets.channel(name) for name in _names("--channels", channels)),
        items,
        _snr_grid(snr),
        tuple(_names("--rho", rho)),
        _metrics(metrics, items),
        tuple(range(seeds)),
    )
    path = out / RECORDS
    if dry_run:
        _print_plan(design, path)
        return
    pictures = out / KEPT if keep else None
    with ResultStore(path) as store, progress_bar() as progress:
        done = sum(1 for _ in run(design, store, workers, progress, pictures))
    print(f"{done} new records in {path}; next: semcom report {out}")


@app.command(name="schemes", epilog=_examples("semcom schemes | grep avif"))
def list_schemes() -> None:
    """List the schemes, one a line, name first.

    More follow from the patterns CODEC+ldpc:mcsN, CODEC+ldpc:csit-average and CODEC+ideal:csit-average, where
    CODEC may be package.module:NAME.
    """
    from semcom import presets

    _print_listing(presets.schemes())


@app.command(name="channels", epilog=_examples("semcom channels"))
def list_channels() -> None:
    """List the channels, one a line, name first; wrappers stand before a slash and can be nested."""
    from semcom import presets

    _print_listing(presets.channels())


def _names(option: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InvalidOption(f"{option} {text!r}: an empty name; separate names by single commas")
    return names


def _snr_grid(text: str) -> tuple[float, ...]:
    """SNRs in dB from "10", "0,5,10" or "0:20:5" (both ends included)."""
    from channels.channel import noise_var_column

    try:
        if ":" in text:
            first, last, step = map(float, text.split(":"))
            count = math.floor((last - first) / step + 1e-9) + 1
            if not 1 <= count <= MAX_GRID:
                raise InvalidOption(f"--snr {text}: {count} values; give 1..{MAX_GRID}")
            snrs_db = tuple(round(first + i * step, 9) for i in range(count))
        else:
            snrs_db = tuple(float(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        if isinstance(error, InvalidOption):
            raise
        raise InvalidOption(
            f"--snr {text!r} is not a number; write 10, or 0,5,10, or 0:20:5, in dB"
        ) from None
    for snr_db in snrs_db:
        noise_var_column(snr_db, 1)  # raises outside the range of channels
    return snrs_db


def _with_codec(scheme: str, codec: str) -> str:
    if not codec:
        return scheme
    source, plus, link = scheme.partition("+")
    if not plus:
        raise InvalidOption(
            f"--codec {codec}: scheme {source!r} has no codec to replace; take one like avif+ldpc"
        )
    return f"{codec}+{link}"


def _metrics(names: str, items: "Sequence[Item]") -> "tuple[Metric, ...]":
    """Those named, or those of the default that work here; what is left out is said on stderr."""
    from semcom import presets

    side = min(min(item.x.shape[2:]) for item in items)
    if names:
        metrics = tuple(presets.metric(name) for name in _names("--metrics", names))
    else:
        available = presets.default_metrics()
        metrics = available.metrics
        for line in available.left_out:
            _note(f"without {line}")
    for metric in metrics:
        if metric.min_side > side:
            _note(f"without {metric.name} where a side is below {metric.min_side} pixels")
    return metrics


def _check_picture_name(path: Path | None) -> None:
    if path is not None and path.suffix.lower() not in LOSSLESS:
        raise InvalidOption(f"{path}: pictures are written without loss; name it {' or '.join(LOSSLESS)}")


def _write_picture(path: Path, picture: "Picture") -> None:
    """All of it or nothing."""
    buffer = BytesIO()
    picture.save(buffer, LOSSLESS[path.suffix.lower()])
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(buffer.getvalue())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _print_plan(design: "Sweep", path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from semcom.results import ResultStore
    from semcom.sweep import plan

    grid = (design.schemes, design.channels, design.items, design.snr_db, design.rho, design.seeds)
    records = todo = math.prod(map(len, grid))
    if path.is_file():
        with ResultStore(path, read_only=True) as store:
            todo = sum(len(batch.snr_db) for batch in plan(design, store))
    table = Table(show_header=False, box=None)
    table.add_row("schemes", "\n".join(scheme.name for scheme in design.schemes))
    table.add_row("channels", "\n".join(channel.name for channel in design.channels))
    table.add_row("pictures", str(len(design.items)))
    table.add_row("SNR in dB", ", ".join(f"{snr_db:g}" for snr_db in design.snr_db))
    table.add_row("rho", ", ".join(map(str, design.rho)))
    table.add_row("seeds", str(len(design.seeds)))
    table.add_row("metrics", ", ".join(metric.name for metric in design.metrics))
    table.add_row("records", f"{records}, of which {todo} are to do")
    table.add_row("store", str(path))
    Console().print(table)


def _print_row(row: "Mapping[str, str | int | float]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in row.items():
        if value != "":
            table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    Console().print(table)


def _print_listing(lines: "Iterable[Listed]") -> None:
    lines = tuple(lines)
    width = max(len(line.name) for line in lines)
    for line in lines:
        print(f"{line.name:<{width}}  {line.about}")


def _finite(row: "Mapping[str, str | int | float]") -> dict[str, str | int | float | None]:
    """JSON has no infinity."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}


def _note(text: str) -> None:
    print(f"semcom: {text}", file=sys.stderr)


def _complain(message: str, code: int = 2) -> int:
    print(f"semcom: error: {' '.join(message.split())}", file=sys.stderr)
    return code
