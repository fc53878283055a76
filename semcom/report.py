"""A report of one file: tables, figures and what was received inside, nothing loaded from elsewhere."""

import base64
import hashlib
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semcom.budget import shown_rho
from semcom.exhibits import Exhibit, Fold, Loop, Page, Strip
from semcom.files import write_whole
from semcom.findings import Finding, Findings, Headline, Mention, Words
from semcom.plots import figure_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #fff; --ink: #1d2126; --soft: #5b626b; --line: #dfe3e8; --stripe: #f3f5f8;
  --accent: #0072b2; --added: #0b6b2f; --added-paper: #ddf4e4; --missing: #a5222a; --missing-paper: #fbe3e4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1d2125; --ink: #e6e9ec; --soft: #a2aab3; --line: #343a41; --stripe: #23282d;
    --accent: #6cb8e6; --added: #7fdc9b; --added-paper: #173623; --missing: #ff9b9f; --missing-paper: #431c1f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1360px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 36px 0 12px; }
summary h3 { display: inline; }
h3 { font-size: 1rem; margin: 0 0 10px; font-weight: 600; overflow-wrap: anywhere; }
p, ul { margin: 0 0 12px; max-width: 85ch; }
ul { padding-left: 1.2em; }
li { margin-bottom: 5px; }
nav { margin: 0 0 12px; }
nav a { color: var(--accent); text-decoration: none; margin-right: 18px; display: inline-block; }
code { font: 0.92em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px;
  margin: 0 0 18px;
}
.lead { color: var(--soft); margin-bottom: 8px; max-width: none; }
.opening {
  display: grid; gap: 18px; grid-template-columns: minmax(0, 1.35fr) minmax(0, 1fr); align-items: start;
}
.opening .card { margin: 0; }
.opening h2 { margin: 0 0 10px; }
@media (max-width: 900px) { .opening { grid-template-columns: minmax(0, 1fr); } }
.headlines { list-style: none; padding: 0; margin: 0 0 4px; font-size: 1.06rem; max-width: none; }
.headlines li { padding: 5px 0; margin: 0; line-height: 1.4; }
.headlines small { display: block; font-size: 0.82rem; color: var(--soft); margin-top: 2px; }
.headlines small .scheme { font-weight: 400; }
.opening h3 { margin: 16px 0 4px; padding-top: 12px; border-top: 1px solid var(--line); }
.opening h2 + h3 { margin-top: 0; padding-top: 0; border-top: 0; }
.points { list-style: none; padding: 0 0 0 2px; margin: 4px 0; font-size: 0.95rem; max-width: none; }
.caveat { font-size: 0.88rem; color: var(--soft); max-width: none; margin: 10px 0 0; }
.fold > summary { padding: 5px 0; color: var(--accent); font-size: 0.95rem; }
.scheme { font-weight: 600; white-space: nowrap; }
.scheme code { white-space: normal; }
.dot { display: inline-block; width: 0.7em; height: 0.7em; border-radius: 2px; margin-right: 0.3em; }
.key { margin: 0; }
.key dt { margin-top: 10px; overflow-wrap: anywhere; }
.key dt:first-child { margin-top: 0; }
.key dd { margin: 0 0 0 44px; font-size: 0.88rem; color: var(--soft); line-height: 1.4; }
.key i { display: block; font-style: normal; font-size: 0.8rem; color: var(--accent); }
.key svg { vertical-align: middle; margin-right: 8px; }
.scroll { overflow: auto; max-height: 75vh; }
.grid { display: grid; gap: 18px; grid-template-columns: repeat(auto-fit, minmax(min(520px, 100%), 1fr)); }
.grid .card { margin: 0; }
.figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
.map img { max-width: 1100px; min-width: min(620px, var(--natural)); width: auto; max-height: 640px; }
.map .scroll { max-height: none; }
.exhibit .scroll { max-height: none; margin-top: 10px; }
.exhibit .scroll img {
  display: block; width: 100%; min-width: min(760px, var(--natural)); max-width: var(--natural); height: auto;
  border-radius: 4px;
}
.texts { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); }
.text { border-left: 3px solid var(--line); padding-left: 12px; min-width: 0; }
.text:first-child:not(:nth-last-child(2)) { grid-column: 1 / -1; }
.text h4 { font-size: 0.95rem; margin: 0 0 4px; overflow-wrap: anywhere; }
.text small, .legend, .note, .more { color: var(--soft); font-size: 0.85rem; font-weight: 400; }
.text small { margin-left: 6px; }
.legend { max-width: none; }
.note { margin: 0 0 6px; }
.words {
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; max-width: 90ch; font-size: 0.95rem;
}
ins { color: var(--added); background: var(--added-paper); text-decoration: underline; }
del { color: var(--missing); background: var(--missing-paper); text-decoration: line-through; }
.gap {
  color: var(--added); background: var(--added-paper); border: 1px dashed currentColor; border-radius: 3px;
  padding: 0 4px; font-weight: 700;
}
ins, del, .gap, .guess { unicode-bidi: isolate; }
.guess { color: var(--soft); font-style: italic; border-bottom: 1px dashed currentColor; }
table {
  border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.88rem;
  font-variant-numeric: tabular-nums; line-height: 1.35;
}
caption { text-align: left; color: var(--soft); padding-bottom: 8px; }
caption span { display: block; position: sticky; left: 0; max-width: min(110ch, calc(100vw - 50px)); }
th, td { padding: 5px 10px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
td.words-cell { white-space: normal; overflow-wrap: anywhere; }
thead th {
  position: sticky; top: 0; z-index: 2; background: var(--card); color: var(--soft); font-weight: 600;
  vertical-align: bottom;
}
tbody th {
  position: sticky; left: 0; z-index: 1; background: var(--card); font-weight: 600; text-align: left;
  min-width: 215px; max-width: 300px; overflow-wrap: anywhere;
}
thead th:first-child { left: 0; z-index: 3; }
tbody tr:nth-child(even) > * { background: var(--stripe); }
tr.start > * { border-top: 2px solid var(--soft); }
th button { all: unset; cursor: pointer; }
th button::after { content: " \\2195"; color: var(--line); }
th button:hover::after, th button:focus-visible::after { color: var(--accent); }
th[aria-sort=ascending] button::after { content: " \\2191"; color: var(--accent); }
th[aria-sort=descending] button::after { content: " \\2193"; color: var(--accent); }
td small { color: var(--soft); font-size: 0.82rem; display: block; }
.number { text-align: right; }
@media (max-width: 600px) {
  main { padding: 16px 10px 40px; }
  .card { padding: 12px; }
  tbody th { min-width: 104px; max-width: 34vw; font-size: 0.76rem; }
  th, td { padding: 5px 7px; }
  .key dd { margin-left: 0; }
}
@media print { .scroll { max-height: none; overflow: visible; } .card { break-inside: avoid; } }
"""
SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => {
    const text = row.cells[i].innerText.trim().replace("\\u2212", "-");
    const part = text.match(/^(-?[\\d.]+)\\/(\\d+)$/);
    const number = part ? part[1] / part[2] : parseFloat(text);
    return text === "" ? null : isNaN(number) || !/^[-+.\\d]/.test(text) ? text : number;
  };
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [value(row, i), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const order = typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
        return down ? -order : order;
      });
      body.append(...rows.map(([, row]) => row));
      for (const row of body.rows) row.classList.remove("start");
    });
  });
}
"""
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
)
"""What a page may load: nothing from elsewhere, and no script but this one."""

