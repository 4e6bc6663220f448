RIGHT = {
    "examples_seen": 480,
    "triage_prompt": "Finding: A clouding of the lens of the eye.\nDepartment:",
}


def test_the_checks_are_fair(require_fair):
    require_fair(RIGHT)


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("examples_seen", 30, "number of steps"),
            ("examples_seen", 16, "one batch"),
            ("examples_seen", 1000, "training set"),
            ("triage_prompt", "Finding: A clouding of the lens.\nDepartment: ", "white space"),
            ("triage_prompt", "A clouding of the lens.\nDepartment:", "'Finding: '"),
            ("triage_prompt", "Finding: A clouding of the lens.\ndepartment:", "capital D"),
        ]
    )
