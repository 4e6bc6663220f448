import torch

RIGHT = {
    "adapter_parameters": lambda width, size, blocks: blocks * 2 * (width * size + size + size * width + width),
    "merged_ia3": lambda W, b, f: (torch.diag(f) @ W, f * b),
}


def test_the_checks_are_fair(require_fair):
    require_fair(RIGHT)


def test_typical_mistakes_are_explained(require_explained):
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
            ("merged_ia3", lambda W, b, f: (f[:, None] * W, f * b, f), "two tensors"),
            ("merged_ia3", lambda W, b, f: (W @ f, f * b), "you returned (4,) and (4,)"),
        ]
    )


def test_an_answer_may_be_right_in_another_way(said):
    for name, answer in [
        ("adapter_parameters", lambda width, size, blocks: float(RIGHT["adapter_parameters"](width, size, blocks))),
        ("adapter_parameters", lambda *sizes: torch.tensor(RIGHT["adapter_parameters"](*sizes))),
        ("merged_ia3", lambda W, b, f: ((W.T * f).T, b * f)),
        ("merged_ia3", lambda W, b, f: (W.mul_(f.view(-1, 1)), b.mul_(f))),
    ]:
        assert said(name, answer).startswith("✓")


def test_a_pair_with_a_stub_in_it_is_not_attempted_yet(said):
    for stub in (None, ...):
        for answer in (lambda W, b, f, stub=stub: (stub, stub), lambda W, b, f, stub=stub: (f[:, None] * W, stub)):
            assert "not attempted yet" in said("merged_ia3", answer)