CSS_DPI = 96
BREAKS = re.compile(r"(?<=[:+])(?!/)")
"""Places at which the name of a scheme may be broken into lines."""

SECTIONS = (
    ("findings", "Findings"),
    ("maps", "Who wins where"),
    ("figures", "Curves"),
    ("exhibits", "Received"),
    ("tables", "Table"),
    ("notes", "Notes"),
)
OPEN_MAPS = 3
OPEN_ITEMS = 1
OPEN_FIGURES = 4
OPEN_ENTRIES = 12
OPEN_CHANNELS = 4
OPEN_POINTS = 8
OPEN_GROUPS = 8
LONG_TABLE = 200  # rows


@dataclass(frozen=True, slots=True)
class Entry:
    """Line about a scheme in the key of a report.

    Args:
        name: Name of the scheme.
        color: Colour of the scheme in all figures, "#rrggbb".
        dashes: Lengths of dashes and gaps of the lines in figures; empty for a solid line.
        about: What the scheme is, in a line.
        family: Family of the scheme, one of `semcom.kinds.FAMILIES`.
        knows: What the transmitter knows of the channel.
    """

    name: str
    color: str
    dashes: tuple[float, ...]
    about: str
    family: str
    knows: str


def write_report(
    path: Path,
    title: str,
    tables: "Mapping[str, pd.DataFrame] | None" = None,
    figures: "Mapping[str, Figure] | None" = None,
    exhibits: Mapping[str, Iterable[Exhibit]] | None = None,
    notes: Sequence[str] = (),
    *,
    summary: str = "",
    best: "Mapping[str, pd.DataFrame] | None" = None,
    findings: Findings | None = None,
    key: Sequence[Entry] = (),
    maps: "Mapping[str, Figure] | None" = None,
) -> Path:
    """Write a self-contained HTML page, completely or not at all.

    Figures go in as SVG, strips without loss, so nothing that is seen in them is an artefact of the report;
    loops say that they are compressed. The page follows the reader's light or dark setting, fits a phone,
    and prints. Its one script sorts tables; all else works without.

    Args:
        path: The file; its folder is created if necessary.
        title: Heading.
        tables: Caption to frame. Numbers get four significant digits; give strings for anything else. The
            first column heads its row; lines of a string after the first are small.
        figures: Description to figure; figures carry their own titles.
        exhibits: Caption to what is shown below it, from `semcom.exhibits.exhibits_of`.
        notes: What a reader should know: limits, policies, what was left out and why.
        summary: A sentence or two below the heading.
        best: Caption to a frame of truth values of the table's shape; cells that hold True are bold.
        findings: Sentences that open the page.
        key: Lines about schemes, beside the sentences; names have their colours in sentences and tables.
        maps: Description to figure, between findings and figures.

    Returns:
        The path.

    Raises:
        OSError: The folder cannot be written to.
    """
    colors = {entry.name: entry.color for entry in key}
    sections = {
        "findings": _opening(findings, key, colors),
        "maps": _maps(maps or {}),
        "figures": _figures(figures or {}),
        "exhibits": [
            _card("exhibit", _item(caption, shown, opened=i < OPEN_ITEMS))
            for i, (caption, shown) in enumerate((exhibits or {}).items())
        ],
        "tables": [
            _card("table", _folded_table(_table(caption, t, colors, (best or {}).get(caption)), len(t)))
            for caption, t in (tables or {}).items()
        ],
        "notes": [f"<ul>{''.join(f'<li>{_text(note)}</li>' for note in notes)}</ul>"] if notes else [],
    }
    present = [(name, heading) for name, heading in SECTIONS if sections[name]]
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading in present)
    body = "".join(
        f'<section id="{name}">{"" if name == "findings" else f"<h2>{heading}</h2>"}'
        f"{''.join(sections[name])}</section>"
        for name, heading in present
    )
    about = f'<p class="lead">{_text(summary)}</p>' if summary else ""
    page = whole_page(title, f"{about}<nav>{links}</nav>{body}", SCRIPT if tables else "")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return path


