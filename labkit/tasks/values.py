"""Check the values of each row, and name those that cannot be a prompt or a completion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from labkit.conversations.messages import answered
from labkit.errors import LabkitError, shown
from labkit.tasks.faults import Faults
from labkit.tasks.layout import Comparison, Conversation, Layout
from labkit.tasks.messages import last_reply
from labkit.tasks.pair import pair_of
from labkit.tasks.row import Row

MAX_CHARACTERS = 131_072  # 40 pages; more is probably a whole file, or rows that a stray quote has swallowed
NO_SPACE_BEFORE = re.compile(r"[\s\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")  # or a Chinese or Japanese sign
FILL_IN = "Fill it in or remove the example."
WRITE_TEXT = "Write it as text: in quotes, or in pandas with .astype(str)."


def example_of(row: Mapping, number: int, layout: Layout, faults: Faults) -> Row | None:
    """Return the example that a row becomes, or None if it can't be used; then ``faults`` says why."""
    before = len(faults)
    for column in layout.needed:
        if column not in row and column not in layout.optional:
            names = ", ".join([*row][:12]) + ", …" * (len(row) > 12) or "none"
            faults.add(number, f"the column {column} is missing; there are {names}", FILL_IN)
        elif isinstance(layout, Comparison):
            if row[column] is None:
                faults.add(number, f"the {column} is null", FILL_IN)
        elif isinstance(layout, Conversation):
            row = _read(row[column], column, number, faults)
        elif problem := problem_of(row.get(column), optional=column in layout.optional):
            faults.add(number, f"the {column} {problem[0]}", problem[1])
    if len(faults) > before:
        return None
    if isinstance(layout, Comparison):
        return _compared(row, number, layout, faults)
    prompt, completion = (row["prompt"], row["completion"]) if isinstance(layout, Conversation) else layout.fill(row)
    if layout.is_spaced and not prompt[-1].isspace() and not NO_SPACE_BEFORE.match(completion):
        completion = f" {completion}"  # "Answer:yes" would be tokens that hardly occur in pretraining
    return Row(prompt, completion, number, row["asked"] if isinstance(layout, Conversation) else ())


def _read(messages: object, column: str, number: int, faults: Faults) -> dict[str, Any]:
    try:
        turns = answered(messages, f"the column {column}")
    except LabkitError as wrong:
        faults.add(number, wrong.cause.removesuffix("."), wrong.remedy)
        return {}
    prompt, completion = last_reply(turns)
    for part, text in (("prompt", prompt), ("completion", completion)):
        if problem := problem_of(text):
            faults.add(number, f"the {part} {problem[0]}", problem[1])
    return {"prompt": prompt, "completion": completion, "asked": tuple(turns[:-1])}


def _compared(row: Mapping, number: int, layout: Comparison, faults: Faults) -> Row | None:
    """Return a pair in the conversational form, with the row's other columns."""
    *prompt, chosen, rejected = (row[column] for column in layout.needed)
    try:
        pair = pair_of(prompt[0] if prompt else None, chosen, rejected)
    except LabkitError as wrong:
        faults.add(number, wrong.cause, wrong.remedy)
        return None
    texts = {part: [message["content"] for message in messages] for part, messages in pair.items()}
    for part, text in ((part, text) for part, found in texts.items() for text in found):
        if problem := problem_of(text):
            faults.add(number, f"the {part} {problem[0]}", problem[1])
            return None
    others = {name: value for name, value in row.items() if name not in layout.needed}
    read, reply = last_reply([*pair["prompt"], *pair["chosen"]])
    return Row(read, reply, number, columns=pair | others)


def problem_of(value: object, *, optional: bool = False) -> tuple[str, str] | None:
    """Return what is wrong with a value and how to fix it, or None."""
    if isinstance(value, str):
        if not value.strip():
            return None if optional else (f"has no text: {value[:20]!r}", FILL_IN)
    elif value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and isnan(value)):
        return None if optional else ("is null", FILL_IN)
    else:
        return f"is not text but of type {type(value).__name__}: {shown(value)}", WRITE_TEXT
    if "\0" in value:
        return "holds a NUL character", "Remove NUL characters: text.replace('\\0', '')."
    if len(value) > MAX_CHARACTERS:
        return f"has {len(value):,} characters, more than {MAX_CHARACTERS:,}", "Cut long texts into several examples."
    if value.isascii():
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as problem:
        sign = f"\\u{ord(value[problem.start]):04x}"
        return f"holds half a character, {sign} (part of an emoji that was cut in two)", "Write it whole or remove it."
    return None
