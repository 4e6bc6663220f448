import random
import warnings
from collections import Counter
from itertools import pairwise

import pytest
from datasets import Dataset

import labkit as lk
from labkit.tasks.split import split_own
from labkit.tasks.task import DataWarning


def row(prompt: str, completion: str) -> dict:
    return {"prompt": prompt, "completion": completion, "label": completion}


def words(dice: random.Random, count: int = 8) -> str:
    return " ".join("".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(count))


def labelled(sizes: dict[str, int]) -> list[dict]:
    dice = random.Random(0)
    return [row(words(dice), label) for label, count in sizes.items() for _ in range(count)]


def loaded(rows: list[dict], **counts) -> tuple[lk.Task, str]:
    """Return a task and all that was said about its data."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = lk.load_task(Dataset.from_list(rows), **counts)
    assert all(issubclass(each.category, DataWarning) for each in caught)
    assert len(caught) <= 1
    return task, "".join(str(each.message) for each in caught)


def test_free_text_is_split_at_random_by_seed():
    dice = random.Random(0)
    rows = [row(words(dice), words(dice, 1)) for _ in range(2000)]
    tests = {}
    for seed in (0, 1, 2):
        train, test, notes = split_own(rows, 300, 200, seed, has_labels=False)
        assert (len(train), len(test), notes) == (300, 200, [])
        assert not {r["prompt"] for r in train} & {r["prompt"] for r in test}
        # The mean place of 200 of 2,000 rows is 1,000, give or take 40: neither the first nor the alphabet's.
        for order in (rows, sorted(rows, key=lambda r: r["completion"])):
            place = {id(r): i for i, r in enumerate(order)}
            assert abs(sum(place[id(r)] for r in test) / 200 - 1000) < 160
        tests[seed] = {r["prompt"] for r in test}
    assert all(len(tests[a] & tests[b]) < 60 for a, b in pairwise(tests))  # 20 would be chance


def test_each_label_has_its_share_of_both_sets():
    sizes = {"often": 600, "some": 300, "few": 90, "rare": 10}
    train, test, notes = split_own(labelled(sizes), 500, 200, 0, has_labels=True)
    assert notes == []
    for part, size in ((train, 500), (test, 200)):
        counts = Counter(r["label"] for r in part)
        assert all(abs(counts[label] - size * share / 1000) <= 1.5 for label, share in sizes.items())


def test_of_more_labels_than_rows_a_random_part_is_drawn():
    rows = labelled({f"class{i:02d}": 30 for i in range(40)})
    drawn = []
    for seed in range(10):
        train, test, notes = split_own(rows, 30, 30, seed, has_labels=True)
        assert len({r["label"] for r in train}) == len({r["label"] for r in test}) == 30
        assert sum("10 of 40 labels" in note for note in notes) == 2
        drawn.append({r["label"] for r in test})
    assert len(set.union(*drawn)) == 40
    assert all(a != b for a, b in pairwise(drawn))


def test_a_label_with_one_example_is_there_to_be_learnt():
    for seed in range(5):
        task, said = loaded(labelled({"yes": 40, "no": 39, "rare": 1, "lone": 1, "two": 2}), seed=seed)
        assert {" rare", " lone", " two"} <= set(task.train["completion"])
        assert not {" rare", " lone"} & set(task.test["completion"])
        assert "a single example, which goes to training and can't be tested: 'lone', 'rare'" in said


def test_more_training_data_leaves_the_test_set_alone():
    for rows, has_labels in ((labelled({"a": 50, "b": 20}), True), (labelled({f"{i} x": 1 for i in range(70)}), False)):
        few, many = (split_own(rows, count, 20, 3, has_labels=has_labels) for count in (10, 50))
        assert few[1] == many[1]
        assert many[0][:10] == few[0]


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
        assert said == "your dataset:\n  asked for train=1,000 and test=300, got 700 and 300: there are 1,000 examples"
        assert loaded([kind(i) for i in range(1000)], train=600)[1] == "", name


def test_copies_of_test_examples_are_left_out_and_counted():
    rows = labelled({"yes": 60, "no": 60})
    copies = [{**r, "prompt": f" {r['prompt'].replace(' ', '  ')}"} for r in rows] + rows
    for extra in (rows, copies):
        task, said = loaded(rows + extra, train=1000, test=40)
        asked = {" ".join(prompt.split()) for prompt in task.test["prompt"]}
        assert len(asked) == len(task.test) == 40
        assert not asked & {" ".join(prompt.split()) for prompt in task.train["prompt"]}
        left_out = 40 * len(extra) // 120
        assert len(task.train) == len(rows + extra) - 40 - left_out
        assert f"left out, since their prompt is that of a test example: {left_out}" in said


def test_several_answers_to_a_prompt_stay_on_one_side():
    dice = random.Random(0)
    rows = [row(prompt, words(dice)) for prompt in (words(dice) for _ in range(100)) for _ in range(2)]
    train, test, notes = split_own(rows, 140, 60, 0, has_labels=False)
    assert (len(train), len(test), notes) == (140, 60, [])
    assert not {r["prompt"] for r in train} & {r["prompt"] for r in test}


def test_poems_on_a_few_subjects_can_be_split():
    dice = random.Random(0)
    rows = [row(f"A poem on {subject}:", words(dice)) for subject in ("love", "war") for _ in range(100)]
    task, said = loaded(rows, train=140, test=60)
    assert (len(task.train), len(task.test), said) == (140, 60, "")


def test_near_copies_are_reported_and_kept():
    rows = labelled({"yes": 100, "no": 100})
    near = [{**r, "prompt": r["prompt"].replace("a", "A").rsplit(" ", 1)[0] + " changed"} for r in rows[:50]]
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


def test_contradictions_are_reported():
    rows = labelled({"yes": 30, "no": 30})
    _, said = loaded([*rows, row(rows[0]["prompt"], "no")], train=40, test=15)
    assert f"prompts that come with several labels: 1, such as '{rows[0]['prompt']}' with 'no', 'yes'" in said


def test_what_cannot_fill_two_sets_is_refused():
    for rows in (labelled({"yes": 1}), [row("same", "yes")] * 20, [row("same", "yes"), row("same ", "no")] * 20):
        with pytest.raises(lk.LabkitError, match="too few, or too much alike"):
            lk.load_task(Dataset.from_list(rows))
