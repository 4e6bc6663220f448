"""Checks of the exercises: ``check.<name>(your answer)``, and ``check.hint("<name>")``.

A check never raises: it says what is right, what is a typical mistake, or that nothing was tried yet.
"""

from __future__ import annotations

from collections.abc import Callable

from labkit.classroom.adapters import lora_parameters, merged_weight
from labkit.classroom.bits import absmax_int8, bits_per_parameter, qlora_bytes, relative_difference
from labkit.classroom.exercises import exercise, hint, untouched
from labkit.classroom.memory import extrapolate, peak_of
from labkit.classroom.methods import adapter_parameters, is_bootstrap_tie, merged_ia3, pareto_front

__all__ = [
    "absmax_int8",
    "adamw_bytes",
    "adapter_parameters",
    "bits_per_parameter",
    "completion_targets",
    "examples_seen",
    "extrapolate",
    "hint",
    "is_bootstrap_tie",
    "lora_parameters",
    "merged_ia3",
    "merged_weight",
    "pareto_front",
    "peak_of",
    "qlora_bytes",
    "relative_difference",
    "triage_prompt",
]


@exercise(
    "Each step looks at one batch.",
    "The run above made 30 steps, with the default of 16 examples in a batch.",
)
def examples_seen(answer: int) -> str:
    """Notebook 00: how many examples did the run look at?"""
    mistakes = {
        30: "That is the number of steps. Each step looks at a whole batch.",
        16: "That is the size of one batch. How many batches were there?",
        1000: "That is the size of the training set. The run stopped before it had seen all of it.",
    }
    if answer == 480:
        return "✓ Right: 30 steps of 16 examples. The model has not even seen half of the training set."
    return f"✗ {mistakes.get(answer, 'Not quite: multiply the steps by the examples in a batch.')}"


@exercise(
    'Print task.train[0]["prompt"] and imitate it.',
    "It starts with the word Finding and a colon, and its second line is the word Department and a colon.",
    'An f-string or plain text will do: "Finding: …\\nDepartment:"',
)
def triage_prompt(answer: str) -> str:
    """Notebook 00: a prompt of your own in the format of the training set."""
    if not isinstance(answer, str):
        return f"✗ A prompt is a text; yours is a {type(answer).__name__}."
    first, _, rest = answer.partition("\n")
    if answer.endswith(("Department: ", "Department:\n")):
        return "✗ Almost: remove the white space after the last colon. The tokens ' cardiology' bring their own space."
    if not first.startswith("Finding: "):
        return "✗ The first line starts with 'Finding: ', as in every training example."
    if rest != "Department:":
        return "✗ The second and last line is 'Department:', with a capital D and a colon."
    if len(first.split()) < 5:
        return "✗ The format is right. Describe the finding in a sentence of a few words more."
    return "✓ The model will recognize this format."


@exercise(
    "The list that is returned is as long as both lists together.",
    "cross_entropy leaves out every position whose target is -100.",
    "return [-100] * len(prompt_ids) + completion_ids",
)
def completion_targets(answer: Callable[[list[int], list[int]], list[int]]) -> str:
    """Notebook 01: targets that make the loss look at the completion only."""
    prompt, completion = [5, 6, 7], [8, 2]
    result = answer(list(prompt), list(completion))
    if untouched(result):
        return "○ completion_targets: not attempted yet"
    result = [int(value) for value in result]
    if result == [-100, -100, -100, 8, 2]:
        if [int(v) for v in answer([1], [2, 3, 4])] == [-100, 2, 3, 4]:
            return "✓ Right: the prompt is read, the completion is learned."
        return "✗ This works for a prompt of three tokens, not for one of one token. Use the lengths."
    if result == prompt + completion:
        return "✗ Here the model would learn to write the prompts as well. Mask them with -100."
    if result in ([-100, -100, 8, 2, -100], [-100, -100, 8, 2]):
        return "✗ No shift here: position i of the targets belongs to token i. The loss does the shifting."
    if len(result) != 5:
        return f"✗ For 3 prompt tokens and 2 completion tokens there are 5 targets; you returned {len(result)}."
    return f"✗ For prompt {prompt} and completion {completion} you returned {result}."


@exercise(
    "Count what must be held for every trained weight: itself, its gradient, and what AdamW remembers.",
    "AdamW remembers two numbers for each weight: the mean of its gradients, and of their squares.",
    "Four numbers of 4 bytes each for every weight.",
)
def adamw_bytes(answer: Callable[[int], float]) -> str:
    """Notebook 01: bytes that full fine-tuning in float32 needs besides the activations."""
    result = answer(1_000)
    if untouched(result):
        return "○ adamw_bytes: not attempted yet"
    mistakes = {
        4_000: "That is the weights alone. What else is as large as the weights?",
        8_000: "Weights and gradients are in. What does AdamW remember for each weight?",
        12_000: "One part is missing: AdamW keeps two numbers for each weight, not one.",
        16: "Multiply by the number of parameters.",
    }
    if result == 16_000 and answer(7) == 112:
        return "✓ Right: 16 bytes a parameter. A model of 7 billion takes 112 GB before its first activation."
    return f"✗ {mistakes.get(result) or f'For 1,000 parameters you got {result} bytes.'}"
