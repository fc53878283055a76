"""The `semcom` command, a thin layer over the library. To start fast, commands import what they need."""

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semcom import __version__, completion
from semcom.errors import InvalidOption, InvalidSource, MissingWeights, SemcomError, UnknownName
from semcom.files import write_whole
from semcom.options import (
    LOSSLESS,
    MAX_GRID,
    check_device,
    check_folder_name,
    check_input,
    check_none_empty,
    check_outputs,
    check_picture_name,
    check_results,
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
    quiet_libraries,
    readable_width,
    remembered_interruptions,
    sending_progress,
    shown_instead,
    shown_sets,
    silence_stdout,
    training_progress,
)
from semcom.text.commands import text as texts
from semcom.video.commands import video

if TYPE_CHECKING:
    from semcom.data import Item
    from semcom.hiding.hosts import Host
    from semcom.theory.source_limit import GaussianModel


def _one_of(*words: str) -> Callable[[str], list[str]]:
    """Completions of an option with one name."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def _some_of(*words: str) -> Callable[[str], list[str]]:
    """Completions of an option with names separated by commas."""

    def complete(incomplete: str) -> list[str]:
        return completion.last_of_list(words, incomplete)

    return complete


def _examples(*commands: str) -> str:
    return "\n\n".join(f"Example: {command}" for command in commands)


app = typer.Typer(
    name="semcom",
    help="Send images, clips and texts over noisy channels and compare schemes at equal channel uses.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples("semcom quickstart", "semcom send photo.png --scheme avif+ldpc --snr 10"),
)
app.add_typer(video)
app.add_typer(texts)
INTERRUPTED = 130  # exit code of typer after Ctrl-C
SHELLS = ("bash", "zsh", "fish")
MAX_BATCH = 2**16  # crops; catches typing errors

ChannelOption = Annotated[
    str,
    typer.Option(
        "--channel",
        help="Channel: a name from `semcom channels`, or package.module:NAME.",
        autocompletion=_one_of(*completion.CHANNELS),
    ),
]
CodecOption = Annotated[
    str | None,
    typer.Option(
        "--codec",
        help="Source codec that replaces the scheme's own: a name, or package.module:NAME.",
        show_default="the scheme's",
        autocompletion=_one_of(*completion.CODECS),
    ),
]
ReceiverOption = Annotated[
    str | None,
    typer.Option(
        "--receiver",
        help="Generative receiver: ddnm, ddrm, diffpir, dps, posterior, loop; consistency (JPEG only); "
        "refine (one call, no prior; clips too); interpolate (lost frames of clips); memory (stored "
        "pictures, see --memory); package.module:NAME.",
        show_default="the scheme's",
        autocompletion=_one_of(*completion.METHODS),
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps", help="Number of noise levels of the receiver.", min=1, show_default="the method's"
    ),
]
KnobOption = Annotated[
    float | None,
    typer.Option(
        "--knob",
        help="Receiver output: what arrived (0) to a posterior sample (1); of refine up to 1.5.",
        min=0,
        max=1.5,
        show_default="1; of refine 0.85",
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option("--samples", help="Number of samples that the receiver averages.", min=1, show_default="1"),
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        "--prior",
        help="Diffusion prior of the receiver: a weights file, a folder or hub name of diffusers, a "
        "checkpoint (.pt) of guided-diffusion, or package.module:NAME.",
        show_default="prior of this package",
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="Folder that both ends have: the receiver recalls its pictures (receiver memory), or the codec "
        "of a scheme like memory:avif+ldpc sends an index of a picture or of a frame of a clip; "
        "memory:zlib+ldpc of a sentence.",
        show_default=False,
    ),
]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help="Metrics, separated by commas.",
        show_default="psnr_db,ms_ssim,swd,lpips_squeeze; for texts wer,cer,bleu",
        autocompletion=_some_of(*completion.METRICS),
    ),
]
ModalityOption = Annotated[
    str | None,
    typer.Option(
        "--modality",
        help="Modality of the data: image, video, text, or package.module:NAME of your own.",
        show_default="from the file",
        autocompletion=_one_of(*completion.MODALITIES),
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", help="Device for networks: cpu or cuda.", autocompletion=_one_of("cpu", "cuda")),
]
ResultsArgument = Annotated[Path, typer.Argument(help="Folder of results.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and all else on stderr.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Typed errors become one line on stderr. Any other exception is a bug, and is raised.

    Args:
        arguments: Command-line arguments; None takes those of this process.

    Returns:
        0 after success, 1 if `selfcheck` finds a deviation, 2 after an error, 130 after Ctrl-C.
    """
    if completion.VARIABLE in os.environ:
        completion.prepare()
    if "" not in sys.path:  # package.module:NAME may lie in the current folder
        sys.path.append("")
    sys.stdout = sys.stdout or StringIO()  # None if the caller closed it
    sys.stderr = sys.stderr or StringIO()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for terminals that cannot show a character
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # silences its warning about a read-only home
    try:
        check_none_empty(sys.argv[1:] if arguments is None else arguments)
        with remembered_interruptions(), readable_width(), quiet_libraries():
            code = app(args=arguments, prog_name="semcom", standalone_mode=False)
        if code == INTERRUPTED:
            return complain("interrupted", INTERRUPTED)
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not at interpreter exit
        return code or 0
    except KeyboardInterrupt:
        return complain("interrupted", INTERRUPTED)
    except typer.TyperException as error:
        return complain(error.format_message())
    except BrokenPipeError:  # the reader of our output, `head` for instance, has seen enough
        silence_stdout()
        return 0
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):  # unbuffered, click exits first
            raise
        silence_stdout()
        return 0
    except SemcomError as error:
        return complain(str(error))
    except MemoryError:
        return complain("out of memory; send smaller items, lower rho, or use fewer workers")
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        silence_stdout()
        return complain(where + (error.strerror or str(error)))
    except ValueError as error:
        from channels.errors import ChannelError

        if not isinstance(error, ChannelError):
            raise
        return complain(str(error))


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(f"semcom {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


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
    source: Annotated[Path, typer.Argument(help="An image, clip or text file.", show_default=False)],
    snr: Annotated[str, typer.Option("--snr", help="Average received Es/N0 in dB.", show_default=False)],
    scheme: Annotated[
        str | None,
        typer.Option(
            "--scheme",
            help="Scheme: a name from `semcom schemes`, or package.module:NAME.",
            show_default="avif+ldpc; for clips x265+ldpc, for texts zlib+ldpc",
            autocompletion=_one_of(*completion.SCHEMES),
        ),
    ] = None,
    channel: ChannelOption = "awgn",
    rho: Annotated[
        str | None,
        typer.Option(
            "--rho",
            help="Allowed channel uses per source value (per word of a text), such as 1/12 or 0.02.",
            show_default="1/12; for texts 20",
        ),
    ] = None,
    codec: CodecOption = None,
    receiver: ReceiverOption = None,
    steps: StepsOption = None,
    knob: KnobOption = None,
    samples: SamplesOption = None,
    prior: PriorOption = None,
    memory: MemoryOption = None,
    seed: Annotated[int, typer.Option(help="Seed of noise and fading.")] = 0,
    metrics: MetricsOption = None,
    out: Annotated[Path | None, typer.Option(help="File for the received item.", show_default=False)] = None,
    strip: Annotated[
        Path | None,
        typer.Option(help="File for original, received images and errors side by side.", show_default=False),
    ] = None,
    modality: ModalityOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Send one image, clip or text over a channel, and print channel uses, energy and quality.

    A lost item is an outage, not an error: the record has outage=1, and a cover is shown, such as the mean
    colour of images.
    """
    check_input(source)
    snr_db = one_snr(snr)
    check_outputs(*filter(None, (out, strip)), inputs=[source])
    if out is not None and not out.suffix:
        raise InvalidOption(f"{out}: without an ending; name it as a file, such as {out}{source.suffix}")

    from semcom import names
    from semcom.data import load
    from semcom.modalities.modality import check_writable
    from semcom.sending import send

    check_device(device)
    known = modalities_of(modality)
    item = load(source, known)
    if out is not None:
        check_writable(out, item.modality)
    check_strip_name(strip, item.modality)
    name = names.DEFAULT_SCHEMES.get(item.modality.name, "") if scheme is None else scheme
    refining = (receiver, steps, knob, samples, prior, memory)
    spelled = names.with_receiver(names.with_codec(name, codec), *refining)
    chosen = names.scheme(spelled, item.modality, device)
    measures = chosen_metrics(metrics, (item,), device)
    plain = names.plain(chosen)
    shown = (chosen,) if strip is None or plain.name == chosen.name else (plain, chosen)
    with sending_progress(shown) as schemes:
        sendings = {
            s.name: send(item, s, channel, snr_db, rho, seed, measures, known, device) for s in schemes
        }
    sending = sendings[chosen.name]
    record = sending.record
    if out is not None:
        item.modality.write(sending.outcome.x_hat, out)
    if strip is not None:
        from semcom.budget import shown_rho
        from semcom.strips import write_strip
        from semcom.summary import caption_of

        captions = {name: caption_of(s.record.row()) for name, s in sendings.items()}
        shown_of = {name: s.outcome.x_hat for name, s in sendings.items()}
        heading = f"{record.channel}, ρ = {shown_rho(record.rho)}, SNR {snr_db:g} dB: {item.id}"
        write_strip(strip, item, shown_of, captions, heading)
    if as_json:
        print(json.dumps(finite(record.row()), indent=1))
    else:
        print_row(record.row())
    if record.outage:
        cause = record.cause or "the payload was lost"
        note(f"outage: {cause}; what is shown is {shown_instead(chosen, item, sending.outcome)}")


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
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default=False)],
    schemes: Annotated[
        str | None,
        typer.Option(
            help="Schemes, separated by commas.",
            show_default="avif+ldpc,softcast; for clips x265+ldpc, for texts zlib+ldpc",
            autocompletion=_some_of(*completion.SCHEMES),
        ),
    ] = None,
    channels: Annotated[
        str,
        typer.Option(help="Channels, separated by commas.", autocompletion=_some_of(*completion.CHANNELS)),
    ] = "awgn",
    snr: Annotated[str, typer.Option("--snr", help="Es/N0 in dB: first:last:step, or a list.")] = "0:20:5",
    rho: Annotated[
        str | None,
        typer.Option(
            help="Allowed channel uses per source value (per word of a text), separated by commas.",
            show_default="1/12; for texts 20",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of images, clips or texts.", show_default="photographs of scikit-image"),
    ] = None,
    codec: CodecOption = None,
    receiver: ReceiverOption = None,
    steps: StepsOption = None,
    knob: KnobOption = None,
    samples: SamplesOption = None,
    prior: PriorOption = None,
    memory: MemoryOption = None,
    metrics: MetricsOption = None,
    seeds: Annotated[int, typer.Option(help="Number of noise realisations per item.")] = 1,
    workers: Annotated[int, typer.Option(help="Local processes.")] = 1,
    modality: ModalityOption = None,
    device: DeviceOption = "cpu",
    keep: Annotated[bool, typer.Option("--keep", help="Keep all received items as files.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan without running it.")] = False,
) -> None:
    """Send a folder of images, clips or texts by several schemes over several channels, SNRs and rates.

    After an interruption, the same command resumes the sweep.
    """
    check_folder_name(out)
    if data is not None:
        check_input(data)

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
    refining = (receiver, steps, knob, samples, prior, memory)
    spelled = [names.with_receiver(names.with_codec(name, codec), *refining) for name in spelled]
    design = Sweep(
        tuple(names.scheme(name, kind, device) for name in spelled),
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
    host: Annotated[Path, typer.Argument(help="Host image: 8 bits, grey or RGB.", show_default=False)],
    payload: Annotated[Path, typer.Option(help="File to hide.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Lossless file for the stego image.", show_default=False)],
    method: Annotated[
        str,
        typer.Option(
            help="Method: recursive, error-expansion or histogram-shifting.",
            autocompletion=_one_of("recursive", "error-expansion", "histogram-shifting"),
        ),
    ] = "recursive",
    kl_weight: Annotated[
        float,
        typer.Option(
            help="Weight of the histogram divergence in squared levels per nat (recursive only).", min=0
        ),
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Hide a file in an image; `semcom reveal` recovers file and image bit for bit."""
    import numpy as np

    from semcom.hiding.expansion import ErrorExpansion
    from semcom.hiding.hosts import Host, read_host
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
    picture, content = read_host(host), payload.read_bytes()
    if not content:
        raise InvalidSource(f"{payload}: an empty file; there is nothing to hide")
    done = embedding(picture.pixels, content, chosen)
    _write_picture(out, Host(done.stego, picture.profile))
    mse = float(np.square(picture.pixels.astype(float) - done.stego).mean())
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
    stego: Annotated[Path, typer.Argument(help="An image made by `semcom hide`.", show_default=False)],
    payload: Annotated[Path, typer.Option(help="File for the hidden content.", show_default=False)],
    host: Annotated[
        Path | None, typer.Option(help="Lossless file for the restored image.", show_default=False)
    ] = None,
) -> None:
    """Extract the file hidden in an image, and restore the original image."""
    from semcom.hiding.hosts import Host, read_host
    from semcom.hiding.picture import extract

    check_picture_name(host)
    check_outputs(*filter(None, (payload, host)), inputs=[stego])
    picture = read_host(stego)
    content, pixels = extract(picture.pixels)
    write_whole(payload, content)
    if host is not None:
        _write_picture(host, Host(pixels, picture.profile))
    print(f"{len(content)} bytes in {payload}" + (f", the picture before in {host}" if host else ""))


