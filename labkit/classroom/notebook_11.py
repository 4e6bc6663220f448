"""Checks of the exercises in notebook 11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import Trial, judged, outcome, require_same, require_seeds, two_settings
from labkit.errors import shown
from labkit.training.config import TrainingConfig
from labkit.training.rl import CHOICES, RL, advantages

REWARDS = [[1.0, 0.0, 0.0, 0.0], [0.5, 2.0, 0.25, 1.0], [1.0, 1.0, 1.0, 1.0]]  # of three groups; the last one is flat
SMALL = 1e-4  # what is added to the standard deviation


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="write code",
    hints=(
        "Each reply is compared with its own group. Along which of the two dimensions do the replies of a group lie?",
        "mean and std of that dimension have one number a group. With keepdim=True they keep the shape (groups, 1).",
        "For rewards 1, 0, 0, 0 the mean is 0.25 and the standard deviation 0.5: the first reply's advantage is 1.5.",
    ),
)
def grpo_advantages(answer: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """Check GRPO's advantages."""
    rewards = torch.tensor(REWARDS)
    given = rewards.clone()
    result = answer(given)
    if untouched(result):
        return not_attempted("grpo_advantages")
    if not torch.equal(given, rewards):
        raise MistakeError("Your function changed the rewards in place: the history would show them wrong.")
    if not isinstance(result, torch.Tensor):
        raise MistakeError(f"Return a tensor with the advantage of each reply, not a {type(result).__name__}.")
    if result.shape != rewards.shape:
        shapes = f"{tuple(rewards.shape)}, and your result {tuple(result.shape)}"
        raise MistakeError(f"The rewards have the shape {shapes}. Each reply has an advantage, in its place.")
    if not torch.isfinite(result).all():
        flat = "The last group's rewards are all the same, so their standard deviation is 0"
        raise MistakeError(f"{flat}, and you divide by it. One such group makes the whole step NaN.")
    right, of_n = _grpo(rewards), _grpo(rewards, unbiased=False)
    if _same(result, right) or _same(result, of_n):
        fewer, unbiased = rewards[:2, :3], _same(result, right)
        if not _same(answer(fewer.clone()), _grpo(fewer, unbiased=unbiased)):
            raise MistakeError("Right for three groups of four replies, but not for two of three: use the shape.")
        more = "" if unbiased else " You divide by n in the standard deviation; labkit and TRL divide by n − 1."
        return f"✓ Right: where all replies of a group earn the same, nothing is learned.{more}"
    wrong = next((text for text, values in _wrong_advantages(rewards) if _same(result, values)), "")
    if not wrong:
        wrong = f"The first reply's advantage is {right[0, 0]:.3f}, and yours {result[0, 0]:.3f}. Work it out by hand."
    return f"✗ {wrong}"


def _grpo(rewards: torch.Tensor, *, unbiased: bool = True) -> torch.Tensor:
    found, size = advantages(RL("grpo"), rewards).reshape(rewards.shape), rewards.shape[1]
    return found if unbiased else found * (size / (size - 1)) ** 0.5


