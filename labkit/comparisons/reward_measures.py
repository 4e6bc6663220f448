"""Measure what learning from a reward changes: what the reward model says of it, and what somebody else says."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

from labkit.comparisons.chat_measures import losses
from labkit.comparisons.divergence import divergence
from labkit.comparisons.on_topic import on_topic
from labkit.comparisons.preference_measures import KEPT
from labkit.evaluation.pairs import score_pairs
from labkit.experiment import finetune
from labkit.generation.batched import generate
from labkit.generation.replies import Reply
from labkit.methods import Method
from labkit.models.load import load_model
from labkit.models.model import Model
from labkit.reinforcement import reinforce, reward_model
from labkit.runs import Run
from labkit.tasks.questions import question_of
from labkit.tasks.task import Task
from labkit.training.preference import Preference
from labkit.training.reward_model import learned_reward
from labkit.training.rewards import Reward
from labkit.training.rl import RL
from labkit.training.sampled_pairs import sample_pairs

PROMPTS, GROUP, MOST = 4, 4, 24  # of a step; replies to each; tokens of a reply
ASKED = 60  # test questions
QUOTED = 6  # replies that are kept as texts
ENCODER = "minilm"
TEACHING: dict[str, Any] = {"steps": 40, "batch_size": 16, "learning_rate": 3e-4}  # of the reward model
# Of the history. `reward` is what is learned from, and `reward_on_topic` is watched alone.
COURSE = ("reward", "reward_std", "reward_on_topic", "kl", "entropy", "length", "ended", "clipped", "flat", "mismatch")


@dataclass(frozen=True)
class Judges:
    """What replies to the questions of a task are measured with.

    Attributes:
        learned: the reward of a reward model, which was trained on the task's pairs.
        on_topic: whether a reply is about its question; see ``on_topic``.
        said: what ``learned`` gives the base model's likeliest reply to each test question asked.
        about: the same of ``on_topic``, "1" or "0" for each.
        pairs: of the test pairs, the share that the reward model has right.
    """

    learned: Reward
    on_topic: Reward
    said: list[float]
    about: str
    pairs: float

    @classmethod
    def of(cls, base: Model, task: Task) -> Judges:
        """Train the reward model, and ask the base model."""
        encoder = load_model(ENCODER)
        taught = reward_model(encoder, task, "full", progress=False, **TEACHING).model
        learned, about = learned_reward(taught), on_topic(encoder, [*task.train, *task.test])
        rows, replies = answered(base, task)
        accuracy = score_pairs(taught, task).accuracy
        said = [float(value) for value in learned(rows, replies)]
        return cls(learned, about, said, _bits(about(rows, replies)), accuracy.correct / accuracy.total)


def answered(model: Model, task: Task) -> tuple[list[dict[str, Any]], list[Reply]]:
    """Return test questions of a task, as rows, and a model's likeliest reply to each."""
    rows = [dict(row) for row in list(task.test)[:ASKED]]
    return rows, generate(model, [question_of(row) for row in rows], MOST)


def reward_measured(
    base: Model,
    task: Task,
    method: Method,
    settings: dict[str, Any],
    before: tuple[float, float],
    judges: Judges,
    *,
    algorithm: str,
    beta: float,
) -> dict[str, Any]:
    """Learn from the reward model, and return what that changed.

    Args:
        base, task, method, settings: as for ``reinforce``.
        before: the base model's ``losses``, to measure forgetting.
        judges: see there.
        algorithm: of ``RL``; or "dpo", which learns from pairs of the base model's replies to as many questions, ranked
            by the same reward.
        beta: as in ``RL``, or in ``Preference``.

    Returns a dictionary of:
        correct, total, hits: replies to test questions that are on topic, as ``lk.compare`` wants them.
        won: for each reply "1" where it is rewarded more than the base model's.
        reward: the mean reward of these replies; reward_before, of the base model's; about_before, their ``hits``.
        distinct: how many different replies there are; reply_tokens, their mean length; quoted, the first ones.
        rm_accuracy: of the reward model on test pairs.
        kl: divergence from the base model, in nats per token; see ``divergence``.
        english_rise, chat_rise: forgetting, as ``chat_measured`` has it.
        drawn: replies that were rewarded.
        pairs: of DPO, how many pairs they gave; else None.
        course: ``COURSE`` over the steps, None where a reward failed; of DPO, ``preference_measures.KEPT``.
        skipped: steps at which a reward failed.
        trained_parameters, seconds: as in ``measures.measured``; seconds include drawing.
    """
    began, pairs = time.perf_counter(), None
    drawn = GROUP * PROMPTS * settings["steps"]
    if algorithm == "dpo":
        run, pairs = from_pairs(base, task, method, settings, judges.learned, beta)
    else:
        rl = RL(algorithm, GROUP, PROMPTS, MOST, beta=beta)
        rewards = {judges.learned: 1.0, judges.on_topic: 0.0}
        run = reinforce(base, task, rewards, method, rl=rl, progress=False, **settings)
    seconds = time.perf_counter() - began
    english, chat = losses(run.model)
    rows, replies = answered(run.model, task)
    earned, hits = judges.learned(rows, replies), _bits(judges.on_topic(rows, replies))
    asked = [question_of(row) for row in rows]
    return {
        "correct": hits.count("1"),
        "total": len(hits),
        "hits": hits,
        "won": _bits(now > then for now, then in zip(earned, judges.said, strict=True)),
        "reward": _mean(earned),
        "reward_before": _mean(judges.said),
        "about_before": judges.about,
        "distinct": len({reply.text for reply in replies}),
        "reply_tokens": round(_mean(reply.tokens for reply in replies), 2),
        "quoted": [reply.text for reply in replies[:QUOTED]],
        "rm_accuracy": round(judges.pairs, 4),
        "kl": round(divergence(run.model, base, asked, MOST, settings["seed"]), 4),
        "english_rise": round(english - before[0], 4),
        "chat_rise": round(chat - before[1], 4),
        "drawn": drawn,
        "pairs": pairs,
        "course": course(run.history),
        "skipped": sum("skipped" in record for record in run.history),
        "trained_parameters": run.trained_parameters,
        "seconds": round(seconds, 2),
    }


def from_pairs(
    base: Model, task: Task, method: Method, settings: dict[str, Any], reward: Reward, beta: float
) -> tuple[Run, int]:
    """Learn by DPO from pairs of the base model's replies, as many as an RL run draws; also return how many pairs."""

    def verifier(text: str, row: dict[str, Any]) -> float:
        return next(iter(reward([row], [Reply(text, 0, True, ())])))

    made = sample_pairs(
        base,
        task.train.select(range(min(len(task.train), PROMPTS * settings["steps"]))),
        verifier,
        size=GROUP,
        max_new_tokens=MOST,
        seed=settings["seed"],
        keep_unfinished=True,  # reinforcement learning learns from these, too, and a base model ends few of its replies
    )
    pairs = replace(task, train=made.pairs.select_columns(["prompt", "chosen", "rejected"]))
    run = finetune(base, pairs, method, progress=False, preference=Preference("dpo", beta), **settings)
    return run, len(made.pairs)


def course(history: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Return the course of what was watched, to four digits; None at steps that lack it."""
    names = [name for name in (*COURSE, *KEPT) if any(name in record for record in history)]
    return {name: [_short(record.get(name, math.nan)) for record in history] for name in names}


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _bits(hits: Any) -> str:
    return "".join(str(int(hit)) for hit in hits)


def _mean(values: Any) -> float:
    found = [float(value) for value in values]
    return round(sum(found) / len(found), 4)
