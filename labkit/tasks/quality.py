"""The same task with other training data: fewer examples, wrong labels, copies, a narrow choice, mixed formats.

Each function returns a new task, changes its training set alone, and does the same for the same seed. What a smaller
amount or a lower noise changes is part of what a larger one does, so that curves over either differ in nothing else.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from datasets import Dataset

from labkit.errors import LabkitError, require_count, require_number, require_seed, shown, unknown
from labkit.tasks.likeness import shingles, similarity
from labkit.tasks.stratified import in_proportion
from labkit.tasks.task import Task

COVERAGE = ("wide", "narrow")


def draw(task: Task, amount: int, *, balanced: bool = False, seed: int = 0) -> Task:
    """Return the task with ``amount`` training examples drawn at random.

    Args:
        task: any task; one without labels counts as one of a single label.
        amount: training examples, at most as many as there are.
        balanced: draw each label equally often, while there are examples of it, instead of in its share.
        seed: of the draw; a smaller amount is the beginning of a larger one.

    Raises:
        LabkitError: there are fewer training examples.
    """
    amount = _require_amount(task, amount)
    dice = _dice("draw", seed)
    names = _labels(task)
    order = list(range(len(names)))
    dice.shuffle(order)
    places = in_proportion(order, names.__getitem__, Counter(names), dice, balanced)
    return replace(task, train=task.train.select(places[:amount]))


def narrow(task: Task, amount: int, *, seed: int = 0) -> Task:
    """Return the task with ``amount`` training examples that cover as little as they can of each label.

    Each label has as many as ``draw`` gives it. They are the nearest, by the Jaccard similarity of their words, to one
    example of the label, which is drawn at random.

    Raises:
        LabkitError: there are fewer training examples.
    """
    drawn = _labels(draw(task, amount, seed=seed))
    dice = _dice("narrow", seed)
    names, words = _labels(task), [shingles(prompt, 1) for prompt in task.train["prompt"][:]]
    chosen: list[int] = []
    for label, count in sorted(Counter(drawn).items()):
        members = [i for i, name in enumerate(names) if name == label]
        middle = words[dice.choice(members)]
        chosen += sorted(members, key=lambda i: -similarity(words[i], middle))[:count]
    return replace(task, train=task.train.select(chosen))


def with_duplicates(task: Task, copies: int) -> Task:
    """Return the task with as many training examples, of which only the first ones are left, each ``copies`` times.

    Where the number isn't a multiple of ``copies``, the first examples have one copy more.

    Raises:
        LabkitError: ``copies`` is below 1 or above the number of training examples.
    """
    total = len(task.train)
    remedy = f"Each of {total} examples or fewer can stand in for the others."
    distinct = total // require_count("copies", copies, high=total, remedy=remedy)
    return replace(task, train=task.train.select([i % distinct for i in range(total)]))


def with_noise(task: Task, share: float, *, seed: int = 0) -> Task:
    """Return the task with a wrong label on a share of its training examples.

    The examples are drawn at random, and so are their new labels, evenly from all but the right one: symmetric noise
    (Patrini et al., 2017, arXiv:1609.03683). The column ``wrong`` says which they are.

    Args:
        task: of two labels or more.
        share: of the training examples, from 0 to 1, rounded to whole examples.
        seed: of the draw; a lower share's wrong labels are among those of a higher one.

    Raises:
        LabkitError: the task has no labels to confuse, or the share is no number from 0 to 1.
    """
    if len(task.labels) < 2:
        raise LabkitError(
            f"{task.name} has {len(task.labels)} labels: none can be wrong.", "Choose a task of two labels or more."
        )
    share = require_number("share", share, low=0, remedy="Give a number from 0 to 1, such as 0.4.")
    if share > 1:
        raise LabkitError(f"share is {shown(share)}, more than all examples.", "Give 0.4 for 40%.")
    dice = _dice("noise", seed)
    answers = list(task.train["completion"][:])
    order = list(range(len(answers)))
    dice.shuffle(order)
    others = [dice.choice([label for label in task.labels if label != answers[i]]) for i in order]
    wrong = [False] * len(answers)
    for i, other in list(zip(order, others, strict=True))[: round(share * len(answers))]:
        answers[i], wrong[i] = other, True
    return replace(task, train=_with_columns(task.train, completion=answers, wrong=wrong))


def mixed(task: Task, templates: Sequence[str], *, seed: int = 0) -> Task:
    """Return the task with its training prompts in several formats, evenly and at random; test prompts stay.

    Args:
        task: any task.
        templates: texts with ``{prompt}`` where the prompt belongs, such as ``"Question: {prompt}"``.
        seed: of the draw.

    Raises:
        LabkitError: there is no template, or one has no place for the prompt.
    """
    if isinstance(templates, str) or not templates:
        raise LabkitError("There are no templates.", 'Pass a list, such as ["{prompt}", "Question: {prompt}"].')
    for template in templates:
        if "{prompt}" not in template:
            raise LabkitError(f"{shown(template)} has no place for the prompt.", "Write {prompt} there.")
    dice = _dice("formats", seed)
    formats = [templates[i % len(templates)] for i in range(len(task.train))]
    dice.shuffle(formats)
    pairs = zip(formats, task.train["prompt"][:], strict=True)
    prompts = [template.replace("{prompt}", prompt) for template, prompt in pairs]
    return replace(task, train=_with_columns(task.train, prompt=prompts))


def altered(
    task: Task,
    *,
    amount: int,
    balanced: bool = False,
    coverage: str = "wide",
    copies: int = 1,
    noise: float = 0.0,
    formats: Sequence[str] = ("{prompt}",),
    seed: int = 0,
) -> Task:
    """Return the task with training data of one quality: all settings of the functions above, in this order.

    Args:
        task: any task; ``noise`` above 0 needs labels.
        amount, balanced, seed: as in ``draw``.
        coverage: ``"wide"`` draws from all examples; ``"narrow"`` takes those of ``narrow``, for which ``balanced`` has
            no meaning.
        copies, noise, formats: as in ``with_duplicates``, ``with_noise`` and ``mixed``. Copies of an example share
            neither its label, if it is wrong, nor its format.

    Raises:
        LabkitError: a setting isn't allowed.
    """
    if coverage not in COVERAGE:
        raise unknown("coverage", coverage, COVERAGE)
    if coverage == "narrow" and balanced:
        raise LabkitError("A narrow choice is not balanced.", 'Set balanced=False, or coverage="wide".')
    narrowed = coverage == "narrow"
    chosen = narrow(task, amount, seed=seed) if narrowed else draw(task, amount, balanced=balanced, seed=seed)
    copied = with_duplicates(chosen, copies)
    wrong = with_noise(copied, noise, seed=seed) if noise else copied
    return mixed(wrong, formats, seed=seed)


def _dice(use: str, seed: int) -> random.Random:
    """Return random numbers of a use alone.

    Training shuffles its examples with ``Random(seed)``. Drawn from the same numbers, the wrong labels would be just
    those that it learns first.
    """
    return random.Random(f"{use} {require_seed(seed)}")


def _labels(task: Task) -> list[str]:
    return list(task.train["completion"][:]) if task.labels else [""] * len(task.train)


def _require_amount(task: Task, amount: int) -> int:
    most = len(task.train)
    return require_count("amount", amount, high=most, remedy=f"The task has {most:,} training examples.")


def _with_columns(data: Dataset, **columns: list) -> Dataset:
    return Dataset.from_dict({name: data[name][:] for name in data.column_names} | columns)
