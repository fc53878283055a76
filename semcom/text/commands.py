"""The commands `semcom text heads`, `semcom text compress` and `semcom text answer`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semcom.errors import InvalidOption, InvalidSource
from semcom.files import write_whole
from semcom.options import check_device, check_input, check_outputs
from semcom.terminal import finite, note, print_row, progress_bar

if TYPE_CHECKING:
    from semcom.text.heads import EvaluatorHeads
    from semcom.text.lm import LanguageModel

text = typer.Typer(
    name="text",
    help="Compress long prompts by the evaluator heads of a language model, and answer questions on them.",
    no_args_is_help=True,
)
MOST_ANSWER = 512

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and all else on stderr.")]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model", help="Language model: smollm2, a folder, a GGUF file, or owner/model of the hub."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Device: cpu, cuda or cuda:N.")]
DtypeOption = Annotated[str, typer.Option(help="Numbers of the model: float32 or bfloat16.")]
RuleOption = Annotated[str, typer.Option(help="Layer of the heads: earliest, best-head, or the paper's sum.")]
RateOption = Annotated[
    float | None, typer.Option("--rate", help="Share of the tokens that is kept.", show_default="0.25")
]
TargetOption = Annotated[
    int | None, typer.Option("--target", "--tokens", help="Number of tokens that are kept.")
]
WindowOption = Annotated[
    int | None,
    typer.Option(help="Last tokens whose attention counts.", show_default="the question, at least 16"),
]


@text.command(
    epilog="Example: semcom text heads smollm2\n\n"
    "Example: semcom text heads model.gguf --prose book.txt --seeds 3"
)
def heads(
    model: Annotated[
        str, typer.Argument(help="smollm2, a folder, a GGUF file, or owner/model.", show_default=False)
    ],
    prose: Annotated[
        Path | None,
        typer.Option(help="Text that hides the needles.", show_default="a story of this package"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of probes.", min=1, max=20)] = 1,
    size: Annotated[
        int | None,
        typer.Option(help="Tokens of a probe.", min=200, show_default="1000, or what the model reads"),
    ] = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Find the evaluator heads of a language model: those that look back at a needle which is asked for.

    Every probe hides a sentence at nine depths of a text. Results are kept in the user's cache.
    """
    if prose is not None:
        check_input(prose)
        if prose.suffix != ".zip":
            _read(prose, None)  # raises if it is no text in UTF-8
    check_device(device)

    from semcom.text.heads import RULES, measured_masses, probe_of
    from semcom.text.lm import load
    from semcom.text.tasks import Haystack, read_book

    haystack = None if prose is None else Haystack.of(read_book(prose))
    lm = load(model, device, dtype)
    rows = []
    for seed in range(seeds):
        with _bar(f"probe {seed + 1} of {seeds}") as told:
            masses = measured_masses(lm, haystack, probe_of(lm, size, seed), told)
        for rule in RULES:
            found = masses.heads(rule)
            rows.append(
                {
                    "probe": seed,
                    "rule": rule,
                    "layer": found.layer,
                    "layers": found.layers,
                    "heads": list(found.heads),
                    "coverage": round(found.coverage, 3),
                    "times_uniform": round(found.gain, 2),
                }
            )
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(
            f"probe {row['probe']}  {row['rule']:<9}  layer {row['layer']:>2} of {row['layers']}  "
            f"heads {row['heads']}  {row['coverage']:.0%} of the layer's mass, best head "
            f"{row['times_uniform']:.1f} times uniform"
        )