def whole_page(title: str, body: str, script: str = "") -> str:
    """A page of HTML in the style of reports.

    Args:
        title: Heading; it is escaped.
        body: Elements below it, from `semcom.exhibits` for example; nothing in them is escaped.
        script: `SCRIPT`, or empty for none; the page allows no other.

    Returns:
        The page, which loads nothing from elsewhere.
    """
    code = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{_text(title)}</h1>{body}</main>{code}</body></html>\n"
    )


def _opening(findings: Findings | None, key: Sequence[Entry], colors: Mapping[str, str]) -> list[str]:
    """Sentences, and beside them a line about each scheme."""
    cards: list[str] = []
    if findings is not None and (findings.points or findings.headlines):
        channels = dict.fromkeys(point.channel for point in findings.points)
        parts = [
            _of_channel(
                channel,
                [headline for headline in findings.headlines if headline.channel == channel],
                [point for point in findings.points if point.channel == channel],
                colors,
                opened=i == 0 and len(findings.points) <= OPEN_POINTS,
            )
            for i, channel in enumerate(channels)
        ]
        rest = "".join(parts[OPEN_CHANNELS:])
        cards.append(
            "<h2>Findings</h2>"
            + "".join(parts[:OPEN_CHANNELS])
            + (_fold(f"{len(parts) - OPEN_CHANNELS} more channels", rest) if rest else "")
            + "".join(f'<p class="caveat">{_words(words, colors)}</p>' for words in findings.caveats)
        )
    if key:
        lines = [_entry(entry) for entry in key]
        rest = "".join(lines[OPEN_ENTRIES:])
        more = (
            _fold(f"{len(lines) - OPEN_ENTRIES} more schemes", f'<dl class="key">{rest}</dl>') if rest else ""
        )
        cards.append(f'<h2>The schemes</h2><dl class="key">{"".join(lines[:OPEN_ENTRIES])}</dl>{more}')
    joined = "".join(_card("opening-card", card) for card in cards)
    return [f'<div class="opening">{joined}</div>'] if cards else []


