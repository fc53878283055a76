"""Texts over noise at equal channel uses: language models, classical codecs, prior at the receiver, DeepSC.

Run:     python scripts/text_over_noise.py --messages 100 --out results/text_over_noise
         --schemes, --channels, --snr, --rho choose other ones; --decode runs the entropy decoder for every
         payload that arrives, instead of looking up what the encoder made (the same by test, but 5 tokens a
         CPU second); --seen ../shared/data/text/multihop/hotpot.jsonl takes every second message from text
         that models know
Cost:    a CPU second per message and scheme; SmolLM2 as prior, a minute per message and SNR
Expect:  the tables of results/text_over_noise/README.md

Messages of 200 to 1,000 characters with one sentence that states a number ("needle"). An answer is right if
the number is in what was received; guesses of the restoring receiver are taken away first.
"""

import argparse
import csv
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_text import new_prose, passages, seen_prose

from channels import NamedStreams
from semcom import names
from semcom.budget import Budget
from semcom.codecs.codec import Fitted, Quality, SourceCodec, too_small
from semcom.errors import MissingPackage, MissingWeights
from semcom.metrics import cer, chrf, metric_named, wer
from semcom.modalities import TEXT, TextShape
from semcom.scheme import Preparations, Scheme
from semcom.text.restoration import as_received

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
RHO = 12.0
PLACES = ("Lisbon", "Vienna", "Cairo", "Oslo", "Quito", "Delhi", "Tunis", "Lagos", "Turin", "Bergen")


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


def messages(count: int, sources: Sequence[str], seed: int = 0) -> list[tuple[str, str]]:
    """Texts with one stated number each, and the number."""
    rng = random.Random(seed)
    found = []
    for i in range(count):
        length = rng.randint(200, 1000) - 50
        text = passages(sources[i % len(sources)], length, 1, seed + i)[0]
        place, value = rng.choice(PLACES), str(rng.randint(10_000, 99_999))
        ends = [j + 2 for j in range(len(text) - 2) if text[j : j + 2] == ". "] or [0]
        at = rng.choice(ends)
        found.append((f"{text[:at]}The special magic number for {place} is {value}. {text[at:]}", value))
    return found


def prepared(name: str, decode: bool) -> Scheme[Any]:
    """The scheme of a name; its codec looks up what it made itself, unless everything is decoded."""
    scheme = names.scheme(name, TEXT)
    transmission: Any = scheme.transmission
    if not decode and "+ldpc" in name:
        return replace(scheme, transmission=replace(transmission, codec=Known(transmission.codec)))
    if not decode and "+uep" in name:
        return replace(scheme, transmission=replace(transmission, codec=Known(transmission.codec)))
    return scheme


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its 95 % bootstrap interval over messages."""
    some = np.asarray(values, float)
    draws = np.random.default_rng(0).integers(len(some), size=(2000, len(some)))
    low, high = np.quantile(some[draws].mean(1), [0.025, 0.975])
    return float(some.mean()), float(low), float(high)


def main() -> None:
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
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sources = [new_prose(), *([seen_prose(given.seen)] if given.seen else [])]
    texts = messages(given.messages, sources)
    try:
        cosine = metric_named("minilm_cosine", "text")
    except (MissingPackage, MissingWeights) as error:
        print(f"without the cosine of embeddings: {error}", file=sys.stderr)
        cosine = None
    rows: list[dict[str, Any]] = []
    cosines: dict[tuple[str, str], float] = {}
    for name in given.schemes:
        scheme = prepared(name, given.decode)
        for channel_name in given.channels:
            channel, begun = names.channel(channel_name), time.process_time()
            for i, (x, value) in enumerate(texts):
                budget = Budget.from_rho(given.rho, TEXT.dims(x))
                made = Preparations()
                for snr_db in given.snr:
                    rng = NamedStreams(0, (f"message={i}",))
                    (outcome,) = scheme.transmit(x, budget, channel, snr_db, rng, made)
                    received = as_received(outcome.x_hat)
                    pair = (received, x)
                    if cosine is not None and pair not in cosines:
                        cosines[pair] = cosine(received, x) if received else 0.0
                    rows.append(
                        {
                            "scheme": scheme.name,
                            "channel": channel_name,
                            "snr_db": snr_db,
                            "message": i,
                            "characters": len(x),
                            "channel_uses": outcome.channel_uses,
                            "allowed_uses": budget.channel_uses,
                            "outage": int(outcome.outage),
                            "wer": round(min(wer(received, x), 9.0), 4),
                            "cer": round(min(cer(received, x), 9.0), 4),
                            "chrf": round(chrf(received, x), 2),
                            "cosine": round(cosines.get(pair, float("nan")), 4),
                            "exact": int(received == x),
                            "needle": int(value in received),
                            "packet_loss": round(float(outcome.info.get("packet_loss", float("nan"))), 4),
                            "payload_bits": outcome.info.get("payload_bits", float("nan")),
                        }
                    )
            print(f"{scheme.name} {channel_name}: {time.process_time() - begun:.0f} CPU s", flush=True)
            write(given.out, rows)


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Records, means with intervals, and the command."""
    with (out / "records.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["scheme"], row["channel"], row["snr_db"]].append(row)
    summary = [
        {
            "scheme": scheme,
            "channel": channel,
            "snr_db": snr_db,
            "messages": len(some),
            **{
                metric: [round(v, 4) for v in interval([row[metric] for row in some])]
                for metric in ("wer", "chrf", "cosine", "exact", "needle", "outage")
            },
            "packet_loss": round(float(np.nanmean([row["packet_loss"] for row in some] + [np.nan])), 4)
            if any(row["packet_loss"] == row["packet_loss"] for row in some)
            else None,
        }
        for (scheme, channel, snr_db), some in groups.items()
    ]
    about = {"command": " ".join(sys.argv), "summary": summary}
    (out / "summary.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
