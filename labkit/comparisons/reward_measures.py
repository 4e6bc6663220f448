"""Measure what one run on rewards changes: what the replies say, how far the model moved, and the way there."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

from labkit.comparisons.chat_measures import losses
from labkit.comparisons.choices import answers
from labkit.comparisons.divergence import divergence
from labkit.comparisons.preference_measures import KEPT
from labkit.errors import LabkitError, unknown
from labkit.evaluation.rewards import ended, mentioned, names_only, within
from labkit.experiment import finetune
from labkit.generation.replies import Reply
from labkit.methods import Method
from labkit.models.model import Model
from labkit.reinforcement import reinforce
from labkit.runs import Run
from labkit.tasks.questions import question_of
from labkit.tasks.task import Task
from labkit.training.preference import Preference
from labkit.training.rewards import Reward
from labkit.training.rl import RL
from labkit.training.sampled_pairs import sample_pairs

PROMPTS, GROUP, MOST = 4, 4, 24  # of a step; replies to each; tokens of a reply
ASKED = 60  # test questions for the divergence
# `right` is none of them: it wants the form of the answers to the letter, which a model that was never shown it hardly
# ever hits (`untrained` says how often). Where no reply of a group earns anything, nothing is learned. But a base model
# does mention choices, and ends a reply now and then.
REWARDS: dict[str, dict[Reward, float]] = {
    "mentioned": {mentioned: 1.0},
    "names_only": {names_only: 1.0},
    "mentioned, ended, short": {mentioned: 1.0, ended: 0.25, within(12): 0.25},
}
OF_TEXTS = ("mentioned", "names_only")  # these look at nothing else
COURSE = ("reward", "reward_std", "kl", "entropy", "length", "ended", "clipped", "flat", "mismatch")  # of the history


def reward_measured(
    base: Model,
    task: Task,
    method: Method,
    settings: dict[str, Any],
    before: tuple[float, float],
    untrained: dict[str, Any],
    *,
    algorithm: str,
    reward: str,
    beta: float = 0.0,
) -> dict[str, Any]:
    """Learn from rewards, and return what that changed.

    Args:
        base, task, method, settings: as for ``reinforce``; each question of the task offers choices.
        before: the base model's ``losses``, to measure forgetting.
        untrained: the base model's ``answers``.
        algorithm: of ``RL``; or "dpo", which learns from pairs of the base model's replies to the training questions.
        reward: a key of ``REWARDS``; for "dpo", one of ``OF_TEXTS``.
        beta: as in ``RL``, or in ``Preference``.

    Returns a dictionary of what ``answers`` has, and:
        untrained: the same of the base model.
        kl: divergence from the base model, in nats per token; see ``divergence``.
        english_rise, chat_rise: forgetting, as ``chat_measured`` has it.
        drawn: replies that were rewarded.
        pairs: of DPO, how many pairs they gave; else None.
        course: ``COURSE`` over the steps, None where a reward failed; of DPO, ``preference_measures.KEPT``.
        skipped: steps at which a reward failed.
        trained_parameters, seconds: as in ``measures.measured``; seconds include drawing.
    """
    if reward not in REWARDS:
        raise unknown("reward", reward, REWARDS)
    began, pairs = time.perf_counter(), None
    if algorithm == "dpo":
        run, pairs = from_pairs(base, task, method, settings, reward, beta)
        drawn = GROUP * len(task.train)
    else:
        rl = RL(algorithm, GROUP, PROMPTS, MOST, beta=beta)
        run = reinforce(base, task, REWARDS[reward], method, rl=rl, progress=False, **settings)
        drawn = GROUP * PROMPTS * settings["steps"]
    seconds = time.perf_counter() - began
    english, chat = losses(run.model)
    asked = [question_of(row) for row in list(task.test)[:ASKED]]
    return answers(run.model, task, MOST) | {
        "untrained": untrained,
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
    base: Model, task: Task, method: Method, settings: dict[str, Any], reward: str, beta: float
) -> tuple[Run, int]:
    """Learn by DPO from pairs of the base model's replies to each training question; also return how many pairs.

    Raises:
        LabkitError: the reward asks for more than the text, which is all that ``sample_pairs`` tells.
    """
    if reward not in OF_TEXTS:
        raise LabkitError(f"Pairs are ranked by their texts alone, not by {reward!r}.", "Try the reward names_only.")
    (judge,) = REWARDS[reward]

    def verifier(text: str, row: dict[str, Any]) -> float:
        return next(iter(judge([row], [Reply(text, 0, True, ())])))

    made = sample_pairs(
        base,
        task.train,
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