def _of_channel(
    channel: str,
    headlines: Sequence[Headline],
    points: Sequence[Finding],
    colors: Mapping[str, str],
    *,
    opened: bool,
) -> str:
    """Sentences about a channel, then those about its points, folded by rho."""
    lines: list[str] = []
    for headline in headlines:
        detail = f"<small>{_words(headline.detail, colors)}</small>" if headline.detail else ""
        lines.append(f"<li>{_words(headline.words, colors)}{detail}</li>")
    groups: dict[float, list[str]] = {}
    for point in points:
        groups.setdefault(point.rho, []).append(f"<li>{_words(point.words, colors)}</li>")
    folds = [
        _fold(
            f"Point by point at ρ = {shown_rho(rho)}",
            f'<ul class="points">{"".join(said)}</ul>',
            opened=opened and i == 0,
        )
        for i, (rho, said) in enumerate(groups.items())
    ]
    rest = "".join(folds[OPEN_GROUPS:])
    more = _fold(f"{len(folds) - OPEN_GROUPS} more ratios", rest) if rest else ""
    said = f'<ul class="headlines">{"".join(lines)}</ul>' if lines else ""
    return f"<h3>On {_text(channel)}</h3>{said}{''.join(folds[:OPEN_GROUPS])}{more}"


def _entry(entry: Entry) -> str:
    dashes = " ".join(f"{length:g}" for length in entry.dashes)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    line = (
        '<svg width="36" height="10" aria-hidden="true">'
        f'<line x1="0" y1="5" x2="36" y2="5" stroke="{_text(entry.color)}" stroke-width="4"{dashed}></line>'
        "</svg>"
    )
    return (
        f"<dt>{line}<code>{_text(entry.name)}</code></dt>"
        f"<dd>{_text(entry.about)}.<i>{_text(entry.family)}, {_text(entry.knows)}</i></dd>"
    )


def _words(words: Words, colors: Mapping[str, str]) -> str:
    return "".join(
        _named(part.scheme, colors) if isinstance(part, Mention) else _text(part) for part in words
    )


def _named(scheme: str, colors: Mapping[str, str]) -> str:
    color = colors.get(scheme)
    dot = f'<span class="dot" style="background: {_text(color)}"></span>' if color else ""
    return f'<span class="scheme">{dot}<code>{_text(scheme)}</code></span>'


def _fold(line: str, content: str, *, opened: bool = False) -> str:
    return f'<details class="fold"{" open" if opened else ""}><summary>{line}</summary>{content}</details>'


def _maps(maps: "Mapping[str, Figure]") -> list[str]:
    cards = [_card("map figure", _scroll(_figure(figure, about))) for about, figure in maps.items()]
    rest = "".join(cards[OPEN_MAPS:])
    return [*cards[:OPEN_MAPS], *([_fold(f"{len(cards) - OPEN_MAPS} more maps", rest)] if rest else [])]


def _figures(figures: "Mapping[str, Figure]") -> list[str]:
    cards = [_card("figure", _figure(figure, about)) for about, figure in figures.items()]
    shown, rest = ("".join(part) for part in (cards[:OPEN_FIGURES], cards[OPEN_FIGURES:]))
    more = (
        _fold(f"{len(cards) - OPEN_FIGURES} more figures", f'<div class="grid">{rest}</div>') if rest else ""
    )
    return [f'<div class="grid">{shown}</div>{more}'] if cards else []


def _folded_table(table: str, rows: int) -> str:
    return _fold(f"{rows} rows", _scroll(table)) if rows > LONG_TABLE else _scroll(table)


def _text(value: object) -> str:
    return html.escape(str(value))


def _card(kind: str, content: str) -> str:
    return f'<section class="card {kind}">{content}</section>'


def _scroll(content: str) -> str:
    """Content that may be wider than the page."""
    return f'<div class="scroll">{content}</div>'


def _item(caption: str, shown: Iterable[Exhibit], *, opened: bool) -> str:
    content = "".join(_exhibit(exhibit, caption) for exhibit in shown)
    return (
        f"<details{' open' if opened else ''}><summary><h3>{_text(caption)}</h3></summary>{content}</details>"
    )


