"""Associative memory at the receiver: retrieval under noise, the energy gate, mismatch, residual coding.

Run:     TORCH_HOME=../shared/torch-home python scripts/associative_memory.py
         --parts vectors,layered,gate,mismatch,coding,figures chooses parts; each writes a table of its own
Needs:   photographs: ../shared/data/photos/val (in the memory) and ../shared/data/kodak (not in it)
Cost:    about 25 minutes of one core: vectors 3, layered 1, gate 15, mismatch 2, coding 5
Expect:  the tables of results/associative_memory/README.md
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from channels import NamedStreams, transmit
from semcom import names
from semcom.codecs import Quality
from semcom.codecs.codec import fit
from semcom.data import load_image, picture_files, to_picture
from semcom.experiment import at_least, chosen_of, read_rows, run_script, write, write_figure, write_rows
from semcom.memory import Gate, Memory, retrieve
from semcom.memory.codebooks import PictureMemory
from semcom.memory.codec import MemoryCodec, kind_of_payload
from semcom.memory.layers import Layers, coarse_to_fine, global_energy
from semcom.metrics import metric_named
from semcom.observation import Observation
from semcom.receivers.memory import MemoryReceiver
from semcom.statistics import wilson_interval
from semcom.transmission import ChannelKnowledge, Transmission

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("vectors", "layered", "gate", "mismatch", "coding", "figures")
CELLS = ((32, 256), (64, 1024), (128, 4096))
"""Dimensions and patterns."""
VECTOR_SNRS_DB = (-15, -10, -5, 0)
BETAS = (0.1, 0.25, 0.5, 1.0, 2.0, math.inf)
"""Inverse temperatures in units of 1 / s^2."""
TRIALS = 400
REFERENCE = {  # share of retrievals by SNR, of the specification's pilot with 400 trials
    (32, 256): {-10: 0.15, -5: 0.56, 0: 0.98},
    (64, 1024): {-10: 0.22, -5: 0.85, 0: 1.00},
    (128, 4096): {-10: 0.50, -5: 0.99, 0: 1.00},
}
LAYERED = (64, 1024, (32, 256))
"""Dimensions, patterns, and centres of the coarser codebooks."""
LAYERED_SNRS_DB = (-10, -5, 0)
CLUSTERED = (0.0, 0.5, 0.9)
"""Shares of the variance of patterns that those of one of 32 clusters have in common."""
RADII: dict[str, tuple[float, ...] | None] = {
    "flat": None,
    "layers, no regions": (math.inf, math.inf, math.inf),
    "layers, regions n s^2": (1.0, 1.0, 1.0),
    "layers, regions n s^2 / 4": (0.25, 0.25, math.inf),
}
"""Trust regions per layer in units of n s^2, the expected squared distance of a query from its pattern."""
SIDE = 128
RHO_USES = 1024  # channel uses: rho = 1/48 of 128 x 128 pixels
STORED, OUTSIDE = 32, 96
SNRS_DB = (-15, -10, -5, 0, 10, 20)
POINTS = {
    "softcast": (("awgn", SNRS_DB),),
    "deepjscc": (("awgn", SNRS_DB), ("rayleigh:64", (-10, 0, 10))),
    "avif+ldpc:mcs3": (("awgn", (0,)),),
}
"""Channels and SNRs in dB by scheme; a digital scheme of fixed rate shows the same at all SNRs."""
FEW = 24
"""Pictures of each kind that the diffusion prior refines, and that are coded digitally."""
PRIOR = "posterior:4"
PRIOR_SNRS_DB = (0, 10)

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stored", type=Path, default=Path("../shared/data/photos/val"))
    parser.add_argument("--outside", type=Path, default=Path("../shared/data/kodak"))
    parser.add_argument("--parts", type=chosen_of(PARTS), default=PARTS)
    parser.add_argument("--pictures", type=at_least(1), default=STORED, help="pictures in the memory")
    parser.add_argument("--others", type=at_least(1), default=OUTSIDE, help="pictures that are not in it")
    parser.add_argument("--trials", type=at_least(1), default=TRIALS, help="queries per cell of vectors")
    parser.add_argument("--out", type=Path, default=Path("results/associative_memory"))
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    parts = chosen.parts
    if "vectors" in parts:
        rows = vectors(chosen.trials)
        write_rows(chosen.out / "retrieval.csv", rows)
        write(chosen.out / "retrieval.md", retrieval_table(rows))
        rows = spacing(chosen.trials)
        write_rows(chosen.out / "spacing.csv", rows)
        write(chosen.out / "spacing.md", spacing_table(rows))
    if "layered" in parts:
        rows = layered(chosen.trials)
        write_rows(chosen.out / "layered.csv", rows)
        write(chosen.out / "layered.md", layered_table(rows))
    if {"gate", "mismatch", "coding"} & set(parts):
        memory = PictureMemory(tuple(crops(chosen.stored, chosen.pictures, 1)), "val")
        others = crops(chosen.outside, chosen.others, 4)
        if "gate" in parts:
            rows = gate_rows(memory, others)
            write_rows(chosen.out / "gate.csv", rows)
            write(chosen.out / "gate.md", gate_table(rows))
            strip(memory, others).save(chosen.out / "recall.png")
        if "mismatch" in parts:
            rows = mismatch(memory)
            write_rows(chosen.out / "stale.csv", rows)
            write(chosen.out / "stale.md", stale_table(rows))
        if "coding" in parts:
            rows = coding(memory, others)
            write_rows(chosen.out / "coding.csv", rows)
            write(chosen.out / "coding.md", coding_table(rows))
    if "figures" in parts:
        figures(chosen.out)


def crops(folder: Path, count: int, per_picture: int) -> list[Tensor]:
    """Squares of 128 pixels: of the centre, or of up to four places per picture."""
    found = []
    files = picture_files(folder)
    for file in files[:: max(1, len(files) * per_picture // count)]:
        x = load_image(file).x
        spare = [extent - SIDE for extent in x.shape[2:]]
        if min(spare) < 0:
            continue
        places = [(0.5, 0.5)] if per_picture == 1 else [(0.1, 0.1), (0.1, 0.9), (0.9, 0.1), (0.6, 0.5)]
        for down, right in places[:per_picture]:
            top, left = round(down * spare[0]), round(right * spare[1])
            found.append(x[:, :, top : top + SIDE, left : left + SIDE].contiguous())
    return found[:count]


def nmse(x_hat: Tensor, x: Tensor) -> Tensor:
    """Normalised squared error of every row."""
    return (x_hat - x).square().sum(1) / x.square().sum(1)


def vectors(trials: int) -> list[Row]:
    """Random patterns of norm sqrt(n): shares of retrievals and NMSE, three steps and one step."""
    rows = []
    for dims, count in CELLS:
        rng = np.random.default_rng((0, dims))
        for snr_db in VECTOR_SNRS_DB:
            stored = torch.from_numpy(rng.normal(size=(count, dims)))
            stored *= math.sqrt(dims) / stored.norm(dim=1, keepdim=True)
            x = stored[torch.from_numpy(rng.integers(count, size=trials))]
            noise_var = 10 ** (-snr_db / 10)
            y = x + math.sqrt(noise_var) * torch.from_numpy(rng.normal(size=(trials, dims)))
            union = (count - 1) * normal_tail(math.sqrt(dims / noise_var / 2))
            for factor in BETAS:
                for steps in (1, 3):
                    error = nmse(retrieve(y, stored, factor / noise_var, "dot", steps), x)
                    rows.append(
                        {
                            "dims": dims,
                            "patterns": count,
                            "snr_db": snr_db,
                            "beta_noise_var": factor,
                            "steps": steps,
                            "trials": trials,
                            "retrieved": int((error < 0.01).sum()),
                            "nmse": float(error.mean()),
                            "nmse_se": float(error.std() / math.sqrt(trials)),
                            "union_bound": min(union, 1.0),
                        }
                    )
            print(rows[-1], flush=True)
    return rows


def normal_tail(x: float) -> float:
    """Q(x), the probability that a standard normal variable exceeds x."""
    return math.erfc(x / math.sqrt(2)) / 2


def retrieval_table(rows: Sequence[Row]) -> str:
    """Share of retrievals of the best temperature after three steps, beside the pilot, and mean NMSE."""
    lines = [
        "| n, d | SNR | retrieved, best of three steps | best beta s^2 | pilot "
        "| NMSE, one step at beta s^2 = 1 | least NMSE of three steps | three steps at beta s^2 = 1 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for dims, count in CELLS:
        for snr_db in VECTOR_SNRS_DB:
            cell = [r for r in rows if (r["dims"], r["snr_db"]) == (dims, snr_db)]
            three = [r for r in cell if r["steps"] == 3]
            best = max(three, key=lambda r: r["retrieved"])
            share, trials = best["retrieved"] / best["trials"], best["trials"]
            low, high = wilson_interval(best["retrieved"], trials)
            expected = REFERENCE[dims, count].get(snr_db)
            pilot = "not stated"
            if expected is not None:
                deviation = math.sqrt(2 * max(expected * (1 - expected), 0.25 / trials) / trials)
                pilot = f"{expected:.2f} ({(share - expected) / deviation:+.1f} deviations)"
            tied = [r["beta_noise_var"] for r in three if r["retrieved"] >= best["retrieved"] - 0.01 * trials]
            one = next(r for r in cell if r["steps"] == 1 and r["beta_noise_var"] == 1)
            same = next(r for r in three if r["beta_noise_var"] == 1)
            lines.append(
                f"| {dims}, {count} | {snr_db} dB | {share:.3f} ({low:.3f} to {high:.3f}) "
                f"| {', '.join(f'{b:g}' for b in tied)} | {pilot} | {one['nmse']:.3f} "
                f"| {min(r['nmse'] for r in three):.3f} | {same['nmse']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def spacing(trials: int) -> list[Row]:
    """Patterns that resemble each other in part, memories of other sizes, missing knowledge."""
    rows = []
    dims, snr_db = 256, 0
    noise_var = 10 ** (-snr_db / 10)
    gate = Gate()
    for count in (64, 1024, 4096):
        for common in (0.0, 0.5, 0.9):
            for overlap in (1.0, 0.5, 0.0):
                rng = np.random.default_rng((1, count, int(100 * common), int(10 * overlap)))
                centre = rng.normal(size=dims)
                stored = math.sqrt(common) * centre + math.sqrt(1 - common) * rng.normal(size=(count, dims))
                fresh = math.sqrt(common) * centre + math.sqrt(1 - common) * rng.normal(size=(trials, dims))
                known = np.arange(trials) < overlap * trials
                index = rng.integers(count, size=trials)
                x = torch.from_numpy(np.where(known[:, None], stored[index], fresh))
                y = x + math.sqrt(noise_var) * torch.from_numpy(rng.normal(size=(trials, dims)))
                memory = Memory(torch.from_numpy(stored))
                recalled = memory.recall(y, math.sqrt(noise_var))
                nearest = memory.patterns[recalled.index]
                energy = (y - nearest).square().sum(1) / noise_var
                signal = (nearest - memory.patterns.mean(0)).square().sum(1) / noise_var
                decided = [
                    gate.decide(e, dims, s, count).value
                    for e, s in zip(energy.tolist(), signal.tolist(), strict=True)
                ]
                taken, asked = (np.array([d == kind for d in decided]) for kind in ("retrieve", "retransmit"))
                error = nmse(recalled.mean, x).numpy()
                rows.append(
                    {
                        "dims": dims,
                        "snr_db": snr_db,
                        "patterns": count,
                        "common": common,
                        "overlap": overlap,
                        "trials": trials,
                        "hit_rate": float(taken[known].mean()) if known.any() else math.nan,
                        "false_recall": float(taken[~known].mean()) if (~known).any() else math.nan,
                        "asked_again": float(asked.mean()),
                        "nmse_known": float(error[known].mean()) if known.any() else math.nan,
                        "nmse_unknown": float(error[~known].mean()) if (~known).any() else math.nan,
                        "nmse_linear": noise_var / (1 + noise_var),
                    }
                )
    return rows


def spacing_table(rows: Sequence[Row]) -> str:
    """Hits, false recalls and errors by number of patterns, common part and overlap."""
    lines = [
        "| d | common part | overlap of the memories | hits | false recalls | asks again "
        "| NMSE of one step: known, unknown | linear estimate |",
        "| --- " * 8 + "|",
        *(
            f"| {r['patterns']} | {r['common']:g} | {r['overlap']:g} | {r['hit_rate']:.3f} "
            f"| {r['false_recall']:.3f} | {r['asked_again']:.3f} "
            f"| {r['nmse_known']:.3f}, {r['nmse_unknown']:.3f} | {r['nmse_linear']:.2f} |"
            for r in rows
        ),
    ]
    return "\n".join(lines).replace("nan", "none") + "\n"


def layered(trials: int) -> list[Row]:
    """Coarse-to-fine retrieval in trust regions against three steps on the patterns themselves."""
    rows = []
    dims, count, sizes = LAYERED
    for common in CLUSTERED:
        for snr_db in LAYERED_SNRS_DB:
            rng = np.random.default_rng((2, int(100 * common), -snr_db))
            centres = rng.normal(size=(sizes[0], dims))[np.arange(count) % sizes[0]]
            drawn = math.sqrt(common) * centres + math.sqrt(1 - common) * rng.normal(size=(count, dims))
            stored = torch.from_numpy(drawn)
            x = stored[torch.from_numpy(rng.integers(count, size=trials))]
            noise_var = 10 ** (-snr_db / 10)
            y = x + math.sqrt(noise_var) * torch.from_numpy(rng.normal(size=(trials, dims)))
            books = coarse_to_fine(stored, sizes)
            for method, radii in RADII.items():
                flat = radii is None
                used = (stored,) * len(books) if flat else books
                bounds = tuple(radius * dims * noise_var for radius in radii or ())
                progress = Layers(used, 1 / (2 * noise_var), bounds, steps=1)(y)
                fine = Layers((stored,), 1 / (2 * noise_var))
                trace = torch.stack([fine.energies(points)[0] for points in progress.points])
                every = Layers(books, 1 / (2 * noise_var))
                whole = [float(global_energy(every.energies(points)).mean()) for points in progress.points]
                error = nmse(progress.points[-1], x)
                scale = 1e-9 * (1 + progress.before.abs())
                rows.append(
                    {
                        "dims": dims,
                        "patterns": count,
                        "common": common,
                        "snr_db": snr_db,
                        "method": method,
                        "trials": trials,
                        "comparisons": sum(map(len, used)),
                        "retrieved": int((error < 0.01).sum()),
                        "nmse": float(error.mean()),
                        "nmse_se": float(error.std() / math.sqrt(trials)),
                        "rises": int((progress.after > progress.before + scale).sum()),
                        **{f"energy_{i}": float(e) for i, e in enumerate(trace.mean(1))},
                        **{f"global_energy_{i}": e for i, e in enumerate(whole)},
                    }
                )
    return rows


def layered_table(rows: Sequence[Row]) -> str:
    """Retrievals, errors and the energy after every layer, by common part, SNR and method."""
    lines = [
        "| common part | SNR | method | comparisons per query | retrieved (95 %) | NMSE "
        "| energy of the patterns: query, after each layer | steps uphill |",
        "| --- " * 8 + "|",
    ]
    for r in rows:
        low, high = wilson_interval(r["retrieved"], r["trials"])
        energies = ", ".join(f"{r[f'energy_{i}']:.1f}" for i in range(4))
        lines.append(
            f"| {r['common']:g} | {r['snr_db']} dB | {r['method']} | {r['comparisons']} "
            f"| {r['retrieved'] / r['trials']:.3f} ({low:.3f} to {high:.3f}) "
            f"| {r['nmse']:.3f} ± {1.96 * r['nmse_se']:.3f} | {energies} | {r['rises']} |"
        )
    return "\n".join(lines) + "\n"


def receptions(
    name: str, channel: str, x: Tensor, number: int, snrs_db: Sequence[int] = SNRS_DB
) -> Iterable[tuple[int, Observation[Tensor]]]:
    """What a transmission observes of one picture, by SNR; lost ones are left out."""
    found, law = names.scheme(name).transmission, names.channel(channel)
    assert isinstance(found, Transmission)
    uses = law.data_uses(RHO_USES)
    known = ChannelKnowledge(law, 10.0) if found.csit == "average" else None
    sent = found.send(x.clone(), uses, known)
    for snr_db in snrs_db:
        streams = NamedStreams(number, (f"{channel} {snr_db}",))
        received = transmit(law, sent.symbols, torch.tensor([float(snr_db)]), streams)
        (observed,) = found.receive(received, tuple(x.shape), uses)
        if observed.shown is not None:
            yield snr_db, observed


def gate_rows(memory: PictureMemory, others: Sequence[Tensor]) -> list[Row]:
    """Energies, decisions and quality of stored pictures and others, over schemes, channels and SNR."""
    gated = MemoryReceiver(memory)
    gate = gated.gate
    assert gate is not None
    lpips = metric_named("lpips_squeeze")
    prior = names.scheme(f"deepjscc+{PRIOR}").receiver
    rows = []
    for name, points in POINTS.items():
        for channel, snrs_db in points:
            sent = [(i, True, x) for i, x in enumerate(memory.pictures)]
            sent += [(len(sent) + i, False, x) for i, x in enumerate(others)]
            if name.startswith("avif"):
                sent = [*sent[:FEW], *sent[len(memory.pictures) :: len(others) // FEW]]
            for number, stored, x in sent:
                few = number < FEW or (not stored and number % (len(others) // FEW) == 0)
                for snr_db, observed in receptions(name, channel, x, number, snrs_db):
                    compared = gated.compare(observed, tuple(x.shape))
                    assert compared is not None
                    assert observed.shown is not None
                    index = int(compared.energies.argmin())
                    decision = compared.decision(gate)
                    always = compared.mean()
                    shown = always if decision.value == "retrieve" else observed.shown
                    row: Row = {
                        "scheme": name,
                        "channel": channel,
                        "snr_db": snr_db,
                        "picture": number,
                        "stored": int(stored),
                        "right": int(stored and index == number),
                        "values": compared.values,
                        "energy": float(compared.energies[index]),
                        "signal": float(compared.signals[index]),
                        "decision": decision.value,
                        "psnr_decoded_db": psnr_db(observed.shown, x),
                        "psnr_gated_db": psnr_db(shown, x),
                        "psnr_always_db": psnr_db(always, x),
                        "psnr_prior_db": "",
                        "lpips_prior": "",
                    }
                    if channel == "awgn" and snr_db in PRIOR_SNRS_DB and few:
                        for column, picture in (
                            ("decoded", observed.shown),
                            ("gated", shown),
                            ("always", always),
                        ):
                            row[f"lpips_{column}"] = lpips(picture, x)
                        if name == "deepjscc":
                            refined = prior(observed, tuple(x.shape), NamedStreams(number, ("prior",)))
                            assert refined is not None
                            row |= {"psnr_prior_db": psnr_db(refined, x), "lpips_prior": lpips(refined, x)}
                    rows.append(row)
            print(name, channel, len(rows), flush=True)
    return rows


def psnr_db(x_hat: Tensor, x: Tensor) -> float:
    """PSNR, at most 100 dB."""
    return -10 * math.log10(max(float((x_hat - x).square().mean(dtype=torch.float64)), 1e-10))


def statistic(row: Mapping[str, Any]) -> float:
    """Excess (e - N) / S of the nearest stored picture, of which the gate takes small ones."""
    return (float(row["energy"]) - float(row["values"])) / float(row["signal"])


def rates(rows: Sequence[Row]) -> tuple[float, float, float]:
    """False-recall rate where 95 % of stored pictures are hit, threshold there, and area under the ROC."""
    known = np.array([statistic(r) for r in rows if int(r["stored"])])
    unknown = np.array([statistic(r) for r in rows if not int(r["stored"])])
    threshold = float(np.quantile(known, 0.95))
    area = float((known[:, None] < unknown).mean() + 0.5 * (known[:, None] == unknown).mean())
    return float((unknown <= threshold).mean()), threshold, area


def groups(rows: Sequence[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some columns, in order."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row)
    return found


def mean(rows: Iterable[Row], column: str) -> float:
    """Mean of the numbers in a column; NaN without any."""
    values = [float(row[column]) for row in rows if row.get(column, "") != ""]
    return math.fsum(values) / len(values) if values else math.nan


def gate_table(rows: Sequence[Row]) -> str:
    """Hit and false-recall rates with and without the gate, the ROC, and quality."""
    lines = [
        "| scheme, channel | SNR | stored, others | hits with gate | false recalls with gate (95 %) "
        "| without gate | false recalls at 95 % hits | area under ROC | asks again: stored, others "
        "| PSNR stored: decoded, gate, prior | PSNR others: decoded, gate, always |",
        "| --- " * 11 + "|",
    ]
    for (name, channel, snr_db), cell in groups(rows, "scheme", "channel", "snr_db").items():
        known = [r for r in cell if int(r["stored"])]
        unknown = [r for r in cell if not int(r["stored"])]
        hits = [r for r in known if r["decision"] == "retrieve" and int(r["right"])]
        false = [r for r in unknown if r["decision"] == "retrieve"]
        asked = [sum(r["decision"] == "retransmit" for r in part) for part in (known, unknown)]
        low, high = wilson_interval(len(false), len(unknown))
        at_95, _, area = rates(cell)
        prior = mean(known, "psnr_prior_db")
        lines.append(
            f"| {name}, {channel} | {snr_db} dB | {len(known)}, {len(unknown)} "
            f"| {len(hits) / len(known):.3f} | {len(false) / len(unknown):.3f} ({low:.3f} to {high:.3f}) "
            f"| 1.000 | {at_95:.3f} | {area:.4f} | {asked[0]}, {asked[1]} "
            f"| {mean(known, 'psnr_decoded_db'):.2f}, {mean(known, 'psnr_gated_db'):.2f}, "
            f"{'not run' if math.isnan(prior) else f'{prior:.2f}'} "
            f"| {mean(unknown, 'psnr_decoded_db'):.2f}, {mean(unknown, 'psnr_gated_db'):.2f}, "
            f"{mean(unknown, 'psnr_always_db'):.2f} |"
        )
    lines += ["", "| deepjscc, AWGN | pictures | decoded | memory, gate | memory, always | prior |"]
    lines += ["| --- " * 6 + "|"]
    for snr_db in PRIOR_SNRS_DB:
        for stored in (1, 0):
            cell = [
                r
                for r in rows
                if r["scheme"] == "deepjscc"
                and r["channel"] == "awgn"
                and int(r["snr_db"]) == snr_db
                and int(r["stored"]) == stored
            ]
            cells = [
                f"{mean(cell, f'psnr_{kind}_db'):.2f} dB, LPIPS {mean(cell, f'lpips_{kind}'):.3f}"
                for kind in ("decoded", "gated", "always", "prior")
            ]
            about = "stored" if stored else "others"
            lines.append(f"| {snr_db} dB | {about} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def changed() -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways in which the receiver's copies of the pictures may be stale."""

    def by_jpeg(quality: int) -> Callable[[Tensor], Tensor]:
        codec = names.codec("jpeg")
        return lambda x: codec.decode(codec.encode(x, Quality(1, quality)), tuple(x.shape))

    def brighter(step: float) -> Callable[[Tensor], Tensor]:
        return lambda x: (x + step).clamp(0, 1)

    def shifted(pixels: int) -> Callable[[Tensor], Tensor]:
        return lambda x: x.roll(pixels, 3)

    def patched(side: int) -> Callable[[Tensor], Tensor]:
        def change(x: Tensor) -> Tensor:
            stale = x.clone()
            stale[:, :, :side, :side] = 1 - stale[:, :, :side, :side]
            return stale

        return change

    return {
        "the same": lambda x: x,
        "JPEG, quality 50": by_jpeg(50),
        "JPEG, quality 10": by_jpeg(10),
        "brighter by 0.02": brighter(0.02),
        "brighter by 0.1": brighter(0.1),
        "shifted by 1 pixel": shifted(1),
        "shifted by 4 pixels": shifted(4),
        "a square of 24 pixels inverted": patched(24),
        "a square of 48 pixels inverted": patched(48),
    }


