"""Checks of the exercises in notebook 09."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import judged, outcome, parts, require_same, require_seeds, trials
from labkit.curation.report import Report
from labkit.evaluation.proportions import wilson

COURSE_DATA = ("triage", "licenses", "inbox.csv", "findings.jsonl")
FEWEST_ROWS = 30
LOOKED_AT = 10


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
    first, second = "The heart beats fast fast fast", "the heart beats slowly"
    result = answer(first, second)
    if untouched(result):
        return not_attempted("jaccard")
    if not isinstance(result, int | float):
        raise MistakeError(f"A similarity is a number from 0 to 1; yours is a {type(result).__name__}.")
    mistakes = {
        2 / 6: "'The' and 'the' are the same word here: make both texts lower case first.",
        3: "That is how many words they share. How many are in either of them?",
        3 / 4: "You divided by the words of one text. Divide by all that are in either of the two.",
        3 / 10: "Count each word once: sets do that.",
        3 / 8: "You counted the shared words twice below the line: once for each text.",
        0.4: "That is the share that is not in common. It is asked the other way round.",
    }
    if abs(result - 3 / 5) < 1e-9 and answer("a b", "a b") == 1 and answer("a b", "c d") == 0:
        return "✓ Right: shared words over all words. With pairs of words in place of words, order counts as well."
    for wrong, say in mistakes.items():
        if abs(result - wrong) < 1e-9:
            return f"✗ {say}"
    return f"✗ For {first!r} and {second!r} you got {result:g}. They share three words, and have five between them."


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


@exercise(
    minutes=20,
    difficulty=2,
    points=3,
    kind="own data",
    hints=(
        "lk.inspect takes whatever lk.load_task takes: a file, a table, a list. report.save writes what it found.",
        "report.reasons() holds, for each kind of fault, the rows that have it. report.rows has their texts.",
        "Draw the rows that you look at by chance, of all kinds, and judge each before you look at the next one.",
    ),
)
def own_report(answer: dict[str, Any]) -> str:
    """Check an inspection of a learner's own data: how much of what was found is real?"""
    report, looked = parts(answer, "report", "looked")
    if not isinstance(report, Report):
        raise MistakeError(f"report: hand in what lk.inspect returned, not a {type(report).__name__}.")
    if report.name in COURSE_DATA:
        raise MistakeError(f"{report.name} comes with the course. Take data of your own, even a few rows.")
    if len(report.rows) < FEWEST_ROWS:
        raise MistakeError(f"{len(report.rows)} rows can be read at a glance. Bring {FEWEST_ROWS} or more.")
    if not isinstance(looked, Mapping):
        raise MistakeError(f"looked: hand in a dictionary, such as {{17: True}}; yours is a {type(looked).__name__}.")
    found = {row for rows in report.reasons().values() for row in rows}
    if unknown := sorted(set(looked) - found, key=str):
        raise MistakeError(f"Row {unknown[0]!r} is not among those of report.reasons(), which counts rows from 0.")
    if not all(isinstance(each, bool) for each in looked.values()):
        raise MistakeError("Say True for a fault that is real and False for a false alarm, and nothing between.")
    if len(looked) < (wanted := min(LOOKED_AT, len(found))):
        raise MistakeError(f"You looked at {len(looked)} rows of {len(found)}. Look at {wanted}.")
    if not found:
        return f"✓ Nothing was found in {len(report.rows):,} rows. Plant a fault, inspect again, and see whether it is."
    real = sum(looked.values())
    low, high = wilson(real, len(looked))
    return (
        f"✓ {real} of {len(looked)} are real. If you drew them by chance, {100 * low:.0f}% to {100 * high:.0f}% of all "
        f"{len(found)} are: decide by that whether to drop them or to look at each."
    )
