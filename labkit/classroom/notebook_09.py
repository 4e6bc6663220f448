"""Checks of the exercises in notebook 09."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import judged, outcome, parts, require_same, require_seeds, trials


@exercise(
    minutes=8,
    difficulty=1,
    points=1,
    kind="write code",
    hints=(
        "text.lower().split() gives the words of a text. A set keeps each of them once.",
        "Two sets have a part in common, and a whole that holds what is in either of them.",
        "Two texts of the same words give 1, and two with no word in common give 0. Try both.",
    ),
)
def jaccard(answer: Callable[[str, str], float]) -> str:
    """Check the Jaccard similarity of the words of two texts."""
    first, second = "The heart beats fast fast", "the heart beats slowly"
    result = answer(first, second)
    if untouched(result):
        return not_attempted("jaccard")
    if not isinstance(result, int | float):
        raise MistakeError(f"A similarity is a number from 0 to 1; yours is a {type(result).__name__}.")
    mistakes = {
        2 / 6: "'The' and 'the' are the same word here: make both texts lower case first.",
        3: "That is how many words they share. How many are in either of them?",
        3 / 4: "You divided by the words of one text. Divide by all that are in either of the two.",
        3 / 9: "Count each word once: sets do that.",
        3 / 8: "You counted the shared words twice below the line: once for each text.",
        0.4: "That is the share that is not in common. It is asked the other way round.",
    }
    if abs(result - 3 / 5) < 1e-9 and answer("a b", "a b") == 1 and answer("a b", "c d") == 0:
        return "✓ Right: shared words over all words. With pairs of words in place of words, order counts as well."
    for wrong, say in mistakes.items():
        if abs(result - wrong) < 1e-9:
            return f"✗ {say}"
    return f"✗ For {first!r} and {second!r} you got {result:g}. They share three words, and have five between them."


# Three classes. Class 0 is one that the model is rarely sure of, so a limit for all classes would misjudge it.
PROBABILITIES = np.array(
    [
        [0.55, 0.25, 0.20],  # class 0, as sure as the model gets
        [0.45, 0.35, 0.20],
        [0.30, 0.60, 0.10],  # labelled 0: more likely 1, but less surely than the 1s are
        [0.04, 0.95, 0.01],
        [0.08, 0.85, 0.07],
        [0.60, 0.30, 0.10],  # labelled 1: surer of 0 than the 0s are
        [0.02, 0.03, 0.95],
        [0.01, 0.93, 0.06],  # labelled 2: surely 1
        [0.50, 0.02, 0.48],  # labelled 2: reaches the limits of 0 and of 2, and 0 is the likelier
    ]
)
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])


def _suspects(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    limits = np.array([probabilities[labels == label, label].mean() for label in range(probabilities.shape[1])])
    reached = np.where(probabilities >= limits, probabilities, -1)
    return [int(i) for i in np.flatnonzero((reached.max(axis=1) >= 0) & (reached.argmax(axis=1) != labels))]


@exercise(
    minutes=15,
    difficulty=3,
    points=3,
    kind="write code",
    hints=(
        "First the limits, one for each class: how likely is the class, on average, among the rows labelled with it?",
        "A row counts for the classes whose limit it reaches. Among these, take the one that is the likeliest.",
        "A row that reaches no limit is no suspect, and neither is one whose likeliest such class is its label.",
    ),
)
def suspect_labels(answer: Callable[[np.ndarray, np.ndarray], Sequence[int]]) -> str:
    """Check a function that finds suspect labels by confident learning (Northcutt et al., 2021)."""
    kept = PROBABILITIES.copy(), LABELS.copy()
    result = answer(*kept)
    if untouched(result):
        return not_attempted("suspect_labels")
    if not (np.array_equal(kept[0], PROBABILITIES) and np.array_equal(kept[1], LABELS)):
        raise MistakeError("Your function changed what it was given. Work on a copy.")
    try:
        found = np.asarray(list(result))
    except TypeError:
        raise MistakeError(f"Return the numbers of the rows as a list; yours is a {type(result).__name__}.") from None
    if found.dtype == bool:
        raise MistakeError("Return the numbers of the suspect rows, not True or False for each row.")
    rows = sorted(found.astype(int).tolist())
    right = _suspects(PROBABILITIES, LABELS)
    if rows == right:
        return "✓ Right: each class has a limit of its own, so one that is hard to tell isn't suspected as a whole."
    likeliest = np.flatnonzero(PROBABILITIES.argmax(axis=1) != LABELS).tolist()
    limits = np.array([PROBABILITIES[label == LABELS, label].mean() for label in range(3)])
    mistakes = {
        tuple(likeliest): "These are all rows whose likeliest class is another one. Only sure cases count: use limits.",
        tuple(np.flatnonzero(PROBABILITIES[range(9), LABELS] < 0.5).tolist()): (
            "You took one limit for all classes. Each has its own: its mean probability among its own rows."
        ),
        tuple(np.flatnonzero(PROBABILITIES[range(9), LABELS] < limits[LABELS]).tolist()): (
            "These are the rows that miss the limit of their own label. A suspect must reach that of another class."
        ),
        tuple(i for i in range(9) if i not in right): "These are the rows that are no suspects.",
    }
    return f"✗ {mistakes.get(tuple(rows)) or f'You found the rows {rows}. Work out the three limits by hand first.'}"


@exercise(
    minutes=20,
    difficulty=2,
    points=3,
    kind="experiment",
    hints=(
        "lk.load_task takes a file, and test_data= a test set of its own. Test both on the same clean findings.",
        "Keep steps, rate and batch size the same. Only the training rows differ, and the seeds are the same three.",
        "lk.compare takes two lists of evaluations. Pass the cleaned ones first, then read the interval.",
    ),
)
def cleaning_gain(answer: dict[str, Any]) -> str:
    """Check an experiment: what is the cleaning of a file worth?"""
    cleaned, dirty, verdict = parts(answer, "cleaned", "dirty", "verdict")
    groups = {"cleaned": trials("cleaned", cleaned), "dirty": trials("dirty", dirty)}
    require_seeds(groups)
    require_same(groups, "steps", "batch_size", "accumulation", "learning_rate")
    evaluations = {name: [trial.evaluation for trial in group] for name, group in groups.items()}
    if sorted(each.hits for each in evaluations["cleaned"]) == sorted(each.hits for each in evaluations["dirty"]):
        raise MistakeError("Both groups have the very same answers. Were they trained on the same rows?")
    found = judged(evaluations, verdict)
    if found.verdict == "worse":
        return "✓ Well measured: your cleaning did harm. Which rows did it remove that the model needed?"
    return f"✓ Well measured. {outcome(found)}"
