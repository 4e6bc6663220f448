"""Two jobs for two specialists on one base: a hospital's, which is two tasks in one, and a law firm's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from datasets import Dataset, concatenate_datasets

from labkit.evaluation.results import Evaluation, score
from labkit.models.encoding import completion_ids, prompt_ids
from labkit.models.model import Model
from labkit.tasks.load import load_task
from labkit.tasks.task import Task
from labkit.training.batching import Example
from labkit.training.inference import infer
from labkit.training.pairs import log_probabilities

# The commonest categories, told apart in a few steps; of all seven, the model gets a quarter right after as many.
CATEGORIES = (" limited copyleft", " permissive", " proprietary")
OPENING = 200  # characters of a licence: whole ones take three times as long
PARTS = ["prompt", "completion"]


@dataclass(frozen=True)
class Jobs:
    """What the specialists learn, and what all of them are tested on.

    Attributes:
        hospital: triage and plain words, half each; the test set is triage alone.
        law: licences of three categories, of each of which the opening is read.
        pairs: plain words and jargon for the same finding, of which the hospital's specialist learns the plain words.
    """

    hospital: Task
    law: Task
    pairs: Task

    @classmethod
    def of(cls, train: int, test: int, pairs: int) -> Jobs:
        """Load them: ``train`` examples for each job, ``test`` of each task with labels, and ``pairs`` test pairs."""
        told = as_texts(load_task("preferences", train=train // 2, test=pairs))
        return cls(hospital_job(load_task("triage", train=train // 2, test=test), told), law_job(train, test), told)

    def learned(self, name: str) -> Task:
        """Return the job of that name; "both" is one task with what both learn."""
        if name == "both":
            return replace(self.law, train=concatenate_datasets([self.hospital.train, self.law.train]))
        return {"hospital": self.hospital, "law": self.law}[name]


def hospital_job(triage: Task, pairs: Task) -> Task:
    """Return triage whose training set has the chosen replies of pairs, too.

    Both tasks draw on one ontology. A finding that either tests is learned in neither.
    """
    tested = {*triage.test["id"], *pairs.test["id"]}
    rows = [(row["prompt"], row["completion"]) for row in triage.train if row["id"] not in tested]
    rows += [(row["prompt"], row["chosen"]) for row in pairs.train if row["id"] not in tested]
    train = Dataset.from_dict(dict(zip(PARTS, zip(*rows, strict=True), strict=True)))
    return replace(triage, name="hospital", train=train)


def as_texts(pairs: Task) -> Task:
    """Return pairs of conversations as texts, in the form of triage: a question, and after a colon the answer."""

    def told(row: dict) -> dict:
        replies = {part: f" {row[part][0]['content']}" for part in ("chosen", "rejected")}
        return {"prompt": f"{row['prompt'][0]['content']}\nAnswer:"} | replies

    def text(part: Dataset) -> Dataset:
        return Dataset.from_list([{**row, **told(row)} for row in part])

    return replace(pairs, train=text(pairs.train), test=text(pairs.test))


def prefers_plain(model: Model, pairs: Task) -> Evaluation:
    """Return in how many test pairs of ``as_texts`` a causal model finds the plain words likelier than the jargon."""
    examples = []
    for row, prompt in zip(pairs.test, prompt_ids(model, pairs.test["prompt"]), strict=True):
        for reply in completion_ids(model, [row["chosen"], row["rejected"]]):
            examples.append(Example([*prompt, *reply], len(reply)))
    plain, jargon = infer(model, examples, 32, lambda part: log_probabilities(model, part)[0]).view(-1, 2).unbind(1)
    hits = (plain > jargon).tolist()
    return score(hits, ["pairs"] * len(hits), ["pairs"], ["plain" if hit else "jargon" for hit in hits])


def law_job(train: int, test: int) -> Task:
    """Return the task ``licenses`` in small: three categories, and of each licence its first characters."""

    def some(part: Dataset, count: int) -> Dataset:
        rows = [row for row in part if row["completion"] in CATEGORIES][:count]
        asked = [row["prompt"].rpartition("\n") for row in rows]
        short = [f"{text[:OPENING]}\n{question}" for text, _, question in asked]
        return Dataset.from_list([{**row, "prompt": prompt} for row, prompt in zip(rows, short, strict=True)])

    whole = load_task("licenses")
    learned, tested = some(whole.train, train).select_columns(PARTS), some(whole.test, test)
    return replace(whole, name="law", train=learned, test=tested, labels=CATEGORIES)
