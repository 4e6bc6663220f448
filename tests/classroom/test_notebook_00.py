from dataclasses import replace
from pathlib import Path

from datasets import Dataset
from handed_in import changed, evaluation, solutions

from labkit.tasks.task import Task

FORMS = {"taught": evaluation(0.9), "other": evaluation(0.5, seed=1), "verdict": "better"}
TIE = {"taught": evaluation(0.8, seed=1), "other": evaluation(0.8, seed=2), "verdict": "undecided"}


def rows(labels, ending="\nShop:"):
    return Dataset.from_list(
        [{"prompt": f"Message: number {i}{ending}", "completion": x} for i, x in enumerate(labels)]
    )


OWN = Task("mine.csv", rows([" a", " b"] * 15), rows([" a", " b"] * 8), (" a", " b"), "mine.csv")


def test_the_checks_are_fair(require_fair):
    require_fair({**solutions("00"), "other_form": FORMS})


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("examples_seen", 30, "number of steps"),
            ("examples_seen", 16, "one batch"),
            ("examples_seen", 1000, "training set"),
            ("triage_prompt", "Finding: A clouding of the lens.\nDepartment: ", "white space"),
            ("triage_prompt", "A clouding of the lens.\nDepartment:", "'Finding: '"),
            ("triage_prompt", "Finding: A clouding of the lens.\ndepartment:", "capital D"),
            ("other_form", changed(FORMS, verdict=None), "still missing from your dictionary: verdict"),
            ("other_form", changed(FORMS, taught=0.9), "not a float"),
            ("other_form", changed(FORMS, other=evaluation(0.5, 100)), "100 and 200 cases"),
            ("other_form", changed(FORMS, other=FORMS["taught"]), "Did the prompts change"),
            ("other_form", changed(FORMS, verdict="yes"), "one of these words"),
            ("other_form", changed(FORMS, verdict="worse"), "the other way round"),
            ("other_form", changed(FORMS, verdict="undecided"), "one side of 0"),
            ("other_form", changed(TIE, verdict="better"), "may be chance"),
            ("own_data", "mine.csv", "place of a file"),
            ("own_data", [{"prompt": "a", "completion": "b"}], "not a list"),
            ("own_data", replace(OWN, name="inbox.csv"), "comes with the course"),
            ("own_data", replace(OWN, test=rows([" a", " b"])), "by 50 points"),
            ("own_data", replace(OWN, left_out={"no text": 20}), "more than a fifth"),
            ("own_data", replace(OWN, train=rows([" a", " b"] * 15, ending="")), "no ending in common"),
            ("own_data", replace(OWN, labels=(" a", " b", " c")), "No test example is of c"),
            ("own_data", replace(OWN, test=rows([" a"] * 15 + [" b"])), "15 of 16 test examples are 'a'"),
        ]
    )


def test_an_answer_may_be_right_in_another_way(said):
    for name, answer in [
        ("triage_prompt", f"Finding: {'A swelling of the big toe, red and painful.'}\nDepartment:"),
        ("other_form", TIE),
        ("other_form", {"taught": FORMS["other"], "other": FORMS["taught"], "verdict": "worse"}),
        ("own_data", OWN),
        ("own_data", replace(OWN, labels=())),
        ("own_data", replace(OWN, train=rows([" a", " b"] * 15, ending=" →"), test=rows([" a", " b"] * 8, " →"))),
    ]:
        assert said(name, answer).startswith("✓")


def test_the_path_of_a_file_is_not_read(said):
    assert "place of a file" in said("own_data", Path("mine.csv"))