def mismatch(memory: PictureMemory) -> list[Row]:
    """Stale copies at the receiver: decisions of the gate, and whether showing the copy helps."""
    rows = []
    for about, change in changed().items():
        stale = PictureMemory(tuple(map(change, memory.pictures)), "stale")
        gated = MemoryReceiver(stale)
        assert gated.gate is not None
        for number, x in enumerate(memory.pictures[:16]):
            for snr_db, observed in receptions("softcast", "awgn", x, number, (0, 10, 20)):
                compared = gated.compare(observed, tuple(x.shape))
                assert compared is not None
                assert observed.shown is not None
                index = int(compared.energies.argmin())
                decision = compared.decision(gated.gate)
                always = compared.mean()
                taken = decision.value == "retrieve"
                rows.append(
                    {
                        "change": about,
                        "snr_db": snr_db,
                        "picture": number,
                        "right": int(index == number),
                        "excess": (float(compared.energies[index]) - compared.values)
                        / float(compared.signals[index]),
                        "decision": decision.value,
                        "psnr_decoded_db": psnr_db(observed.shown, x),
                        "psnr_copy_db": psnr_db(always, x),
                        "psnr_gated_db": psnr_db(always if taken else observed.shown, x),
                    }
                )
    return rows


def stale_table(rows: Sequence[Row]) -> str:
    """Decisions and quality by kind of change, over SNR."""
    lines = [
        "| copy at the receiver | SNR | nearest is the right one | shown | excess over S "
        "| PSNR: decoded, copy, gate |",
        "| --- " * 6 + "|",
    ]
    for (about, snr_db), cell in groups(rows, "change", "snr_db").items():
        taken = sum(r["decision"] == "retrieve" for r in cell) / len(cell)
        lines.append(
            f"| {about} | {snr_db} dB | {mean(cell, 'right'):.2f} | {taken:.2f} "
            f"| {mean(cell, 'excess'):.3f} "
            f"| {mean(cell, 'psnr_decoded_db'):.2f}, {mean(cell, 'psnr_copy_db'):.2f}, "
            f"{mean(cell, 'psnr_gated_db'):.2f} |"
        )
    return "\n".join(lines) + "\n"