@text.command(
    epilog="Example: semcom text compress report.txt --question 'When was the gate opened?' --rate 0.2\n\n"
    "Example: semcom text compress report.txt --target 500 --keep-digits --out short.txt"
)
def compress(
    source: Annotated[Path, typer.Argument(help="A text in UTF-8.", show_default=False)],
    question: Annotated[str, typer.Option(help="Question by which tokens are kept.")] = "",
    rate: RateOption = None,
    target: TargetOption = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the compressed text.", show_default="stdout")
    ] = None,
    keep_digits: Annotated[bool, typer.Option("--keep-digits", help="Keep every word with a digit.")] = False,
    force: Annotated[list[str] | None, typer.Option(help="Keep words that contain this; repeatable.")] = None,
    snap: Annotated[str, typer.Option(help="Keep whole words (word), or single tokens (token).")] = "word",
    window: WindowOption = None,
    rule: RuleOption = "earliest",
    model: ModelOption = "smollm2",
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Shorten a text to a number of tokens: what a question looks back at stays, in its order."""
    kept = _target(rate, target)
    _check_window(window)
    context = _read(source, out)
    check_device(device)
    check_arguments(question, *(force or ()))
    if question and not question.strip():
        raise InvalidOption("--question: blank; ask something, or leave it out")

    from semcom.text.compression import Options, PromptCompressor, check_contexts

    check_contexts([context])
    for part in force or ():
        if part not in context:
            note(f"--force {part}: not in the text, so nothing is kept for it")
    Options(window=window, snap=snap)  # raises before the model is loaded
    with _bar("prompts read") as told:
        compressor = PromptCompressor(model, device, dtype=dtype, rule=rule, told=told)
        done = compressor.compress_prompt(
            context,
            question=question,
            rate=kept if isinstance(kept, float) else 1.0,
            target_token=kept if isinstance(kept, int) else -1,
            force_tokens=force or (),
            force_reserve_digit=keep_digits,
            concate_question=False,
            snap=snap,
            window=window,
        )
    shown = done["compressed_prompt"]
    if out is not None:
        write_whole(out, shown)
    before = done["origin_tokens"] - compressor.size(question)
    row = {
        "tokens": before,
        "kept_tokens": done["context_tokens"],
        "rate": done["context_tokens"] / max(1, before),
        "layer": done["layer"],
        "heads": done["heads"],
        "gflop": done["flops"] / 1e9,
        "seconds": done["seconds"],
    }
    if as_json:
        print(json.dumps(finite(row | ({} if out is not None else {"text": shown})), indent=1))
    elif out is not None:
        print_row(row)
    else:
        print(shown)
        note(f"{row['kept_tokens']} of {before} tokens")
    if row["kept_tokens"] == before:
        note("the text is within the target: nothing is left out")


@text.command(
    epilog="Example: semcom text answer report.txt --question 'what is the account number?' --rate 0.1\n\n"
    "Example: semcom text answer report.txt --question 'who opened the gate?' --cue 'The gate was opened by'"
)
def answer(
    source: Annotated[Path, typer.Argument(help="A text in UTF-8.", show_default=False)],
    question: Annotated[str, typer.Option(help="The question.", show_default=False)],
    cue: Annotated[str, typer.Option(help="Beginning of the answer.")] = "Answer:",
    rate: RateOption = None,
    target: TargetOption = None,
    most: Annotated[int, typer.Option(help="Most tokens of the answer.", min=1, max=MOST_ANSWER)] = 32,
    window: WindowOption = None,
    rule: RuleOption = "earliest",
    model: ModelOption = "smollm2",
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Answer a question about a text: skim it, read the kept tokens again, and decode greedily to a line end.

    `--rate 1` reads the whole text.
    """
    kept = _target(rate, target)
    _check_window(window)
    context = _read(source, None)
    check_device(device)
    check_arguments(question, cue)
    if not question.strip():
        raise InvalidOption("--question: empty; ask something")

    from semcom.text.attention import check_window
    from semcom.text.compression import check_contexts, compressed_ids
    from semcom.text.heads import check_rule
    from semcom.text.lm import load
    from semcom.text.tasks import ReadingTask

    check_contexts([context])
    check_rule(rule)
    lm = load(model, device, dtype)
    task = ReadingTask(source.stem, context, question, cue, "")
    ids = lm.encode(task.prompt)
    width = min(len(ids), max(16, len(lm.encode(task.tail)))) if window is None else window
    check_window(width, len(ids))
    number = kept if isinstance(kept, int) else max(1, round(kept * len(ids)))
    if number < width and target is None:
        note(f"a rate of {kept:g} is {number} of {len(ids)} tokens; the window keeps the last {width}")
        number = width
    elif number < width:
        raise InvalidOption(f"a target of {number} tokens: {width} are always kept; raise it")
    with _bar("prompts read") as told:
        found = _heads(lm, rule, told)
    short = compressed_ids(lm, found, ids, number, width)
    row: dict[str, Any] = {
        "answer": lm.continued(short, most),
        "tokens": len(ids),
        "kept_tokens": len(short),
        "layer": found.layer,
        "heads": list(found.heads),
    }
    if as_json:
        print(json.dumps(finite(row), indent=1))
    else:
        print(row["answer"].strip())
        if not row["answer"].strip():
            note("the model ends its answer at once; try another --cue or --rate")
        note(f"read {row['kept_tokens']} of {row['tokens']} tokens")


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Progress on a terminal; elsewhere an error must be the only line on stderr."""
    if not sys.stderr.isatty():
        yield None
        return
    with progress_bar(label) as told:
        yield told


def _heads(lm: "LanguageModel", rule: str, told: Any) -> "EvaluatorHeads":
    from semcom.text.heads import measured_masses

    return measured_masses(lm, told=told).heads(rule)


def _read(source: Path, out: Path | None) -> str:
    """Text of a file; `out` is checked first."""
    check_input(source)
    if out is not None:
        check_outputs(out, inputs=[source])

    from semcom.modalities.text import TEXT

    if source.is_dir():
        raise InvalidSource(f"{source}: a folder; name a text")
    return TEXT.read(source).x


def check_arguments(*arguments: str) -> None:
    """Check, before a model is loaded, that words of the command line are text.

    Args:
        arguments: The words; bytes that are not UTF-8 arrive as lone surrogates.

    Raises:
        InvalidSource: One has a lone surrogate.
    """
    from semcom.modalities.text import TEXT

    for argument in arguments:
        TEXT.check(argument)


def _check_window(window: int | None) -> None:
    if window is not None and window < 1:
        raise InvalidOption(f"a window of {window} tokens: at least 1")


def _target(rate: float | None, target: int | None) -> float | int:
    """Tokens that are kept as an integer, or their share as a float."""
    if rate is not None and target is not None:
        raise InvalidOption("--rate and --target: give one of them")
    if target is not None:
        if target < 1:
            raise InvalidOption(f"--target {target}: choose a number of tokens from 1 on")
        return target
    share = 0.25 if rate is None else rate
    if not 0 < share <= 1:
        raise InvalidOption(f"--rate {share:g}: choose a share of the tokens above 0, up to 1")
    return float(share)
