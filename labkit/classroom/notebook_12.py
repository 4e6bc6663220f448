"""Checks of the exercises in notebook 12."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import evaluation, judged, parts, require_same_cases
from labkit.classroom.merging import (
    draw_layer,
    draw_updates,
    merged_by_ties,
    mixed_outputs,
    same,
    wrong_merges,
    wrong_outputs,
)
from labkit.errors import shown
from labkit.evaluation import Evaluation
from labkit.methods.combinations import WAYS

CHOSEN: list[int | None] = [1, None, 0, 2, 1, None]
DENSITY, OTHER_DENSITY = 0.3, 0.4
FEWEST_MERGES = 4


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="write code",
    hints=(
        "Compute what the base makes of all rows at once. What does one row with one adapter get on top of it?",
        "A maps inputs to the rank, B maps the rank to outputs. x has its inputs last, so both are transposed.",
        "Go through the rows. One whose entry is None is left alone; mind that 0 is an adapter and also false.",
    ),
)
def mixed_batch(answer: Callable[..., torch.Tensor]) -> str:
    """Check a linear layer whose rows take different adapters."""
    given, kept = (draw_layer([2, 2, 2], 6, 6, CHOSEN) for _ in range(2))
    result, right = answer(*given), mixed_outputs(*kept)
    if untouched(result):
        return not_attempted("mixed_batch")
    if not isinstance(result, torch.Tensor):
        raise MistakeError(f"Return a tensor with the output of each row, not a {type(result).__name__}.")
    if result.shape in (right.shape[1:], (1, *right.shape[1:])):
        raise MistakeError(f"That is the output of one row, and the batch has {len(right)}. Collect them all.")
    if result.shape != right.shape:
        raise MistakeError(f"The output has the shape {tuple(right.shape)}, and yours is {tuple(result.shape)}.")
    for name, mine, before in (("x", given[0], kept[0]), ("W", given[1], kept[1])):
        if not torch.equal(mine, before):
            raise MistakeError(f"Your function changes {name} itself: the next batch would begin with what is left.")
    if not same(result, right):
        wrong = next((text for text, values in wrong_outputs(*kept) if same(result, values)), "")
        number = next(i for i in range(len(right)) if not same(result[i], right[i]))
        return f"✗ {wrong or f'Row {number}, whose entry is {CHOSEN[number]}, is wrong. Work out its first token.'}"
    others: tuple[list[int | None], ...] = ([1, 0, None], [None, None], [0])
    for chosen in others:
        given, kept = (draw_layer([1, 3], 4, 5, chosen) for _ in range(2))
        case = f"It is right for three adapters of rank 2, but not for the ranks 1 and 3 and rows that take {chosen}"
        try:
            again = answer(*given)
        except Exception as problem:
            raise MistakeError(f"{case}: it raised {type(problem).__name__}: {problem}") from problem
        if not same(again, mixed_outputs(*kept)):
            raise MistakeError(f"{case}. Look at sizes that you took for granted.")
    return "✓ Right: W is read once for the whole batch, and each row adds its own two thin products."


@exercise(
    minutes=20,
    difficulty=3,
    points=3,
    kind="write code",
    hints=(
        "Three steps, one after the other. After the first, each task still has its shape, with zeros in most places.",
        "How many numbers does a task keep? torch.topk of its flattened magnitudes finds them, wherever they lie.",
        "A place's sign is that of the sum over the tasks. Then average over those that have this sign, not over all: "
        "count them first. A zero has no sign, and where the count is 0 the result is 0.",
    ),
)
def ties(answer: Callable[[torch.Tensor, float], torch.Tensor]) -> str:
    """Check a merge by TIES."""
    given, updates = draw_updates(5, 4, 10), draw_updates(5, 4, 10)
    result, right = answer(given, DENSITY), merged_by_ties(updates, DENSITY)
    if untouched(result):
        return not_attempted("ties")
    if not isinstance(result, torch.Tensor):
        raise MistakeError(f"Return a tensor, the merged update, not a {type(result).__name__}.")
    if result.shape == updates.shape:
        raise MistakeError("There is still an update for each task. The third step makes one of them.")
    if result.shape != right.shape:
        raise MistakeError(f"Each update has the shape {tuple(right.shape)}, and yours is {tuple(result.shape)}.")
    if not torch.equal(given, updates):
        raise MistakeError("Your function changes the updates themselves: the specialists would be gone.")
    if not torch.isfinite(result).all():
        raise MistakeError("Some places are not finite. No task kept a number there: you divide 0 by 0.")
    if same(result, right):
        if not same(answer(draw_updates(4, 10), OTHER_DENSITY), merged_by_ties(draw_updates(4, 10), OTHER_DENSITY)):
            raise MistakeError(
                f"Right for a density of {DENSITY}, but not for {OTHER_DENSITY} and four updates of ten numbers each."
            )
        return "✓ Right: small changes give way, and tasks that disagree about a sign don't cancel each other out."
    wrong = next((text for text, values in wrong_merges(updates, DENSITY) if same(result, values)), "")
    if not wrong:
        kept = int((right != 0).sum())
        wrong = f"{int((result != 0).sum())} places are not 0; there should be {kept}. " if kept else ""
        wrong += "Try it with two updates of four numbers, and work those out by hand."
    return f"✗ {wrong}"


@exercise(
    minutes=30,
    difficulty=3,
    points=4,
    kind="experiment",
    hints=(
        "Write a function of how and weights that combines the adapters and evaluates that on both tasks of search.",
        "A merge that is good at one task is easily had: give the other the weight 0. What do you have to look at?",
        "Take the best mean of both accuracies. Only now evaluate on tasks: this merge, and each specialist alone.",
    ),
)
def merge_search(answer: dict[str, Any]) -> str:
    """Check a search for a way to merge two adapters: on held-out examples, on both tasks, and tested once."""
    tried, chosen, tests, verdicts = parts(answer, "tried", "chosen", "test", "verdicts")
    pairs = {name: _pair(name, given) for name, given in _by_name("test", tests).items()}
    if len(pairs) != 2:
        raise MistakeError(f"test: both tasks are needed, and there is {', '.join(map(str, pairs)) or 'none'}.")
    found = {setting: _held_out(setting, given, pairs) for setting, given in _by_name("tried", tried).items()}
    for setting in found:
        _require_setting(setting)
    if len([setting for setting in found if all(setting[1])]) < FEWEST_MERGES:
        raise MistakeError(
            f"Try {FEWEST_MERGES} merges or more, of different ways or weights. With a weight of 0, it is none."
        )
    for name, pair in pairs.items():
        _require_same_examples(name, [each[name] for each in found.values()], "tried")
        _require_same_examples(name, pair, "test")
    if chosen not in list(found):
        raise MistakeError(f"chosen: {shown(chosen)} is not among the settings that you tried.")
    if all(_answers(found[chosen][name]) == _answers(merged) for name, (merged, _) in pairs.items()):
        raise MistakeError(
            "What you chose by and what you report are the same answers. A merge that is chosen on the test set looks "
            "better there than it is. Choose on held-out examples."
        )
    means = {setting: sum(each.accuracy for each in by.values()) / len(by) for setting, by in found.items()}
    best = max(means, key=means.__getitem__)
    if not math.isclose(means[chosen], means[best]):
        raise MistakeError(f"chosen: {best} has a better mean of both accuracies on the held-out examples.")
    said = []
    for name, (merged, alone) in pairs.items():
        verdict = parts(_by_name("verdicts", verdicts), name)[0]
        compared = judged({f"the merge on {name}": [merged], f"{name} alone": [alone]}, verdict)
        said.append(f"{name} {compared.verdict}")
    return (
        f"✓ Well made. The merge against each specialist: {', '.join(said)}. That holds for this pair of adapters; "
        "others of the same tasks may turn out otherwise, and undecided does not mean equal."
    )


def _by_name(name: str, given: Any) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise MistakeError(f"{name}: hand in a dictionary, not a {type(given).__name__}.")
    return given


def _pair(name: str, given: Any) -> tuple[Evaluation, Evaluation]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise MistakeError(f"test: for {name}, hand in a pair: evaluations of the merge and of the specialist alone.")
    return evaluation(f"test: {name}", given[0]), evaluation(f"test: {name}", given[1])


def _held_out(setting: Any, given: Any, tasks: Mapping[str, Any]) -> dict[str, Evaluation]:
    """Return the evaluations of one setting by their task."""
    by_task = _by_name(f"tried: {shown(setting)}", given)
    if {*by_task} != {*tasks}:
        raise MistakeError(
            f"tried: {shown(setting)} was measured on {', '.join(map(str, by_task)) or 'nothing'}. A merge has to do "
            f"both: {', '.join(map(str, tasks))}."
        )
    return {name: evaluation(f"tried: {shown(setting)}, {name}", by_task[name]) for name in tasks}


def _require_setting(setting: Any) -> None:
    """Require what was tried to be a way and two weights, and perhaps a density."""
    how, weights, *more = setting if isinstance(setting, tuple) and len(setting) in (2, 3) else (None, None)
    numbers = weights if isinstance(weights, tuple) and len(weights) == 2 else ()
    if how not in (*WAYS, "cat") or not numbers or not all(isinstance(each, int | float) for each in (*numbers, *more)):
        raise MistakeError(
            f'tried: {shown(setting)} is no setting. Use how and both weights, such as ("linear", (1, 1)), and after '
            "them a density if you set one."
        )


def _require_same_examples(name: str, given: Sequence[Evaluation], where: str) -> None:
    """Require evaluations to be of the same examples, as far as counts tell."""
    require_same_cases(given)
    counts = [{label: total for label, (_, total) in each.per_class.items()} for each in given]
    if any(each != counts[0] for each in counts):
        raise MistakeError(f"{where}: for {name}, the examples are not the same each time. Evaluate all on one task.")


def _answers(given: Evaluation) -> tuple[str, list[str]]:
    return given.hits, given.predictions
