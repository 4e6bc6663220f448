from collections import Counter

import pytest
from datasets import Dataset

import labkit as lk
from labkit.comparisons.held_out import hold_out


@pytest.mark.parametrize("count", [1, 5, 7, 12, 23])
def test_training_examples_are_held_out_and_no_others(count, colours):
    searched = hold_out(colours, count)
    assert (len(searched.train), len(searched.test)) == (24 - count, count)
    learned, tested, all_of_them = searched.train.to_list(), searched.test.to_list(), colours.train.to_list()
    assert sorted(learned + tested, key=str) == sorted(all_of_them, key=str)
    for rows in (learned, tested):
        assert rows == [row for row in all_of_them if row in rows]  # in their old order
    assert searched.labels == colours.labels


@pytest.mark.parametrize("order", ["sorted", "in turn", "rare last"])
def test_each_class_has_its_share_of_what_is_held_out(order):
    classes = {
        "sorted": ["a"] * 40 + ["b"] * 24 + ["c"] * 8,
        "in turn": ["a", "b"] * 24 + ["c", "a"] * 8 + ["a"] * 8,
        "rare last": ["a", "b"] * 24 + ["a"] * 16 + ["c"] * 8,
    }[order]
    rows = [{"prompt": f"{i}", "completion": f" {answer}"} for i, answer in enumerate(classes)]
    task = lk.Task("abc", Dataset.from_list(rows), Dataset.from_list(rows[:1]), (" a", " b", " c"), "made here")
    searched = hold_out(task, 18)
    assert Counter(searched.test["completion"]) == {" a": 10, " b": 6, " c": 2}
    assert Counter(searched.train["completion"]) == {" a": 30, " b": 18, " c": 6}
