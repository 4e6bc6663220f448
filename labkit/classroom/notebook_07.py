"""Checks of the exercises in notebook 07."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import VERDICTS, judged, parts


@exercise(
    minutes=15,
    difficulty=2,
    points=2,
    kind="write code",
    hints=(
        "A method is on the front unless another one beats it.",
        "Another one beats it if it costs no more and gains more, or costs less and gains no less.",
        "Write a helper that says whether one method beats another. Then ask it about each method and all others.",
    ),
)
def pareto_front(answer: Callable[[Sequence[float], Sequence[float]], Sequence[bool]]) -> str:
    """Check which methods are on the Pareto front."""
    costs, gains = [1, 2, 3, 4, 2], [5, 7, 6, 9, 4]
    result = answer(list(costs), list(gains))
    if untouched(result):
        return not_attempted("pareto_front")
    found = [bool(value) for value in result]
    if len(found) != 5:
        return f"✗ For five methods, return five values, True or False; you returned {len(found)}."
    if found == [True, True, False, True, False]:
        tied = [bool(value) for value in answer([1, 1, 2], [3, 3, 3])]
        if tied == [True, True, False]:
            return "✓ Right: what is left are the methods between which the choice is yours."
        if tied[-1:] == [True]:
            return "✗ Almost: a method that costs more and gains the same as another one is beaten, too."
        return "✗ Almost: two methods that cost and gain the same do not beat each other."
    if found == [False, False, True, False, True]:
        return "✗ The other way round: True is for those that no other one beats."
    return f"✗ For costs {costs} and gains {gains} you returned {found}. Look at each: does another one beat it?"


@exercise(
    minutes=10,
    difficulty=2,
    points=2,
    kind="write code",
    hints=(
        "Sort the differences and leave out the lowest 2.5% and the highest 2.5%. What is left is the interval.",
        "Where does 0 lie: below the interval, inside, or above? Each place has its word.",
        "np.quantile finds the ends. Its second argument is a list of shares between 0 and 1.",
    ),
)
def bootstrap_verdict(answer: Callable[[Sequence[float]], str]) -> str:
    """Check the verdict on two methods, judged by the differences that a bootstrap drew."""
    cases = {
        "all differences are above 0": ([0.01 + i / 1e4 for i in range(1000)], "better"),
        "all are below 0": ([-0.05 + i / 1e5 for i in range(1000)], "worse"),
        "half are below 0": ([i / 1e3 - 0.5 for i in range(1000)], "undecided"),
        "2 of 1,000 are below 0": ([-0.01] * 2 + [0.02 + i / 1e5 for i in range(998)], "better"),
        "20 of 1,000 are below 0": ([-0.01] * 20 + [0.02 + i / 1e5 for i in range(980)], "better"),
        "30 of 1,000 are below 0": ([-0.01] * 30 + [0.02 + i / 1e5 for i in range(970)], "undecided"),
        "20 of 1,000 are above 0": ([0.01] * 20 + [-0.03 + i / 1e5 for i in range(980)], "worse"),
    }
    results = {name: answer(list(differences)) for name, (differences, _) in cases.items()}
    if all(untouched(result) for result in results.values()):
        return not_attempted("bootstrap_verdict")
    for name, (_, truth) in cases.items():
        if not isinstance(results[name], str) or results[name] not in VERDICTS:
            return f"✗ Return one of the words {', '.join(VERDICTS)}; if {name}, you returned {results[name]!r}."
        if results[name] != truth:
            return f"✗ If {name}, the verdict is {truth!r}; you returned {results[name]!r}. Look at the middle 95%."
    return "✓ Right: this is how lk.compare decides, before it corrects for the number of comparisons."


@exercise(
    minutes=20,
    difficulty=2,
    points=3,
    kind="experiment",
    hints=(
        'parts["minilm", "triage"] holds the rows. Take those of one label, and of them the first two or three.',
        'A row from .to_dict("records") is what lk.repeat takes. It measures all that a row holds, in a minute.',
        "lk.compare takes lists of the texts under the key hits: those of the repeated runs first, then the stored.",
    ),
)
def replication(answer: dict[str, Any]) -> str:
    """Check whether stored runs were made again, and what that says."""
    rows, again, verdict = parts(answer, "stored", "again", "verdict")
    rows, again = _rows("stored", rows), _rows("again", again)
    if not all({"label", "seed", "model", "task"} <= row.keys() for row in rows):
        raise MistakeError("stored: these are no rows of lk.results. Pass each row whole, with its settings.")
    if len({(row["model"], row["task"], row["label"]) for row in rows}) > 1:
        raise MistakeError("stored: the rows are of several methods or tasks. Repeat runs of one method on one task.")
    if len(rows) != len(again):
        raise MistakeError(f"{len(rows)} stored rows and {len(again)} repeated runs: repeat each row once.")
    if any(new["hits"] == old["hits"] and new["seconds"] == old["seconds"] for new in again for old in rows):
        raise MistakeError("again: one of these is a stored row, to the last digit of its time. Run lk.repeat(row).")
    if len({row["seed"] for row in rows}) < 2:
        raise MistakeError("One seed may agree by luck. Repeat at least two rows with different seeds.")
    mine, theirs = ([row["hits"] for row in part] for part in (again, rows))
    found = judged({"your runs": mine, "the stored runs": theirs}, verdict)
    if found.verdict == "undecided":
        return "✓ Replicated, as far as so few runs can tell: on your computer, too, the table says nothing else."
    return "✓ Well measured, and your runs differ from the stored ones. Please report it, with lk.doctor()'s output."


def _rows(name: str, given: Any) -> list[dict[str, Any]]:
    given = given.to_dict("records") if hasattr(given, "columns") else given
    if not isinstance(given, list) or not given or not all(isinstance(row, dict) for row in given):
        raise MistakeError(f"{name}: hand in a list of rows, each a dictionary.")
    if not all(isinstance(row.get("hits"), str) and {"hits", "seconds"} <= row.keys() for row in given):
        raise MistakeError(f"{name}: a row lacks its hits or its seconds. Pass it as it came, not only its accuracy.")
    return given
