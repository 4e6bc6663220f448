"""Which columns of a learner's data are the prompt and the completion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from labkit.errors import LabkitError, shown
from labkit.tasks.layout import FIELD, Comparison, Conversation, Layout
from labkit.tasks.row import listed

PARTS = ("prompt", "completion")
SIDES = ("chosen", "rejected")
TEXTS = ("text", "sentence")
LABELS = ("label", "category", "class")
SHOWN = 12  # columns that a message lists
EXAMPLE = 'Write columns={"prompt": "question", "completion": "answer"}, with the names of your columns.'

PAIR_EXAMPLE = 'Write columns={"prompt": "question", "chosen": "better", "rejected": "worse"}, with the names of yours.'
INSTRUCTION = "### Instruction:\n{instruction}\n\n"  # after Stanford Alpaca (Taori et al., 2023)
RESPONSE = "### Response:\n"
# Columns that are known by name; the first match counts. Before a label, a line of its own marks the end of the text.
KNOWN = (
    Comparison("{prompt}", "{chosen}{rejected}"),
    Comparison("", "{chosen}{rejected}"),  # both begin with the prompt
    Layout("{prompt}", "{completion}"),
    *(Layout(f"{{{text}}}\nLabel:", f"{{{label}}}", has_labels=True) for text in TEXTS for label in LABELS),
    Layout(f"{INSTRUCTION}### Input:\n{{input}}\n\n{RESPONSE}", "{output}", brief=INSTRUCTION + RESPONSE),
    Layout("{question}", "{answer}"),
    Layout("{prompt}", "{response}"),
    Layout("{input}", "{output}"),
    Layout("{opening}", "{continuation}", is_spaced=False),  # of a text, which may be Chinese
    Conversation("{messages}", ""),
    Conversation("{conversations}", ""),
)
KNOWN_NAMES = (
    "Known by name are prompt and completion, text and label, question and answer, instruction (and input) and output, "
    "messages, and prompt, chosen and rejected."
)


def layout_of(given: list[str], rows: list[dict], columns: Mapping[str, str] | None, name: str) -> Layout:
    """Return how the rows of a data set become examples.

    Args:
        given: the names of its columns.
        rows: a few rows, to suggest columns if none are known.
        columns: for prompt and completion the name of a column, or a template; None to recognize them by name.
        name: what the data set is called in messages.

    Raises:
        LabkitError: there is no column of a given name, or none was given and none is known.
    """
    if columns is not None:
        return _named(given, columns, name)
    spelled = {column.strip().casefold(): column for column in reversed(given)} | {column: column for column in given}
    for known in KNOWN:
        if all(column in spelled for column in known.needed if column not in known.optional):
            break
    else:
        if one := [side for side in SIDES if side in spelled]:
            other = SIDES[1 - SIDES.index(one[0])]
            raise LabkitError(
                f"{name} has a column {one[0]!r} and none called {other!r}; it has {_columns(given)}.",
                "A pair needs both: the reply that is preferred and one that is not.",
            )
        raise LabkitError(
            f"{name} has {_columns(given)}; it is unclear which is the prompt and which is the completion.",
            f"{_suggestion(given, rows)} {KNOWN_NAMES}",
        )
    names = {column: spelled.get(column, column) for column in known.needed}
    used = " and ".join(repr(column) for column in names.values() if column in given)
    if isinstance(known, Conversation):
        note = f"recognised the column {used}: the last reply of each conversation is learned, the rest is read"
    elif isinstance(known, Comparison):
        note = "" if known.prompt else f"recognised the columns {used}: a prompt is what both replies begin with"
    elif known.needed == PARTS or not known.is_spaced:
        note = ""
    else:
        note = f"recognised the columns {used}: a prompt is {known.prompt!r}"
    return replace(known, note=note, columns={column: name for column, name in names.items() if column != name})


def _named(given: list[str], columns: Mapping[str, str], name: str) -> Layout:
    if not isinstance(columns, Mapping) or not all(isinstance(value, str | int) for value in columns.values()):
        raise LabkitError(f"columns must name a column for prompt and completion, not {shown(columns)}.", EXAMPLE)
    if set(columns) & {*SIDES}:
        return _compared(given, columns, name)
    if odd := [part for part in columns if part not in PARTS]:
        raise LabkitError(f"columns takes prompt and completion, not {shown(odd[0])}.", EXAMPLE)
    templates, renamed = {}, {}
    for part in PARTS:
        value = str(columns.get(part, part))  # a DataFrame may have numbers as names; here all names are texts
        if value not in given and (wanted := FIELD.findall(value)):
            templates[part] = value
        else:
            wanted, templates[part], renamed[f"the {part}"] = [value], f"{{the {part}}}", value
        if missing := [column for column in wanted if column not in given]:
            raise LabkitError(
                f"{name} has no column {listed(missing, SHOWN)}; it has {_columns(given)}.",
                "Write the names as they stand in the data; in a template each stands in braces.",
            )
    has_labels = str(columns.get("completion")).strip().casefold() in LABELS
    return Layout(templates["prompt"], templates["completion"], has_labels=has_labels, columns=renamed)


def _compared(given: list[str], columns: Mapping[str, str], name: str) -> Comparison:
    if odd := [part for part in columns if part not in ("prompt", *SIDES)]:
        raise LabkitError(f"columns takes prompt, chosen and rejected of pairs, not {shown(odd[0])}.", PAIR_EXAMPLE)
    names = {part: str(columns.get(part, part)) for part in ("prompt", *SIDES)}
    if missing := [
        column for part, column in names.items() if column not in given and (part in SIDES or part in columns)
    ]:
        raise LabkitError(f"{name} has no column {listed(missing, SHOWN)}; it has {_columns(given)}.", PAIR_EXAMPLE)
    return Comparison("{prompt}" if names["prompt"] in given else "", "{chosen}{rejected}", columns=names)


def _columns(given: list[str]) -> str:
    return f"the column{'s' * (len(given) > 1)} {listed(given, SHOWN)}" if given else "no columns"


def _suggestion(given: list[str], rows: list[dict]) -> str:
    """Return a likely mapping: the longest texts as prompts, the most repetitive ones as completions."""
    values = {column: [row[column] for row in rows if row.get(column) is not None] for column in given}
    for column, found in values.items():
        if found and isinstance(found[0], list) and found[0] and isinstance(found[0][0], dict):
            return f"If {column!r} holds conversations, call it messages."
    texts = {column: [str(value) for value in found] for column, found in values.items() if 2 * len(found) > len(rows)}
    if len(strings := [column for column in texts if isinstance(values[column][0], str)]) > 1:
        texts = {column: texts[column] for column in strings}
    if len(texts) < 2:
        return "A prompt and a completion are needed, in a column each."
    longest = max(texts, key=lambda column: sum(map(len, texts[column])) / len(texts[column]))
    different = {column: len(set(found)) for column, found in texts.items() if column != longest}
    answer = min(different, key=lambda column: (different[column] == 1, different[column] / len(texts[column])))
    mapping = json.dumps({"prompt": longest, "completion": answer}, ensure_ascii=False)
    return f"Say it: load_task(…, columns={mapping})."
