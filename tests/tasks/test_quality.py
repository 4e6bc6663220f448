"""Training data of another quality: what changes, what stays, and what is refused."""

from collections import Counter

import pytest
from datasets import Dataset

import labkit as lk
from labkit.tasks.quality import altered, draw, mixed, narrow, with_duplicates, with_noise
from labkit.training.schedule import plan_batches

LABELS = (" a", " b", " c")
TEXT = "{0}x {0}y {0}z n{1}"  # three words of the subject and one of its own
SIZES = {" a": 60, " b": 30, " c": 10}


@pytest.fixture(scope="module")
def task():
    """A task of three unequal labels; texts of a label have one of five subjects, with words of its own."""
    rows = [
        {"id": f"{label}{i}", "prompt": TEXT.format("pqrst"[i % 5], chr(97 + i // 5)), "completion": label}
        for label, size in SIZES.items()
        for i in range(size)
    ]
    return lk.Task("letters", Dataset.from_list(rows), Dataset.from_list(rows[:3]), LABELS, "made here")


def ids(task):
    return task.train["id"][:]


def counts(task):
    return Counter(task.train["completion"])


def test_a_draw_holds_each_label_in_its_share_and_begins_a_larger_one(task):
    small, large = draw(task, 20, seed=3), draw(task, 50, seed=3)
    assert counts(small) == {" a": 12, " b": 6, " c": 2}
    assert ids(large)[:20] == ids(small)
    assert len({*ids(large)}) == 50
    assert ids(draw(task, 20, seed=3)) == ids(small)
    assert {*ids(draw(task, 20, seed=4))} != {*ids(small)}
    assert sorted(ids(draw(task, 100))) == sorted(ids(task))


def test_a_balanced_draw_is_even_while_there_are_examples(task):
    assert counts(draw(task, 30, balanced=True)) == dict.fromkeys(LABELS, 10)
    assert counts(draw(task, 50, balanced=True)) == {" a": 20, " b": 20, " c": 10}


def test_a_narrow_choice_has_the_counts_of_a_draw_and_one_subject_of_each_label(task):
    chosen = narrow(task, 20, seed=1)
    assert counts(chosen) == counts(draw(task, 20, seed=1))
    subjects = {(row["completion"], row["prompt"].split()[0]) for row in chosen.train}
    assert len(subjects) == 3  # 12 of label a, whose subjects have 12 examples each
    assert len({(row["completion"], row["prompt"].split()[0]) for row in draw(task, 20, seed=1).train}) > 6
    assert len({*ids(chosen)}) == 20


@pytest.mark.parametrize(("copies", "distinct", "most"), [(1, 100, 1), (2, 50, 2), (3, 33, 4), (100, 1, 100)])
def test_copies_keep_the_number_of_rows(task, copies, distinct, most):
    repeated = Counter(ids(with_duplicates(task, copies)))
    assert repeated.total() == 100
    assert list(repeated) == ids(task)[:distinct]
    assert max(repeated.values()) == most
    assert min(repeated.values()) == copies


@pytest.mark.parametrize("share", [0, 0.1, 0.25, 1])
def test_noise_makes_exactly_its_share_wrong_and_says_which(task, share):
    noisy = with_noise(task, share, seed=2)
    wrong = [new != old for new, old in zip(noisy.train["completion"], task.train["completion"], strict=True)]
    assert sum(wrong) == round(share * 100)
    assert noisy.train["wrong"][:] == wrong
    assert {*noisy.train["completion"]} <= {*LABELS}
    assert (ids(noisy), noisy.train["prompt"][:]) == (ids(task), task.train["prompt"][:])
    assert noisy.test is task.test


def test_wrong_labels_are_drawn_evenly_from_the_others():
    rows = [{"prompt": str(i), "completion": " a"} for i in range(3000)]
    task = lk.Task("a", Dataset.from_list(rows), Dataset.from_list(rows[:1]), (" a", " b", " c", " d"), "made here")
    found = counts(with_noise(task, 1.0, seed=0))
    assert found.keys() == {" b", " c", " d"}
    assert all(count == pytest.approx(1000, abs=4 * 26) for count in found.values())  # four standard deviations


def test_training_meets_wrong_labels_all_along_and_not_first():
    rows = [{"prompt": str(i), "completion": f" {'abcd'[i % 4]}"} for i in range(2000)]
    task = lk.Task("a", Dataset.from_list(rows), Dataset.from_list(rows[:1]), (" a", " b", " c", " d"), "made here")
    for seed in range(5):  # the same seed draws the noise and the batches
        wrong = with_noise(task, 0.5, seed=seed).train["wrong"]
        order = [i for batch in plan_batches([1] * 2000, 8, 250, seed) for i in batch]
        assert sum(wrong[i] for i in order[:1000]) == pytest.approx(500, abs=4 * 12)  # four standard deviations


def test_more_noise_adds_to_less(task):
    some, more = (with_noise(task, share, seed=5).train for share in (0.2, 0.4))
    kept = [(a, b) for a, b, wrong in zip(some["completion"], more["completion"], some["wrong"], strict=True) if wrong]
    assert len(kept) == 20
    assert all(one == other for one, other in kept)


def test_formats_share_the_prompts_evenly_and_the_test_set_stays(task):
    formats = ["{prompt}", "Q {prompt} {x}?", "Reply to {prompt}"]
    changed = mixed(task, formats, seed=1)
    told = Counter()
    for new, old in zip(changed.train["prompt"], task.train["prompt"], strict=True):
        (number,) = [i for i, text in enumerate(formats) if text.replace("{prompt}", old) == new]
        told[number] += 1
    assert sorted(told.values()) == [33, 33, 34]
    assert changed.test is task.test
    assert mixed(task, ["{prompt}"]).train["prompt"][:] == task.train["prompt"][:]


def test_all_at_once_is_one_after_the_other(task):
    formats = ["{prompt}", "Q {prompt}"]
    expected = mixed(with_noise(with_duplicates(draw(task, 40, seed=7), 4), 0.3, seed=7), formats, seed=7)
    found = altered(task, amount=40, copies=4, noise=0.3, formats=formats, seed=7)
    assert found.train.to_list() == expected.train.to_list()
    assert ids(altered(task, amount=20, coverage="narrow", seed=1)) == ids(narrow(task, 20, seed=1))
    assert ids(altered(task, amount=30, balanced=True, seed=1)) == ids(draw(task, 30, balanced=True, seed=1))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda task: draw(task, 101), "amount must be a whole number from 1 to 100, not 101."),
        (lambda task: narrow(task, 0), "amount must be a whole number from 1 to 100, not 0."),
        (lambda task: draw(task, 5, seed=-1), "seed must be"),
        (lambda task: with_duplicates(task, 101), "copies must be a whole number from 1 to 100, not 101."),
        (lambda task: with_noise(task, 1.5), "share is 1.5, more than all examples."),
        (lambda task: with_noise(task, float("nan")), "share must be"),
        (lambda task: mixed(task, []), "There are no templates."),
        (lambda task: mixed(task, "{prompt}"), "There are no templates."),
        (lambda task: mixed(task, ["Question:"]), "'Question:' has no place for the prompt."),
        (lambda task: altered(task, amount=5, coverage="small"), "There is no coverage called 'small'."),
        (lambda task: altered(task, amount=5, coverage="narrow", balanced=True), "A narrow choice is not balanced."),
    ],
)
def test_what_makes_no_sense_is_refused(task, change, cause):
    with pytest.raises(lk.LabkitError) as caught:
        change(task)
    assert caught.value.cause.startswith(cause)


def test_a_task_without_labels_can_be_drawn_from_but_not_be_wrong(task):
    texts = lk.Task("texts", task.train, task.test, (), "made here")
    assert len(draw(texts, 7).train) == len(narrow(texts, 7).train) == 7
    with pytest.raises(lk.LabkitError, match="texts has 0 labels: none can be wrong"):
        with_noise(texts, 0.1)
