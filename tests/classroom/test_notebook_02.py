RIGHT = {
    "lora_parameters": lambda inputs, outputs, rank: rank * (inputs + outputs),
    "merged_weight": lambda W, A, B, alpha: W + alpha / len(A) * B @ A,
}


def test_the_checks_are_fair(require_fair):
    require_fair(RIGHT)


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
        ]
    )
