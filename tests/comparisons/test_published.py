"""PEFT's published runs, read from the course's copy."""

import pytest

import labkit as lk
from labkit.comparisons.published import published
from labkit.evaluation.proportions import difference_of_proportions


def test_the_counts_are_those_of_whole_questions():
    rows = published()
    assert len(rows) == 63
    assert set(rows["seed"]) == {0}
    assert list(rows["correct"] / rows["total"]) == pytest.approx(list(rows["test_accuracy"]), abs=1e-12)


def test_the_one_rule_takes_its_rows_and_says_that_they_are_not_paired():
    rows = published().set_index("experiment")
    stabilised, lora = (rows.loc[[f"lora/llama-3.2-3B-{name}"]] for name in ("rank64-rslora", "rank64"))
    found = lk.compare(stabilised, lora)
    _, p = difference_of_proportions(
        *(float(n) for row in (stabilised, lora) for n in (row["test_accuracy"].iloc[0], 1319))
    )
    assert not found.paired
    assert found.p == pytest.approx(p)
    assert found.difference == pytest.approx(52 / 1319)
