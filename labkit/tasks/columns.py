"""Which columns of a learner's data are the prompt and the completion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from labkit.errors import LabkitError, shown
from labkit.tasks.row import listed

PARTS = ("prompt", "completion")
TEXTS = ("text", "sentence")
LABELS = ("label", "category", "class")
FIELD = re.compile(r"\{([^{}\n]+)\}")
EXAMPLE = 'Write columns={"prompt": "question", "completion": "answer"}, with the names of your columns.'


@dataclass(frozen=True)
class Layout:
    """How a row becomes an example: templates with the names of columns in braces.

    Attributes:
        prompt, completion: the two templates.
        brief: the prompt where a column that is in ``prompt`` alone has no text; empty where each must have one.
        has_labels: whether the completion's column is named as labels are.
        note: what a learner should be told, such as which columns were taken.
    """

    prompt: str
    completion: str
    brief: str = ""
    has_labels: bool = False
    note: str = ""
    needed: tuple[str, ...] = field(init=False)
    optional: frozenset[str] = field(init=False)

    def __post_init__(self):
        fields = FIELD.findall(self.prompt + self.completion)
        optional = set(fields) - set(FIELD.findall(self.brief + self.completion)) if self.brief else set()
        object.__setattr__(self, "needed", tuple(dict.fromkeys(fields)))
        object.__setattr__(self, "optional", frozenset(optional))

    def fill(self, row: Mapping[str, str]) -> tuple[str, str]:
        """Return the prompt and the completion of a row whose needed columns hold texts."""
        has_all = all((row.get(column) or "").strip() for column in self.optional)
        return _fill(self.prompt if has_all else self.brief, row), _fill(self.completion, row)


class Conversation(Layout):
    """How a list of messages becomes an example: the model reads all but the last reply, and learns that one."""


def _fill(template: str, row: Mapping[str, str]) -> str:
    pieces = _pieces(template)
    return "".join([row[piece] if place % 2 else piece for place, piece in enumerate(pieces)])


@cache
def _pieces(template: str) -> list[str]:
    """Return the texts of a template and, between them, the names of columns."""
    return FIELD.split(template)


INSTRUCTION = "### Instruction:\n{instruction}\n\n"  # after Stanford Alpaca (Taori et al., 2023)
RESPONSE = "### Response:\n"
# What is known by its name, first come first served. In a text and its label, a line says where the text is over.
KNOWN = (
    Layout("{prompt}", "{completion}"),
    *(Layout(f"{{{text}}}\nLabel:", f"{{{label}}}", has_labels=True) for text in TEXTS for label in LABELS),
    Layout(f"{INSTRUCTION}### Input:\n{{input}}\n\n{RESPONSE}", "{output}", brief=INSTRUCTION + RESPONSE),
    Layout("{question}", "{answer}"),
    Layout("{prompt}", "{response}"),
    Layout("{input}", "{output}"),
    Conversation("{messages}", ""),
    Conversation("{conversations}", ""),
)


def layout_of(given: list[str], rows: list[dict], columns: Mapping[str, str] | None, name: str) -> Layout:
    """Return how the rows of a data set become examples.

    Args:
        given: the names of its columns.
        rows: a few rows, to suggest columns from where none is known.
        columns: for prompt and completion the name of a column, or a template; None where it isn't said.
        name: what the data set is called in messages.

    Raises:
        LabkitError: a column that was named isn't there, or none was named and none is known.
    """
    if columns is not None:
        return _named(given, columns, name)
    spelled = {column.strip().casefold(): column for column in reversed(given)}
    for known in KNOWN:
        if not all(column in spelled for column in known.needed if column not in known.optional):
            continue
        names = {column: spelled.get(column, column) for column in known.needed}
        prompt, completion, brief = (
            FIELD.sub(lambda found: f"{{{names[found[1]]}}}", template)  # noqa: B023
            for template in (known.prompt, known.completion, known.brief)
        )
        used = " and ".join(repr(column) for column in names.values() if column in given)
        if isinstance(known, Conversation):
            note = f"recognised the column {used}: the last reply of each conversation is learned, the rest is read"
            return Conversation(prompt, completion, note=note)
        note = f"recognised the columns {used}: a prompt is {prompt!r}" if known is not KNOWN[0] else ""
        return Layout(prompt, completion, brief, known.has_labels, note)
    raise LabkitError(
        f"{name} has {_columns(given)}; which is the prompt and which the completion can't be told.",
        f"Say it: load_task(…, columns={_suggestion(given, rows)}). Known by name are prompt and completion, text and "
        "label, question and answer, instruction (and input) and output, and messages.",
    )


def _named(given: list[str], columns: Mapping[str, str], name: str) -> Layout:
    if not isinstance(columns, Mapping) or not all(isinstance(value, str) and value for value in columns.values()):
        raise LabkitError(f"columns must name a column for prompt and completion, not {shown(columns)}.", EXAMPLE)
    if odd := [key for key in columns if key not in PARTS]:
        raise LabkitError(f"columns takes prompt and completion, not {shown(odd[0])}.", EXAMPLE)
    templates = {}
    for part in PARTS:
        value = columns.get(part, part)
        is_template = value not in given and FIELD.search(value)
        templates[part] = value if is_template else f"{{{value}}}"
        wanted = FIELD.findall(value) if is_template else [value]
        if missing := [column for column in wanted if column not in given]:
            raise LabkitError(
                f"{name} has no column {listed(missing)}; it has {_columns(given)}.",
                "Write the names as they stand in the data; in a template each stands in braces.",
            )
    return Layout(**templates, has_labels=columns.get("completion", "").strip().casefold() in LABELS)


def _columns(given: list[str]) -> str:
    return f"the column{'s' * (len(given) > 1)} {listed(given, 12)}"


def _suggestion(given: list[str], rows: list[dict]) -> str:
    """Return a likely mapping: the longest texts as prompts, the most repetitive ones as completions."""
    texts = {column: [row[column] for row in rows if isinstance(row.get(column), str)] for column in given}
    texts = {column: values for column, values in texts.items() if 2 * len(values) > len(rows)}
    if len(texts) < 2:
        return '{"prompt": "…", "completion": "…"}'
    longest = max(texts, key=lambda column: sum(map(len, texts[column])) / len(texts[column]))
    rest = [column for column in texts if column != longest]
    answer = min(rest, key=lambda column: len(set(texts[column])) / len(texts[column]))
    return f'{{"prompt": "{longest}", "completion": "{answer}"}}'
