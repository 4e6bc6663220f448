"""A task's answers in a model's own words: self-distillation, against forgetting.

Yang et al. (2024, "Self-Distillation Bridges Distribution Gap in Language Model Fine-Tuning", arXiv:2402.13669) let the
model that will be trained rewrite each answer, keep what is still right, and train on that: text that the model might
have written itself moves its weights less than text that somebody else wrote.
"""

from __future__ import annotations

from dataclasses import replace

from datasets import Dataset

from labkit.errors import require_count
from labkit.generation.batched import generate
from labkit.generation.sampling import Sampling
from labkit.models.model import Model
from labkit.tasks.phrasings import HOLE
from labkit.tasks.row import holds
from labkit.tasks.task import Task

REQUEST = (
    "Rewrite this answer in your own words, as one short friendly sentence. Keep '{bare}'.\n"
    "Question: {question}\nAnswer: {answer}"
)


def in_own_words(
    model: Model, task: Task, *, tries: int = 4, max_new_tokens: int = 40, seed: int = 0
) -> tuple[Task, int]:
    """Return a task whose training replies are the model's own wording of the right answers, and how many are.

    The model is asked to rewrite each answer ``tries`` times. The first wording that ends, and still holds an accepted
    answer, replaces the given one; where none does, the given one stays. The test set is unchanged.

    Args:
        model: whose words; the model that will be trained.
        task: with columns ``messages`` and ``accepted``, and optionally ``form``, as ``load_task("instructions")``.
        tries: wordings that are drawn for each answer.
        max_new_tokens: the most tokens of a wording.
        seed: of the random numbers.
    """
    tries, rows = require_count("tries", tries), list(task.train)
    asked = [[{"role": "user", "content": _request(row)}] for row in rows]
    drawn = generate(model, asked * tries, max_new_tokens, sampling=Sampling(temperature=0.8), seed=seed)
    own = 0
    for number, row in enumerate(rows):
        wordings = [reply.text.strip() for reply in drawn[number :: len(rows)] if reply.stopped]
        right = next((text for text in wordings if "\n" not in text and _holds(text, row)), None)
        if right is not None:
            row["messages"] = [*row["messages"][:-1], {"role": "assistant", "content": right}]
            own += 1
    return replace(task, train=Dataset.from_list(rows)), own


def _request(row: dict) -> str:
    answer = row["accepted"][0]
    return REQUEST.format(bare=_bare(row, answer), question=row["messages"][-2]["content"], answer=answer)


def _bare(row: dict, answer: str) -> str:
    """Return an answer without what its form adds."""
    before, _, after = (row.get("form") or HOLE).partition(HOLE)
    return answer.removeprefix(before).removesuffix(after)


def _holds(text: str, row: dict) -> bool:
    return any(holds(text, _bare(row, answer)) for answer in row["accepted"])
