RIGHT = {
    "completion_targets": lambda prompt, completion: [-100] * len(prompt) + completion,
    "adamw_bytes": lambda parameters: 16 * parameters,
}


def test_the_checks_are_fair(require_fair):
    require_fair(RIGHT)


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("completion_targets", lambda p, c: p + c, "write the prompts"),
            ("completion_targets", lambda p, c: [-100] * (len(p) - 1) + c + [-100], "No shift"),
            ("completion_targets", lambda p, c: [-100] * 3 + c, "lengths"),
            ("completion_targets", lambda p, c: c, "5 targets"),
            ("adamw_bytes", lambda n: 4 * n, "weights alone"),
            ("adamw_bytes", lambda n: 12 * n, "two numbers"),
            ("adamw_bytes", lambda n: 16, "Multiply"),
        ]
    )
