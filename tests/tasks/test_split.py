import random
import warnings
from collections import Counter
from itertools import pairwise

import pytest

import labkit as lk
from labkit.tasks.row import Row
from labkit.tasks.split import COPIES, NOT_DRAWN, split_own, take_given
from labkit.tasks.task import DataWarning


def row(prompt: str, completion: str, number: int = 0) -> Row:
    return Row(prompt, completion, number)


def words(dice: random.Random, count: int = 8) -> str:
    return " ".join("".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(count))


def labelled(sizes: dict[str, int]) -> list[Row]:
    dice = random.Random(0)
    return [row(words(dice), label) for label, count in sizes.items() for _ in range(count)]


def loaded(rows: list[Row], **counts) -> tuple[lk.Task, str]:
    """Return a task and all that was said about its data."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = lk.load_task([{"prompt": row.prompt, "completion": row.completion} for row in rows], **counts)
    assert all(issubclass(each.category, DataWarning) for each in caught)
    assert len(caught) <= 1
    return task, "".join(str(each.message) for each in caught)


def drawn(rows: list[Row], *arguments, **options) -> tuple[list[Row], list[Row]]:
    """Return both parts of a split that accounts for every row."""
    split = split_own(rows, *arguments, **options)
    assert len(split.train) + len(split.test) + sum(split.left_out.values()) == len(rows)
    assert not {r.prompt for r in split.train} & {r.prompt for r in split.test}
    return split.train, split.test


def test_free_text_is_split_at_random_by_seed():
    dice = random.Random(0)
    rows = [row(words(dice), words(dice, 1)) for _ in range(2000)]
    tests = {}
    for seed in (0, 1, 2):
        train, test = drawn(rows, 300, 200, seed, has_labels=False)
        assert (len(train), len(test)) == (300, 200)
        # The mean place of 200 of 2,000 rows is 1,000, give or take 40: neither the first nor the alphabet's.
        for order in (rows, sorted(rows, key=lambda r: r.completion)):
            place = {id(r): i for i, r in enumerate(order)}
            assert abs(sum(place[id(r)] for r in test) / 200 - 1000) < 160
        tests[seed] = {r.prompt for r in test}
    assert all(len(tests[a] & tests[b]) < 60 for a, b in pairwise(tests))  # 20 would be chance


def test_by_default_three_in_ten_test_at_most_300_and_the_rest_trains():
    for total, tested in ((2, 1), (10, 3), (200, 60), (1000, 300), (5000, 300)):
        train, test = drawn([row(f"{i} x", f"{i} y") for i in range(total)], None, None, 0, has_labels=False)
        assert (len(train), len(test)) == (total - tested, tested)


def test_each_label_has_its_share_of_both_sets():
    sizes = {"often": 600, "some": 300, "few": 90, "rare": 10}
    train, test = drawn(labelled(sizes), 500, 200, 0, has_labels=True)
    for part, size in ((train, 500), (test, 200)):
        counts = Counter(r.completion for r in part)
        assert all(abs(counts[label] - size * share / 1000) <= 1.5 for label, share in sizes.items())


def test_balanced_sets_hold_each_label_as_often_as_any_other():
    rows = labelled({"often": 600, "some": 300, "few": 20})
    train, test = drawn(rows, 60, 30, 0, has_labels=True, balanced=True)
    assert Counter(r.completion for r in test) == {"often": 10, "some": 10, "few": 10}
    assert Counter(r.completion for r in train) == {"often": 25, "some": 25, "few": 10}  # all that are left
    task, _ = loaded(rows, train=60, test=30, balanced=True)
    assert Counter(task.test["completion"]) == {" often": 10, " some": 10, " few": 10}
    with pytest.raises(lk.LabkitError, match="balanced=True is for labels"):
        loaded([row(f"{i} x", f"{i} y") for i in range(40)], balanced=True)


def test_of_more_labels_than_rows_a_random_part_is_drawn():
    rows = labelled({f"class{i:02d}": 30 for i in range(40)})
    tested = []
    for seed in range(10):
        train, test = drawn(rows, 30, 30, seed, has_labels=True)
        assert len({r.completion for r in train}) == len({r.completion for r in test}) == 30
        tested.append({r.completion for r in test})
    assert len(set.union(*tested)) == 40
    assert all(a != b for a, b in pairwise(tested))
    assert loaded(rows, train=30, test=30)[1].count("10 of 40 labels") == 2


def test_a_label_with_one_example_is_there_to_be_learnt():
    for seed in range(5):
        task, said = loaded(labelled({"yes": 40, "no": 39, "rare": 1, "lone": 1, "two": 2}), seed=seed)
        assert {" rare", " lone", " two"} <= set(task.train["completion"])
        assert not {" rare", " lone"} & set(task.test["completion"])
        assert "can't be tested: 'lone' (row 81 (list[80])), 'rare' (row 80 (list[79]))" in said


def test_more_training_data_leaves_the_test_set_alone():
    for rows, has_labels in ((labelled({"a": 50, "b": 20}), True), (labelled({f"{i} x": 1 for i in range(70)}), False)):
        few, many = (drawn(rows, count, 20, 3, has_labels=has_labels) for count in (10, 50))
        assert few[1] == many[1]
        assert many[0][:10] == few[0]


def test_a_given_split_is_used_as_given():
    train, test = ([row(f"{part} {i}", "yes") for i in range(50)] for part in ("train", "test"))
    split = take_given(train, test, None, None, 0)
    assert (split.train, split.test, sum(split.left_out.values())) == (train, test, 0)
    for seed in (0, 1):
        split = take_given(train, test, 20, 10, seed)
        assert (len(split.train), len(split.test), split.left_out[NOT_DRAWN]) == (20, 10, 70)
        assert set(split.train) < set(train)
        assert split.train != take_given(train, test, 20, 10, seed + 1).train
        assert split.test == take_given(train, test, 30, 10, seed).test
    split = take_given(train + test[:3], test, None, None, 0)
    assert (len(split.train), split.copied) == (53, 3)


def test_everyday_data_loads_whole_and_nothing_is_said_to_be_alike():
    dice = random.Random(0)
    long = (
        "Below is an instruction. Write a response that completes the request.\n### Instruction:\n{}\n### Response:\n"
    )
    longer = (
        "Below is an instruction with an input that says more.\n### Instruction:\n{}\n### Input:\nNone\n### Response:"
    )
    sums = random.Random(1).sample(range(1_000_000), 1000)
    kinds = {
        "instructions": lambda i: row((long if i % 3 else longer).format(words(dice)), words(dice)),
        "one-line instruction": lambda i: row(
            f"Classify this review as yes or no: {words(dice)}. Answer:", "yn"[i % 2]
        ),
        "arithmetic": lambda i: row(f"What is {sums[i] // 1000} + {sums[i] % 1000}?", str(i)),
        "tickets": lambda i: row(f"Hello, order {sums[i]} of {words(dice, 2)} is late. Please help.", "abc"[i % 3]),
        "Chinese": lambda i: row("".join(chr(dice.randrange(0x4E00, 0x9FA0)) for _ in range(12)), "是否"[i % 2]),
        "emoji": lambda i: row(f"{chr(0x1F600 + i % 50)}{chr(0x1F300 + i // 50)}", "好坏"[i % 2]),
    }
    for name, kind in kinds.items():
        task, said = loaded([kind(i) for i in range(1000)])
        assert (len(task.train), len(task.test)) == (700, 300), name
        assert said == "", name
        _, said = loaded([kind(i) for i in range(1000)], train=1000)
        asked = "asked for train=1,000, got 700 to train on and 300 to test: there are 1,000 examples"
        assert said == f"what became of it:\n  {asked}"


def test_copies_of_test_examples_are_left_out_and_counted():
    rows = labelled({"yes": 60, "no": 60})
    copies = [r._replace(prompt=f" {r.prompt.replace(' ', '  ')}") for r in rows] + rows
    for extra in (rows, copies):
        task, said = loaded(rows + extra, train=1000, test=40)
        asked = {" ".join(prompt.split()) for prompt in task.test["prompt"]}
        assert len(asked) == len(task.test) == 40
        assert not asked & {" ".join(prompt.split()) for prompt in task.train["prompt"]}
        left_out = 40 * len(extra) // 120
        assert len(task.train) == len(rows + extra) - 40 - left_out
        assert f"left out, since their prompt is that of a test example: {left_out}" in said
        assert task.left_out == {COPIES: left_out}


def test_several_answers_to_a_prompt_stay_on_one_side():
    dice = random.Random(0)
    rows = [row(prompt, words(dice)) for prompt in (words(dice) for _ in range(100)) for _ in range(2)]
    train, test = drawn(rows, 140, 60, 0, has_labels=False)
    assert (len(train), len(test)) == (140, 60)


def test_poems_on_a_few_subjects_can_be_split():
    dice = random.Random(0)
    rows = [row(f"A poem on {subject}:", words(dice)) for subject in ("love", "war") for _ in range(100)]
    task, said = loaded(rows, train=140, test=60)
    assert (len(task.train), len(task.test), said) == (140, 60, "")


def test_near_copies_are_reported_and_kept():
    rows = labelled({"yes": 100, "no": 100})
    near = [r._replace(prompt=r.prompt.replace("a", "A").rsplit(" ", 1)[0] + " changed") for r in rows[:50]]
    task, said = loaded(rows + near, train=150, test=100)
    assert (len(task.train), len(task.test)) == (150, 100)
    changed, asked = (
        {p.rsplit(" ", 1)[0].lower() for p in part["prompt"] if p.endswith("changed") == ends}
        for part, ends in ((task.train, True), (task.test, False))
    )
    whole, late = (
        {p.rsplit(" ", 1)[0].lower() for p in part["prompt"] if p.endswith("changed") == ends}
        for part, ends in ((task.train, False), (task.test, True))
    )
    count = len(changed & asked) + len(whole & late)
    assert count > 5
    assert f"near copies of a test example: {count}. They were kept" in said
    assert said.count("trains on") == said.count("and tests") == 3  # examples
    clean, said = loaded(rows + near, test=100, near_duplicates="drop")
    assert clean.test["prompt"][:] == task.test["prompt"][:]
    assert len(clean.train) == 150 - clean.left_out["near copy of a test example"] == 150 - count
    assert f"near copies of a test example: {count}. They were left out" in said
    with pytest.raises(lk.LabkitError, match="no value of near_duplicates called 'remove'"):
        loaded(rows, near_duplicates="remove")


def test_contradictions_are_reported():
    rows = labelled({"yes": 30, "no": 30})
    _, said = loaded([*rows, row(rows[0].prompt, "no")], train=40, test=15)
    assert f"prompts that come with several labels: 1, such as '{rows[0].prompt}' with 'no', 'yes'" in said


def test_what_cannot_fill_two_sets_is_refused():
    for rows in (labelled({"yes": 1}), [row("same", "yes")] * 20, [row("same", "yes"), row("same ", "no")] * 20):
        with pytest.raises(lk.LabkitError, match="too few, or too much alike"):
            loaded(rows)
