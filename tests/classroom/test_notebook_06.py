import torch
from handed_in import changed, evaluation, solutions, trials

RIGHT = solutions("06")


def tried(accuracies, seeds=(0, 1), total=150, **settings):
    """The trials of a search, from the accuracy that is expected at each rate."""
    pairs = [trials(a, seeds=seeds, total=total, learning_rate=rate, **settings) for rate, a in accuracies.items()]
    return [(run.config, found) for group in pairs for run, found in group]


CURVE = {0.001: 0.4, 0.01: 0.6, 0.1: 0.9, 1.0: 0.2}
(LAST,) = trials(seeds=[0], learning_rate=0.1)
SEARCH = {"trials": tried(CURVE), "rate": 0.1, "test": LAST}


def test_the_checks_are_fair(require_fair):
    require_fair({**RIGHT, "rate_search": SEARCH})


def test_typical_mistakes_are_explained(require_explained):
    (other,) = trials(seeds=[0], learning_rate=0.01)
    (longer,) = trials(seeds=[0], learning_rate=0.1, steps=300)
    require_explained(
        [
            ("adapter_parameters", lambda d, m, n: n * (2 * d * m + d + m), "second one after the attention"),
            ("adapter_parameters", lambda d, m, n: 2 * (2 * d * m + d + m), "one block"),
            ("adapter_parameters", lambda d, m, n: 2 * d * m + d + m, "single adapter"),
            ("adapter_parameters", lambda d, m, n: n * 2 * 2 * d * m, "biases are missing"),
            ("adapter_parameters", lambda d, m, n: n * 2 * (d * m + d + m), "One of the two matrices"),
            ("adapter_parameters", lambda d, m, n: n * 2 * d * m, "one matrix"),
            ("adapter_parameters", lambda d, m, n: 10248, "not for others"),
            ("adapter_parameters", lambda d, m, n: d + m + n, "you got 111"),
            ("merged_ia3", lambda W, b, f: (f * W, f * b), "scales the columns"),
            ("merged_ia3", lambda W, b, f: (f[:, None] * W, b), "so the bias as well"),
            ("merged_ia3", lambda W, b, f: (f[:, None] * W, f + b), "the bias is not"),
            ("merged_ia3", lambda W, b, f: (W, f * b), "which part of W"),
            ("merged_ia3", lambda W, b, f: f[:, None] * W, "two tensors"),
            ("merged_ia3", lambda W, b, f: (W @ f, f * b), "you returned (4,) and (4,)"),
            ("rate_search", changed(SEARCH, rate=None), "missing from your dictionary: rate"),
            (
                "rate_search",
                changed(SEARCH, trials=tried({0.03: 0.7, 0.1: 0.9, 0.3: 0.4})),
                "0.03, 0.1, 0.3 don't span",
            ),
            ("rate_search", changed(SEARCH, trials=tried(CURVE, seeds=[0])), "only one seed"),
            ("rate_search", changed(SEARCH, trials=tried(CURVE, total=200)), "chosen on the test set"),
            (
                "rate_search",
                changed(SEARCH, trials=tried(CURVE) + tried({0.3: 0.5}, steps=60)),
                "differ in steps: 30, 60",
            ),
            ("rate_search", changed(SEARCH, trials=tried(CURVE | {1.0: 0.95}), rate=1.0), "at the end"),
            ("rate_search", changed(SEARCH, rate=0.01), "has a better mean"),
            ("rate_search", changed(SEARCH, test=other), "that run has another rate"),
            ("rate_search", changed(SEARCH, test=longer), "differ in steps: 30, 300"),
            ("rate_search", changed(SEARCH, test=0.9), "is a pair"),
        ]
    )


def test_an_answer_may_be_right_in_another_way(said):
    for name, answer in [
        ("adapter_parameters", lambda width, size, blocks: float(RIGHT["adapter_parameters"](width, size, blocks))),
        ("adapter_parameters", lambda *sizes: torch.tensor(RIGHT["adapter_parameters"](*sizes))),
        ("merged_ia3", lambda W, b, f: ((W.T * f).T, b * f)),
        ("merged_ia3", lambda W, b, f: (torch.diag(f) @ W, f * b)),
        ("merged_ia3", lambda W, b, f: (W.mul_(f.view(-1, 1)), b.mul_(f))),
        ("rate_search", changed(SEARCH, trials=tried({0.003: 0.4, 0.01: 0.6, 0.03: 0.7, 0.1: 0.9, 0.3: 0.5}))),
        ("rate_search", changed(SEARCH, test=(LAST[0].config, evaluation(0.1)))),
    ]:
        assert said(name, answer).startswith("✓")


def test_a_third_tensor_is_too_much(said):
    assert "two tensors" in said("merged_ia3", lambda W, b, f: (f[:, None] * W, f * b, f))


def test_a_pair_with_a_stub_in_it_is_not_attempted_yet(said):
    for stub in (None, ...):
        for answer in (lambda W, b, f, stub=stub: (stub, stub), lambda W, b, f, stub=stub: (f[:, None] * W, stub)):
            assert "not attempted yet" in said("merged_ia3", answer)