def _wrong_advantages(rewards: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Return typical mistakes, each with the advantages that it leads to."""
    mean, std = rewards.mean(1, keepdim=True), rewards.std(1, keepdim=True)
    centred, others = rewards - mean, advantages(RL("rloo"), rewards).reshape(rewards.shape)
    baseline = "The baseline is the mean of all rewards, as in REINFORCE. GRPO takes each group's own."
    rloo = "A reply is compared with the others of its group here: that is RLOO. GRPO's mean has the reply in it."
    columns = "You average over the groups. A mean belongs to the replies to one prompt, which lie in one row."
    return [
        ("These are the rewards as they were.", rewards),
        ("You subtract the mean and don't divide: that is Dr. GRPO. GRPO divides by the standard deviation.", centred),
        ("You divide by the standard deviation of all rewards. GRPO takes each group's.", centred / rewards.std()),
        (baseline, rewards - rewards.mean()),
        (baseline, (rewards - rewards.mean()) / rewards.std()),
        (baseline, (rewards - rewards.mean()) / (std + SMALL)),
        (rloo, others),
        (rloo, others / (std + SMALL)),
        (columns, (rewards - rewards.mean(0)) / (rewards.std(0) + SMALL)),
        ("The sign is the wrong way round: the worse replies would become likelier.", -centred / (std + SMALL)),
        ("You divide by the variance. GRPO divides by its square root.", centred / (std**2 + SMALL)),
        ("You divide but subtract no mean: whatever earns something becomes likelier.", rewards / (std + SMALL)),
    ]


def _same(result: Any, values: torch.Tensor) -> bool:
    """Return whether numbers are the same, whatever small number was added to the standard deviation."""
    if not isinstance(result, torch.Tensor) or result.shape != values.shape:
        return False
    return torch.allclose(result.double(), values.double(), rtol=1e-3, atol=1e-6)


RIGHT, OFFERED = "Dry eye", ("Cough", "Dry eye", "Hearing loss")
ALL = "; ".join(OFFERED)
# Replies, what each should earn, and what it means if it doesn't.
REPLIES = (
    (ALL, 0, "It lists all the choices. A model that is paid for that need not know anything."),
    (f"Which is it: {ALL}? {RIGHT}.", 0, "It repeats the question first, and so it names all the choices."),
    ("Dry eye or Cough", 0, "It names a second choice. To hedge is not to answer."),
    ("Dry eye or hearing loss", 0, "It names a second choice, in small letters."),
    ("Hearing loss", 0, "It names a wrong choice."),
    ("", 0, "It is empty. Saying nothing must not pay."),
    ("Dry eyelids", 0, "That is another finding. A choice is named by whole words, not by a part of one."),
    ("Dry eye", 1, "It is the right choice."),
    ("DRY EYE", 1, "It is the right choice; capitals don't matter."),
    ("I think that it is dry eye.", 1, "It names the right choice and no other; words and marks around don't matter."),
)


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="find the bug",
    hints=(
        "Write down what a model could reply to any question and be paid, without having understood a word.",
        "A list and a question repeated have one thing in common: which choices do they name besides the right one?",
        "Collect those of the choices that the text names, with holds, and compare what you found with what you want.",
    ),
)
def honest_reward(answer: Callable[[str, str, list[str]], float]) -> str:
    """Check a reward that was fixed: it paid for every reply in which the right choice occurs."""
    offered = list(OFFERED)
    found: list[Any] = []
    for text, _, _ in REPLIES:
        found.append(answer(text, RIGHT, offered))
        if offered != list(OFFERED):
            raise MistakeError("Your function changes the list of choices: the next reply is judged by what is left.")
    if all(map(untouched, found)):
        return not_attempted("honest_reward")
    for (text, _, _), value in zip(REPLIES, found, strict=True):
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise MistakeError(f"For {text!r} your function returns {shown(value)}. Here, each reply earns 1 or 0.")
    if found == [RIGHT in text for text, _, _ in REPLIES]:
        return not_attempted("honest_reward")  # as the stub has it
    if not any(found):
        raise MistakeError("It pays nothing at all, so nothing is learned. Did you change letters on one side only?")
    if all(found):
        raise MistakeError("It pays every reply, the empty one too, so nothing is learned.")
    for (text, wanted, why), value in zip(REPLIES, found, strict=True):
        if value != wanted:
            raise MistakeError(f"{text!r} earned {value:g}. {why}")
    if (answer("Cough", "Cough", list(OFFERED)), answer(RIGHT, "Cough", list(OFFERED))) != (1, 0):
        raise MistakeError(f"It works where {RIGHT!r} is right, but not where 'Cough' is. Use the arguments.")
    hole = f"It is not {RIGHT.lower()}."
    left = f"{hole!r} still earns 1. " if answer(hole, RIGHT, list(OFFERED)) else ""
    return f"✓ Right: only a choice pays. {left}No rule sees everything: read what the model writes, too."


@exercise(
    minutes=30,
    difficulty=3,
    points=4,
    kind="experiment",
    hints=(
        "Another algorithm or beta needs nothing else. Another group draws more replies, or fewer: what evens it out?",
        "Write a function of rl and seed that trains, draws replies to the test questions and scores them.",
        "A pair is (run, hits), a text of 0s and 1s. Twice the group and half the prompts draw as many replies.",
    ),
)
def reward_experiment(answer: dict[str, Any]) -> str:
    """Check an experiment: what does another algorithm, another beta or another size of groups change?"""
    first, second, groups, verdict = two_settings(answer, RL)
    used = [[trial.rl for trial in group] for group in groups.values()]
    if all(rl == second for rl in used[0]) and all(rl == first for rl in used[1]):
        raise MistakeError("The first runs were trained with the second setting, and the second ones with the first.")
    for (name, group), setting in zip(groups.items(), (first, second), strict=True):
        _require_trained(name, group, setting)
    every = [trial for group in groups.values() for trial in group]
    records = [record for trial in every for record in trial.history]
    if records and not any(record["reward_std"] for record in records):
        raise MistakeError("In all runs, all replies earned the same, so none learned. Pay for what some replies do.")
    require_seeds(groups)
    _require_one_change(first, second)
    free = {"seed", "checkpoint_every"}
    require_same(groups, *(each.name for each in fields(TrainingConfig) if each.name not in free))
    if any(trial.method != every[0].method for trial in every):
        raise MistakeError("The runs differ in their method. Train all with the same one.")
    evaluations = {name: [trial.evaluation for trial in group] for name, group in groups.items()}
    found = judged({name: evaluations[name] for name in ("second runs", "first runs")}, verdict)
    return f"✓ Well measured. {outcome(found)} How far did each model move? See kl in run.history, and read replies."


def _require_trained(name: str, group: Sequence[Trial], setting: RL) -> None:
    """Require trials to have learned from rewards, at every step, in this way."""
    for trial in group:
        if trial.rl is None:
            raise MistakeError(f"{name}: one did not learn from rewards. Hand in what lk.reinforce returned.")
        if odd := [each.name for each in fields(RL) if getattr(trial.rl, each.name) != getattr(setting, each.name)]:
            raise MistakeError(f"{name}: one was trained with another setting than you hand in. See {', '.join(odd)}.")
        if skipped := [record for record in trial.history if "skipped" in record]:
            raise MistakeError(
                f"{name}: with seed {trial.config.seed}, {len(skipped)} of {len(trial.history)} steps learned nothing, "
                f"because the reward failed, first by {skipped[0]['skipped']}. Fix the reward and train again."
            )


def _require_one_change(first: RL, second: RL) -> None:
    """Require two settings to differ in one thing, and to draw as many replies in a step."""
    changed = [each.name for each in fields(RL) if getattr(first, each.name) != getattr(second, each.name)]
    if "algorithm" in changed:  # which these belong to
        changed = [name for name in changed if name not in CHOICES]
    drawn = [rl.group * rl.prompts for rl in (first, second)]
    if drawn[0] != drawn[1]:
        raise MistakeError(
            f"In a step, the first runs draw {drawn[0]} replies and the second ones {drawn[1]}. Who draws more, learns "
            "from more. Change prompts along with group, so that their product stays."
        )
    if len([name for name in changed if name != "prompts"]) > 1:
        raise MistakeError(f"The settings differ in {', '.join(changed)}. Change one thing at a time.")