@app.command(
    name="plot",
    epilog=_examples(
        "semcom plot results/first",
        "semcom plot results/first --metrics psnr_db --snr 0,10",
        "semcom plot results/first --limit photos/",
        "semcom plot results/first --winners --metrics psnr_db",
    ),
)
def plot_results(
    results: ResultsArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the figures.", show_default="RESULTS/figures")
    ] = None,
    metrics: Annotated[
        str, typer.Option("--metrics", help="Metrics, separated by commas.", show_default="all")
    ] = "",
    snr: Annotated[
        str, typer.Option("--snr", help="SNRs in dB for figures at one SNR.", show_default="the middle one")
    ] = "",
    limit: Annotated[
        Path | None,
        typer.Option(help="Folder of the images that were sent; adds the limit of a Gaussian source model."),
    ] = None,
    winners: Annotated[
        bool,
        typer.Option("--winners", help="Draw maps instead: the best scheme over SNR and rho, and its lead."),
    ] = False,
) -> None:
    """Draw results as PNG and SVG: metrics against SNR and rho, perception against distortion."""
    check_results(results)

    from semcom.plots import figure_bytes
    from semcom.results import ResultStore
    from semcom.summary import RECORDS, figures, winner_maps

    if winners and (snr or limit is not None):
        raise InvalidOption("--winners draws all SNRs and no limit; leave --snr and --limit out")

    with ResultStore(results / RECORDS, read_only=True) as store:
        records, columns = store.frame(), store.columns()
    folder = out if out is not None else results / "figures"
    make_folder(folder)
    names = names_of("--metrics", metrics) if metrics else ()
    models = _models(limit) if limit is not None else ()
    if winners:
        drawn = winner_maps(records, names, columns)
    else:
        drawn = figures(records, names, snr_grid(snr) if snr else (), models, columns)
    if not drawn:
        raise InvalidOption(f"{results}: no metric in its records, so nothing to draw; sweep with --metrics")
    for name, figure in drawn.items():
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
    out: Annotated[Path | None, typer.Option(help="HTML file.", show_default="RESULTS/report.html")] = None,
    title: Annotated[str, typer.Option(help="Heading.", show_default="name of the folder")] = "",
) -> None:
    """Write one self-contained HTML page: findings, maps, curves, items (after `sweep --keep`), table."""
    check_results(results)

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
            help="Metrics of sets, by commas: swd_set, kid_inception, fid_inception; of clips fvd_i3d.",
            show_default="all available",
            autocompletion=_some_of(*completion.SET_METRICS),
        ),
    ] = "",
    crop: Annotated[int, typer.Option(help="Side of the compared crops in pixels.")] = 128,
    out: Annotated[Path | None, typer.Option(help="CSV file.", show_default="RESULTS/realism.csv")] = None,
) -> None:
    """Compare received and original pictures or clips as sets: FID, KID, sliced Wasserstein, of clips FVD.

    The sweep must have been run with --keep.
    """
    check_results(results)

    from semcom.realism import SET_METRICS, realism, set_metrics_of

    path = out if out is not None else results / "realism.csv"
    if path.suffix != ".csv":
        raise InvalidOption(f"{path}: the table is a .csv file")
    if out is not None:
        check_outputs(path, inputs=[])
    asked = names_of("--metrics", metrics) if metrics else []
    for name in asked:
        if name not in SET_METRICS:
            raise UnknownName(f"no set metric called {name!r}; there are {', '.join(SET_METRICS)}")
    names: list[str] = []
    left_out: list[str] = []
    for name in asked or set_metrics_of(results):
        try:
            SET_METRICS[name]()  # fails now if the weights of its network are missing
            names.append(name)
        except MissingWeights as error:
            if asked:
                raise
            left_out.append(str(error))
    with progress_bar("realism") as progress:
        frame = realism(results, {name: SET_METRICS[name] for name in names}, crop, progress)
    write_whole(path, frame.to_csv(index=False, lineterminator="\n").encode())
    print_summary(shown_sets(frame), "sets of crops")
    for name in names:
        if frame[name].count() < len(frame):
            note(f"{name}: {frame['crops'].min()} crops are too few; add items, or lower --crop")
    for line in left_out:
        note(line)
    print(path)


