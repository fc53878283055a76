"""What prompt compression keeps and what it costs: recall of evidence and answers, per prompt and method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semcom.statistics import Interval, bootstrap_mean, paired_difference
from semcom.text.ehpc import Scorer, kept
from semcom.text.heads import token_places, tokens_in
from semcom.text.lm import LanguageModel
from semcom.text.reading import Reading, answered
from semcom.text.tasks import ReadingTask

Row = Mapping[str, Any]
WHOLE = "full"
"""Name of the method that keeps the whole prompt."""


@dataclass(frozen=True)
class Plan:
    """Methods and ratios of a measurement.

    Args:
        scorers: The methods; their names differ.
        ratios: Compression ratios, tokens of the prompt over tokens kept.
        answering: Pairs of method and ratio for which the compressed prompt is read and answered.
        window: Number of last tokens whose queries are kept for all methods, at every layer.
        protect: Whether question and instruction are always kept.
    """

    scorers: tuple[Scorer, ...]
    ratios: tuple[int, ...] = (4, 8, 16)
    answering: frozenset[tuple[str, int]] = frozenset()
    window: int = 32
    protect: bool = False


def measured(lm: LanguageModel, task: ReadingTask, plan: Plan) -> dict[str, Any]:
    """Measure all methods on one prompt; the whole prompt is read once for all of them.

    Args:
        lm: The model.
        task: Prompt, evidence and answer.
        plan: Methods and ratios.

    Returns:
        `tokens` of the prompt; `full` with `em` and `bits`; by method and ratio ("8x"): `recall`, the share
        of evidence tokens kept, and where it was answered `em`, whether every answer token is the most
        probable one, and `bits`, mean code length of an answer token.
    """
    ids, places = token_places(lm, task.prompt)
    answer = lm.encode(task.answer)
    evidence = set(tokens_in(places, task.shifted(task.evidence)))
    context = tokens_in(places, [(len(task.head), len(task.head) + len(task.context))])
    reading = Reading(lm, ids, range(context[0], context[-1] + 1))
    reading.whole(min(plan.window, len(ids)), answer)
    bits, exact = reading.answer(answer)
    row: dict[str, Any] = {"tokens": len(ids), WHOLE: {"em": int(exact), "bits": _short(bits.mean())}}
    for scorer in plan.scorers:
        row[scorer.name] = {}
        for ratio in plan.ratios:
            places_kept = kept(reading, scorer, max(1, len(ids) // ratio), plan.protect)
            recall = len(evidence & set(places_kept)) / max(1, len(evidence))
            found: dict[str, float] = {"recall": _short(recall)}
            if (scorer.name, ratio) in plan.answering:
                bits, exact = answered(lm, [ids[i] for i in places_kept], answer)
                found |= {"em": int(exact), "bits": _short(bits.mean())}
            row[scorer.name][f"{ratio}x"] = found
    return row


def _short(value: Any) -> float:
    return round(float(value), 3)


def values_of(rows: Sequence[Row], method: str, ratio: int, measure: str) -> list[float]:
    """Values of one measure on all prompts.

    Args:
        rows: Rows of one cell.
        method: Name of the method, or "full", of which the ratio does not matter.
        ratio: Compression ratio.
        measure: "recall", "whole" (all evidence kept), "em" or "bits".

    Returns:
        One value per row that has it.
    """
    found = []
    for row in rows:
        cell = row.get(method, {})
        cell = cell if method == WHOLE else cell.get(f"{ratio}x", {})
        if measure == "whole" and "recall" in cell:
            found.append(float(cell["recall"] == 1))
        elif measure in cell:
            found.append(float(cell[measure]))
    return found


def mean_of(rows: Sequence[Row], method: str, ratio: int, measure: str) -> Interval | None:
    """Mean of a measure over prompts with its 95 % bootstrap interval.

    Args:
        rows: Rows of one cell.
        method: Name of the method.
        ratio: Compression ratio.
        measure: "recall", "whole", "em" or "bits".

    Returns:
        Mean and interval; None if no row has the measure.
    """
    values = values_of(rows, method, ratio, measure)
    return bootstrap_mean(values, np.arange(len(values))) if values else None


def difference_of(
    rows: Sequence[Row], first: tuple[str, int], second: tuple[str, int], measure: str
) -> Interval | None:
    """Mean difference of two methods on the same prompts with its paired 95 % bootstrap interval.

    Args:
        rows: Rows of one cell.
        first: Method and ratio.
        second: Method and ratio that are subtracted.
        measure: "recall", "whole", "em" or "bits".

    Returns:
        Difference and interval; None if no row has both.
    """
    pairs = [
        (a[0], b[0])
        for row in rows
        if (a := values_of([row], *first, measure)) and (b := values_of([row], *second, measure))
    ]
    if not pairs:
        return None
    left, right = zip(*pairs, strict=True)
    return paired_difference(left, right, np.arange(len(pairs)))
