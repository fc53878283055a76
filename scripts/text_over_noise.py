"""Texts over noise at equal channel uses: language models, classical codecs, prior at the receiver, DeepSC.

Run:     python scripts/text_over_noise.py
         python scripts/text_over_noise.py --messages 24 --channels awgn --schemes lm-prior:tiny
         python scripts/text_over_noise.py --messages 32 --channels awgn --snr 0 4 --schemes lm-prior:smollm2
         --seen ../shared/data/text/multihop/hotpot.jsonl takes every second message from text that models
         know; --decode runs the entropy decoder for every payload that arrives, instead of looking up what
         the encoder made (the same by test, but 5 tokens a CPU second); --tables alone writes the tables
Cost:    half an hour of one core for 100 messages; SmolLM2 as prior half a minute per message and SNR;
         killed, the same command goes on
Expect:  the tables of results/text_over_noise/README.md

Messages of 200 to 1,000 characters with one sentence that states a number ("needle"). An answer is right if
the number is in what was received; guesses of the restoring receiver are taken away first. All schemes have
the same channel uses: so many per word, rounded up to whole blocks of 512. The messages are kept in
`messages.jsonl` of the folder of results, since the prose of this project changes.
"""

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_text import new_prose, seen_prose

from channels import NamedStreams
from semcom import names
from semcom.budget import Budget
from semcom.codecs.codec import Fitted, Quality, SourceCodec, too_small
from semcom.errors import MissingPackage, MissingWeights, StoreError
from semcom.experiment import write, write_figure
from semcom.metrics import chrf, metric_named, wer
from semcom.modalities import TEXT, TextShape
from semcom.names.receivers import RESTORE
from semcom.records import Records, same_settings
from semcom.scheme import Preparations, Scheme
from semcom.statistics import Interval, bootstrap_mean
from semcom.text.restoration import as_received
from semcom.text.tasks import stated
from semcom.training.recipes import run_script

SCHEMES = (
    "smollm2+ldpc:csit-average",
    "tiny+ldpc:csit-average",
    "brotli+ldpc:csit-average",
    "zstd+ldpc:csit-average",
    "huffman+ldpc:csit-average",
    "utf8+ldpc:csit-average",
    "deepsc",
)
CHANNELS = ("awgn", "rayleigh:64", "lossy:64:0.1/awgn")
SNR_DB = tuple(range(-2, 21, 2))
RHO = 18.0
LONGEST = 1050  # characters that follow the beginning of a message
BLOCK = 512
"""Channel uses are whole multiples: predictions of link adaptation are then shared by many messages."""
PLACES = ("Lisbon", "Vienna", "Cairo", "Oslo", "Quito", "Delhi", "Tunis", "Lagos", "Turin", "Bergen")
KEY = ("scheme", "channel", "snr_db", "channel_uses")
MEASURES = {
    "exact": "Messages received exactly",
    "needle": "Number received",
    "wer": "Word error rate",
    "chrf": "chrF",
    "cosine": "Cosine of MiniLM embeddings",
}
OUT = Path("results/text_over_noise")


