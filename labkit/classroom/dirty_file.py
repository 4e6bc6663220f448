"""A file of findings with planted faults: the learner finds them, and then sees what was planted.

The definitions of the Human Phenotype Ontology stay as they are; notes are put around some of them, and labels, which
are the course's own, are changed.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from labkit.errors import LabkitError, require_count, require_number, require_seed
from labkit.storage.files import write_text
from labkit.tasks.task import Task

NOTES = (
    "Noted by phone: {text}",
    "From the ward: {text}",
    "{text} (second visit)",
    "{text} Please file.",
    "As dictated: {text}",
)
SENDERS = ("a.miller", "ward3", "jo.santos", "k-weber", "night.desk")


@dataclass(frozen=True)
class Planted:
    """What is wrong with a dirty file; lines are counted from 1.

    Attributes:
        path: the file.
        lines: how many lines it has.
        mislabelled: the right label of each line with a wrong one.
        copies: of each line that repeats a finding, the line with that finding; some repeat it with a note around it.
        leaked: lines that hold a finding of the test set.
        personal: lines with an e-mail address or a phone number.
        empty: lines without a text.
    """

    path: Path
    lines: int
    mislabelled: dict[int, str] = field(repr=False)
    copies: dict[int, int] = field(repr=False)
    leaked: frozenset[int] = field(repr=False)
    personal: frozenset[int] = field(repr=False)
    empty: frozenset[int] = field(repr=False)


def write_dirty_file(
    path: str | Path,
    task: Task,
    *,
    noise: float = 0.3,
    copies: int = 150,
    leaked: int = 40,
    personal: int = 25,
    empty: int = 5,
    seed: int = 0,
) -> Planted:
    """Write the training set of a task with labels as JSON lines, with faults, and return what they are.

    Args:
        path: of the file, whose columns are ``text`` and ``label``.
        task: a task of the course with labels.
        noise: share of the training examples that get another label, drawn evenly from the rest.
        copies: lines that repeat a training example with its label, two in three with a note around it.
        leaked: findings of the test set that are put among the others.
        personal: lines to which a sender's address and number are added.
        empty: lines without a text.
        seed: decides which lines.

    Raises:
        LabkitError: a share isn't from 0 to below 1, a count is below 0, there are fewer lines than that, or there is
            another file of that name.
    """
    counts = {"copies": copies, "leaked": leaked, "personal": personal, "empty": empty}
    size = len(task.train)
    for name, count in counts.items():
        require_count(name, count, low=0, high=len(task.test) if name == "leaked" else size)
    rng = random.Random(require_seed(seed))
    noise = require_number("noise", noise, low=0, below=1)
    labels = [label.strip() for label in task.labels]
    rows = [_row(prompt, label) for prompt, label in zip(task.train["prompt"], task.train["completion"], strict=True)]
    for row in rng.sample(rows, round(noise * size)):
        row["right"], row["label"] = row["label"], rng.choice([label for label in labels if label != row["label"]])
    for number, row in enumerate(rng.sample(rows, copies)):
        text = row["text"] if number % 3 == 0 else rng.choice(NOTES).format(text=row["text"])
        rows.append({**row, "text": text, "copied": row})
    for index in rng.sample(range(len(task.test)), leaked):
        rows.append(_row(task.test["prompt"][index], task.test["completion"][index]) | {"leaked": True})
    for row in rng.sample(rows, personal):
        phone = f"+44 20 7946 {rng.randrange(10_000):04}"  # a range kept free for fiction
        row["text"] += f" Questions to {rng.choice(SENDERS)}@example.org or {phone}."
        row["personal"] = True
    rows += [{"text": "", "label": rng.choice(labels), "empty": True} for _ in range(empty)]
    rng.shuffle(rows)
    line = {id(row): number for number, row in enumerate(rows, 1)}
    lines = [json.dumps({"text": row["text"], "label": row["label"]}, ensure_ascii=False) for row in rows]
    _write(Path(path), "\n".join(lines) + "\n")
    return Planted(
        Path(path),
        len(rows),
        {line[id(row)]: row["right"] for row in rows if "right" in row},
        {line[id(row)]: line[id(row["copied"])] for row in rows if "copied" in row},
        *(frozenset(line[id(row)] for row in rows if fault in row) for fault in ("leaked", "personal", "empty")),
    )


def _write(path: Path, text: str) -> None:
    if path.exists() and (not path.is_file() or path.read_bytes() != text.encode()):
        raise LabkitError(f"There is another file called {path}, which stays as it is.", "Choose another name.")
    write_text(path, text)


def _row(prompt: str, completion: str) -> dict:
    # The template of the course's task, without which the text is what HPO says.
    return {"text": prompt.partition(": ")[2].rpartition("\n")[0], "label": completion.strip()}
