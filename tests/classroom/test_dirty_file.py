import json

import pytest

import labkit as lk
from labkit.classroom.dirty_file import write_dirty_file


@pytest.fixture(scope="module")
def task():
    return lk.load_task("triage", train=300, test=120)


def findings(part):
    texts = [prompt.removeprefix("Finding: ").removesuffix("\nDepartment:") for prompt in part["prompt"]]
    return dict(zip(texts, (label.strip() for label in part["completion"]), strict=True))


def test_every_fault_is_where_the_list_says_and_nowhere_else(task, tmp_path):
    planted = write_dirty_file(
        tmp_path / "findings.jsonl", task, noise=0.25, copies=60, leaked=20, personal=15, empty=4
    )
    rows = dict(enumerate(map(json.loads, planted.path.read_text(encoding="utf-8").splitlines()), 1))
    assert len(rows) == planted.lines == 300 + 60 + 20 + 4
    assert [len(found) for found in (planted.mislabelled, planted.copies, planted.leaked, planted.personal)] == [
        75 + sum(first in planted.mislabelled for first in planted.copies.values()), 60, 20, 15,
    ]  # fmt: skip
    train, test = findings(task.train), findings(task.test)

    def finding(text, known):
        return max((each for each in known if each in text), key=len, default=None)

    for number, row in rows.items():
        if number in planted.empty:
            assert row["text"] == ""
            continue
        right = test[finding(row["text"], test)] if number in planted.leaked else train[finding(row["text"], train)]
        assert planted.mislabelled.get(number, row["label"]) == right
        assert (number in planted.mislabelled) == (row["label"] != right)
        assert ("@example.org" in row["text"]) == (number in planted.personal)
    for copy, first in planted.copies.items():
        assert finding(rows[copy]["text"], train) == finding(rows[first]["text"], train)
        assert rows[copy]["label"] == rows[first]["label"]


def test_the_same_arguments_give_the_same_file_and_no_other_file_is_replaced(task, tmp_path):
    first = write_dirty_file(tmp_path / "findings.jsonl", task)
    again = write_dirty_file(tmp_path / "findings.jsonl", task)
    assert first == again
    with pytest.raises(lk.LabkitError, match="another file"):
        write_dirty_file(tmp_path / "findings.jsonl", task, seed=1)
    with pytest.raises(lk.LabkitError, match="another file"):
        write_dirty_file(tmp_path, task)
    other = write_dirty_file(tmp_path / "other.jsonl", task, seed=1)
    assert other.path.read_bytes() != first.path.read_bytes()


@pytest.mark.parametrize(
    "setting", [{"noise": 1.0}, {"noise": -0.1}, {"leaked": 121}, {"copies": -1}, {"empty": 301}, {"seed": -1}]
)
def test_impossible_settings_are_refused(task, tmp_path, setting):
    with pytest.raises(lk.LabkitError):
        write_dirty_file(tmp_path / "findings.jsonl", task, **setting)
    assert not any(tmp_path.iterdir())