def coding(memory: PictureMemory, others: Sequence[Tensor]) -> list[Row]:
    """Payloads with and without a memory at equal numbers of bits."""
    inner = names.codec("avif")
    codec = MemoryCodec(inner, memory)
    change = changed()["a square of 24 pixels inverted"]
    sent = {
        "stored": memory.pictures[:8],
        "stored, a square of 24 pixels changed": [change(x) for x in memory.pictures[:8]],
        "others": others[:8],
    }
    rows = []
    for about, pictures in sent.items():
        for number, x in enumerate(pictures):
            for bits in (1000, 2000, 4000, 8000):
                plain, ours = fit(inner, x, bits), fit(codec, x, bits)
                rows.append(
                    {
                        "pictures": about,
                        "picture": number,
                        "allowed_bits": bits,
                        "kind": kind_of_payload(ours.payload),
                        "bits": 8 * len(ours.payload),
                        "bits_plain": 8 * len(plain.payload),
                        "psnr_db": psnr_db(ours.decoded, x),
                        "psnr_plain_db": psnr_db(plain.decoded, x),
                    }
                )
    return rows


def coding_table(rows: Sequence[Row]) -> str:
    """Mean bits and PSNR by kind of picture and number of bits allowed."""
    lines = [
        "| pictures | bits allowed | index, innovation, picture | bits sent: memory, AVIF "
        "| PSNR: memory, AVIF |",
        "| --- " * 5 + "|",
    ]
    for (about, bits), cell in groups(rows, "pictures", "allowed_bits").items():
        kinds = [str(sum(r["kind"] == kind for r in cell)) for kind in ("index", "innovation", "picture")]
        lines.append(
            f"| {about} | {bits} | {', '.join(kinds)} "
            f"| {mean(cell, 'bits'):.0f}, {mean(cell, 'bits_plain'):.0f} "
            f"| {mean(cell, 'psnr_db'):.2f} dB, {mean(cell, 'psnr_plain_db'):.2f} dB |"
        )
    return "\n".join(lines) + "\n"