def _exhibit(exhibit: Exhibit, caption: str) -> str:
    match exhibit:
        case Strip(picture):
            buffer = io.BytesIO()
            # effort, not fidelity; a third below PNG
            picture.save(buffer, "WEBP", lossless=True, quality=30, method=1)
            return _scroll(_picture(buffer.getvalue(), picture.size, f"original and received, {caption}"))
        case Loop():
            size = (exhibit.width, exhibit.height)
            loop = _scroll(_picture(exhibit.webp, size, f"original and received in motion, {caption}"))
            return f'{loop}<p class="note">{_text(exhibit.note)}.</p>'
        case Page():
            return exhibit.html
        case Fold(line, exhibits, opened):
            return _fold(
                _text(line), "".join(_exhibit(e, f"{caption}, {line}") for e in exhibits), opened=opened
            )


def _picture(webp: bytes, size: tuple[int, int], alt: str) -> str:
    data = base64.b64encode(webp).decode()
    about = f'width="{size[0]}" height="{size[1]}" style="--natural: {size[0]}px" alt="{_text(alt)}"'
    return f'<img {about} src="data:image/webp;base64,{data}">'


def _figure(figure: "Figure", caption: str) -> str:
    data = base64.b64encode(figure_bytes(figure, "svg")).decode()
    titles = [axes.get_title(loc="left") for axes in figure.axes[:1]]
    caption = next(filter(None, (figure.get_suptitle(), *titles)), caption)
    natural = f"{figure.get_size_inches()[0] * CSS_DPI:.0f}px"
    return f'<img alt="{_text(caption)}" style="--natural: {natural}" src="data:image/svg+xml;base64,{data}">'


def _table(
    caption: str, frame: "pd.DataFrame", colors: Mapping[str, str], best: "pd.DataFrame | None" = None
) -> str:
    columns = [_column(frame.iloc[:, i].tolist()) for i in range(frame.shape[1])]
    head = "".join(
        f'<th scope="col"{_css(numeric)}>{_text(name)}</th>'
        for name, (_, numeric) in zip(frame.columns, columns, strict=True)
    )
    if best is not None:
        strong = best.to_numpy()
        for j, (cells, _) in enumerate(columns):
            cells[:] = [_strong(cell) if strong[i, j] else cell for i, cell in enumerate(cells)]
    points = [name for name in ("channel", "rho", "SNR dB") if name in frame.columns]
    previous: object = None
    rows: list[str] = []
    for i in range(len(frame)):
        here = tuple(frame[name].iloc[i] for name in points)
        start = ' class="start"' if points and i > 0 and here != previous else ""
        previous = here
        first = columns[0][0][i]
        dot = colors.get(str(frame.iloc[i, 0]))
        mark = f'<span class="dot" style="background: {_text(dot)}"></span>' if dot else ""
        cells = "".join(f"<td{_css(numeric)}>{_small(cells[i])}</td>" for cells, numeric in columns[1:])
        rows.append(f'<tr{start}><th scope="row">{mark}{BREAKS.sub("<wbr>", first)}</th>{cells}</tr>')
    return (
        f"<table><caption><span>{_text(caption)}</span></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _strong(cell: str) -> str:
    first, newline, rest = cell.partition("\n")
    return f"<b>{first}</b>{newline}{rest}"


def _small(cell: str) -> str:
    first, _, rest = cell.partition("\n")
    return first + "".join(f"<small>{line}</small>" for line in rest.split("\n") if line)


def _column(values: list[Any]) -> tuple[list[str], bool]:
    """Formatted cells, and whether they are numbers; the largest decides the decimals, to align points."""
    numbers = [v for v in values if isinstance(v, Real) and not isinstance(v, bool)]
    if not numbers or len(numbers) < len(values):
        # Strings of numbers, such as "27.3 [26.1, 28.4]", are aligned like numbers.
        looks_numeric = all(re.match(r"^[-+]?\d[\d.]*\s?(%|$|\[|±|\()", str(v)) for v in values)
        return [_text(v) for v in values], bool(values) and looks_numeric
    largest = max((abs(float(v)) for v in numbers if math.isfinite(v)), default=0.0)
    whole = all(float(v).is_integer() for v in numbers if math.isfinite(v))
    digits = 0 if whole else max(0, 3 - (math.floor(math.log10(largest)) if largest > 0 else 0))
    return [f"{float(v):.{digits}f}" if math.isfinite(v) else "" for v in numbers], True


def _css(numeric: bool) -> str:
    return ' class="number"' if numeric else ""
