"""Checks of the exercises in notebook 10."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch.nn import functional as F

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import judged, outcome, require_same, require_seeds, two_settings
from labkit.classroom.tiny_policy import log_probabilities_of, tiny_policy
from labkit.methods.adapter import adapters_of
from labkit.models.model import Model
from labkit.training.config import TrainingConfig
from labkit.training.preference import LogProbs, Preference, preference_loss

BETA, OTHER_BETA = 0.1, 0.4
FREE = {"seed", "preference", "checkpoint_every"}  # what runs of the experiment may differ in


def _log_probs() -> tuple[LogProbs, LogProbs]:
    """Return made-up log-probabilities of four pairs: of the policy, with gradients, and of the reference."""
    tokens = torch.tensor([4, 9, 6, 5]), torch.tensor([7, 3, 8, 10])
    before = torch.tensor([-9.0, -21.0, -12.5, -8.0]), torch.tensor([-15.0, -6.5, -17.0, -22.0])
    now = torch.tensor([[-8.2, -19.5, -14.0, -6.0], [-19.0, -8.0, -16.0, -23.5]], requires_grad=True)
    return LogProbs(now[0], now[1], *tokens), LogProbs(*before, *tokens)


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="write code",
    hints=(
        "How much likelier did training make each reply, a token? It takes four of the tensors and both lengths.",
        "IPO wants the chosen reply to have gained more than the rejected one, by a target that beta sets. Is the "
        "target large or small where beta is large?",
        "For a beta of 0.1 the target is 5. A gap of 7 costs as much as a gap of 3, namely 4.",
    ),
)
def ipo_loss(answer: Callable[[LogProbs, LogProbs, float], torch.Tensor]) -> str:
    """Check IPO's loss of each pair, averaged a token."""
    policy, reference = _log_probs()
    right = preference_loss(Preference("ipo", BETA), policy, reference).losses
    result = answer(*_log_probs(), BETA)
    if untouched(result):
        return not_attempted("ipo_loss")
    if not isinstance(result, torch.Tensor):
        raise MistakeError(f"Return a tensor with the loss of each pair, not a {type(result).__name__}.")
    if result.numel() == 1:
        found = "the mean over the pairs" if _same(result.reshape(()), right.mean()) else "a single number"
        raise MistakeError(f"That is {found}. Return each pair's own loss.")
    if result.shape != right.shape:
        raise MistakeError(f"There are {len(right)} pairs, and your result has the shape {tuple(result.shape)}.")
    if _same(result, right):
        if not result.requires_grad:
            raise MistakeError("The numbers are right, but no gradient passes: the policy could not learn from them.")
        other = preference_loss(Preference("ipo", OTHER_BETA), policy, reference).losses
        if not _same(answer(*_log_probs(), OTHER_BETA), other):
            raise MistakeError(f"Right for a beta of {BETA}, but not for {OTHER_BETA}: use the argument.")
        return "✓ Right: the loss pulls each gap to a target and no further, where DPO would go on widening it."
    wrong = next((text for text, values in _wrong_ipo(policy, reference) if _same(result, values)), "")
    if not wrong:
        wrong = f"The first pair's loss is {right[0]:.3f}, and yours {result[0]:.3f}. Work it out by hand."
    return f"✗ {wrong}"


def _wrong_ipo(policy: LogProbs, reference: LogProbs) -> list[tuple[str, torch.Tensor]]:
    """Return typical mistakes, each with the losses that it leads to."""
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    gap, target = chosen / policy.chosen_tokens - rejected / policy.rejected_tokens, 1 / (2 * BETA)
    alone = policy.chosen / policy.chosen_tokens - policy.rejected / policy.rejected_tokens
    both = (chosen - rejected) / policy.chosen_tokens
    return [
        ("You forgot the reference: what counts is how much likelier training made a reply.", (alone - target) ** 2),
        ("These are sums over each reply. Here, they are averaged a token.", (chosen - rejected - target) ** 2),
        ("The target is not beta itself: a larger beta asks for a smaller gap.", (gap - BETA) ** 2),
        ("Python reads 1 / 2 * beta as half of beta. Set brackets.", (gap - BETA / 2) ** 2),
        ("The target is twice what it should be.", (gap - 1 / BETA) ** 2),
        ("Not squared, the loss is the lower, the smaller the gap: that teaches the opposite.", gap - target),
        ("That is the distance from the target. IPO squares it.", (gap - target).abs()),
        ("Chosen and rejected are swapped: you teach what people rejected.", (-gap - target) ** 2),
        ("You divide both gains by the chosen reply's length. Each reply has its own.", (both - target) ** 2),
        ("That is DPO's loss: it has no target to stop at.", -F.logsigmoid(BETA * (chosen - rejected))),
    ]


