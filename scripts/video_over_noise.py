"""Clips over noisy and lossy channels at equal measured channel uses: digital, layered, analog.

Run:     TORCH_HOME=../shared/torch-home python scripts/video_over_noise.py
Cost:    see results/video_over_noise/README.md; killed or interrupted, the same command resumes
Expect:  see results/video_over_noise/README.md

Quality against SNR on AWGN, block fading and OFDM, and against loss at one SNR. A lost packet has as many
channel uses as one frame; packets are lost independently, in bursts of five, or by a fade each. Schemes
that are told the average SNR adapt their rate to channel and losses. In packets, a lost one costs its frame
and those that depend on it, which are held or interpolated; how well, is measured on the lost frames alone.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from channels.channel import transmit
from semcom import names
from semcom.budget import parse_rho
from semcom.codecs.once import FittedOnce, PackedOnce
from semcom.data import Item, load_folder
from semcom.errors import InvalidOption
from semcom.experiment import conduct, item_means, run_script, write, write_figure
from semcom.metrics.metric import measure
from semcom.modalities.video import VIDEO, Clip
from semcom.observation import Gaps
from semcom.packetised import Packetised
from semcom.plots import COLORS, FIGURE_STYLE, MARKERS, column_label, metric_vs_snr
from semcom.receivers.clips import Interpolation
from semcom.results import ResultStore
from semcom.scheme import Scheme
from semcom.separate import Separate
from semcom.statistics import bootstrap_mean
from semcom.sweep import Sweep, budget_of, noise_streams
from semcom.transmission import ChannelKnowledge
from semcom.video.comparison import whole_frames

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from semcom.metrics.metric import Metric

SCHEMES = (
    *("x265+ldpc:csit-average", "x265+ldpc:csit-average+refine"),
    *("av1+ldpc:csit-average", "av1+ldpc:csit-average+refine"),
    *("layered+ldpc:csit-average", "deepjscc", "softcast"),
)
PACKETS = ("x265+packets:{uses}", "x265+packets:{uses}+interpolate")
PACKETS += ("webp+packets:{uses}", "webp+packets:{uses}+interpolate")
CHANNELS = ("awgn", "rayleigh:64", "ofdm:tdl-c:100:0")
SNR_DB = (0.0, 5.0, 10.0, 20.0)
RHO = "1/48"
LOSS_SNR_DB = 10.0
LOSS_AT = (LOSS_SNR_DB,)
SLOW = ("av1", "layered")
"""Beginnings of the names of schemes that are measured last."""
LOSSES = {  # channel by what is lost
    "0 %": "awgn",
    "5 %": "lossy:{uses}:0.05/awgn",
    "10 %": "lossy:{uses}:0.1/awgn",
    "30 %": "lossy:{uses}:0.3/awgn",
    "30 % in bursts": "lossy:{uses}:0.0857143:0.2/awgn",
}
FADING = "rayleigh:{uses}"
FADING_SNR_DB = (10.0, 20.0)
CONCEALED = ("webp+packets:{uses}", "x265+packets:{uses}")
CONCEALED_LOSSES = ("10 %", "30 %")
METRICS = ("psnr_db", "lpips_squeeze")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, tabulate, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data/video/eval"), help="folder of clips")
    add("--out", type=Path, default=Path("results/video_over_noise"))
    add("--clips", type=int, default=None, help="only the first so many")
    add("--frames", type=int, default=8, help="first frames of every clip")
    add("--size", default="176x144", help="of the crop from the middle; smaller clips are left out")
    add("--schemes", default=",".join(SCHEMES))
    add("--packets", default=",".join(PACKETS), help="schemes that are sent over the lossy channels alone")
    add("--rho", default=RHO, help="channel uses per pixel value")
    add("--loss-only", action="store_true", help="leave out the sweep over SNR without losses")
    add("--lost", type=int, default=0, metavar="N", help="only measure lost frames, in N realisations")
    chosen = parser.parse_args(arguments)
    width, height = map(int, chosen.size.split("x"))
    items = tuple(cropped(load_folder(chosen.data, (VIDEO,)), chosen.frames, width, height))[: chosen.clips]
    if not items:
        raise InvalidOption(f"{chosen.data}: no clip of at least {chosen.size}; name another size")
    uses = int(3 * width * height * parse_rho(chosen.rho))
    losses = {about: channel.format(uses=uses) for about, channel in LOSSES.items()}
    made = schemes([*chosen.schemes.split(","), *chosen.packets.format(uses=uses).split(",")])
    noisy, packed = made[: len(chosen.schemes.split(","))], made[len(chosen.schemes.split(",")) :]
    metrics = tuple(names.metric(name, "video") for name in METRICS)

    about = f"{len(items)} clips, {chosen.frames} frames of {chosen.size}, rho = {chosen.rho}"
    if chosen.lost:
        concealing = {about: losses[about] for about in CONCEALED_LOSSES}
        packets = [name.format(uses=uses) for name in CONCEALED]
        rows = list(concealed(packets, concealing, items, chosen.rho, metrics, chosen.lost))
        write_concealed(chosen.out, rows, about)
        return print(f"{len(rows)} rows, table in {chosen.out}")
    lossy, fading = tuple(losses.values()), FADING.format(uses=uses)
    slow = [scheme for scheme in noisy if scheme.name.startswith(SLOW)]
    quick = [scheme for scheme in noisy if scheme not in slow]
    # quick schemes first, and clip by clip, so that an interrupted run has something whole
    for group, item in product((quick, *([scheme] for scheme in slow)), items):
        both = [*group, *(packed if group is quick else ())]
        runs = [(group, CHANNELS, SNR_DB), (both, lossy, LOSS_AT), (both, (fading,), FADING_SNR_DB)]
        for sent, channels, snr_db in runs:
            met = tuple(map(names.channel, channels))
            if sent and not (chosen.loss_only and channels is CHANNELS):
                conduct(Sweep(tuple(sent), met, (item,), snr_db, (chosen.rho,), metrics), chosen.out)
    with ResultStore(chosen.out / "records.sqlite", read_only=True) as store:
        whole: Any = store.frame()
    records: Any = whole[whole["item"].isin([item.id for item in items])]
    text = [f"# {about}", ""]
    noise = () if chosen.loss_only else CHANNELS
    points = {f"{channel}, {snr_db:g} dB": (channel, snr_db) for channel in noise for snr_db in SNR_DB}
    points |= {f"loss {about}": (channel, LOSS_SNR_DB) for about, channel in losses.items()}
    points |= {f"a fade per packet, {snr_db:g} dB": (fading, snr_db) for snr_db in FADING_SNR_DB}
    for metric in METRICS:
        text += table(records, metric, points)
        for channel in noise:
            plain = records[records["scheme"].isin([scheme.name for scheme in noisy])]
            figure = metric_vs_snr(plain, metric, chosen.rho, channel)
            write_figure(chosen.out / f"{metric}_{channel.split(':')[0]}.svg", figure)
        write_figure(chosen.out / f"{metric}_loss.svg", loss_figure(records, metric, losses))
    write(chosen.out / "table.md", "\n".join(text) + "\n")
    print(f"{len(records)} records, table in {chosen.out}")


def cropped(items: Sequence[Item[Clip]], frames: int, width: int, height: int) -> Iterator[Item[Clip]]:
    """First frames of the middle of every clip that is large enough."""
    for item in whole_frames(items, frames):
        _, _, full_height, full_width = item.x.frames.shape
        if full_height < height or full_width < width:
            continue
        top, left = (full_height - height) // 2, (full_width - width) // 2
        middle = item.x.frames[:, :, top : top + height, left : left + width].contiguous()
        yield Item(item.id, Clip(middle, item.x.frame_rate), item.modality)


def schemes(named: Sequence[str]) -> list[Scheme[Any]]:
    """Schemes of clips that share what they have encoded: one codec per source, whatever the receiver."""
    codecs: dict[str, FittedOnce | PackedOnce] = {}
    made: list[Scheme[Any]] = []
    for name in named:
        scheme = names.scheme(name, VIDEO)
        transmission = scheme.transmission
        if isinstance(transmission, Separate):
            codec = codecs.setdefault(transmission.name, FittedOnce(transmission.codec))
            scheme = replace(scheme, transmission=replace(transmission, codec=codec))
        elif isinstance(transmission, Packetised):
            codec = codecs.setdefault(transmission.name, PackedOnce(transmission.codec))
            scheme = replace(scheme, transmission=replace(transmission, codec=codec))
        made.append(scheme)
    return made


def rows_at(means: "pd.DataFrame", channel: str, snr_db: float, scheme: str) -> "pd.DataFrame":
    """Rows of one operating point."""
    chosen = (means["channel"] == channel) & (means["snr_db"] == snr_db) & (means["scheme"] == scheme)
    return means.loc[chosen]


def table(records: "pd.DataFrame", metric: str, points: dict[str, tuple[str, float]]) -> list[str]:
    """Lines of a table of means with 95 % bootstrap intervals over clips: a line per operating point."""
    means = item_means(records)
    named = list(dict.fromkeys(records["scheme"]))
    lines = [f"## {metric}", "", f"| channel | {' | '.join(named)} |", "| --- " * (len(named) + 1) + "|"]
    for about, (channel, snr_db) in points.items():
        cells: list[str] = []
        for scheme in named:
            here = rows_at(means, channel=channel, snr_db=snr_db, scheme=scheme)
            if here.empty:
                cells.append("-")
                continue
            found = bootstrap_mean(here[metric], here["item"])
            outage = sum(here["outage"].tolist()) / len(here)
            lost = f", {outage:.0%} lost" if outage else ""
            lost += f", {found.items} clips" if found.items < means["item"].nunique() else ""
            limits = f" ({found.low:.3g} to {found.high:.3g}{lost})" if found.items > 1 else lost
            cells.append(f"{found.mean:.3g}{limits}")
        lines.append(f"| {about} | {' | '.join(cells)} |")
    return [*lines, ""]


def loss_figure(records: "pd.DataFrame", metric: str, losses: dict[str, str]) -> "Figure":
    """Draw a metric against the share of lost packets, a line per scheme; bursts stand apart at the right."""
    import matplotlib
    from matplotlib.figure import Figure

    from semcom.metrics.catalogue import column_named

    means = item_means(records)
    places = list(range(len(losses)))
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(8.2, 5.0), layout="constrained")
        axes = figure.subplots()
        for number, scheme in enumerate(sorted(set(records["scheme"]))):
            rows = [
                rows_at(means, channel=channel, snr_db=LOSS_SNR_DB, scheme=scheme)
                for channel in losses.values()
            ]
            if any(here.empty for here in rows):
                continue
            found = [bootstrap_mean(here[metric], here["item"]) for here in rows]
            color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
            values = [point.mean for point in found]
            style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5}
            axes.plot(places[:-1], values[:-1], label=scheme, **style)
            axes.plot(places[-2:], values[-2:], linestyle=":", **style)
        axes.set_xticks(places, list(losses))
        axes.set_xlabel(f"lost packets, each with as many channel uses as a frame; {LOSS_SNR_DB:g} dB")
        axes.set_ylabel(column_label(column_named(metric)))
        axes.legend(fontsize=7, ncols=2)
    return figure


@dataclass(frozen=True)
class Concealed:
    """Mean quality over the lost frames of one clip in one realisation, held and interpolated.

    Args:
        scheme: Name of the transmission.
        loss: What is lost.
        item: Id of the clip.
        seed: Seed of the realisation.
        lost: Number of lost frames.
        metric: Name of the metric.
        held: Mean over the lost frames if each is shown as the last one that arrived.
        interpolated: The same with interpolation.
    """

    scheme: str
    loss: str
    item: str
    seed: int
    lost: int
    metric: str
    held: float
    interpolated: float


def concealed(
    transmissions: Sequence[str],
    losses: dict[str, str],
    items: Sequence[Item[Clip]],
    rho: str,
    metrics: Sequence["Metric"],
    realisations: int,
) -> Iterator[Concealed]:
    """Send clips in packets over lossy channels, and measure the lost frames alone."""
    for scheme in schemes(transmissions):
        for item in items:
            for about, name in losses.items():
                for seed in range(realisations):
                    yield from _concealed(scheme, about, names.channel(name), item, rho, metrics, seed)


def _concealed(
    scheme: Scheme[Any],
    about: str,
    channel: Any,
    item: Item[Clip],
    rho: str,
    metrics: Sequence["Metric"],
    seed: int,
) -> Iterator[Concealed]:
    known, (_, budget) = ChannelKnowledge(channel, LOSS_SNR_DB), budget_of(item, rho)
    uses, shape, rng = (
        channel.data_uses(budget.channel_uses),
        VIDEO.shape(item.x),
        noise_streams(item.id, seed),
    )
    transmission: Packetised[Clip] = scheme.transmission  # pyright: ignore[reportAssignmentType]
    sent = transmission.send(item.x, uses, known)
    received = transmit(channel, sent.symbols, torch.tensor([LOSS_SNR_DB]), rng.fork("channel"))
    (observed,) = transmission.receive(received, shape, uses)
    shown = Interpolation()(observed, shape, rng)
    gaps = next((evidence for evidence in observed.evidence if isinstance(evidence, Gaps)), None)
    if gaps is None or shown is None or not any(gaps.missing):
        return
    missing = torch.tensor(gaps.missing)
    held, interpolated, original = (
        Clip(clip.frames[missing], item.x.frame_rate) for clip in (gaps.x, shown, item.x)
    )
    for metric in metrics:
        before, after = measure(metric, held, original), measure(metric, interpolated, original)
        lost = int(missing.sum())
        yield Concealed(transmission.name, about, item.id, seed, lost, metric.name, before, after)


def write_concealed(out: Path, rows: Sequence[Concealed], about: str) -> None:
    """Write the rows as CSV, and a table of gains with 95 % bootstrap intervals over clips."""
    import pandas as pd

    frame: Any = pd.DataFrame([vars(row) for row in rows])
    write(out / "concealment.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    lines = [f"{about}: lost frames", "", "| scheme | loss | metric | clips | held | interpolated | gain |"]
    lines += ["| --- " * 7 + "|"]
    for (scheme, loss, metric), group in frame.groupby(["scheme", "loss", "metric"], sort=False):
        means = group.groupby("item")[["held", "interpolated"]].mean()
        held, shown = means["held"].mean(), means["interpolated"].mean()
        change = means["interpolated"] - means["held"]
        unit = "dB"
        if metric != "psnr_db":
            change, unit = 100 * change / held, "%"
        gain = bootstrap_mean(change, change.index)
        limits = f" ({gain.low:+.2f} to {gain.high:+.2f})" if gain.items > 1 else ""
        cells = f"{scheme} | {loss} | {metric} | {len(means)} | {held:.3g} | {shown:.3g}"
        lines.append(f"| {cells} | {gain.mean:+.2f} {unit}{limits} |")
    lines += ["", "By clip, gain in dB and change of LPIPS:", ""]
    lines += ["| clip | scheme | loss | metric | held | interpolated |", "| --- " * 6 + "|"]
    for keys, group in frame.groupby(["item", "scheme", "loss", "metric"], sort=False):
        item, scheme, loss, metric = map(str, keys)
        held, shown = group["held"].mean(), group["interpolated"].mean()
        lines.append(
            f"| {item.rsplit('-', 1)[0]} | {scheme} | {loss} | {metric} | {held:.3g} | {shown:.3g} |"
        )
    write(out / "concealment.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    run_script(main)
