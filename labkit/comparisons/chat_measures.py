"""Measure what one run on conversations gains, and what the model forgets."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from datasets import Dataset

from labkit.conversations.broken import broken
from labkit.conversations.pieces import IGNORED
from labkit.evaluation import text_loss
from labkit.evaluation.replies import score_replies
from labkit.evaluation.reply_scores import MEASURES, ReplyScores
from labkit.experiment import finetune
from labkit.generation.batched import generate
from labkit.methods import Method
from labkit.models.model import Model
from labkit.tasks.english import general_english
from labkit.tasks.general_chat import general_chat
from labkit.tasks.task import Task

MOST = 40  # tokens of a reply; right ones have fewer than 30


def chat_measured(
    base: Model,
    task: Task,
    method: Method,
    settings: dict[str, Any],
    before: tuple[float, float],
    *,
    own: Task | None = None,
    fault: str = "",
    replay: bool = False,
) -> dict[str, Any]:
    """Fine-tune on a task of conversations, ask the test questions, and return what was gained and what was forgotten.

    Args:
        base, task, method, settings: as for ``finetune``.
        before: the base model's ``losses``, to measure forgetting.
        own: the task with the right answers as the model itself puts them (``in_own_words``), to train on.
        fault: of the masks, a key of ``labkit.conversations.broken.FAULTS``; "" for none.
        replay: rehearse on general conversations.

    Returns a dictionary of:
        correct, total, hits: exact answers, as ``lk.compare`` wants them.
        scores: for each measure of ``ReplyScores`` its ``hits``, and ``kinds`` the kind of each question.
        reply_tokens: mean length of the replies, the token that ends them included.
        english_rise, chat_rise: forgetting, in nats per token: on general English, and on replies of general
            conversations that no run trains on.
        trained_parameters, seconds: as in ``measures.measured``.
    """
    learned = own or task
    if fault:
        learned = with_fault(base, learned, fault)
    began = time.perf_counter()
    rehearsal = general_chat("replay") if replay else ()
    run = finetune(base, learned, method, progress=False, replay=rehearsal, **settings)
    seconds = time.perf_counter() - began
    scores, tokens = ask(run.model, task)
    english, chat = losses(run.model)
    return {
        "correct": scores.exact.correct,
        "total": scores.exact.total,
        "hits": scores.exact.hits,
        "scores": {name: getattr(scores, name).hits for name in MEASURES},
        "kinds": list(task.test["kind"]),
        "reply_tokens": round(tokens, 2),
        "english_rise": round(english - before[0], 4),
        "chat_rise": round(chat - before[1], 4),
        "trained_parameters": run.trained_parameters,
        "seconds": round(seconds, 2),
    }


def ask(model: Model, task: Task, most: int = MOST) -> tuple[ReplyScores, float]:
    """Return the scores of a model's replies to a task's test questions, and their mean number of tokens."""
    replies = generate(model, [messages[:-1] for messages in task.test["messages"]], most)
    return score_replies(task, replies), sum(reply.tokens for reply in replies) / len(replies)


def losses(model: Model) -> tuple[float, float]:
    """Return the losses that show forgetting: on general English, and on the replies of general conversations."""
    return text_loss(model, general_english()), text_loss(model, general_chat())


def with_fault(model: Model, task: Task, fault: str) -> Task:
    """Return the task with training examples as tokens and labels, each with the same fault."""
    made = [broken(fault, model.tokenizer, messages) for messages in task.train["messages"]]
    labels = [
        [token if learned else IGNORED for token, learned in zip(each.ids, each.learned, strict=True)] for each in made
    ]
    return replace(task, train=Dataset.from_dict({"input_ids": [each.ids for each in made], "labels": labels}))
