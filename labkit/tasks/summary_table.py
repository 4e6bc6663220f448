"""The table of a task, for terminals and for notebooks."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from labkit.printing import printable

if TYPE_CHECKING:
    from labkit.tasks.summary import Summary

CLASSES = 12  # that are listed
LONGEST = 300  # characters shown of a text
SENTENCE = 2_000  # characters shown of a note
WIDTH = 80  # of the right column in a terminal
BLOCK = "█"  # between prompt and completion
# Control characters, marks that change the direction of writing, characters without width, and lone surrogates. The
# joiners in emoji and some scripts stay.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str, longest: int = LONGEST) -> str:
    """Return a text as it is shown: both ends of a long one, and escapes for invisible characters."""
    if len(text) > longest:
        text = f"{text[: longest // 2]} … {text[-(longest // 2) :]}"
    return UNSEEN.sub(lambda sign: sign[0].encode("unicode_escape").decode("ascii"), text)


def facts(summary: Summary) -> dict[str, list[str]]:
    """Return the lines of the table that are sentences, by their headings."""
    rows = {"rows": [f"{summary.train:,} to train on, {summary.test:,} to test on"]}
    sampled = " sampled" if summary.measured < summary.train + summary.test else ""
    of = f"of {summary.measured:,}{sampled}"
    rows["length"] = [
        f"median {summary.median:,}, 95% at most {summary.percentile_95:,}, longest {summary.longest:,}",
        f"in {visible(summary.unit)}{sampled and f', {of}'}",
    ]
    if summary.beyond is None:
        beyond = "unknown without a tokenizer: describe(task, model) counts tokens"
    else:
        beyond = f"{summary.beyond:,} {of} ({summary.share_beyond:.1%})" if summary.beyond else f"none {of}"
    rows[f"longer than {summary.limit:,} tokens"] = [beyond]
    left_out = [f"{count:,} {'row' if count == 1 else 'rows'}: {why}" for why, count in summary.left_out.items()]
    rows["left out"] = [visible(line, SENTENCE) for line in left_out] or ["nothing"]
    if summary.notes:
        rows["notes"] = [visible(note, SENTENCE) for note in summary.notes]
    return rows


def classes(summary: Summary) -> tuple[str, list[tuple[str, str]], str]:
    """Return how many classes there are, the most frequent with their counts, and how many more there are."""
    if not summary.classes:
        return "free text", [], ""
    spaces = all(label.startswith(" ") for label in summary.classes)  # as usual: the space belongs to the next token
    listed = [
        (visible(label[1:] if spaces else label, 40), f"{train:,} + {test:,}")
        for label, (train, test) in list(summary.classes.items())[:CLASSES]
    ]
    more = len(summary.classes) - len(listed)
    head = f"{len(summary.classes):,} (rows to train on + rows to test on)"
    return head, listed, f"and {more:,} more" if more else ""


def as_text(summary: Summary) -> str:
    """Return the table for a terminal."""
    head, listed, more = classes(summary)
    wide = max((len(counts) for _, counts in listed), default=0)
    told = facts(summary)
    table = {
        "rows": told.pop("rows"),
        "classes": [head, *(f"{counts:>{wide}}  {label}" for label, counts in listed), *filter(None, [more])],
        **told,
        **{
            f"example {number}": [f"{visible(prompt)}{BLOCK}{visible(completion)}"]
            for number, (prompt, completion) in enumerate(summary.examples, 1)
        },
    }
    margin = max(map(len, table)) + 2
    lines = [f"Task {visible(summary.name)}"]
    for heading, texts in table.items():
        rows = [part for text in texts for line in text.split("\n") for part in _wrapped(line)]
        lines += [f"{heading if i == 0 else '':{margin}}{row}" for i, row in enumerate(rows)]
    return printable("\n".join(line.rstrip() for line in lines))


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(
        line, WIDTH, drop_whitespace=False, replace_whitespace=False, expand_tabs=False, break_on_hyphens=False
    ) or [""]


def as_html(summary: Summary) -> str:
    """Return the table for a notebook.

    It sets no colours, so it suits light and dark pages. Its class keeps MathJax from rendering text
    between two dollar signs as a formula. Each text has the direction of its own script.
    """
    head, listed, more = classes(summary)
    told = facts(summary)
    counted = [f"<bdi>{html.escape(label)}</bdi>: {counts.replace(' + ', '&nbsp;+&nbsp;')}" for label, counts in listed]
    rows = [
        _row("rows", map(html.escape, told.pop("rows"))),
        _row("classes", [html.escape(head), " · ".join([*counted, *filter(None, [more])])]),
        *(_row(heading, map(html.escape, lines)) for heading, lines in told.items()),
    ]
    shown = [
        f"{html.escape(visible(prompt))}<b>{BLOCK}</b>{html.escape(visible(completion))}"
        for prompt, completion in summary.examples
    ]
    rows += [_row(f"example {number}", [example], "auto") for number, example in enumerate(shown, 1)]
    return (
        '<table class="mathjax_ignore tex2jax_ignore" style="table-layout:auto;margin:0;overflow-wrap:anywhere">'
        f'<caption style="text-align:left">Task <bdi>{html.escape(visible(summary.name))}</bdi></caption>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _row(heading: str, lines: Iterable[str], direction: str = "ltr") -> str:
    look = f'dir="{direction}" style="text-align:start;white-space:pre-wrap"'
    cell = "".join(f"<div {look}>{line}</div>" for line in lines if line)
    style = "text-align:left;vertical-align:top"
    return f'<tr><th scope="row" style="{style};white-space:nowrap">{heading}</th><td style="{style}">{cell}</td></tr>'
