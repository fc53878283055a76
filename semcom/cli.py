"""The `semcom` command: a thin shell over the library. Commands import what they need when they run."""

import json
import logging
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semcom.errors import InvalidOption, InvalidSource, SemcomError, UnknownName, reason_of
from semcom.options import (
    LOSSLESS,
    MAX_GRID,
    check_outputs,
    check_picture_name,
    chosen_metrics,
    make_folder,
    names_of,
    one_snr,
    snr_grid,
    with_codec,
)
from semcom.terminal import (
    complain,
    finite,
    note,
    print_listing,
    print_plan,
    print_row,
    print_summary,
    receiver_progress,
    shown_sets,
    silence_stdout,
    training_progress,
)

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as Picture

    from semcom.data import Item
    from semcom.theory.source_limit import GaussianModel


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
INTERRUPTED = 130  # what typer makes of Ctrl-C
MAX_BATCH = 2**16  # crops; more is one, too

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
    if "" not in sys.path:  # package.module:NAME may lie in the current folder
        sys.path.append("")
    sys.stdout = sys.stdout or StringIO()  # closed by the caller
    sys.stderr = sys.stderr or StringIO()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where a terminal cannot show a letter
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it makes do with a HOME that is read-only
    try:
        code = app(args=arguments, prog_name="semcom", standalone_mode=False)
        if code == INTERRUPTED:
            return complain("interrupted", INTERRUPTED)
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not at interpreter exit
        return code or 0
    except typer.TyperException as error:
        return complain(error.format_message())
    except BrokenPipeError:  # the reader of our output, `head` for instance, has seen enough
        silence_stdout()
        return 0
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):  # unbuffered, click sees it first and exits
            raise
        silence_stdout()
        return 0
    except SemcomError as error:
        return complain(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        silence_stdout()
        return complain(where + (error.strerror or str(error)))
    except ValueError as error:
        from channels.errors import ChannelError

        if not isinstance(error, ChannelError):
            raise
        return complain(str(error))


@app.command(
    epilog=_examples(
        "semcom send photo.png --scheme avif+ldpc --channel rayleigh:64 --snr 10 --rho 1/12 --out out.png",
        "semcom send photo.png --scheme softcast --snr -5 --strip strip.png --json > record.json",
        "semcom send photo.png --scheme deepjscc --rho 1/192 --snr 5 --receiver ddrm --steps 8 --knob 0.7 "
        "--strip strip.png",
    )
)
def send(
    image: Annotated[Path, typer.Argument(help="A picture file.", show_default=False)],
    snr: Annotated[str, typer.Option("--snr", help="Average received Es/N0 in dB.", show_default=False)],
    scheme: SchemeOption = "avif+ldpc",
    channel: ChannelOption = "awgn",
    rho: RhoOption = "1/12",
    codec: CodecOption = "",
    receiver: Annotated[
        str,
        typer.Option(
            help="Refine what arrived: ddnm, ddrm, diffpir, dps, posterior, loop; consistency (JPEG only); "
            "refiner (with a --prior that takes guesses).",
            show_default="none",
        ),
    ] = "",
    steps: Annotated[
        int | None, typer.Option(help="Noise levels of the receiver.", min=1, show_default="the receiver's")
    ] = None,
    knob: Annotated[
        float, typer.Option(help="From the mean (0) to a sample (1), for the receiver.", min=0, max=1)
    ] = 1.0,
    samples: Annotated[int, typer.Option(help="Samples that the receiver averages.", min=1)] = 1,
    prior: Annotated[
        str,
        typer.Option(
            help="Prior of the receiver: a weights file, folder or hub name of diffusers, checkpoint (.pt) "
            "of guided-diffusion, or package.module:NAME.",
            show_default="shipped",
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="Of noise and fading.")] = 0,
    metrics: MetricsOption = "",
    out: Annotated[Path | None, typer.Option(help="Write the received picture.", show_default=False)] = None,
    strip: Annotated[
        Path | None,
        typer.Option(help="Write original, received, refined and errors side by side.", show_default=False),
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
        check_picture_name(path)
    snrs_db = (one_snr(snr),)
    item = load_image(image)
    check_outputs(*filter(None, (out, strip)), inputs=[image])
    chosen = presets.scheme(with_codec(scheme, codec))
    if ":" in receiver:
        raise InvalidOption(
            f"--receiver {receiver}: a name alone; --steps, --knob and --samples tell the rest"
        )
    if receiver:
        spec = f"{receiver}:{'' if steps is None else steps}:{knob!r}:{samples}"
        chosen = presets.refined(chosen, presets.receiver(spec, presets.prior(prior) if prior else None))
    elif steps is not None or knob != 1 or samples != 1 or prior:
        raise InvalidOption("--steps, --knob, --samples, --prior belong to --receiver; name one, like ddrm")
    plain = presets.plain(chosen)
    shown = (chosen,) if strip is None or plain.name == chosen.name else (plain, chosen)
    with receiver_progress(shown) as schemes:
        point = Sweep(
            schemes,
            (presets.channel(channel),),
            (item,),
            snrs_db,
            (rho,),
            chosen_metrics(metrics, (item,)),
            (seed,),
        )
        with TemporaryDirectory() as folder, ResultStore(Path(folder) / "records.sqlite") as store:
            records = tuple(run(point, store, keep=Path(folder)))
            pictures = {r.scheme: load_image(kept_path(Path(folder), r.scheme, r.key)).x for r in records}
    record = records[-1]
    if out is not None:
        _write_picture(out, to_picture(pictures[record.scheme]))
    if strip is not None:
        from semcom.strips import image_strip

        _write_picture(strip, image_strip(item.x, pictures))
    if as_json:
        print(json.dumps(finite(record.row()), indent=1))
    else:
        print_row(record.row())
    if record.outage:
        note(f"outage: {record.cause or 'the payload was lost'}; the picture shown is the concealment")


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
    from semcom.engine import check_workers
    from semcom.results import ResultStore
    from semcom.summary import PICTURES, RECORDS, keep_originals
    from semcom.sweep import Sweep, progress_bar, run

    items = load_folder(data) if data is not None else sample_photos()
    if not 1 <= seeds <= MAX_GRID:
        raise InvalidOption(f"--seeds {seeds}: choose 1..{MAX_GRID}")
    check_workers(workers)
    design = Sweep(
        tuple(presets.scheme(with_codec(name, codec)) for name in names_of("--schemes", schemes)),
        tuple(presets.channel(name) for name in names_of("--channels", channels)),
        items,
        snr_grid(snr),
        tuple(names_of("--rho", rho)),
        chosen_metrics(metrics, items),
        tuple(range(seeds)),
    )
    path, pictures = out / RECORDS, out / PICTURES if keep else None
    if dry_run:
        print_plan(design, path, pictures)
        return
    with ResultStore(path) as store, progress_bar() as progress:
        if keep:
            keep_originals(items, out)
        done = sum(1 for _ in run(design, store, workers, progress, pictures))
    print(f"{done} new records in {path}; next: semcom report {out}")


@app.command(
    epilog=_examples(
        "semcom hide photo.png --payload secret.zip --out stego.png",
        "semcom hide photo.png --payload secret.zip --out stego.png --kl-weight 2",
    )
)
def hide(
    host: Annotated[Path, typer.Argument(help="A picture of 8 bits, grey or RGB.", show_default=False)],
    payload: Annotated[Path, typer.Option(help="Any file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The stego picture, lossless.", show_default=False)],
    method: Annotated[
        str, typer.Option(help="recursive, error-expansion or histogram-shifting.")
    ] = "recursive",
    kl_weight: Annotated[
        float,
        typer.Option(
            help="Of the divergence of histograms, in squared levels per nat (recursive only).", min=0
        ),
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Hide a file in a picture, such that `semcom reveal` gets both back bit for bit."""
    import numpy as np
    from PIL import Image as PillowImage

    from semcom.hiding.expansion import ErrorExpansion
    from semcom.hiding.picture import embedding
    from semcom.hiding.recursive import Recursive
    from semcom.hiding.shifting import HistogramShifting

    methods = {m.name: m for m in (Recursive(kl_weight), ErrorExpansion(), HistogramShifting())}
    chosen = methods.get(Recursive(kl_weight).name if method == "recursive" else method)
    if chosen is None:
        raise InvalidOption(f"--method {method}: choose recursive, error-expansion or histogram-shifting")
    if kl_weight and method != "recursive":
        raise InvalidOption(f"--kl-weight belongs to --method recursive, not to {method}")
    check_picture_name(out)
    check_outputs(out, inputs=[host, payload])
    pixels, content = _lossless_pixels(host), payload.read_bytes()
    if not content:
        raise InvalidSource(f"{payload}: an empty file; there is nothing to hide")
    done = embedding(pixels, content, chosen)
    _write_picture(out, PillowImage.fromarray(done.stego))
    mse = float(np.square(pixels.astype(float) - done.stego).mean())
    row = {
        "payload_bytes": done.payload_bits // 8,
        "bpp": done.bpp,
        "psnr_db": 10 * math.log10(255**2 / mse) if mse else math.inf,
        "symbols": done.symbols,
    }
    if as_json:
        print(json.dumps(finite(row), indent=1))
    else:
        print_row(row)


@app.command(epilog=_examples("semcom reveal stego.png --payload secret.zip --host photo.png"))
def reveal(
    stego: Annotated[Path, typer.Argument(help="A picture made by `semcom hide`.", show_default=False)],
    payload: Annotated[Path, typer.Option(help="Write the hidden file.", show_default=False)],
    host: Annotated[
        Path | None, typer.Option(help="Write the picture as it was, lossless.", show_default=False)
    ] = None,
) -> None:
    """Get a hidden file back, and the picture as it was before."""
    from PIL import Image as PillowImage

    from semcom.hiding.picture import extract

    check_picture_name(host)
    check_outputs(*filter(None, (payload, host)), inputs=[stego])
    content, pixels = extract(_lossless_pixels(stego))
    _write(payload, content)
    if host is not None:
        _write_picture(host, PillowImage.fromarray(pixels))
    print(f"{len(content)} bytes in {payload}" + (f", the picture before in {host}" if host else ""))


@app.command(
    name="plot",
    epilog=_examples(
        "semcom plot results/first",
        "semcom plot results/first --metrics psnr_db --snr 0,10",
        "semcom plot results/first --limit photos/",
    ),
)
def plot_results(
    results: ResultsArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the figures.", show_default="RESULTS/figures")
    ] = None,
    metrics: Annotated[
        str, typer.Option("--metrics", help="Columns, separated by commas.", show_default="all")
    ] = "",
    snr: Annotated[
        str, typer.Option("--snr", help="SNRs of figures at one SNR.", show_default="the middle one")
    ] = "",
    limit: Annotated[
        Path | None,
        typer.Option(help="Folder of the pictures sent; draws the limit of a Gaussian model of each."),
    ] = None,
) -> None:
    """Draw a folder of results as PNG and SVG: metrics against SNR and rho, perception against distortion."""
    from semcom.plots import figure_bytes
    from semcom.results import ResultStore
    from semcom.summary import RECORDS, figures

    with ResultStore(results / RECORDS, read_only=True) as store:
        records, columns = store.frame(), store.columns()
    folder = out if out is not None else results / "figures"
    make_folder(folder)
    names = names_of("--metrics", metrics) if metrics else ()
    models = _models(limit) if limit is not None else ()
    for name, figure in figures(records, names, snr_grid(snr) if snr else (), models, columns).items():
        for kind in ("png", "svg"):
            path = folder / f"{name}.{kind}"
            _write(path, figure_bytes(figure, kind))
            print(path)


def _models(folder: Path) -> "list[GaussianModel]":
    from semcom.data import load_folder
    from semcom.theory.source_limit import CLASSES, GaussianModel, fit

    def model(item: "Item") -> GaussianModel:
        try:
            return fit([item.x[0].permute(1, 2, 0).numpy()], CLASSES)
        except (InvalidOption, InvalidSource) as error:
            raise InvalidSource(
                f"--limit: no Gaussian model of {item.id} ({error}); "
                "it needs a larger picture, and of more than one colour"
            ) from None

    return [model(item) for item in load_folder(folder)]


@app.command(name="report", epilog=_examples("semcom report results/first --title 'First results'"))
def report_results(
    results: ResultsArgument,
    out: Annotated[Path | None, typer.Option(help="The file.", show_default="RESULTS/report.html")] = None,
    title: Annotated[str, typer.Option(help="Heading.", show_default="the folder's name")] = "",
) -> None:
    """Write one self-contained HTML page: table, pictures (of `sweep --keep`), figures and versions."""
    from semcom.summary import report

    path = out if out is not None else results / "report.html"
    if path.suffix not in (".html", ".htm"):
        raise InvalidOption(f"{path}: the report is a page; name it .html")
    if path.is_dir():
        raise InvalidOption(f"{path}: a folder; name a file in it")
    print(report(results, path, title or Path(os.path.realpath(results)).name))


@app.command(
    name="realism",
    epilog=_examples("semcom realism results/first", "semcom realism results/first --crop 64"),
)
def score_realism(
    results: ResultsArgument,
    metrics: Annotated[
        str,
        typer.Option(
            help="Of swd_set, kid_inception, fid_inception.",
            show_default="all that work here",
        ),
    ] = "",
    crop: Annotated[int, typer.Option(help="Side of the crops in pixels.")] = 128,
    out: Annotated[Path | None, typer.Option(help="The table.", show_default="RESULTS/realism.csv")] = None,
) -> None:
    """Compare all pictures of an operating point (of `sweep --keep`) with all originals, as sets."""
    from semcom.metrics import unavailable_set_metrics
    from semcom.realism import SET_METRICS, realism
    from semcom.sweep import progress_bar

    path = out if out is not None else results / "realism.csv"
    if path.suffix != ".csv":
        raise InvalidOption(f"{path}: the table is a .csv file")
    if out is not None:
        check_outputs(path, inputs=[])
    missing = unavailable_set_metrics()
    names = names_of("--metrics", metrics) if metrics else ["swd_set"] if missing else list(SET_METRICS)
    for name in names:
        if name not in SET_METRICS:
            raise UnknownName(f"no set metric called {name!r}; there are {', '.join(SET_METRICS)}")
        SET_METRICS[name]()  # its network must be here
    with progress_bar("realism") as progress:
        frame = realism(results, {name: SET_METRICS[name] for name in names}, crop, progress)
    _write(path, frame.to_csv(index=False, lineterminator="\n").encode())
    print_summary(shown_sets(frame), "sets of crops")
    for name in names:
        if frame[name].count() < len(frame):
            note(f"{name}: {frame['crops'].min()} crops are too few; add pictures, or lower --crop")
    for line in () if metrics else missing:
        note(line)
    print(path)


@app.command(epilog=_examples("semcom export results/first --format csv --out first.csv"))
def export(
    results: ResultsArgument,
    out: Annotated[Path | None, typer.Option(help="The file.", show_default="RESULTS/records.FORMAT")] = None,
    form: Annotated[str, typer.Option("--format", help="csv, parquet or json.")] = "csv",
) -> None:
    """Write the records, one row per delivered picture, for other programs."""
    from semcom.results import ResultStore
    from semcom.summary import RECORDS

    if form not in ("csv", "parquet", "json"):
        raise InvalidOption(f"--format {form}: choose csv, parquet or json")
    path = out if out is not None else results / f"records.{form}"
    if path.suffix != f".{form}":
        raise InvalidOption(f"{path}: a file of --format {form} ends in .{form}")
    with ResultStore(results / RECORDS, read_only=True) as store:
        print(store.export(path))


@app.command(epilog=_examples("semcom quickstart", "semcom quickstart --out /tmp/first --workers 4"))
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("quickstart"),
    workers: Annotated[int, typer.Option(help="Local processes.")] = 2,
) -> None:
    """Send photographs over two channels, digitally and by joint coding; print a table, write a report.

    Takes about a minute; needs no network and no data.
    """
    from semcom.quickstart import quickstart
    from semcom.results import ResultStore
    from semcom.summary import RECORDS, table
    from semcom.sweep import progress_bar

    with progress_bar("quickstart") as progress:
        path = quickstart(out, workers, progress)
    with ResultStore(out / RECORDS, read_only=True) as store:
        print_summary(table(store.frame(), brief=True, columns=store.columns()))
    print(f"Report with pictures and curves: {path.resolve()}")


@app.command(
    epilog=_examples(
        "semcom train deepjscc-2019 --rho 1/12 --data photos/ --validation val/ --out trained/",
        "semcom train deepjscc --data train.npz --validation val.npy --seconds 540 --device cuda --batch 64 "
        "--out trained/",
        "semcom train deepjscc-perceptual --data mine/ --validation val/ --out tuned/",
        "semcom train deepjscc --start deepjscc --patience 5 --data mine/ --validation val/ --out tuned/",
        "accelerate launch --multi_gpu --num_processes 4 --no_python semcom train deepjscc --device cuda "
        "--batch 256 --data photos/ --validation val/ --out trained/",
        "torchrun --no-python --nproc-per-node 2 semcom train learned-codec --data photos/ --validation val/ "
        "--out trained/",
    )
)
def train(
    name: Annotated[
        str,
        typer.Argument(
            help="deepjscc, deepjscc-perceptual, deepjscc-2019, learned-codec, prior or refiner.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path, typer.Option(help="Pictures to train on: folder, .npy or .npz shard.", show_default=False)
    ],
    validation: Annotated[
        Path, typer.Option(help="Pictures for the score: folder or shard.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of checkpoint, curve and weights.", show_default=False)],
    seconds: Annotated[int, typer.Option(help="Wall-clock length.", min=1)] = 1500,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[
        int | None,
        typer.Option(
            help="Crops per step, over all processes.", min=1, max=MAX_BATCH, show_default="the recipe's"
        ),
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Their side in pixels.", min=16, show_default="the recipe's")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak of Adam's.", min=0, show_default="the recipe's")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Weights to start from: a file, or a network's name.", show_default="none"),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="End after so many scores without a better one.", min=1, show_default="to the end"),
    ] = None,
    rho: Annotated[
        str | None, typer.Option("--rho", help="Channel uses per source value.", show_default="the recipe's")
    ] = None,
    snr: Annotated[
        str | None, typer.Option("--snr", help="Of the channel, in dB.", show_default="the recipe's")
    ] = None,
) -> None:
    """Train a network, or go on where the last run in the folder stopped.

    Ctrl-C ends a run after its step; the same command goes on.
    """
    import torch

    from semcom import zoo
    from semcom.data import picture_files
    from semcom.training.crops import SHARDS
    from semcom.training.processes import is_main
    from semcom.training.recipes import recipe

    options = {
        "batch": batch,
        "crop": crop,
        "learning_rate": learning_rate,
        "start": zoo.find(start) if start is not None else None,
        "patience": patience,
        "rho": rho,
        "snr_db": one_snr(snr) if snr is not None else None,
    }
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InvalidOption(f"--learning-rate {learning_rate:g}: above 0, and finite, like 1e-3")
    trained = recipe(name, {option: value for option, value in options.items() if value is not None})
    if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
        raise InvalidOption(f"--device {device}: not here; choose cpu{', cuda' * torch.cuda.is_available()}")
    for pictures in (data, validation):
        if pictures.suffix not in SHARDS:
            picture_files(pictures)
    make_folder(out)
    with training_progress():
        score_db = trained(seconds=float(seconds), out=out, photos=data, validation=validation, device=device)
    if is_main():
        print(f"validation score {score_db:.2f} dB; weights in {out / 'weights.safetensors'}")


@app.command(epilog=_examples("semcom selfcheck", "semcom selfcheck --json > selfcheck.json"))
def selfcheck(
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Measure channels, constellations and codes against theory.

    The exit code is 1 if a row is off by more than 4 standard errors, which happens once in 200 runs.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from channels.selfcheck import selfcheck

    checks = []
    with Console(stderr=True).status("measuring") as status:
        for check in selfcheck(seed):
            checks.append(check)
            status.update(check.name)
    failed = sum(not check.ok for check in checks)
    if as_json:
        rows = [{**asdict(check), "z": check.z, "ok": check.ok} for check in checks]
        print(json.dumps([finite(row) for row in rows], indent=1))
    else:
        table = Table("check", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for head in ("measured", "expected", "std. error", "z"):
            table.add_column(head, justify="right", no_wrap=True)
        for check in checks:
            numbers = (check.measured, check.expected, check.standard_error)
            style = None if check.ok else "bold red"
            table.add_row(check.name, *(f"{x:.5g}" for x in numbers), f"{check.z:+.2f}", style=style)
        Console().print(table)
        print(f"{len(checks)} checks, {failed} beyond 4 standard errors")
    return 1 if failed else 0


@app.command(name="schemes", epilog=_examples("semcom schemes | grep avif"))
def list_schemes() -> None:
    """List the schemes, one a line, name first.

    More follow from the patterns CODEC+ldpc:mcsN, CODEC+ldpc:csit-average and CODEC+ideal:csit-average, where
    CODEC may be package.module:NAME.
    """
    from semcom import presets

    print_listing(presets.schemes())


@app.command(name="channels", epilog=_examples("semcom channels"))
def list_channels() -> None:
    """List the channels, one a line, name first; wrappers stand before a slash and can be nested."""
    from semcom import presets

    print_listing(presets.channels())


def _lossless_pixels(path: Path) -> "np.ndarray":
    """As they are in the file: grey or RGB of 8 bits, nothing converted."""
    import numpy as np
    from PIL import Image as PillowImage

    if not path.is_file():
        raise InvalidSource(f"{path}: no such file")
    deep = False
    try:
        with PillowImage.open(path) as picture:
            deep = any("16" in str(part) for tile in picture.tile for part in tile[3:])
            picture.load()
    except Exception as error:  # whatever a foreign decoder throws at damaged bytes
        raise InvalidSource(f"{path}: not a readable picture ({reason_of(error)})") from None
    if deep or picture.mode not in ("L", "RGB") or "transparency" in picture.info:
        kind = "16 bits" if deep else f"type {picture.mode}"
        raise InvalidSource(
            f"{path}: pixels of {kind}; bits are hidden in 8-bit grey or RGB without transparency, "
            "convert it first"
        )
    return np.asarray(picture)


def _write_picture(path: Path, picture: "Picture") -> None:
    buffer = BytesIO()
    picture.save(buffer, LOSSLESS[path.suffix.lower()])
    _write(path, buffer.getvalue())


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