def strip(memory: PictureMemory, others: Sequence[Tensor]) -> Image.Image:
    """Original, decoded, memory without gate, memory with gate: two stored pictures, two others, at 0 dB."""
    pools = (memory.pictures, memory.pictures, others, others)
    chosen = [(place, pool[place % len(pool)]) for place, pool in zip((3, 7, 5, 22), pools, strict=True)]
    rows = []
    always, gated = MemoryReceiver(memory, None), MemoryReceiver(memory)
    for number, x in chosen:
        observed = dict(receptions("deepjscc", "awgn", x, number, (0,)))[0]
        rng = NamedStreams(0, ("receiver",))
        assert observed.shown is not None
        recalled = [receiver(observed, tuple(x.shape), rng) for receiver in (always, gated)]
        rows.append(
            torch.cat([picture for picture in (x, observed.shown, *recalled) if picture is not None], 3)
        )
    return to_picture(torch.cat(rows, 2))


def figures(out: Path) -> None:
    """Curves of the tables in a folder."""
    write_figure(out / "nmse.svg", nmse_figure(read_rows(out / "retrieval.csv")))
    write_figure(out / "gate.svg", gate_figure(read_rows(out / "gate.csv")))


def nmse_figure(rows: Sequence[dict[str, str]]) -> "Figure":
    """NMSE of one step and of three against SNR, one panel per size of the memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, (dims, count) in zip(figure.subplots(1, 3, sharey=True), CELLS, strict=True):
        for steps, style in ((1, "-"), (3, "--")):
            for beta, color in ((0.25, "C0"), (1.0, "C1"), (math.inf, "C2")):
                curve = [
                    (float(r["snr_db"]), float(r["nmse"]))
                    for r in rows
                    if (int(r["dims"]), float(r["beta_noise_var"]), int(r["steps"])) == (dims, beta, steps)
                ]
                label = f"{'one step' if steps == 1 else 'three steps'}, beta s² = {beta:g}"
                axes.plot(*zip(*curve, strict=True), style, color=color, marker="o", ms=3, label=label)
        axes.set_title(f"n = {dims}, d = {count}", fontsize=10)
        axes.set_xlabel("SNR in dB")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("NMSE, mean of all queries")
    figure.axes[2].legend(fontsize=7)
    return figure


def gate_figure(rows: Sequence[dict[str, str]]) -> "Figure":
    """Share of pictures recalled against SNR, and the ROC of the energy at low SNR."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, ((name, channel), cell) in enumerate(groups(rows, "scheme", "channel").items()):
        at = groups(cell, "snr_db")
        snrs = [float(snr) for (snr,) in at]
        label = f"{name}, {channel}"
        hits, false = (
            [
                mean(
                    [{"taken": int(r["decision"] == "retrieve")} for r in part if int(r["stored"]) == stored],
                    "taken",
                )
                for part in at.values()
            ]
            for stored in (1, 0)
        )
        size = 9 - 2 * number  # curves that coincide stay visible
        left.plot(snrs, hits, "-", color=f"C{number}", marker="o", ms=size, label=f"{label}: stored")
        left.plot(snrs, false, ":", color=f"C{number}", marker="x", ms=size, label=f"{label}: others")
    left.axhline(1.0, color="grey", lw=0.8, ls="--")
    left.set_xlabel("SNR in dB")
    left.set_ylabel("share recalled from the memory")
    left.text(0, 0.94, "without the gate: 1 for both", fontsize=8, color="grey")
    left.grid(alpha=0.3)
    left.legend(fontsize=7)
    for (name, snr_db), cell in groups(
        [r for r in rows if r["channel"] == "awgn" and r["snr_db"] in ("-15", "-10", "-5")],
        "scheme",
        "snr_db",
    ).items():
        known = np.array([statistic(r) for r in cell if int(r["stored"])])
        unknown = np.array([statistic(r) for r in cell if not int(r["stored"])])
        limits = np.concatenate(([0.0], np.sort(np.concatenate((known, unknown)))))
        right.plot(
            [(unknown <= limit).mean() for limit in limits],
            [(known <= limit).mean() for limit in limits],
            drawstyle="steps-post",
            label=f"{name}, {snr_db} dB",
        )
    right.set_xlabel("false-recall rate")
    right.set_ylabel("hit rate")
    right.set_xlim(-0.02, 0.4)
    right.set_ylim(0.6, 1.02)
    right.grid(alpha=0.3)
    right.legend(fontsize=7)
    return figure


if __name__ == "__main__":
    run_script(main)
