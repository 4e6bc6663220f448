import warnings

import pytest

import labkit as lk
from labkit.tasks.labels import are_labels
from labkit.tasks.row import Row

TEXTS = [f"Is it {i}?" for i in range(60)]


def rows(*labels: str) -> list[dict]:
    """Return sixty examples of ``yes`` and ``no``, of which the first have other labels."""
    usual = [("yes", "no")[i % 2] for i in range(60)]
    return [{"text": text, "label": label} for text, label in zip(TEXTS, [*labels, *usual[len(labels) :]], strict=True)]


def loaded(data: list[dict], **options) -> lk.Task:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lk.load_task(data, **options)


def refused(data: list[dict], **options) -> lk.LabkitError:
    with pytest.raises(lk.LabkitError) as caught:
        loaded(data, **options)
    return caught.value


def test_few_completions_that_come_back_are_labels():
    def say(*completions: str, named=False) -> bool:
        return are_labels([Row("", completion, i) for i, completion in enumerate(completions)], named=named)

    numbers = [str(i) for i in range(60)]
    assert say(*"ab")
    assert say(*"abc" * 4)
    assert not say(*"abc" * 3)  # three in nine
    assert not say(*numbers * 8)
    assert say(*numbers * 8, named=True)
    assert not say(*numbers, named=True)
    assert say(*(f" {label}" for label in "abc"), *"abc" * 3)


def test_labels_that_look_the_same_are_faults_and_can_be_merged():
    same = ["yes ", "ye\u200bs", "\ufeffyes", "no\xa0", "caf\u0065\u0301"]
    data = rows(*same, *["caf\u00e9"] * 3)
    problem = refused(data)
    for i, label in enumerate(same, 1):
        assert f"row {i} (list[{i - 1}]): after its prompt, the label {f' {label}'!r} differs from" in problem.cause
    assert problem.remedy == "merge_labels=True writes such labels alike. skip_bad=True leaves such rows out."
    task = loaded(data, merge_labels=True)
    assert task.labels == (" caf\u00e9", " no", " yes")
    assert len(task.train) + len(task.test) == 60
    assert [note.split(":")[0] for note in task.notes[1:4]] == [
        "merged into the label 'caf\u00e9'",
        "merged into the label 'no'",
        "merged into the label 'yes'",
    ]
    task = loaded(data, skip_bad=True)
    assert (task.labels, task.left_out) == ((" caf\u00e9", " no", " yes"), {"can't be used": 5})


def test_labels_that_differ_by_case_are_reported_and_can_be_merged():
    data = rows("Yes", "YES", "Yes")
    task = loaded(data)
    assert task.labels == (" YES", " Yes", " no", " yes")
    said = "the labels 'yes' (28×) and 'Yes' (2×) and 'YES' (1×) differ only by upper and lower case and count as 3"
    assert any(note.startswith(said) for note in task.notes), task.notes
    task = loaded(data, merge_labels=True)
    assert task.labels == (" no", " yes")
    assert any("'yes': 3 written as 'Yes', 'YES'" in note for note in task.notes), task.notes
    task = loaded(data[3:], test_data=data[:3], merge_labels=True)
    assert (task.labels, set(task.test["completion"])) == ((" no", " yes"), {" yes"})


def test_a_space_at_the_end_of_some_prompts_makes_no_other_label():
    data = [
        {"prompt": f"{text}{' ' * (i % 2)}", "completion": ("yes", "no")[i % 3 % 2]} for i, text in enumerate(TEXTS)
    ]
    task = loaded(data)
    assert task.labels == (" no", " yes")
    assert not any(prompt.endswith(" ") for prompt in task.train["prompt"])


def test_merging_is_for_labels():
    data = [{"prompt": text, "completion": text[::-1]} for text in TEXTS]
    assert "the completions of your list are free text" in refused(data, merge_labels=True).cause


def test_numbers_written_as_texts_are_labels(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"{text},{i % 3}\n" for i, text in enumerate(TEXTS)))
    assert loaded(path).labels == (" 0", " 1", " 2")
