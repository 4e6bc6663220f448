"""Examples of one's own: read, checked, and with every fault named before anything is learnt from them."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

from datasets import Dataset

from labkit.errors import LabkitError
from labkit.tasks.faults import Faults
from labkit.tasks.reading import read_rows

COLUMNS = ("prompt", "completion")
SUFFIXES = (".jsonl", ".csv")
MAX_CHARACTERS = 131_072  # 40 pages: more is not an example but a file, or rows that a stray quote has swallowed
FILL_IN = "Fill it in or remove the example."
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))


def own_rows(data: Path | Dataset) -> tuple[list[dict], str, bool, list[str]]:
    """Return the rows of a file or data set, its name, whether it is a task with labels, and what to tell.

    Raises:
        LabkitError: it lacks a column, is empty, or has faults; up to twenty are named by line.
    """
    notes: list[str] = []
    if isinstance(data, Dataset):
        faults = Faults("your dataset", "row")
        columns = data.column_names
        known = data.select_columns([column for column in COLUMNS if column in columns])
        numbered = list(enumerate(known.to_list(), 1)) if known.column_names else []
    else:
        faults = Faults(data.name)
        numbered, columns = read_rows(data, faults, notes)
    if columns and (missing := [column for column in COLUMNS if column not in columns]):
        other = len(columns) == 1 and any(sign in columns[0] for sign in ";\t|")
        raise LabkitError(
            f"{faults.name} lacks the column {' and '.join(missing)}; it has {', '.join(sorted(columns))}.",
            "Rename your columns to prompt and completion" + (", and separate them by commas." if other else "."),
        )
    if not numbered and not faults:
        raise LabkitError(f"{faults.name} is empty.", "Bring at least a few dozen examples.")
    rows = [row for number, given in numbered if (row := _checked(given, number, faults))]
    answers = {_plain(row["label"]) for row in rows}
    has_labels = len(answers) <= max(2, min(50, len(rows) // 4))
    if has_labels:
        _settle_spaces(rows, faults)
    faults.raise_any()
    if has_labels:
        notes += _differ_by_case(rows)
    return rows, faults.name, has_labels, notes


def _checked(row: dict, number: int, faults: Faults) -> dict | None:
    before = len(faults)
    for column in COLUMNS:
        if column not in row:
            names = ", ".join(map(str, row)) or "none"
            faults.add(number, f"the column {column} is missing; there are {names}", FILL_IN)
        elif problem := _problem(row[column]):
            faults.add(number, f"the {column} {problem[0]}", problem[1])
    if len(faults) > before:
        return None
    prompt, completion = row["prompt"], row["completion"]
    if not prompt[-1].isspace() and not completion[0].isspace():
        completion = f" {completion}"  # "Answer:yes" would be tokens that no pretraining text has
    return {"prompt": prompt, "completion": completion, "label": completion, "number": number}


def _problem(value: object) -> tuple[str, str] | None:
    """Return what is wrong with a value and how to fix it, or None."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ("is null" if value is None else f"has no text: {value[:20]!r}"), FILL_IN
    if not isinstance(value, str):
        return f"is no text but of type {type(value).__name__}: {str(value)[:60]}", "Write it as text, in quotes."
    if "\0" in value:
        return "holds a NUL character", "Remove NUL characters: text.replace('\\0', '')."
    if len(value) > MAX_CHARACTERS:
        return f"has {len(value):,} characters, more than {MAX_CHARACTERS:,}", "Cut long texts into several examples."
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as problem:
        sign = f"\\u{ord(value[problem.start]):04x}"
        return f"holds half a character, {sign} (part of an emoji that was cut in two)", "Write it whole or remove it."
    return None


def _plain(label: str) -> str:
    return " ".join(unicodedata.normalize("NFC", label).translate(INVISIBLE).split())


def _settle_spaces(rows: list[dict], faults: Faults) -> None:
    """Find labels that look the same but aren't: a model would be scored on which of them it meant."""

    def variants() -> list[Counter]:
        found = defaultdict(Counter)
        for row in rows:
            found[_plain(row["label"])][row["label"]] += 1
        return [counts for counts in found.values() if len(counts) > 1]

    if variants():  # some prompts end with a space and some don't: let it be the label's, the text stays the same
        for row in rows:
            if row["prompt"].endswith(" ") and not row["completion"][0].isspace() and row["prompt"][-2:].strip():
                row["prompt"], row["completion"] = row["prompt"][:-1], f" {row['completion']}"
                row["label"] = row["completion"]
    usual = {label: counts.most_common(1)[0] for counts in variants() for label in counts}
    for row in rows:
        if row["label"] in usual and row["label"] != usual[row["label"]][0]:
            most, count = usual[row["label"]]
            what = f"after its prompt, the label {row['label']!r} differs from {most!r} ({count:,}×)"
            fix = "Strip labels and end all prompts alike: row['completion'].strip(), row['prompt'].rstrip()."
            faults.add(row["number"], f"{what} only by white space or characters that can't be seen", fix)


def _differ_by_case(rows: list[dict]) -> list[str]:
    counts = Counter(row["label"] for row in rows)
    alike = defaultdict(list)
    for label in sorted(counts):
        alike[label.casefold()].append(f"{label.strip()!r} ({counts[label]:,}×)")
    return [
        f"the labels {' and '.join(group)} differ only by upper and lower case and count as {len(group)}; "
        "if they mean the same, write them alike: row['completion'].lower()"
        for group in alike.values()
        if len(group) > 1
    ]
