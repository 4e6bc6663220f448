"""Checks of the exercises in notebook 01."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import judged, outcome, parts, require_same, require_seeds, trials


@exercise(
    minutes=10,
    difficulty=2,
    points=2,
    kind="write code",
    hints=(
        "The returned list is as long as both lists together.",
        "cross_entropy ignores every position whose target is -100.",
        "How many positions at the beginning belong to the prompt? Lists repeat with * and join with +.",
    ),
)
def completion_targets(answer: Callable[[list[int], list[int]], list[int]]) -> str:
    """Check targets that make the loss look at the completion only."""
    prompt, completion = [5, 6, 7], [8, 2]
    result = answer(list(prompt), list(completion))
    if untouched(result):
        return not_attempted("completion_targets")
    result = [int(value) for value in result]
    if result == [-100, -100, -100, 8, 2]:
        if [int(v) for v in answer([1], [2, 3, 4])] == [-100, 2, 3, 4]:
            return "✓ Right: the prompt is read, the completion is learned."
        return "✗ This works for a prompt of three tokens, but not for one token. Use the lengths."
    if result == prompt + completion:
        return "✗ Here the model would learn to write the prompts as well. Mask them with -100."
    if result in ([-100, -100, 8, 2, -100], [-100, -100, 8, 2]):
        return "✗ No shift here: position i of the targets belongs to token i. The loss does the shifting."
    if len(result) != 5:
        return f"✗ For 3 prompt tokens and 2 completion tokens there are 5 targets; you returned {len(result)}."
    return f"✗ For prompt {prompt} and completion {completion} you returned {result}."


@exercise(
    minutes=5,
    difficulty=1,
    points=1,
    kind="compute",
    hints=(
        "Count what memory holds for every trained weight: the weight, its gradient, and what AdamW remembers.",
        "AdamW remembers two numbers for each weight: the mean of its gradients and the mean of their squares.",
        "So how many numbers does each weight account for, and how many bytes is a number of 32 bits?",
    ),
)
def adamw_bytes(answer: Callable[[int], float]) -> str:
    """Check the bytes that full fine-tuning in float32 needs besides the activations."""
    result = answer(1_000)
    if untouched(result):
        return not_attempted("adamw_bytes")
    mistakes: dict[float, str] = {
        4_000: "That is the weights alone. What else is as large as the weights?",
        8_000: "Weights and gradients are in. What does AdamW remember for each weight?",
        12_000: "One part is missing: AdamW keeps two numbers for each weight, not one.",
        16: "Multiply by the number of parameters.",
    }
    if result == 16_000 and answer(7) == 112:
        return "✓ Right: 16 bytes a parameter. A model of 7 billion takes 112 GB before its first activation."
    return f"✗ {mistakes.get(result) or f'For 1,000 parameters you got {result} bytes.'}"


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="find the bug",
    hints=(
        "There are two bugs. For one of them, ask what the model has already read at the position where it is scored.",
        "Section 1 says what the logits at position i predict, and what becomes of positions that are only padding.",
        "Cut the last position off the logits and the first one off the tokens, then mask what is padding among these.",
    ),
)
def fixed_loss(answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> str:
    """Check a loss that was fixed: it was not shifted, and it learned the padding."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator)
    tokens = torch.randint(7, (2, 5), generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    result = answer(logits.clone(), tokens.clone(), mask.clone())
    if untouched(result):
        return not_attempted("fixed_loss")
    result = torch.as_tensor(result)
    masked = tokens.masked_fill(mask == 0, -100)
    shifted = logits[:, :-1].flatten(0, 1)
    right = F.cross_entropy(shifted, masked[:, 1:].flatten())
    wrong = {
        "": F.cross_entropy(logits.flatten(0, 1), tokens.flatten()),
        "The padding is no longer learned. But position i still predicts token i, which the model has just read.": (
            F.cross_entropy(logits.flatten(0, 1), masked.flatten())
        ),
        "The shift is right. But the second row ends in padding, and the model still learns to write it.": (
            F.cross_entropy(shifted, tokens[:, 1:].flatten())
        ),
        "You shifted the other way: now position i + 1 predicts token i, which lies behind it.": (
            F.cross_entropy(logits[:, 1:].flatten(0, 1), masked[:, :-1].flatten())
        ),
        "The mask is shifted by one. It says which tokens are padding, and a padding token is no target.": (
            F.cross_entropy(shifted, tokens[:, 1:].masked_fill(mask[:, :-1] == 0, -100).flatten())
        ),
        "That is the sum over the tokens. With their mean, long and short batches weigh alike.": (
            F.cross_entropy(shifted, masked[:, 1:].flatten(), reduction="sum")
        ),
        "You divided by all positions. Padding counts neither above nor below the line.": (
            F.cross_entropy(shifted, masked[:, 1:].flatten(), reduction="sum") / masked[:, 1:].numel()
        ),
    }
    if torch.isclose(result, right, atol=1e-5):
        return "✓ Right: each position predicts the token after it, and padding is nobody's target."
    for mistake, value in wrong.items():
        if torch.isclose(result, value, atol=1e-5):
            return f"✗ {mistake}" if mistake else not_attempted("fixed_loss")
    return f"✗ For the check's batch, the loss is {right:.3f}; yours is {result.item():.3f}."


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="experiment",
    hints=(
        "Write a function of steps, batch_size and seed that trains with lk.finetune and returns a pair for the list.",
        "Call it for three seeds with many small updates, and for the same seeds with few large ones. Keep both lists.",
        "lk.compare wants two lists of evaluations, the small updates first. Take them out of your pairs.",
    ),
)
def updates_or_examples(answer: dict[str, Any]) -> str:
    """Check an experiment: the same number of examples in many small updates and in few large ones."""
    many, few, verdict = parts(answer, "many", "few", "verdict")
    groups = {"many": trials("many", many), "few": trials("few", few)}
    require_seeds(groups)
    require_same(groups, "learning_rate", "schedule", "warmup")
    for name, group in groups.items():
        require_same({name: group}, "steps", "batch_size", "accumulation")
    first, second = (group[0].config for group in groups.values())
    seen = [each.steps * each.batch_size * each.accumulation for each in (first, second)]
    if seen[0] != seen[1]:
        raise MistakeError(
            f"The budgets differ: {seen[0]} examples in many updates, {seen[1]} in few. "
            "More examples would be an advantage of their own: keep steps × batch_size the same."
        )
    if first.steps < 4 * second.steps:
        raise MistakeError(
            f"{first.steps} updates against {second.steps} are too much alike to show much. "
            "Put at least four times as many into `many`."
        )
    found = judged({name: [trial.evaluation for trial in group] for name, group in groups.items()}, verdict)
    return f"✓ Well measured. {outcome(found)} A larger batch may also want a higher rate: that was not tried."
