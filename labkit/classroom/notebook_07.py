"""Checks of the exercises in notebook 07."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labkit.classroom.exercises import exercise, untouched


@exercise(
    "A method is on the front unless another one beats it.",
    "Another one beats it if it costs no more and gains more, or costs less and gains no less.",
    "all(not ((c <= cost and g > gain) or (c < cost and g >= gain)) for c, g in zip(costs, gains))",
)
def pareto_front(answer: Callable[[Sequence[float], Sequence[float]], Sequence[bool]]) -> str:
    """Check which methods are on the Pareto front."""
    costs, gains = [1, 2, 3, 4, 2], [5, 7, 6, 9, 4]
    result = answer(list(costs), list(gains))
    if untouched(result):
        return "○ pareto_front: not attempted yet"
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
    "Sort the differences and leave out the lowest 2.5% and the highest 2.5%. Which values are at the ends?",
    "It is a tie if 0 lies between the two ends.",
    "low, high = np.quantile(differences, [0.025, 0.975]); return bool(low <= 0 <= high)",
)
def is_bootstrap_tie(answer: Callable[[Sequence[float]], bool]) -> str:
    """Check whether two methods tie, judged by the differences that a bootstrap drew."""
    cases = {
        "all differences are above 0": ([0.01 + i / 1e4 for i in range(1000)], False),
        "3 of 100 are below 0": ([-0.01] * 30 + [0.02 + i / 1e5 for i in range(970)], True),
        "2 of 100 are below 0": ([-0.01] * 20 + [0.02 + i / 1e5 for i in range(980)], False),
        "all are below 0": ([-0.05 + i / 1e5 for i in range(1000)], False),
        "half are below 0": ([i / 1e3 - 0.5 for i in range(1000)], True),
    }
    results = {name: answer(list(differences)) for name, (differences, _) in cases.items()}
    if all(untouched(result) for result in results.values()):
        return "○ is_bootstrap_tie: not attempted yet"
    for name, (_, truth) in cases.items():
        if bool(results[name]) != truth:
            return f"✗ If {name}, it is {'a tie' if truth else 'no tie'}: look at the middle 95%."
    return "✓ Right: the middle 95% of the differences decide."
