"""One and the same task comes of the same examples, however they are passed."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

import labkit as lk

LABELS = ["no", "yes"]
ROWS = [{"text": f"Is {i} even?", "label": LABELS[1 - i % 2]} for i in range(40)]
TRAIN, TEST = ROWS[:28], ROWS[28:]


def loaded(data: object, **options) -> lk.Task:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lk.load_task(data, **options)


def shown(task: lk.Task) -> tuple:
    return task.train.to_list(), task.test.to_list(), task.labels, task.left_out


def refused(data: object, **options) -> str:
    with pytest.raises(lk.LabkitError) as caught:
        loaded(data, **options)
    return str(caught.value)


def frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows)


def with_class_names(rows: list[dict]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=LABELS)})
    return Dataset.from_list([{**row, "label": LABELS.index(row["label"])} for row in rows], features=features)


def written(folder: Path, name: str, rows: list[dict]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = frame(rows)
    {
        ".csv": lambda: table.to_csv(path, index=False),
        ".tsv": lambda: table.to_csv(path, index=False, sep="\t"),
        ".json": lambda: table.to_json(path, orient="records", indent=1),
        ".jsonl": lambda: table.to_json(path, orient="records", lines=True),
        ".parquet": lambda: table.to_parquet(path),
    }[path.suffix.lower()]()
    return path


def test_all_formats_give_one_task(tmp_path):
    forms = {
        "list": ROWS,
        "tuple": tuple(ROWS),
        "strings of numpy": [{name: np.str_(value) for name, value in row.items()} for row in ROWS],
        "table": frame(ROWS).set_index(np.arange(40) * 7),
        "table of strings": frame(ROWS).astype("string"),
        "table of arrow": frame(ROWS).astype(pd.ArrowDtype(pa.string())),
        "table of objects": frame(ROWS).astype(object),
        "categories": frame(ROWS).assign(label=pd.Categorical([row["label"] for row in ROWS])),
        "more columns": frame(ROWS).assign(when=pd.Timestamp("2024-02-29"), where=None, split="?"),
        "dataset": Dataset.from_list(ROWS),
        "classes": with_class_names(ROWS),
        "format of numpy": with_class_names(ROWS).with_format("numpy"),
        "format of pandas": with_class_names(ROWS).with_format("pandas", columns=["text"]),
        "one part": DatasetDict(unsupervised=with_class_names(ROWS)),
        **{suffix: written(tmp_path, f"a{suffix}", ROWS) for suffix in (".csv", ".tsv", ".json", ".jsonl", ".parquet")},
        "capital suffix": written(tmp_path, "B.CSV", ROWS),
        "text": str(tmp_path / "a.csv"),
    }
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    forms["link"] = tmp_path / "link.csv"
    expected = shown(loaded(ROWS))
    assert len(expected[0]) + len(expected[1]) == 40
    for name, form in forms.items():
        assert shown(loaded(form)) == expected, name


def test_a_path_may_begin_at_home_or_here(tmp_path, monkeypatch):
    written(tmp_path, "a.csv", ROWS)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert shown(loaded("~/a.csv")) == shown(loaded("a.csv")) == shown(loaded("./a.csv")) == shown(loaded(ROWS))


def test_a_split_that_is_given_is_used_as_it_is(tmp_path):
    named = [{**row, "split": "train" if i < 28 else "Test "} for i, row in enumerate(ROWS)]
    mixed = [row for pair in zip(named[:12], named[28:], strict=True) for row in pair] + named[12:28]
    for name in ("one/train.csv", "one/test.jsonl", "two/training.parquet", "two/dev.tsv"):
        written(tmp_path, name, TRAIN if "train" in name else TEST)
    for i, row in enumerate(ROWS):
        text = tmp_path / "labels" / ("train" if i < 28 else "test") / row["label"] / f"{i:02d}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(row["text"])
    forms = {
        "DatasetDict": DatasetDict(train=with_class_names(TRAIN), test=with_class_names(TEST)),
        "validation": DatasetDict(validation=Dataset.from_list(TEST), train=Dataset.from_list(TRAIN)),
        "tables": {"Test": frame(TEST), "train": frame(TRAIN)},
        "lists and paths": {"train": TRAIN, "eval": tmp_path / "one" / "test.jsonl"},
        "column": named,
        "column, in any order": frame(mixed).rename(columns={"split": "Split"}),
        "folder": tmp_path / "one",
        "folder with other names": str(tmp_path / "two"),
    }
    expected = ([(row["text"], row["label"]) for row in rows] for rows in (TRAIN, TEST))
    expected = [[{"prompt": f"{text}\nLabel:", "completion": f" {label}"} for text, label in rows] for rows in expected]
    for name, form in forms.items():
        task = loaded(form)
        assert [task.train.to_list(), task.test.to_list()] == expected, name
        assert (task.labels, task.left_out) == ((" no", " yes"), {})
    for data, test_data in ((TRAIN, frame(TEST)), (tmp_path / "one" / "train.csv", Dataset.from_list(TEST))):
        task = loaded(data, test_data=test_data)
        assert [task.train.to_list(), task.test.to_list()] == expected
    task = loaded(tmp_path / "labels")  # in the order of their folders
    assert [sorted(part.to_list(), key=str) for part in (task.train, task.test)] == [
        sorted(part, key=str) for part in expected
    ]


def test_of_a_given_split_a_part_is_drawn_by_seed():
    drawn = [loaded(TRAIN, test_data=TEST, train=10, test=5, seed=seed) for seed in (0, 0, 1)]
    assert shown(drawn[0]) == shown(drawn[1]) != shown(drawn[2])
    texts = [{f"{row['text']}\nLabel:" for row in rows} for rows in (TRAIN, TEST)]
    for task in drawn:
        assert (len(task.train), len(task.test)) == (10, 5)
        assert set(task.train["prompt"]) < texts[0]
        assert set(task.test["prompt"]) < texts[1]
        assert sum(task.left_out.values()) == 25


def test_a_validation_set_beside_a_test_set_is_counted():
    task = loaded({"train": TRAIN[:20], "validation": TRAIN[20:], "test": TEST, "unlabelled": TEST})
    assert (len(task.train), len(task.test)) == (20, 12)
    assert task.left_out == {"validation set, beside a test set": 8}
    assert "parts that were not used: unlabelled" in task.notes


def test_what_is_said_of_a_given_split_names_the_right_rows(tmp_path):
    lone = {"text": "Is pi even?", "label": "maybe"}
    for data in ({"dev": frame(TEST), "train": frame([*TRAIN, lone])}, [*TRAIN, lone]):
        task = loaded(data, test_data=None if isinstance(data, dict) else TEST)
        place = "table.iloc" if isinstance(data, dict) else "list"
        assert any(f"'maybe' (row 29 ({place}[28]))" in note for note in task.notes), task.notes
    task = loaded(TRAIN, test_data=[*TEST, {**lone, "label": "Yes"}, TRAIN[0], lone])
    said = "\n".join(task.notes)
    assert "'Yes' (1×) differ only by upper and lower case and count as 2 (row 13 (list[12]))" in said
    assert "no example to train on of 2 of 4 labels: 'Yes', 'maybe'" in said
    assert "prompt is that of a test example: 1. They were kept" in said
    assert "near copies" not in said
    assert "list (test_data), row 13 (list[12]): the text is null" in refused(TRAIN, test_data=[*TEST, {"text": None}])
    tables = {"train": frame([*TRAIN, {"text": "a"}]), "test": frame([*TEST, {"label": "no"}])}
    assert refused(tables).startswith("your table, part train, row 29 (table.iloc[28]): the label is null")


def test_data_that_name_two_test_sets_or_none_are_refused(tmp_path):
    named = frame(ROWS).assign(split=["train"] * 28 + ["test"] * 12)
    written(tmp_path, "two/train.csv", TRAIN)
    written(tmp_path, "two/test.csv", TEST)
    written(tmp_path, "two/eval.csv", TEST)
    for data, test_data, words in (
        (named, TEST, "hold a test set already"),
        ({"train": TRAIN, "test": TEST}, TEST, "hold a test set already"),
        (TRAIN, {"train": TRAIN, "test": TEST}, "hold a test set already"),
        ({"train": TRAIN, "test": TEST, "eval": TEST}, None, "There are 2 test sets: test, eval"),
        (tmp_path / "two", None, "There are 2 test sets"),
        ({"train": named, "a": TEST}, None, "not a training and a test set: ['train', 'a']"),
        ({"a": TRAIN, "b": TEST}, None, "not a training and a test set: ['a', 'b']"),
        ({"text": ["a", "b"], "label": ["c", "d"]}, None, "pandas.DataFrame(…)"),
        ({}, None, "not a training and a test set"),
        (TRAIN, "triage", "triage is a task of the course"),
        (TRAIN, [], "your list (test_data) is empty"),
    ):
        assert words in refused(data, test_data=test_data)
    assert "balanced=True draws a split, and one was given" in refused(TRAIN, test_data=TEST, balanced=True)
    assert "No example of the test set can be used" in refused(
        TRAIN, test_data=[{"text": "a", "label": None}], skip_bad=True
    )


def test_missing_values_are_null(tmp_path):
    holes = [None, float("nan"), np.float64("nan"), pd.NA, pd.NaT]
    rows = [*ROWS, *({"text": "a", "label": hole} for hole in holes)]
    faults = [f"row {i} (list[{i - 1}]): the label is null" for i in range(41, 46)]
    assert [fault in refused(rows) for fault in faults] == [True] * 5
    for table in (
        frame(rows),
        frame([*ROWS, {"text": "a", "label": None}]).astype("string"),
        frame([*ROWS, {"text": "a"}]),
    ):
        assert "row 41 (table.iloc[40]): the label is null" in refused(table)
    assert len(loaded(frame(rows), skip_bad=True).train) == 28


def test_what_is_no_data_is_explained(tmp_path):
    (tmp_path / "letter").write_text("a")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dir.csv").mkdir()
    rows = iter(ROWS)
    for data, words in (
        (tmp_path / "letter", "letter is not a supported kind of file"),
        (tmp_path / "nothing", "There is no file or folder"),
        (str(tmp_path / "nothing"), "There is no file or folder"),
        (tmp_path / "loop", "There is no file or folder"),
        (tmp_path / "gone.csv", "There is no file "),
        (tmp_path / "dir.csv", "holds no text files"),
        ("C:\\Users\\Ana\\data.csv", "There is no file 'C:"),
        ("C:\\Users\\Ana\\data", "There is no file or folder"),
        ("~nobody.at.all/a.csv", "~nobody.at.all/a.csv' can't be read"),
        ("Is it? " * 1000, "can't be read: File name too long"),
        ("a\0b.csv", "There is no file"),
        ("", "There is no task called ''"),
        ("text,label\na,b\n", "There is no task called"),
        (rows, "of a generator, list(generator)"),
        (Dataset.from_list(ROWS).to_iterable_dataset(), "list(stream.take(5000))"),
        ({"train": Dataset.from_list(ROWS).to_iterable_dataset(), "test": ROWS}, "list(stream.take(5000))"),
        (None, "Data of type NoneType cannot become a task"),
        (Dataset.from_list(ROWS).with_transform(lambda batch: batch), "dataset.map(…)"),
        (
            [("a", "b"), *ROWS, None],
            "row 1 (list[0]): not a dict but ('a', 'b')\n  row 42 (list[41]): not a dict but None",
        ),
        (pd.DataFrame([["a", "b", "c"]], columns=["text", "text", "label"]), "a column twice"),
        (frame(ROWS).assign(label=range(40)), "the label is not text but of type int: 0"),
        (
            frame(ROWS).assign(text=pd.Timestamp("2024-02-29")),
            "the text is not text but of type Timestamp: Timestamp('2024-02-29",
        ),
        ([{**row, "label": 10**5000} for row in ROWS], "the label is not text but of type int: a int"),
        (frame(ROWS).set_index(["text", "label"]), "your table has no columns"),
    ):
        assert words in refused(data)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = written(tmp_path, "a.csv", ROWS)

    def forbidden(*args, **options):
        raise PermissionError(13, os.strerror(13))

    for method in ("read_bytes", "is_dir"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, forbidden)
            message = refused(path)
        assert "a.csv" in message
        assert "Permission denied" in message


def test_unusual_data_load_whole():
    for rows in (
        [{"text": f"هل العدد {row['text']}", "label": "نعم" if row["label"] == "yes" else "لا"} for row in ROWS],
        [{**row, "label": row["label"] * 300} for row in ROWS],
        frame(ROWS).assign(**{f"column {i}": json.dumps(i) for i in range(300)}),
        ROWS[:3],
    ):
        task = loaded(rows)
        assert len(task.train) + len(task.test) == len(rows)
        assert len(task.labels) == 2
    task = loaded([{**row, "label": "yes"} for row in ROWS])
    assert "all examples have the same label, 'yes'" in task.notes[-1]
