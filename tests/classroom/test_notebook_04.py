RIGHT = {
    "relative_difference": lambda a, b: (a - b).norm() / b.norm(),
    "qlora_bytes": lambda frozen, adapter: 4.127 / 8 * frozen + 16 * adapter,
}


def test_the_checks_are_fair(require_fair):
    require_fair(RIGHT)


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("relative_difference", lambda a, b: (a - b).norm(), "Compare it"),
            ("relative_difference", lambda a, b: (a - b).norm() / a.norm(), "reference is b"),
            ("relative_difference", lambda a, b: a.norm() / b.norm(), "different direction"),
            ("relative_difference", lambda a, b: a.norm() / b.norm() - 1, "point in different directions"),
            ("qlora_bytes", lambda n, m: 4.127 * n + 16 * m, "should be in bytes"),
            ("qlora_bytes", lambda n, m: 4.127 / 8 * n, "adapter is trained"),
            ("qlora_bytes", lambda n, m: 4.127 / 8 * n + 4 * m, "Its gradients"),
            ("qlora_bytes", lambda n, m: 16 * (n + m), "full fine-tuning"),
        ]
    )
