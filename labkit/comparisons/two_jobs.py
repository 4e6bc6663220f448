"""Two jobs for two specialists on one base: a hospital's, which is two tasks in one, and a law firm's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from datasets import Dataset, concatenate_datasets

from labkit.tasks.load import load_task
from labkit.tasks.task import Task

# The commonest categories, told apart in a few steps; of all seven, the model gets a quarter right after as many.
CATEGORIES = (" limited copyleft", " permissive", " proprietary")
OPENING = 200  # characters of a prompt before its question: whole ones have three times as many tokens


@dataclass(frozen=True)
class Jobs:
    """What the specialists learn, and what all of them are tested on.

    Attributes:
        hospital: conversations of ``hospital_job``; the test set is triage alone.
        law: conversations of ``law_job``.
        pairs: plain words and jargon, of which the hospital's specialist learns the chosen replies.
    """

    hospital: Task
    law: Task
    pairs: Task

    @classmethod
    def of(cls, train: int, test: int, pairs: int) -> Jobs:
        """Load them: ``train`` examples for each job, ``test`` of each task with labels, and ``pairs`` test pairs."""
        told = load_task("preferences", train=train // 2, test=pairs)
        return cls(hospital_job(load_task("triage", train=train // 2, test=test), told), law_job(train, test), told)

    def learned(self, name: str) -> Task:
        """Return the job of that name; "both" is one task with what both learn."""
        if name == "both":
            return replace(self.law, train=concatenate_datasets([self.hospital.train, self.law.train]))
        return {"hospital": self.hospital, "law": self.law}[name]


def hospital_job(triage: Task, pairs: Task) -> Task:
    """Return triage with plain words: conversations that end with a department, and the chosen replies of pairs.

    Both tasks draw on one ontology. A finding that either tests is learned in neither.
    """
    tested = {*triage.test["id"], *pairs.test["id"]}
    departments = as_conversations(triage)
    rows = [row["messages"] for row in departments.train if row["id"] not in tested]
    rows += [[*row["prompt"], *row["chosen"]] for row in pairs.train if row["id"] not in tested]
    return replace(departments, name="hospital", train=_conversations(rows))


def law_job(train: int, test: int) -> Task:
    """Return the task ``licenses`` as conversations: three categories, and of each licence its first characters."""

    def some(part: Dataset, count: int) -> Dataset:
        rows = [row for row in part if row["completion"] in CATEGORIES][:count]
        asked = [row["prompt"].rpartition("\n") for row in rows]
        short = [f"{text[:OPENING]}\n{question}" for text, _, question in asked]
        return Dataset.from_list([{**row, "prompt": prompt} for row, prompt in zip(rows, short, strict=True)])

    whole = load_task("licenses")
    short = replace(whole, train=some(whole.train, train), test=some(whole.test, test), labels=CATEGORIES)
    talks = as_conversations(short)
    return replace(talks, name="law", train=_conversations(talks.train["messages"]))


def as_conversations(task: Task) -> Task:
    """Return a task with labels as conversations: the user sends a prompt, and the reply is its label."""

    def talk(part: Dataset) -> Dataset:
        pairs = zip(part["prompt"], part["completion"], strict=True)
        messages = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": label.strip()}]
            for prompt, label in pairs
        ]
        return part.add_column("messages", messages)

    return replace(task, train=talk(task.train), test=talk(task.test))


def _conversations(conversations: Iterable[list[dict[str, str]]]) -> Dataset:
    return Dataset.from_dict({"messages": list(conversations)})