@app.command(epilog=_examples("semcom export results/first --format csv --out first.csv"))
def export(
    results: ResultsArgument,
    out: Annotated[
        Path | None, typer.Option(help="Output file.", show_default="RESULTS/records.FORMAT")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="File format: csv, parquet or json.",
            autocompletion=_one_of("csv", "parquet", "json"),
        ),
    ] = "csv",
) -> None:
    """Write the records for other programs, one row per transmitted item."""
    check_results(results)

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
    """Compare digital schemes and joint coding on two channels; print a table and write a report.

    It takes one to two minutes on two idle cores and needs neither network access nor data.
    """
    check_folder_name(out)

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
            help="Recipe: deepjscc, deepjscc-perceptual, deepjscc-2019, learned-codec, prior or refiner.",
            show_default=False,
            autocompletion=_one_of(*completion.RECIPES),
        ),
    ],
    data: Annotated[
        Path, typer.Option(help="Training images: folder, .npy or .npz shard.", show_default=False)
    ],
    validation: Annotated[Path, typer.Option(help="Validation images: folder or shard.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, curve, weights.", show_default=False)],
    seconds: Annotated[int, typer.Option(help="Wall-clock time in seconds.", min=1)] = 1500,
    device: Annotated[str, typer.Option(help="Device: cpu or cuda.")] = "cpu",
    batch: Annotated[
        int | None,
        typer.Option(
            help="Crops per step over all processes.", min=1, max=MAX_BATCH, show_default="the recipe's"
        ),
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of the crops in pixels.", min=16, show_default="the recipe's")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of Adam.", min=0, show_default="the recipe's")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Initial weights: a file, or the name of a network.", show_default="the recipe's"),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after this many scores without improvement.", min=1, show_default="never"),
    ] = None,
    rho: Annotated[
        str | None, typer.Option("--rho", help="Channel uses per source value.", show_default="the recipe's")
    ] = None,
    snr: Annotated[
        str | None, typer.Option("--snr", help="SNR of the channel in dB.", show_default="the recipe's")
    ] = None,
) -> None:
    """Train a network, or resume the run in the output folder.

    Ctrl-C stops after the current step; the same command resumes.
    """
    from semcom import zoo
    from semcom.data import left_out, picture_files
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
            if omitted := left_out(pictures):
                note(omitted)
    make_folder(out)
    with training_progress():
        score_db = trained(seconds=float(seconds), out=out, photos=data, validation=validation, device=device)
    if is_main():
        print(f"validation score {score_db:.2f} dB; weights in {out / 'weights.safetensors'}")


