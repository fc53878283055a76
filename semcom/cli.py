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
from semcom.files import write_whole
from semcom.options import (
    LOSSLESS,
    MAX_GRID,
    check_device,
    check_outputs,
    check_picture_name,
    check_strip_name,
    chosen_metrics,
    make_folder,
    modalities_of,
    names_of,
    one_snr,
    snr_grid,
)
from semcom.terminal import (
    complain,
    finite,
    note,
    print_listing,
    print_plan,
    print_row,
    print_summary,
    progress_bar,
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
    help="Pictures, clips and texts over noisy channels, by every way the field knows, at equal uses.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples("semcom quickstart", "semcom send photo.png --scheme avif+ldpc --snr 10"),
)
INTERRUPTED = 130  # what typer makes of Ctrl-C
MAX_BATCH = 2**16  # crops; more is one, too

ChannelOption = Annotated[
    str, typer.Option("--channel", help="A name from `semcom channels`, or package.module:NAME.")
]
CodecOption = Annotated[
    str, typer.Option("--codec", help="Codec in place of the scheme's own: a name, or package.module:NAME.")
]
MetricsOption = Annotated[
    str,
    typer.Option(
        "--metrics",
        help="Columns, separated by commas.",
        show_default="psnr_db,ms_ssim,swd,lpips_squeeze; of a text wer,cer,bleu",
    ),
]
ModalityOption = Annotated[
    str,
    typer.Option(
        "--modality",
        help="What is sent: image, video, text, or package.module:NAME of a modality of yours.",
        show_default="by the file",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="Where networks run: cpu or cuda.")]
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
        "semcom send clip.mkv --scheme x265+ldpc --channel lossy:512:0.1/awgn --snr 10 --out out.mkv",
        "semcom send letter.txt --snr 5 --rho 30 --out received.txt",
        "semcom send photo.png --scheme softcast --snr -5 --strip strip.png --json > record.json",
        "semcom send photo.png --scheme deepjscc --rho 1/192 --snr 5 --receiver ddrm --steps 8 --knob 0.7 "
        "--strip strip.png",
    )
)
def send(
    source: Annotated[Path, typer.Argument(help="A picture, a clip or a text.", show_default=False)],
    snr: Annotated[str, typer.Option("--snr", help="Average received Es/N0 in dB.", show_default=False)],
    scheme: Annotated[
        str | None,
        typer.Option(
            "--scheme",
            help="A name from `semcom schemes`, or package.module:NAME.",
            show_default="avif+ldpc, x265+ldpc, zlib+ldpc",
        ),
    ] = None,
    channel: ChannelOption = "awgn",
    rho: Annotated[
        str | None,
        typer.Option(
            "--rho",
            help="Channel uses per source value, like 1/12 or 0.02; of a text per word.",
            show_default="1/12, of a text 20",
        ),
    ] = None,
    codec: CodecOption = "",
    receiver: Annotated[
        str,
        typer.Option(
            help="Refine what arrived: ddnm, ddrm, diffpir, dps, posterior, loop; consistency (JPEG only); "
            "refiner (with a --prior that takes guesses); package.module:NAME.",
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
        str | None,
        typer.Option(
            help="Prior of the receiver: a weights file, folder or hub name of diffusers, checkpoint (.pt) "
            "of guided-diffusion, or package.module:NAME.",
            show_default="shipped",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of noise and fading.")] = 0,
    metrics: MetricsOption = "",
    out: Annotated[Path | None, typer.Option(help="Write what was received.", show_default=False)] = None,
    strip: Annotated[
        Path | None,
        typer.Option(help="Write original, received, refined and errors side by side.", show_default=False),
    ] = None,
    modality: ModalityOption = "",
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Send one picture, clip or text once: what arrives, what it cost, and how good it is.

    What is lost is no error: the record says outage=1, and what is shown is the cover of lost items.
    """
    from semcom import names
    from semcom.data import load
    from semcom.modalities.modality import check_writable
    from semcom.names.parser import IMPORTED
    from semcom.names.receivers import spelled
    from semcom.names.schemes import receiver_named
    from semcom.sending import send

    check_device(device)
    snr_db = one_snr(snr)
    known = modalities_of(modality)
    item = load(source, known)
    if out is not None:
        check_writable(out, item.modality)
    check_strip_name(strip, item.modality)
    check_outputs(*filter(None, (out, strip)), inputs=[source])
    name = names.DEFAULT_SCHEMES.get(item.modality.name, "") if scheme is None else scheme
    chosen = names.scheme(names.with_codec(name, codec), item.modality, device)
    if IMPORTED.fullmatch(receiver):
        chosen = names.refined(chosen, receiver_named(receiver))
    elif receiver:
        denoiser = None if prior is None else names.prior(prior, device)
        refining = names.receiver(spelled(receiver, steps, knob, samples), denoiser, device)
        chosen = names.refined(chosen, refining)
    elif steps is not None or knob != 1 or samples != 1 or prior is not None:
        raise InvalidOption("--steps, --knob, --samples, --prior belong to --receiver; name one, like ddrm")
    measures = chosen_metrics(metrics, (item,), device)
    plain = names.plain(chosen)
    shown = (chosen,) if strip is None or plain.name == chosen.name else (plain, chosen)
    with receiver_progress(shown) as schemes:
        sendings = {
            s.name: send(item, s, channel, snr_db, rho, seed, measures, known, device) for s in schemes
        }
    sending = sendings[chosen.name]
    record = sending.record
    if out is not None:
        item.modality.write(sending.outcome.x_hat, out)
    if strip is not None:
        from semcom.strips import write_strip

        write_strip(strip, item, {name: s.outcome.x_hat for name, s in sendings.items()})
    if as_json:
        print(json.dumps(finite(record.row()), indent=1))
    else:
        print_row(record.row())
    if record.outage:
        cause = record.cause or "the payload was lost"
        instead = "a sample of the prior" if receiver else "the cover of lost items"
        note(f"outage: {cause}; what is shown is {instead}")


@app.command(
    epilog=_examples(
        "semcom sweep --schemes avif+ldpc,softcast --channels awgn,rayleigh:64 --snr 0:20:5 --rho 1/12,1/48 "
        "--data photos/ --seeds 3 --workers 2 --out results/first",
        "semcom sweep --schemes x265+ldpc,avif+ldpc --data clips/ --snr 0:20:5 --rho 1/48 --out out/clips",
        "semcom sweep --schemes zlib+ldpc,utf8+ldpc --data letters/ --snr 0:20:5 --rho 20 --out out/texts",
        "semcom sweep --out results/first --dry-run",
    )
)
def sweep(
    out: Annotated[Path, typer.Option(help="Folder of records.sqlite.", show_default=False)],
    schemes: Annotated[
        str | None,
        typer.Option(
            help="Names, separated by commas.",
            show_default="avif+ldpc,softcast; of clips x265+ldpc, of texts zlib+ldpc",
        ),
    ] = None,
    channels: Annotated[str, typer.Option(help="Names, separated by commas.")] = "awgn",
    snr: Annotated[str, typer.Option("--snr", help="In dB: first:last:step, or a list.")] = "0:20:5",
    rho: Annotated[
        str | None,
        typer.Option(
            help="Channel uses per source value (of a text per word), separated by commas.",
            show_default="1/12, of texts 20",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures, clips or texts; without it, photographs of scikit-image."),
    ] = None,
    codec: CodecOption = "",
    metrics: MetricsOption = "",
    seeds: Annotated[int, typer.Option(help="Noise realisations per item.")] = 1,
    workers: Annotated[int, typer.Option(help="Local processes.")] = 1,
    modality: ModalityOption = "",
    device: DeviceOption = "cpu",
    keep: Annotated[bool, typer.Option("--keep", help="Keep what is received.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Send a folder of pictures, clips or texts by several schemes over several channels.

    At every SNR and rho. The same command resumes a run that was stopped, in whatever way.
    """
    from semcom import names
    from semcom.data import load_folder, sample_photos
    from semcom.engine import local_engine
    from semcom.results import ResultStore
    from semcom.sending import DEFAULT_RHO
    from semcom.summary import PICTURES, RECORDS, keep_originals
    from semcom.sweep import Sweep, run

    check_device(device)
    items = load_folder(data, modalities_of(modality)) if data is not None else sample_photos()
    kind = items[0].modality
    if not 1 <= seeds <= MAX_GRID:
        raise InvalidOption(f"--seeds {seeds}: choose 1..{MAX_GRID}")
    engine = local_engine(workers)
    default = "avif+ldpc,softcast" if kind.name == "image" else names.DEFAULT_SCHEMES.get(kind.name, "")
    spelled = names_of("--schemes", default if schemes is None else schemes)
    design = Sweep(
        tuple(names.scheme(names.with_codec(name, codec), kind, device) for name in spelled),
        tuple(names.channel(name) for name in names_of("--channels", channels)),
        items,
        snr_grid(snr),
        tuple(names_of("--rho", DEFAULT_RHO.get(kind.name, "1/12") if rho is None else rho)),
        chosen_metrics(metrics, items, device),
        tuple(range(seeds)),
    )
    path, pictures = out / RECORDS, out / PICTURES if keep else None
    if dry_run:
        print_plan(design, path, pictures)
        return
    with ResultStore(path) as store, progress_bar() as progress:
        if keep:
            keep_originals(items, out)
        done = sum(1 for _ in run(design, store, engine, progress, pictures))
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
    write_whole(payload, content)
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
            write_whole(path, figure_bytes(figure, kind))
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
    write_whole(path, frame.to_csv(index=False, lineterminator="\n").encode())
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
    check_device(device)
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
    from semcom import names

    print_listing(names.schemes())


@app.command(name="channels", epilog=_examples("semcom channels"))
def list_channels() -> None:
    """List the channels, one a line, name first; wrappers stand before a slash and can be nested."""
    from semcom import names

    print_listing(names.channels())


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
    write_whole(path, buffer.getvalue())
