"""What records say, in sentences: who is best where, by how much, and what was lost."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from semcom.budget import shown_rho
from semcom.columns import Column, Columns
from semcom.kinds import Kind, kinds_of
from semcom.metrics.catalogue import DEFAULTS, SHIPPED_COLUMNS, column_named
from semcom.winners import Lead, Standing, standings
from semcom.wording import MINUS, amount, decimals, noun, spoken

if TYPE_CHECKING:
    import pandas as pd

AT_MOST = 3
"""Metrics that sentences are about; tables and figures have them all."""

USUAL = {name: ("psnr_db", "lpips_squeeze", "swd") for name in ("image", "video")}
"""Metrics that come first, where they are not the first ones of `DEFAULTS`."""

OF_A_HEADLINE = 4
"""Families or schemes that one headline names."""

Point = tuple[str, float, float]


@dataclass(frozen=True, slots=True)
class Mention:
    """Name of a scheme inside a sentence, which a page marks with the scheme's colour.

    Args:
        scheme: Name of the scheme.
    """

    scheme: str

    def __str__(self) -> str:
        """The name."""
        return self.scheme


Words: TypeAlias = tuple[str | Mention, ...]
"""A sentence in pieces."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one operating point.

    Args:
        channel: Canonical name of the channel.
        rho: Allowed bandwidth ratio in channel uses per source dimension.
        snr_db: Average received Es/N0 in dB.
        words: The sentence in pieces; it begins with the SNR.
    """

    channel: str
    rho: float
    snr_db: float
    words: Words

    @property
    def sentence(self) -> str:
        """The sentence as text."""
        return "".join(map(str, self.words))


@dataclass(frozen=True, slots=True)
class Headline:
    """One sentence about all operating points of a channel.

    Args:
        channel: Canonical name of the channel.
        words: The sentence in pieces.
        detail: Which schemes these are, and what is significant; may be empty.
    """

    channel: str
    words: Words
    detail: Words = ()

    @property
    def sentence(self) -> str:
        """The sentence as text, without its detail."""
        return "".join(map(str, self.words))


@dataclass(frozen=True, slots=True)
class Findings:
    """All sentences about a set of records.

    Args:
        headlines: Sentences about all operating points of a channel; none if there is a single point.
        caveats: What a reader must know to take the sentences rightly.
        points: One sentence per operating point, sorted by channel, falling rho and rising SNR.
    """

    headlines: tuple[Headline, ...]
    caveats: tuple[Words, ...]
    points: tuple[Finding, ...]


def findings(records: "pd.DataFrame", metrics: Sequence[str], columns: Columns = SHIPPED_COLUMNS) -> Findings:
    """Say what the records say, in plain words: one sentence per operating point, and some about all.

    The best mean of a point is compared with the best of another family on the same items, with a paired 95 %
    interval; where that holds zero, the sentence says that the lead is not significant. Where the two
    transmitters know different things of the channel, the sentence says so. Lost items are part of all means,
    and are named. Bounds take no part.

    Args:
        records: Records, one per row.
        metrics: Columns of metrics; sentences are about the first three that have a direction, those usual
            for the modality before others.
        columns: Unit and direction of metrics, such as `ResultStore.columns()`.

    Returns:
        The sentences.
    """
    kinds = kinds_of(records)
    modalities = sorted(set(records["modality"])) if "modality" in records else ["image"]
    item = noun(modalities[0]) if len(modalities) == 1 else "item"
    chosen = _chosen(metrics, modalities[0], columns)
    found = {column.name: standings(records, column, kinds=kinds) for column in chosen}
    digits = {
        column.name: decimals(column, max((abs(s.mean) for s in found[column.name]), default=0.0))
        for column in chosen
    }
    scribe = _Scribe(kinds, {column.name: column for column in chosen}, digits, item)
    by_point: dict[Point, list[Standing]] = {}
    for standing in (standing for group in found.values() for standing in group):
        by_point.setdefault((standing.channel, standing.rho, standing.snr_db), []).append(standing)
    losses = _losses(records)
    points = sorted(losses, key=lambda point: (point[0], -point[1], point[2]))
    told = tuple(Finding(*p, scribe.point(p, by_point.get(p, []), losses[p])) for p in points)
    headlines: list[Headline] = []
    if len(points) > 1:
        for channel in sorted({point[0] for point in points}):
            here = [point for point in points if point[0] == channel]
            told_together: dict[object, list[Column]] = {}
            for column in chosen:
                winners = tuple(
                    (s.rho, s.snr_db, s.best[0]) for s in found[column.name] if _compared(s, channel)
                )
                told_together.setdefault(winners, []).append(column)
            for together in told_together.values():
                headlines += scribe.headline(channel, together, found, here)
            headlines += scribe.lost(channel, {point: losses[point] for point in here})
    return Findings(tuple(headlines), tuple(scribe.caveats(found)), told)


def _chosen(metrics: Sequence[str], modality: str, columns: Columns) -> list[Column]:
    usual = [name for name in USUAL.get(modality, DEFAULTS.get(modality, ())) if name in metrics]
    ordered = [column_named(name, columns) for name in dict.fromkeys((*usual, *metrics))]
    return [column for column in ordered if column.higher_is_better is not None][:AT_MOST]


def _losses(records: "pd.DataFrame") -> dict[Point, dict[str, float]]:
    """Outage rate by point and scheme."""
    losses: dict[Point, dict[str, float]] = {}
    rows = records if "outage" in records else records.assign(outage=0)
    key: Any
    for key, group in rows.groupby(["channel", "rho", "snr_db", "scheme"]):
        channel, rho, snr_db, scheme = key
        rate = float(np.mean(group["outage"].to_numpy()))
        losses.setdefault((str(channel), float(rho), float(snr_db)), {})[str(scheme)] = rate
    return losses


@dataclass(frozen=True, slots=True)
class _Scribe:
    """Makes sentences; `digits` are decimals by metric, `item` is what one item is called."""

    kinds: Mapping[str, Kind]
    columns: Mapping[str, Column]
    digits: Mapping[str, int]
    item: str

    def point(self, point: Point, found: Sequence[Standing], losses: Mapping[str, float]) -> Words:
        """The sentence of one operating point."""
        start = f"At {point[2]:g} dB, "
        if losses and all(rate == 1 for rate in losses.values()):
            who = "every scheme" if len(losses) > 1 else Mention(next(iter(losses)))
            return (start, who, f" lost every {self.item}; nothing is compared.")
        if not found:
            return (start, "nothing is compared: no metric was measured whose better direction is known.")
        first, *others = found
        words: list[str | Mention] = [start, *self._first(first)]
        for standing in others:
            words += self._further(standing, first)
        return (*words, *self._losses_of(losses), ".")

    def _first(self, standing: Standing) -> Words:
        column = self.columns[standing.metric]
        mean, best = self._amount(standing.metric, standing.mean), Mention(standing.best[0])
        if standing.second is None:
            alone = "; no other scheme was measured there" if standing.schemes == 1 else ""
            return (best, f" has a {spoken(column)} of {mean}{alone}")
        degree = _degree(column)
        if len(standing.best) == standing.schemes:
            return (*_listed(map(Mention, standing.best)), f" have the same {spoken(column)} ({mean})")
        if len(standing.best) > 1:
            ties = _listed(map(Mention, standing.best))
            start = (*ties, f" share the {degree} {spoken(column)} ({mean})")
        else:
            start = (best, f" has the {degree} {spoken(column)} ({mean})")
        lead = standing.rival or standing.second
        words = (*start, *self._lead(standing, lead))
        second = standing.second
        if second.over not in (lead.over, *standing.best) and not second.significant and standing.items > 1:
            words = (*words, " (", Mention(second.over), " is not significantly worse)")
        return words

    def _lead(self, standing: Standing, lead: Lead) -> Words:
        """How far the best is ahead of another scheme."""
        column, interval = self.columns[standing.metric], lead.interval
        side = "above" if column.higher_is_better else "below"
        gap = self._amount(standing.metric, interval.mean)
        aside = self._aside(standing.best[0], lead.over)
        if standing.items == 1:
            return (f", {gap} {side} ", Mention(lead.over), *aside, f" (one {self.item}: no interval)")
        digits = self.digits[standing.metric]
        ends = f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]".replace("-", MINUS)
        if lead.significant:
            return (f", {gap} {ends} {side} ", Mention(lead.over), *aside)
        return (f", but not significantly: {gap} {ends} {side} ", Mention(lead.over), *aside)

    def _aside(self, best: str, other: str) -> Words:
        """What the transmitters know, where that differs."""
        knows, others = self.kinds[best].csit, self.kinds[other].csit
        if (knows, others) == ("average", "none"):
            return (", which is not told the SNR",)
        if (knows, others) == ("none", "average"):
            return (", although that is told the SNR",)
        return (", whose transmitter may know other things",) if knows != others else ()

    def _further(self, standing: Standing, first: Standing) -> Words:
        """A clause about another metric."""
        column = self.columns[standing.metric]
        if standing.all_lost or standing.second is None:
            return ()
        degree = _degree(column)
        mean, lead = self._amount(standing.metric, standing.mean), standing.rival or standing.second
        doubt = "" if lead.significant or standing.items == 1 else ", not significantly"
        if len(standing.best) == 1 and standing.best == first.best:
            return (f"; also the {degree} {spoken(column)} ({mean}{doubt})",)
        return (f"; {degree} {spoken(column)}: ", *_listed(map(Mention, standing.best)), f" ({mean}{doubt})")

    def _losses_of(self, losses: Mapping[str, float]) -> Words:
        whole = [name for name, rate in losses.items() if rate == 1]
        some = [(name, rate) for name, rate in losses.items() if 0 < rate < 1]
        words: Words = ()
        if whole:
            words = (*words, "; ", *_listed(map(Mention, whole)), f" lost every {self.item}")
        for name, rate in some[:3]:
            words = (*words, "; ", Mention(name), f" lost {_share(rate)} of the {self.item}s")
        if len(some) > 3:
            words = (*words, f"; {len(some) - 3} more schemes lost some")
        return words

    def headline(
        self,
        channel: str,
        together: Sequence[Column],
        found: Mapping[str, Sequence[Standing]],
        points: Sequence[Point],
    ) -> list[Headline]:
        """A sentence about all operating points of one channel, in metrics that have the same winners."""
        by_metric = [[s for s in found[column.name] if _compared(s, channel)] for column in together]
        compared = by_metric[0]
        if not compared:
            return []
        degrees = _and([f"{_degree(column)} {spoken(column)}" for column in together])
        there = {kind.family for kind in self.kinds.values() if kind.family != "bound"}
        families = len(there) > 1  # else the sentence is about schemes
        wins: dict[str, list[Standing]] = {}
        for standing in compared:
            name = standing.best[0]
            wins.setdefault(self.kinds[name].family if families else name, []).append(standing)
        ranked = sorted(wins.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:OF_A_HEADLINE]
        words: list[str | Mention] = []
        for i, (name, won) in enumerate(ranked):
            words.append("" if i == 0 else " and " if i == len(ranked) - 1 else ", ")
            plural = _plural(name)
            words.append((plural if i else plural[0].upper() + plural[1:]) if families else Mention(name))
            words.append(f" {'have' if families else 'has'} the {degrees}" if i == 0 else "")
            words.append(_count(len(won), len(compared), len(points), first=i == 0) + _where(won, points))
        said = tuple(word for word in (*words, ".") if word)
        if not families:
            return [Headline(channel, said)]
        detail: list[str | Mention] = []
        schemes = Counter(standing.best[0] for standing in compared).most_common()
        for i, (name, number) in enumerate(schemes[:OF_A_HEADLINE]):
            detail += [
                "won by " if i == 0 else ", ",
                Mention(name),
                f" at {_points(number) if i == 0 else number}",
            ]
        left = len(schemes) - OF_A_HEADLINE
        detail.append(f", {left} more" if left > 0 else "")
        certain: list[str] = []
        for column, standings_ in zip(together, by_metric, strict=True):
            across = [s.rival for s in standings_ if s.rival is not None and s.items > 1]
            significant = sum(lead.significant for lead in across)
            of = f" in {spoken(column)}" if len(together) > 1 else ""
            where = _share_of(significant, len(across), len(compared), named=not certain)
            certain += [f"at {where}{of}"] if across else []
        if certain:
            detail.append(f"; the lead over the best of another family is significant {_and(certain)}")
        unequal = sum(
            (self.kinds[s.best[0]].csit, self.kinds[s.rival.over].csit) == ("average", "none")
            for s in compared
            if s.rival is not None
        )
        if unequal:
            detail.append(
                f"; at {_points(unequal)} the winner is told the SNR and the best of another family is not"
            )
        return [Headline(channel, said, tuple(word for word in detail if word))]

    def lost(self, channel: str, losses: Mapping[Point, Mapping[str, float]]) -> list[Headline]:
        """A sentence about schemes that lost every item somewhere."""
        everything = [
            point for point, rates in losses.items() if len(rates) > 1 and all(r == 1 for r in rates.values())
        ]
        where: dict[str, list[Point]] = {}
        for point, rates in losses.items():
            for name, rate in rates.items():
                if rate == 1 and point not in everything:
                    where.setdefault(name, []).append(point)
        ranked: list[tuple[str | Mention, list[Point]]] = [("Every scheme", everything)] if everything else []
        ranked += [
            (Mention(name), points)
            for name, points in sorted(where.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        ]
        if not ranked:
            return []
        parts: list[str | Mention] = []
        for i, (who, points) in enumerate(ranked[:OF_A_HEADLINE]):
            parts += ["; " if i else "", who, "" if i else f" lost every {self.item}"]
            number = _count(len(points), len(losses), len(losses), first=i == 0)
            more = " more" if i and everything else ""
            parts.append(number + more + _where(points, list(losses)))
        left = len(ranked) - OF_A_HEADLINE
        parts.append(f"; {left} other scheme{'s' * (left > 1)} elsewhere" if left > 0 else "")
        return [Headline(channel, tuple(part for part in (*parts, ".") if part))]

    def caveats(self, found: Mapping[str, Sequence[Standing]]) -> Iterable[Words]:
        """Remarks on the comparison as a whole."""
        everything = [standing for group in found.values() for standing in group]
        items = sorted({standing.items for standing in everything})
        if items and items[-1] < 10:
            count = f"{items[-1]} {self.item}{'s' if items[-1] > 1 else ''}"
            yield (f"Only {count}: this shows how things behave, not by how much.",)
        fair = {name: kind.csit for name, kind in self.kinds.items() if kind.family != "bound"}
        knowing = [name for name, csit in fair.items() if csit == "average"]
        if knowing and len(knowing) < len(fair):
            yield (
                "The transmitters of ",
                *_listed(map(Mention, knowing[:4])),
                f" and {len(knowing) - 4} more" if len(knowing) > 4 else "",
                " are told the average SNR, the others are not: where they meet, the comparison is not on "
                "equal terms.",
            )
        bounds = [name for name, kind in self.kinds.items() if kind.family == "bound"]
        if bounds:
            bound = "a bound and does" if len(bounds) == 1 else "bounds and do"
            verb = "is" if len(bounds) == 1 else "are"
            yield (*_listed(map(Mention, bounds)), f" {verb} {bound} not take part.")

    def _amount(self, metric: str, value: float) -> str:
        return amount(self.columns[metric], value, self.digits[metric])


def _compared(standing: Standing, channel: str) -> bool:
    """Whether several schemes were compared there, and not all lost everything."""
    return standing.channel == channel and not standing.all_lost and standing.second is not None


def _degree(column: Column) -> str:
    return "highest" if column.higher_is_better else "lowest"


def _plural(family: str) -> str:
    return f"{family}s" if family == "generative receiver" else f"{family} schemes"


def _count(number: int, of: int, total: int, first: bool) -> str:
    """How often; `of` is the number of points that were compared, `total` of all."""
    if number == of:
        which = "the one operating point" if of == 1 else f"all {of} operating points"
        return f" at {which}{'' if of == total else f' of {total} at which something arrived'}"
    return f" at {number} of {of} operating points" if first else f" at {number}"


def _points(number: int) -> str:
    return f"{number} point{'s' * (number != 1)}"


def _share_of(number: int, of: int, total: int, named: bool) -> str:
    """So many of the points: "all 4 points", "none of 4 points"; `named` says what they are, once.

    Where `of` is less than `total`, the others have no such lead.
    """
    what = " points" if named else ""
    if of == 1:
        return f"{'the one point' if number else 'no point'}{' that has one' if of < total else ''}"
    if of < total:
        return f"{number or 'none'} of the {of}{what} that have one"
    return f"all {of}{what}" if number == of else f"{number or 'none'} of {of}{what}"


def _where(won: "Sequence[Standing] | Sequence[Point]", points: Sequence[Point]) -> str:
    """The ratios and SNRs at which something holds, where few words can say it."""
    at = sorted({(s.rho, s.snr_db) if isinstance(s, Standing) else s[1:] for s in won})
    everywhere = {point[1:] for point in points}
    if len(at) == len(everywhere):
        return ""
    rhos, snrs = sorted({rho for rho, _ in at}, reverse=True), sorted({snr for _, snr in at})
    if len(at) == len(rhos) * len(snrs):
        all_rhos, all_snrs = ({point[axis] for point in everywhere} for axis in (0, 1))
        parts = [f"{_range(snrs, sorted(all_snrs))} dB"] if len(snrs) < len(all_snrs) else []
        if len(rhos) < len(all_rhos):
            parts.append(f"ρ = {_and([shown_rho(rho) for rho in rhos])}")
        return f" ({', '.join(parts)})" if parts else ""
    if len(at) > OF_A_HEADLINE:
        return ""
    parts = []
    for rho in rhos:
        here, there = (sorted(snr for r, snr in points_ if r == rho) for points_ in (at, everywhere))
        parts.append(f"ρ = {shown_rho(rho)}{'' if here == there else f' at {_range(here, there)} dB'}")
    return f" ({'; '.join(parts)})"


def _range(some: Sequence[float], of: Sequence[float]) -> str:
    """Numbers one by one, or the first and the last of those that follow each other."""
    values = [f"{value:g}" for value in some]
    start = list(of).index(some[0])
    if len(values) > 2 and list(some) == list(of)[start : start + len(some)]:
        return f"{values[0]} to {values[-1]}"
    return _and(values)


def _and(values: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(values[:-1]), values[-1])))


def _share(rate: float) -> str:
    """A rate in percent that is not rounded to 0 or 100."""
    return f"{min(max(100 * rate, 1), 99):.0f} %" if 0.01 <= rate <= 0.99 else f"{100 * rate:.2g} %"


def _listed(mentions: Iterable[Mention]) -> Words:
    """Names with commas and an "and" between them."""
    names = list(mentions)
    words: list[str | Mention] = []
    for i, name in enumerate(names):
        words += ["" if i == 0 else " and " if i == len(names) - 1 else ", ", name]
    return tuple(word for word in words if word != "")
