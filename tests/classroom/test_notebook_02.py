from handed_in import changed, solutions, trials

import labkit as lk

ONE, MANY = lk.LoRA(rank=1), lk.LoRA(rank=16)
RANKS = {"small": trials(0.6, ONE), "large": trials(0.9, MANY), "verdict": "worse"}


def test_the_checks_are_fair(require_fair):
    require_fair({**solutions("02"), "rank_experiment": RANKS})


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("lora_parameters", lambda i, o, r: r * i * o, "full size"),
            ("lora_parameters", lambda i, o, r: r * i, "A alone"),
            ("lora_parameters", lambda i, o, r: r * o, "B alone"),
            ("lora_parameters", lambda i, o, r: i + o, "grow with the rank"),
            ("merged_weight", lambda W, A, B, alpha: W + B @ A, "scale is missing"),
            ("merged_weight", lambda W, A, B, alpha: W + alpha * B @ A, "not alpha alone"),
            ("merged_weight", lambda W, A, B, alpha: alpha / 2 * B @ A, "Add it to W"),
            ("merged_weight", lambda W, A, B, alpha: W.add_(alpha / 2 * B @ A), "in place"),
            ("merged_weight", lambda W, A, B, alpha: A @ A.T, "order of B and A"),
            ("rank_experiment", changed(RANKS, small=trials(0.6)), "hand in the runs themselves"),
            ("rank_experiment", changed(RANKS, small=trials(0.6, ONE, [0]) + trials(0.6, MANY, [1])), "several ranks"),
            ("rank_experiment", changed(RANKS, small=trials(0.6, lk.LoRA(rank=4))), "Rank 4 against 16"),
            ("rank_experiment", changed(RANKS, small=RANKS["large"], large=RANKS["small"]), "Rank 16 against 1"),
            ("rank_experiment", changed(RANKS, small=trials(0.6, ONE, [0])), "only one seed"),
            ("rank_experiment", changed(RANKS, small=trials(0.6, ONE, steps=60)), "differ in steps: 30, 60"),
            ("rank_experiment", changed(RANKS, small=trials(0.6, ONE, learning_rate=1e-2)), "differ in learning_rate"),
            ("rank_experiment", changed(RANKS, small=trials(0.6, ONE, total=100)), "100 and 200 cases"),
            ("rank_experiment", changed(RANKS, verdict="undecided"), "one side of 0"),
            ("rank_experiment", changed(RANKS, verdict="better"), "the other way round"),
            ("rank_experiment", changed(RANKS, small=trials(0.9, ONE)), "may be chance"),
        ]
    )


def test_an_answer_may_be_right_in_another_way(said):
    for name, answer in [
        ("lora_parameters", lambda inputs, outputs, rank: inputs * rank + rank * outputs),
        ("merged_weight", lambda W, A, B, alpha: W + (B * (alpha / B.shape[1])).matmul(A)),
        ("rank_experiment", changed(RANKS, small=trials(0.9, ONE), verdict="undecided")),
        ("rank_experiment", changed(RANKS, small=tuple(map(list, RANKS["small"])))),
    ]:
        assert said(name, answer).startswith("✓")
