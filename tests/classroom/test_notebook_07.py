import numpy as np

RIGHT = {
    "pareto_front": lambda costs, gains: [
        not any((c <= cost and g > gain) or (c < cost and g >= gain) for c, g in zip(costs, gains, strict=True))
        for cost, gain in zip(costs, gains, strict=True)
    ],
    "is_bootstrap_tie": lambda differences: bool(
        np.quantile(differences, 0.025) <= 0 <= np.quantile(differences, 0.975)
    ),
}


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


def middle(share):
    """A check for a tie by the middle ``share`` of the differences."""
    low = (1 - share) / 2
    return lambda differences: np.quantile(differences, low) <= 0 <= np.quantile(differences, 1 - low)


def test_the_checks_are_fair(require_fair):
    require_fair(RIGHT)


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("pareto_front", lambda c, g: [not x for x in RIGHT["pareto_front"](c, g)], "other way round"),
            ("pareto_front", lambda c, g: [0, 1, 3], "five values"),
            ("pareto_front", by_sorting, "do not beat each other"),
            ("pareto_front", lambda c, g: beaten(c, g, lambda a, b, x, y: a <= x and b >= y), "do not beat each other"),
            (
                "pareto_front",
                lambda c, g: beaten(c, g, lambda a, b, x, y: a < x and b > y),
                "gains the same as another",
            ),
            (
                "pareto_front",
                lambda c, g: beaten(c, g, lambda a, b, x, y: a <= x and b > y),
                "gains the same as another",
            ),
            ("pareto_front", lambda c, g: [gain == max(g) for gain in g], "does another one beat it"),
            ("pareto_front", lambda c, g: [True] * len(c), "does another one beat it"),
            ("is_bootstrap_tie", lambda x: min(x) <= 0 <= max(x), "2 of 100 are below 0, it is no tie"),
            ("is_bootstrap_tie", middle(0.9), "3 of 100 are below 0, it is a tie"),
            ("is_bootstrap_tie", middle(0.99), "2 of 100 are below 0, it is no tie"),
            ("is_bootstrap_tie", lambda x: np.quantile(x, 0.025) <= 0, "all are below 0, it is no tie"),
            ("is_bootstrap_tie", lambda x: abs(np.mean(x)) < 1.96 * np.std(x), "3 of 100 are below 0, it is a tie"),
            ("is_bootstrap_tie", lambda x: not middle(0.95)(x), "all differences are above 0, it is no tie"),
            ("is_bootstrap_tie", lambda x: (np.quantile(x, 0.025), np.quantile(x, 0.975)), "above 0, it is no tie"),
        ]
    )


def test_an_answer_may_be_right_in_another_way(said):
    for name, answer in [
        ("pareto_front", lambda costs, gains: np.array(RIGHT["pareto_front"](costs, gains))),
        ("pareto_front", lambda costs, gains: (int(on) for on in RIGHT["pareto_front"](costs, gains))),
        ("is_bootstrap_tie", lambda differences: middle(0.95)(np.array(differences))),
        ("is_bootstrap_tie", lambda differences: 25 < sum(x <= 0 for x in differences) < 975),
    ]:
        assert said(name, answer).startswith("✓")
