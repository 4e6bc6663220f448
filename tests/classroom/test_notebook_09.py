from dataclasses import replace

import pytest
from handed_in import changed, solutions, trials

import labkit as lk

RIGHT = solutions("09")


def words(text):
    return text.lower().split()


def gain(cleaned, dirty, verdict, **settings):
    return {"cleaned": trials(cleaned), "dirty": trials(dirty, **settings), "verdict": verdict}


@pytest.fixture(scope="module")
def report():
    """Of 40 rows, each twice: the second twenty are copies of the first."""
    rows = [
        {"text": f"{'red warm' if i % 2 else 'blue cold'} thing number {i} here", "label": "ab"[i % 2]}
        for i in range(20)
    ]
    return lk.inspect(rows * 2)


@pytest.fixture(scope="module")
def own(report):
    found = {row for rows in report.reasons().values() for row in rows}
    assert len(found) == 20
    return {"report": report, "looked": {row: row % 3 > 0 for row in sorted(found)[:12]}}


def test_the_checks_are_fair(require_fair, own):
    require_fair({**RIGHT, "cleaning_gain": gain(0.9, 0.5, "better"), "own_report": own})


def test_typical_mistakes_are_explained(require_explained, own, report):
    looked = own["looked"]
    require_explained(
        [
            ("jaccard", lambda a, b: len({*a.split()} & {*b.split()}) / len({*a.split()} | {*b.split()}), "lower case"),
            ("jaccard", lambda a, b: len({*words(a)} & {*words(b)}), "how many words they share"),
            ("jaccard", lambda a, b: len({*words(a)} & {*words(b)}) / len({*words(b)}), "words of one text"),
            ("jaccard", lambda a, b: 3 / len(words(a) + words(b)), "sets do that"),
            ("jaccard", lambda a, b: 3 / (len({*words(a)}) + len({*words(b)})), "shared words twice"),
            ("jaccard", lambda a, b: 1 - 3 / 5, "not in common"),
            ("jaccard", lambda a, b: "3/5", "yours is a str"),
            ("cleaning_gain", {"cleaned": trials(), "dirty": trials()}, "missing from your dictionary: verdict"),
            ("cleaning_gain", gain(0.9, 0.5, "better", seeds=(0,)), "only one seed"),
            ("cleaning_gain", gain(0.9, 0.5, "better", seeds=(0, 1, 3)), "different seeds"),
            ("cleaning_gain", gain(0.9, 0.5, "better", steps=60), "differ in steps"),
            ("cleaning_gain", gain(0.8, 0.8, "undecided"), "very same answers"),
            ("cleaning_gain", gain(0.9, 0.5, "worse"), "other way round"),
            ("cleaning_gain", gain(0.9, 0.5, "undecided"), "do decide"),
            ("own_report", changed(own, looked=None), "missing from your dictionary: looked"),
            ("own_report", changed(own, report=report.rows), "not a list"),
            ("own_report", changed(own, report=replace(report, name="findings.jsonl")), "comes with the course"),
            ("own_report", changed(own, report=replace(report, rows=report.rows[:10])), "at a glance"),
            ("own_report", changed(own, looked=[1, 2]), "such as {17: True}"),
            ("own_report", changed(own, looked={**looked, 0: True}), "Row 0 is not among"),
            ("own_report", changed(own, looked=dict.fromkeys(looked, 0.5)), "nothing between"),
            ("own_report", changed(own, looked=dict(list(looked.items())[:9])), "looked at 9 rows of 20. Look at 10"),
        ]
    )


def test_other_wrong_answers_do_not_pass(said):
    for answer in (lambda a, b: 0.6, lambda a, b: float(words(a) == words(b))):
        assert said("jaccard", answer).startswith("✗")


def test_an_answer_may_be_right_in_another_way(said, own, report):
    for name, answer in [
        ("jaccard", lambda a, b: (n := len({*words(a)} & {*words(b)})) / (len({*words(a)}) + len({*words(b)}) - n)),
        ("cleaning_gain", gain(0.5, 0.9, "worse")),
        ("cleaning_gain", gain(0.82, 0.8, "undecided")),
        ("own_report", {"report": replace(report, duplicates=replace(report.duplicates, exact={})), "looked": {}}),
    ]:
        assert said(name, answer).startswith("✓")


def test_the_share_that_is_real_comes_with_its_interval(said, own):
    text = said("own_report", own)
    real = sum(own["looked"].values())
    low, high = lk.evaluation.wilson(real, 12)
    assert f"{real} of 12 are real" in text
    assert f"{100 * low:.0f}% to {100 * high:.0f}% of all 20 are" in text