def _same(result: Any, values: torch.Tensor) -> bool:
    return isinstance(result, torch.Tensor) and torch.allclose(result.double(), values.double(), rtol=1e-4, atol=1e-6)


@exercise(
    minutes=10,
    difficulty=2,
    points=2,
    kind="find the bug",
    hints=(
        "0.693 is ln 2, which is what −log σ(x) gives at one x only. Which two numbers are then equal at every step?",
        "Training changes the adapter alone. Where are the weights from before training, and what stands between?",
        "Look up how the notebook computes a reference with the weights in memory only once: inside which block?",
    ),
)
def frozen_reference(answer: Callable[..., torch.Tensor]) -> str:
    """Check a reference that was fixed: it was computed with the adapter on, so it was the policy itself."""
    (base, policy), batch = tiny_policy(), torch.tensor([[3, 14, 15, 9, 2], [6, 5, 3, 5, 8], [9, 7, 9, 3, 2]])
    before, now = (log_probabilities_of(model, batch).detach() for model in (base, policy))
    with_gradients: list[bool] = []

    def logps(model: Model, ids: torch.Tensor) -> torch.Tensor:
        with_gradients.append(torch.is_grad_enabled())
        return log_probabilities_of(model, ids)

    result = answer(policy, batch, logps)
    if untouched(result):
        return not_attempted("frozen_reference")
    if any(adapter.disabled for adapter in adapters_of(policy).values()):
        raise MistakeError("After your function the adapter is still off: the next step would train nothing.")
    if not torch.allclose(log_probabilities_of(policy, batch), now, atol=1e-5):
        raise MistakeError("Your function changed the weights: after it, the policy has lost what it learned.")
    if not isinstance(result, torch.Tensor) or result.shape != now.shape:
        raise MistakeError("Return what logps returns: a tensor with a log-probability for each row of the batch.")
    if result.requires_grad:
        raise MistakeError("A gradient passes through the reference. It has to stay what it was, so it must not learn.")
    if torch.allclose(result, before, atol=1e-5):
        return "✓ Right: the reference is the model without its adapter, and the weights are in memory only once."
    if torch.allclose(result, now, atol=1e-5):
        if not any(with_gradients):
            return not_attempted("frozen_reference")  # as the stub has it
        raise MistakeError("Detached from the gradient, these are still the policy's own numbers: the margin stays 0.")
    if not result.any():
        raise MistakeError("With zeros, nothing holds the policy to what it was. The reference has numbers of its own.")
    raise MistakeError("These are not the log-probabilities from before training. Which weights did logps run through?")


@exercise(
    minutes=25,
    difficulty=3,
    points=4,
    kind="experiment",
    hints=(
        "lk.score_pairs counts the test pairs whose chosen reply is the likelier one. Its accuracy is an evaluation.",
        "Write a function of preference and seed that trains and returns run and evaluation. Nothing else may differ.",
        "lk.compare wants two lists of evaluations, the second setting's first. Undecided is a result as well.",
    ),
)
def preference_experiment(answer: dict[str, Any]) -> str:
    """Check an experiment: what does another loss, another beta or a term of supervised fine-tuning change?"""
    first, second, groups, verdict = two_settings(answer, Preference)
    if first.sft != second.sft and replace(first, sft=second.sft) != second:
        raise MistakeError("The settings differ in sft and in more than that. Change one thing at a time.")
    used = {name: [trial.config.preference for trial in group] for name, group in groups.items()}
    if {*used["first runs"]} == {second} and {*used["second runs"]} == {first}:
        raise MistakeError("The first runs were trained with the second setting, and the second ones with the first.")
    for (name, given), setting in zip(used.items(), (first, second), strict=True):
        if odd := [each for each in given if each != setting]:
            raise MistakeError(f"{name}: one was trained with {odd[0] or 'no preference'}, not with {setting}.")
    require_seeds(groups)
    require_same(groups, *(each.name for each in fields(TrainingConfig) if each.name not in FREE))
    methods = [trial.method for group in groups.values() for trial in group]
    if any(method != methods[0] for method in methods):
        raise MistakeError("The runs differ in their method. Train all with the same one.")
    evaluations = {name: [trial.evaluation for trial in group] for name, group in groups.items()}
    found = judged({name: evaluations[name] for name in ("second runs", "first runs")}, verdict)
    likelier = "Did the chosen replies become likelier, too? See chosen_logp in run.history."
    return f"✓ Well measured. {outcome(found)} {likelier}"