@dataclass(frozen=True)
class Message:
    """A text that states a number.

    Args:
        text: The text.
        place: What the number belongs to.
        value: The number.
    """

    text: str
    place: str
    value: str

    def budget(self, rho: float) -> Budget:
        """Channel uses per word, rounded up to whole blocks."""
        dims = TEXT.dims(self.text)
        return Budget(int(-(-rho * dims // BLOCK) * BLOCK), dims)


@dataclass(frozen=True)
class Known:
    """A codec whose decoder looks up payloads that its own encoder made; all others it decodes."""

    codec: SourceCodec[str]
    made: dict[bytes, str] = field(default_factory=dict, compare=False, repr=False, hash=False)
    sent: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False, hash=False)

    @property
    def name(self) -> str:
        """Name of the codec."""
        return self.codec.name

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Operating points of the codec."""
        return self.codec.qualities

    def encode(self, x: str, quality: Quality) -> bytes:
        """Payload of a text, made once."""
        if x not in self.sent:
            self.sent[x] = self.codec.encode(x, quality)
            self.made[self.sent[x]] = x
        return self.sent[x]

    def fit(self, x: str, max_bits: int) -> Fitted[str]:
        """Payload of a text, see `semcom.codecs.codec.FitsItself`."""
        payload = self.encode(x, self.qualities[0])
        if 8 * len(payload) > max_bits:
            raise too_small(self.name, 8 * len(payload), f"a text of {len(x)} characters", max_bits)
        return Fitted(payload, self.qualities[0], x)

    def decode(self, payload: bytes, shape: TextShape) -> str:
        """Text of a payload."""
        found = self.made.get(payload)
        return self.codec.decode(payload, shape) if found is None else found


def messages(count: int, sources: Sequence[str], seed: int = 0) -> list[Message]:
    """Texts with one stated number each; a smaller count gives the first of them."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        length = rng.randint(200, 1000) - 50
        source = sources[i % len(sources)]
        start = source.index(" ", random.Random(seed + i).randrange(len(source) - LONGEST)) + 1
        text = source[start : start + length]
        place, value = rng.choice(PLACES), str(rng.randint(10_000, 99_999))
        ends = [j + 2 for j in range(len(text) - 2) if text[j : j + 2] == ". "] or [0]
        at = rng.choice(ends)
        found.append(Message(f"{text[:at]}{stated(place, value)} {text[at:]}", place, value))
    return found


def kept_messages(path: Path, count: int, seen: Path | None = None) -> list[Message]:
    """The first messages of a file; made, and the file written, if it is not there or too short."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    if len(rows) < count:
        made = messages(count, [new_prose(), *([seen_prose(seen)] if seen else [])])
        if [asdict(message) for message in made[: len(rows)]] != rows:
            raise StoreError(f"{path}: the prose has changed since; give --messages {len(rows)} at most")
        write(path, "".join(f"{json.dumps(asdict(message), ensure_ascii=False)}\n" for message in made))
        return made
    return [Message(**row) for row in rows[:count]]


def prepared(name: str, decode: bool = False) -> Scheme[Any]:
    """The scheme of a name; its codec looks up what it made itself, unless everything is decoded."""
    scheme = names.scheme(name, TEXT)
    transmission: Any = scheme.transmission
    if not decode and ("+ldpc" in name or "+uep" in name):
        return replace(scheme, transmission=replace(transmission, codec=Known(transmission.codec)))
    return scheme


def scored(received: str, message: Message, cosine: Callable[[str, str], float]) -> dict[str, float]:
    """Scores of what was received."""
    return {
        "exact": int(received == message.text),
        "needle": int(message.value in received),
        "wer": round(min(wer(received, message.text), 9.0), 4),
        "chrf": round(chrf(received, message.text), 2),
        "cosine": round(cosine(received, message.text), 4),
    }


def cosines() -> Callable[[str, str], float]:
    """Cosine of embeddings, each pair computed once; NaN without the model, 0 for an empty text."""
    try:
        metric = metric_named("minilm_cosine", "text")
    except (MissingPackage, MissingWeights) as error:
        print(f"without the cosine of embeddings: {error}", file=sys.stderr)
        return lambda received, x: float("nan")

    @cache
    def of(received: str, x: str) -> float:
        return 1.0 if received == x else float(metric(received, x)) if received else 0.0

    return of


def interval(values: Sequence[float]) -> Interval:
    """Mean with its 95 % bootstrap interval over messages."""
    return bootstrap_mean(values, np.arange(len(values)))


def measure(given: argparse.Namespace, records: Records) -> None:
    """Send all messages; one record per scheme, channel, SNR and number of channel uses."""
    by_uses: dict[int, list[int]] = defaultdict(list)
    texts = kept_messages(given.out / "messages.jsonl", given.messages, given.seen)
    for i, message in enumerate(texts):
        by_uses[message.budget(given.rho).channel_uses].append(i)
    schemes = [prepared(name, given.decode) for name in given.schemes]
    done = {records.key_of(row): row["message"] for row in records.rows()}
    cosine = cosines()
    for channel_name in given.channels:
        channel = names.channel(channel_name)
        for uses, some in sorted(by_uses.items()):
            for snr_db in given.snr:
                for scheme in schemes:  # innermost, since link adaptation keeps few predictions
                    key = scheme.name, channel_name, float(snr_db), uses
                    if set(some) <= set(done.get(key, ())):
                        continue
                    rows: dict[str, list[float]] = defaultdict(list)
                    for i in some:
                        rng = NamedStreams(0, (f"message={i}",))
                        (outcome,) = scheme.transmit(
                            texts[i].text, texts[i].budget(given.rho), channel, snr_db, rng, Preparations()
                        )
                        guessing = RESTORE in scheme.name  # others may well receive such brackets
                        received = as_received(outcome.x_hat) if guessing else outcome.x_hat
                        found = scored(received, texts[i], cosine)
                        for name, value in {"message": i, "outage": int(outcome.outage), **found}.items():
                            rows[name].append(value)
                    records.add({**dict(zip(KEY, key, strict=True)), **rows})
            print(f"{channel_name}: {len(some)} messages of {uses} channel uses", flush=True)


def cells(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, float], dict[str, list[float]]]:
    """Values of all messages by scheme, channel and SNR, in the order of the messages."""
    found: dict[tuple[str, str, float], list[tuple[float, ...]]] = defaultdict(list)
    columns = ("message", "outage", *MEASURES)
    for row in rows:
        found[row["scheme"], row["channel"], row["snr_db"]] += zip(*(row[c] for c in columns), strict=True)
    return {
        cell: dict(zip(columns, map(list, zip(*sorted(values), strict=True)), strict=True))
        for cell, values in found.items()
    }


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """One table per channel and measure: means over messages."""
    found = cells(rows)
    parts = []
    for channel in dict.fromkeys(channel for _, channel, _ in found):
        for measure, title in MEASURES.items():
            snrs = sorted({snr for _, c, snr in found if c == channel})
            lines = [
                f"## {title}, {channel}",
                "",
                f"| scheme | n | {' | '.join(f'{s:g} dB' for s in snrs)} |",
            ]
            lines.append("| --- " * (len(snrs) + 2) + "|")
            for scheme in dict.fromkeys(s for s, c, _ in found if c == channel):
                own = [found.get((scheme, channel, snr)) for snr in snrs]
                count = max(len(values["message"]) for values in own if values)
                shown = [f"{np.mean(values[measure]):.2f}" if values else "" for values in own]
                lines.append(f"| {scheme} | {count} | {' | '.join(shown)} |")
            parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def intervals(rows: Sequence[dict[str, Any]]) -> str:
    """Mean and 95 % interval of every cell and measure, comma separated."""
    lines = ["scheme,channel,snr_db,messages,measure,mean,low,high"]
    for (scheme, channel, snr_db), values in cells(rows).items():
        for measure in ("outage", *MEASURES):
            found = interval(values[measure])
            numbers = f"{found.mean:.4f},{found.low:.4f},{found.high:.4f}"
            lines.append(f"{scheme},{channel},{snr_db:g},{found.items},{measure},{numbers}")
    return "\n".join(lines) + "\n"


def figure(rows: Sequence[dict[str, Any]]) -> Any:
    """Word error rate, numbers received and cosine over SNR, one row per channel."""
    from matplotlib.figure import Figure

    found = cells(rows)
    channels = list(dict.fromkeys(channel for _, channel, _ in found))
    schemes = list(dict.fromkeys(scheme for scheme, _, _ in found))
    drawing = Figure(figsize=(11, 3.2 * len(channels)), layout="constrained")
    axes = drawing.subplots(len(channels), 3, squeeze=False)
    for line, channel in zip(axes, channels, strict=True):
        for axis, measure in zip(line, ("wer", "needle", "cosine"), strict=True):
            for scheme, mark in zip(schemes, "os^DvP*X<>", strict=False):
                points = sorted(
                    (s, np.mean(v[measure])) for (n, c, s), v in found.items() if (n, c) == (scheme, channel)
                )
                if points:
                    axis.plot(*zip(*points, strict=True), marker=mark, markersize=4, label=scheme)
            axis.set(
                xlabel="Es/N0 in dB",
                title=channel,
                ylabel=f"{MEASURES[measure]} {'↓' if measure == 'wer' else '↑'}",
            )
            axis.set_ylim(-0.05, 1.25 if measure == "wer" else 1.05)
    axes[0][0].legend(fontsize=6)
    return drawing


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--channels", nargs="+", default=CHANNELS)
    parser.add_argument("--snr", nargs="+", type=float, default=SNR_DB)
    parser.add_argument("--rho", type=float, default=RHO, help="channel uses per word")
    parser.add_argument("--seen", type=Path, help="hotpot.jsonl, for every second message")
    parser.add_argument("--decode", action="store_true", help="run every decoder")
    parser.add_argument("--tables", action="store_true", help="write the tables of what is there")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    records = Records(given.out / "records.jsonl", KEY)
    same_settings(given.out / "settings.json", {"rho": given.rho})
    if not given.tables:
        measure(given, records)
    rows = records.rows()
    write(given.out / "tables.md", tables(rows))
    write(given.out / "intervals.csv", intervals(rows))
    write_figure(given.out / "text_over_noise.svg", figure(rows))


if __name__ == "__main__":
    run_script(main)
