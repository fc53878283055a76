"""A report of one file: tables, figures and what was received inside, nothing loaded from elsewhere."""

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semcom.exhibits import Exhibit, Loop, Page, Strip
from semcom.files import write_whole
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
  .figure img { filter: invert(0.885) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1240px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 10px; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; margin: 40px 0 12px; }
h3 { font-size: 1rem; margin: 0 0 10px; font-weight: 600; }
p, ul { margin: 0 0 12px; max-width: 75ch; }
ul { padding-left: 1.2em; }
li { margin-bottom: 5px; }
nav a { color: var(--accent); text-decoration: none; margin-right: 18px; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px;
  margin: 0 0 18px;
}
.scroll { overflow: auto; max-height: 70vh; }
.grid { display: grid; gap: 18px; grid-template-columns: repeat(auto-fit, minmax(min(520px, 100%), 1fr)); }
.grid .card { margin: 0; }
.figure img { display: block; width: 100%; height: auto; }
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
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--card); color: var(--soft); font-weight: 600; }
tbody tr:nth-child(even) { background: var(--stripe); }
.number { text-align: right; }
@media print { .scroll { max-height: none; overflow: visible; } .card { break-inside: avoid; } }
"""
SECTIONS = (("tables", "Results"), ("exhibits", "Received"), ("figures", "Curves"), ("notes", "Notes"))


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
) -> Path:
    """Write a self-contained HTML page, completely or not at all.

    Figures go in as SVG, strips without loss, so nothing that is seen in them is an artefact of the report;
    loops say that they are compressed. The page follows the reader's light or dark setting, fits a phone,
    prints, and runs no script.

    Args:
        path: The file; its folder is created if necessary.
        title: Heading.
        tables: Caption to frame. Numbers get four significant digits; give strings for anything else.
        figures: Description to figure; figures carry their own titles.
        exhibits: Caption to what is shown below it, from `semcom.exhibits.exhibits_of`.
        notes: What a reader should know: limits, policies, what was left out and why.
        summary: A sentence or two below the heading.
        best: Caption to a frame of truth values of the table's shape; cells that hold True are bold.

    Returns:
        The path.

    Raises:
        OSError: The folder cannot be written to.
    """
    sections = {
        "tables": [
            _card("table", f"<h3>{_text(caption)}</h3>{_scroll(_table(t, (best or {}).get(caption)))}")
            for caption, t in (tables or {}).items()
        ],
        "exhibits": [
            _card("exhibit", f"<h3>{_text(caption)}</h3>{''.join(_exhibit(e, caption) for e in shown)}")
            for caption, shown in (exhibits or {}).items()
        ],
        "figures": [_card("figure", _figure(f, about)) for about, f in (figures or {}).items()],
        "notes": [f"<ul>{''.join(f'<li>{_text(note)}</li>' for note in notes)}</ul>"] if notes else [],
    }
    present = [(key, heading) for key, heading in SECTIONS if sections[key]]
    links = "".join(f'<a href="#{key}">{heading}</a>' for key, heading in present)
    body = "".join(f'<h2 id="{key}">{heading}</h2>{_arrange(key, sections[key])}' for key, heading in present)
    about = f"<p>{_text(summary)}</p>" if summary else ""
    page = whole_page(title, f"{about}<nav>{links}</nav>{body}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return path


def whole_page(title: str, body: str) -> str:
    """A page of HTML in the style of reports.

    Args:
        title: Heading; it is escaped.
        body: Elements below it, from `semcom.exhibits` for example; nothing in them is escaped.

    Returns:
        The page, which loads nothing from elsewhere and runs no script.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{_text(title)}</h1>{body}</main></body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _arrange(key: str, cards: Iterable[str]) -> str:
    joined = "".join(cards)
    return f'<div class="grid">{joined}</div>' if key == "figures" else joined


def _card(kind: str, content: str) -> str:
    return f'<section class="card {kind}">{content}</section>'


def _scroll(content: str) -> str:
    """Content that may be wider than the page."""
    return f'<div class="scroll">{content}</div>'


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


def _picture(webp: bytes, size: tuple[int, int], alt: str) -> str:
    data = base64.b64encode(webp).decode()
    about = f'width="{size[0]}" height="{size[1]}" style="--natural: {size[0]}px" alt="{_text(alt)}"'
    return f'<img {about} src="data:image/webp;base64,{data}">'


def _figure(figure: "Figure", caption: str) -> str:
    data = base64.b64encode(figure_bytes(figure, "svg")).decode()
    return f'<img alt="{_text(caption)}" src="data:image/svg+xml;base64,{data}">'


def _table(frame: "pd.DataFrame", best: "pd.DataFrame | None" = None) -> str:
    columns = [_column(frame.iloc[:, i].tolist()) for i in range(frame.shape[1])]
    head = "".join(
        f"<th{_css(numeric)}>{_text(name)}</th>"
        for name, (_, numeric) in zip(frame.columns, columns, strict=True)
    )
    if best is not None:
        strong = best.to_numpy()
        for j, (cells, _) in enumerate(columns):
            cells[:] = [f"<b>{cell}</b>" if strong[i, j] else cell for i, cell in enumerate(cells)]
    rows = "".join(
        "<tr>" + "".join(f"<td{_css(numeric)}>{cells[i]}</td>" for cells, numeric in columns) + "</tr>"
        for i in range(len(frame))
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


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
