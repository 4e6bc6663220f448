"""Measure what one run on pairs changes: what the model prefers, what it writes, and how far it moved."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from labkit.comparisons.chat_measures import losses
from labkit.comparisons.divergence import divergence
from labkit.errors import unknown
from labkit.evaluation.pairs import reply_log_probabilities
from labkit.experiment import finetune
from labkit.generation.batched import generate
from labkit.methods import Method
from labkit.models.model import Model
from labkit.tasks.row import holds
from labkit.tasks.task import Task
from labkit.training.preference import Preference

ASKED, MOST = 60, 24  # test prompts that are answered, and tokens of a reply; replies of the pairs have fewer
KEPT = ("margin", "pair_accuracy", "chosen_logp", "rejected_logp")  # of the history


def preference_measured(
    base: Model,
    task: Task,
    method: Method,
    settings: dict[str, Any],
    before: tuple[float, float],
    said: torch.Tensor,
    *,
    loss: str,
    beta: float | None = None,
    sft: float = 0.0,
    pairs: str = "all",
) -> dict[str, Any]:
    """Learn from a task's pairs, and return what that changed.

    Args:
        base, task, method, settings: as for ``finetune``.
        before: the base model's ``losses``, to measure forgetting.
        said: the base model's ``log_probabilities_of`` the test pairs.
        loss, beta, sft: as in ``Preference``; the loss "sft" is supervised fine-tuning on the chosen replies alone.
        pairs: which are learned; see ``some_pairs``.

    Returns a dictionary of:
        correct, total, hits: test pairs whose chosen reply is the likelier one, as ``lk.compare`` wants them.
        rose: for each pair "1" where the chosen reply gained more, against the base model, than the rejected one did.
        chosen_change, rejected_change: how much log-probability the replies gained, in nats a reply, on average.
        plain, jargon: for each prompt asked, whether the model's own reply holds the chosen and the rejected name.
        reply_tokens: mean length of these replies, the token that ends them included.
        kl: divergence from the base model, in nats per token, over replies drawn at temperature 1; see ``divergence``.
        english_rise, chat_rise: forgetting, as ``chat_measured`` has it.
        course: ``KEPT`` over the steps; of supervised fine-tuning nothing.
        trained_parameters, seconds: as in ``measures.measured``.
    """
    task = some_pairs(task, pairs)
    began = time.perf_counter()
    if loss == "sft":
        run = finetune(base, chosen_alone(task), method, progress=False, **settings)
    else:
        run = finetune(base, task, method, progress=False, preference=Preference(loss, beta, sft), **settings)
    seconds = time.perf_counter() - began
    now = log_probabilities_of(run.model, task)
    change, (english, chat) = now - said, losses(run.model)
    rows = list(task.test)[:ASKED]
    replies = generate(run.model, [row["prompt"] for row in rows], MOST)
    told = {
        name: _bits([holds(reply.text, name_in(row[side])) for row, reply in zip(rows, replies, strict=True)])
        for name, side in (("plain", "chosen"), ("jargon", "rejected"))
    }
    hits = _bits((now[:, 0] > now[:, 1]).tolist())
    return {
        "correct": hits.count("1"),
        "total": len(hits),
        "hits": hits,
        "rose": _bits((change[:, 0] > change[:, 1]).tolist()),
        "chosen_change": round(change[:, 0].mean().item(), 3),
        "rejected_change": round(change[:, 1].mean().item(), 3),
        **told,
        "reply_tokens": round(sum(reply.tokens for reply in replies) / len(replies), 2),
        "kl": round(divergence(run.model, base, task.test["prompt"][:ASKED], MOST, settings["seed"]), 4),
        "english_rise": round(english - before[0], 4),
        "chat_rise": round(chat - before[1], 4),
        "course": {name: [round(record[name], 3) for record in run.history if name in record] for name in KEPT},
        "trained_parameters": run.trained_parameters,
        "seconds": round(seconds, 2),
    }


def log_probabilities_of(model: Model, task: Task) -> torch.Tensor:
    """Return log π(reply | prompt) of each test pair's chosen and rejected reply, in nats, shape (pairs, 2)."""
    return reply_log_probabilities(model, list(task.test))


def chosen_alone(task: Task) -> Task:
    """Return the task with conversations to learn in place of pairs: each prompt with its chosen reply."""
    return replace(
        task,
        train=task.train.map(
            lambda row: {"messages": [*row["prompt"], *row["chosen"]]}, remove_columns=task.train.column_names
        ),
    )


def some_pairs(task: Task, which: str) -> Task:
    """Return the task with all of its training pairs, or only some.

    ``"longer chosen"`` are those whose chosen reply has more characters than the rejected one. ``"both"`` are as many,
    of which half are longer and half shorter: the control.
    """
    if which == "all":
        return task
    more = [len(text_of(row["chosen"])) - len(text_of(row["rejected"])) for row in task.train]
    longer = [i for i, difference in enumerate(more) if difference > 0]
    shorter = [i for i, difference in enumerate(more) if difference < 0]
    count = 2 * (min(len(longer), 2 * len(shorter)) // 2)
    kept = {"longer chosen": longer[:count], "both": sorted(longer[: count // 2] + shorter[: count // 2])}
    if which not in kept:
        raise unknown("choice of pairs", which, ("all", *kept))
    return replace(task, train=task.train.select(kept[which]))


def text_of(reply: list[dict[str, str]]) -> str:
    """Return what a reply of one message says."""
    return reply[0]["content"]


def name_in(reply: list[dict[str, str]]) -> str:
    """Return the name that a reply of the task ``preferences`` says: 'Runny nose' of 'This means: Runny nose.'"""
    return text_of(reply).partition(": ")[2].removesuffix(".")


def _bits(hits: list[bool]) -> str:
    return "".join("01"[hit] for hit in hits)
