RIGHT = {
    "peak_of": lambda start, changes: max(start + sum(changes[:n]) for n in range(len(changes) + 1)),
    "extrapolate": lambda two, three, blocks: two + (blocks - 2) * (three - two),
}


def test_the_checks_are_fair(require_fair):
    require_fair(RIGHT)


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("peak_of", lambda start, changes: RIGHT["peak_of"](0, changes), "before the step is missing"),
            ("peak_of", lambda start, changes: start + sum(changes), "When was the most in use"),
            ("peak_of", lambda start, changes: start + sum(c for c in changes if c > 0), "freed before the next"),
            ("peak_of", lambda start, changes: start + max(changes), "largest allocation"),
            (
                "peak_of",
                lambda start, changes: max(start + sum(changes[: n + 1]) for n in range(len(changes))),
                "`start` bytes",
            ),
            ("peak_of", lambda start, changes: changes, "one number of bytes"),
            ("extrapolate", lambda two, three, n: n * (three - two), "own 10 GB are missing"),
            ("extrapolate", lambda two, three, n: three * n / 3, "80 / 3 times"),
            ("extrapolate", lambda two, three, n: two + n * (three - two), "in the 10 already"),
            ("extrapolate", lambda two, three, n: two + (n - 3) * (three - two), "78 further blocks"),
            ("extrapolate", lambda two, three, n: 244, "not for other numbers"),
        ]
    )
