"""The report on data as a table and as a page of its own, which needs no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

SHOWN = 200  # rows that are listed of each kind
STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;"
    "padding:0 1rem;overflow-wrap:anywhere}"
    "th{text-align:left;vertical-align:top;padding-right:1.5rem;overflow-wrap:normal}"
    "td,th{padding-block:.2rem}caption,figcaption{text-align:left;font-weight:bold}figure{margin:1.5rem 0}"
    "svg{max-width:100%;height:auto;font-size:14px}svg text{fill:CanvasText}svg rect{fill:#0072B2}"
    "@media(prefers-color-scheme:dark){svg rect{fill:#56B4E9}}"
)


def as_table(title: str, facts: Mapping[str, str]) -> str:
    """Return the facts as an HTML table; it sets no colours, so it suits light and dark pages."""
    lines = "".join(
        f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left"><bdi>{_safe(value)}</bdi></td></tr>'
        for name, value in facts.items()
    )
    caption = f'<caption style="text-align:left"><bdi>{_safe(title)}</bdi></caption>'
    return f'<table class="mathjax_ignore tex2jax_ignore">{caption}<tbody>{lines}</tbody></table>'


def as_page(
    name: str,
    facts: Mapping[str, str],
    reasons: Mapping[str, Sequence[tuple[int, str]]],
    charts: Sequence[str],
    notes: Sequence[str],
) -> str:
    """Return the whole page: facts, charts, then the rows of each kind of fault by their numbers, without their texts.

    Args:
        name: what the data are called.
        facts: the contents of the table.
        reasons: of each kind of fault the numbers of rows and what is wrong with them.
        charts: HTML that is shown as it is.
        notes: how many there are is told.
    """
    sections = []
    for kind, rows in reasons.items():
        listed = "".join(f"<li>row {number:,}: <bdi>{_safe(why)}</bdi></li>" for number, why in rows[:SHOWN])
        more = f"<p>and {len(rows) - SHOWN:,} more</p>" if len(rows) > SHOWN else ""
        sections.append(f"<h2>{html.escape(kind)}: {len(rows):,}</h2><ul>{listed}</ul>{more}" if rows else "")
    told = f"<h2>notes</h2><p>{len(notes):,}; see labkit inspect</p>" if notes else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Report on {_safe(name)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>Report on {_safe(name)}</h1>"
        f"{as_table('What was found', facts)}{''.join(charts)}{''.join(sections)}{told}</main></body></html>\n"
    )


def _safe(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))