@app.command(
    epilog=_examples(
        "semcom selfcheck", "semcom selfcheck --full", "semcom selfcheck --json > selfcheck.json"
    )
)
def selfcheck(
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="Every operating point with high counts; takes some minutes.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Compare measured channels, constellations and codes with theory, and losses with predictions.

    The exit code is 1 if a value deviates by more than 4 standard errors; by chance, this happens once in 200
    runs.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from semcom.selfcheck import selfcheck

    checks = []
    with Console(stderr=True).status("measuring") as status:
        for check in selfcheck(seed, full):
            checks.append(check)
            status.update(f"{len(checks)} checks; {check.name}")
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


@app.command(name="completion", epilog=_examples("semcom completion bash >> ~/.bashrc"))
def print_completion(
    shell: Annotated[
        str,
        typer.Argument(help="Shell: bash, zsh or fish.", autocompletion=_one_of(*SHELLS), show_default=False),
    ],
) -> None:
    """Print a script for the start-up file of a shell, which then completes commands, options and names."""
    if shell not in SHELLS:
        raise InvalidOption(f"shell {shell!r}: choose {', '.join(SHELLS)}")
    print(completion.script(shell))


@app.command(name="schemes", epilog=_examples("semcom schemes | grep avif"))
def list_schemes() -> None:
    """List the schemes, one per line, with their descriptions.

    Further names follow the patterns CODEC+ldpc:mcsN, CODEC+ldpc:csit-average and CODEC+ideal:csit-average,
    where CODEC may be package.module:NAME.
    """
    from semcom import names

    print_listing(names.schemes())


@app.command(name="channels", epilog=_examples("semcom channels"))
def list_channels() -> None:
    """List the channels, one per line; wrappers precede a slash and can be nested."""
    from semcom import names

    print_listing(names.channels())


def _write_picture(path: Path, host: "Host") -> None:
    from semcom.hiding.hosts import write_host

    if not write_host(path, host, LOSSLESS[path.suffix.lower()]):
        note(f"{path}: this format holds no colour profile, it is left out; name it .png to keep it")
