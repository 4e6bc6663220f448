import numpy as np
from handed_in import changed, evaluation, solutions

RIGHT = solutions("07")


def beaten(costs, gains, rule):
    """A front by a rule for when one (c, g) beats another (cost, gain)."""
    points = list(zip(costs, gains, strict=True))
    return [not any(rule(*two, *one) for n, two in enumerate(points) if n != m) for m, one in enumerate(points)]


def by_sorting(costs, gains):
    """A front by going from cheap to dear and keeping what gains more than all before: one of equals only."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i]))
    result, best = [False] * len(costs), -1
    for i in order:
        result[i], best = gains[i] > best, max(best, gains[i])
    return result


def middle(share, words=("better", "worse")):
    """A verdict by the middle ``share`` of the differences."""

    def verdict(differences):
        low, high = np.quantile(differences, [(1 - share) / 2, (1 + share) / 2])
        return "undecided" if low <= 0 <= high else words[int(high < 0)]

    return verdict


def rows(rate=0.8, seeds=(0, 1), label="LoRA r=4", seconds=9.0, shift=0):
    setting = {"model": "minilm", "task": "triage", "label": label}
    return [
        {**setting, "seed": seed, "hits": evaluation(rate, 400, seed + shift).hits, "seconds": seconds + seed}
        for seed in seeds
    ]


AGAIN = [{"hits": row["hits"], "seconds": row["seconds"]} for row in rows(shift=10, seconds=20.0)]
MANY = rows(seeds=range(5))  # two runs decide nothing, however far apart they are
WORSE = [{"hits": row["hits"], "seconds": row["seconds"]} for row in rows(0.5, range(5), shift=10, seconds=20.0)]
REPLICATED = {"stored": rows(), "again": AGAIN, "verdict": "undecided"}


def test_the_checks_are_fair(require_fair):
    require_fair({**RIGHT, "replication": REPLICATED})


def test_typical_mistakes_are_explained(require_explained):
    mixed = [*rows(seeds=[0]), *rows(seeds=[1], label="IA3")]
    accuracies = [{"accuracy": 0.8, "seconds": 1}]
    require_explained(
        [
            ("pareto_front", lambda c, g: [not x for x in RIGHT["pareto_front"](c, g)], "other way round"),
            ("pareto_front", lambda c, g: [0, 1, 3], "five values"),
            ("pareto_front", by_sorting, "do not beat each other"),
            (
                "pareto_front",
                lambda c, g: beaten(c, g, lambda a, b, x, y: a < x and b > y),
                "gains the same as another",
            ),
            ("pareto_front", lambda c, g: [gain == max(g) for gain in g], "does another one beat it"),
            ("bootstrap_verdict", lambda x: bool(min(x) <= 0 <= max(x)), "one of the words"),
            (
                "bootstrap_verdict",
                middle(0.95, ("worse", "better")),
                "all differences are above 0, the verdict is 'better'",
            ),
            (
                "bootstrap_verdict",
                lambda x: "better" if np.quantile(x, 0.025) > 0 else "undecided",
                "all are below 0, the verdict is 'worse'",
            ),
            (
                "bootstrap_verdict",
                lambda x: "better" if np.mean(x) > 0 else "worse",
                "half are below 0, the verdict is",
            ),
            ("bootstrap_verdict", middle(1), "2 of 1,000 are below 0, the verdict is 'better'"),
            ("bootstrap_verdict", middle(0.97), "20 of 1,000 are below 0, the verdict is 'better'"),
            ("bootstrap_verdict", middle(0.9), "30 of 1,000 are below 0, the verdict is 'undecided'"),
            ("replication", changed(REPLICATED, again=None), "missing from your dictionary: again"),
            ("replication", changed(REPLICATED, again=[0.8, 0.79]), "again: hand in a list of rows"),
            ("replication", changed(REPLICATED, again=accuracies), "not only its accuracy"),
            ("replication", changed(REPLICATED, stored=AGAIN), "no rows of lk.results"),
            ("replication", changed(REPLICATED, stored=mixed), "several methods"),
            ("replication", changed(REPLICATED, again=AGAIN[:1]), "repeat each row once"),
            ("replication", changed(REPLICATED, again=rows()), "one of these is a stored row"),
            ("replication", changed(REPLICATED, stored=rows(seeds=[0]), again=AGAIN[:1]), "One seed may agree by luck"),
            ("replication", changed(REPLICATED, verdict="worse"), "may be chance"),
            ("replication", changed(REPLICATED, stored=MANY, again=WORSE), "one side of 0"),
        ]
    )


def test_other_wrong_answers_do_not_pass(said):
    for name, answer in [
        ("pareto_front", lambda c, g: beaten(c, g, lambda a, b, x, y: a <= x and b >= y)),
        ("pareto_front", lambda c, g: beaten(c, g, lambda a, b, x, y: a <= x and b > y)),
        ("pareto_front", lambda c, g: [True] * len(c)),
        ("bootstrap_verdict", middle(0.99)),
        ("bootstrap_verdict", lambda x: "undecided" if abs(np.mean(x)) < 1.96 * np.std(x) else "better"),
        ("bootstrap_verdict", lambda x: (np.quantile(x, 0.025), np.quantile(x, 0.975))),
    ]:
        assert said(name, answer).startswith("✗")


def test_an_answer_may_be_right_in_another_way(said):
    for name, answer in [
        ("pareto_front", lambda costs, gains: np.array(RIGHT["pareto_front"](costs, gains))),
        ("pareto_front", lambda costs, gains: (int(on) for on in RIGHT["pareto_front"](costs, gains))),
        ("bootstrap_verdict", middle(0.95)),
        (
            "bootstrap_verdict",
            lambda x: ("worse", "undecided", "better")[(sum(d <= 0 for d in x) < 25) + (sum(d >= 0 for d in x) >= 25)],
        ),
        ("replication", changed(REPLICATED, stored=MANY, again=WORSE, verdict="worse")),
        ("replication", changed(REPLICATED, stored=rows(seeds=(0, 1, 2)), again=[*AGAIN, {**AGAIN[0], "seconds": 3}])),
    ]:
        assert said(name, answer).startswith("✓")
