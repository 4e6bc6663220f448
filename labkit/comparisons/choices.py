"""Questions that offer choices, and what a model's replies are worth: do they choose, or list what was offered?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from labkit.errors import LabkitError
from labkit.evaluation.replies import score_replies
from labkit.evaluation.rewards import named_choices, names_only
from labkit.generation.batched import generate
from labkit.models.model import Model
from labkit.tasks.instructions import choices_of
from labkit.tasks.questions import question_of
from labkit.tasks.task import Task

QUOTED = 6  # replies that are kept as texts


def with_choices(task: Task, train: int, test: int) -> Task:
    """Return a task with the first of its questions that offer choices; of ``instructions``, half of them do.

    Raises:
        LabkitError: there are too few.
    """
    parts = {}
    for name, count in (("train", train), ("test", test)):
        rows = getattr(task, name)
        found = [number for number, row in enumerate(rows) if choices_of(row)]
        if len(found) < count:
            cause = f"{len(found)} of the {len(rows)} questions to {name} offer choices, not {count}."
            raise LabkitError(cause, "Load more of them, or ask for fewer.")
        parts[name] = rows.select(found[:count])
    return replace(task, **parts)


def answers(model: Model, task: Task, most: int) -> dict[str, Any]:
    """Ask a task's test questions, and return what the likeliest replies, of at most ``most`` tokens, are worth.

    Returns a dictionary of:
        correct, total, hits: replies that name the right choice and no other, as ``lk.compare`` wants them.
        mentioned, exact, finished: for each reply "1" where it mentions the right answer, is the right answer in the
            form asked for, or was ended by the model.
        listed: how many of the choices a reply names, on average.
        reply_tokens: mean length of the replies, the token that ends them included.
        quoted: the first replies.
    """
    rows = list(task.test)
    replies = generate(model, [question_of(row) for row in rows], most)
    scores = score_replies(task, replies)
    hits = "".join(str(int(hit)) for hit in names_only(rows, replies))
    named = [len(named_choices(row, reply.text)) for row, reply in zip(rows, replies, strict=True)]
    return {
        "correct": hits.count("1"),
        "total": len(hits),
        "hits": hits,
        "mentioned": scores.mentioned.hits,
        "exact": scores.exact.hits,
        "finished": scores.stopped.hits,
        "listed": round(sum(named) / len(named), 3),
        "reply_tokens": round(sum(reply.tokens for reply in replies) / len(replies), 2),
        "quoted": [reply.text for reply in replies[:QUOTED]],
    }
