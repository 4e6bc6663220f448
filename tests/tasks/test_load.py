import csv
import hashlib
import json
import re
from collections import Counter
from itertools import pairwise

import pytest
from datasets import Dataset

import labkit as lk
from labkit.assets.fetch import ensure
from labkit.tasks.task import DataWarning

CLASSES = {"triage": 12, "licenses": 7}
SUBJECTS = [
    "apple",
    "bridge",
    "candle",
    "dragon",
    "engine",
    "forest",
    "garden",
    "hammer",
    "island",
    "jungle",
    "kettle",
    "ladder",
]
ROWS = [{"prompt": f"{s} {s}ish {s}ly", "completion": " yes" if i % 2 else " no"} for i, s in enumerate(SUBJECTS)]


def texts(dataset: Dataset) -> list[str]:
    return dataset["prompt"][:]


def word_pairs(prompt: str) -> set:
    """Return the pairs of neighbouring words of what the prompt asks about."""
    words = re.findall(r"[a-z]+", prompt.split(": ", 1)[1].rsplit("\n", 1)[0].lower())
    return set(pairwise(words))


# The tasks of the course


# SHA-256 of 60 training and 30 test rows of seed 3, as the notebooks' stored numbers were made from them.
DRAWN = {
    "triage": "47841f2b7f8b8abbadb36d28b5261e8929dc574c8d7d85240a922bc56e4c2e9f",
    "licenses": "b1ad0e33bafd835ebba8b4f0825baf2cc8bfac8dac9546bae257edb2c1380f72",
}


def test_a_task_is_the_same_on_every_computer():
    for name, expected in DRAWN.items():
        task = lk.load_task(name, train=60, test=30, seed=3)
        drawn = json.dumps([task.train.to_list(), task.test.to_list(), task.labels])
        assert hashlib.sha256(drawn.encode()).hexdigest() == expected, name


@pytest.mark.parametrize("name", CLASSES)
def test_another_seed_draws_other_examples(name):
    zero, one = (lk.load_task(name, train=100, test=40, seed=seed) for seed in (0, 1))
    assert texts(zero.train) != texts(one.train)
    assert texts(zero.test) != texts(one.test)


@pytest.mark.parametrize("name", CLASSES)
def test_more_training_data_leaves_the_test_set_alone(name):
    few, many = (lk.load_task(name, train=train, test=40) for train in (50, 500))
    assert few.test.to_list() == many.test.to_list()
    assert texts(many.train)[:50] == texts(few.train)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_test_text_has_a_near_copy_in_training(name, seed):
    task = lk.load_task(name, train=600, test=150, seed=seed)
    assert not set(texts(task.train)) & set(texts(task.test))
    train, test = ([word_pairs(text) for text in texts(part)] for part in (task.train, task.test))
    assert max(len(a & b) / len(a | b) for a in train for b in test) < 0.5


@pytest.mark.parametrize(("name", "train"), [("triage", 400), ("licenses", 140)])
def test_classes_are_drawn_evenly(name, train):
    task = lk.load_task(name, train=train, test=120)
    assert (len(task.train), len(task.test)) == (train, 120)
    assert len(task.labels) == CLASSES[name]
    for part in (task.train, task.test):
        counts = Counter(part["completion"])
        assert set(counts) == set(task.labels)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_triage_prompt_shows_the_definition_as_the_ontology_has_it(triage):
    obo = (ensure("hpo") / "hp.obo").read_text(encoding="utf-8")
    definitions = dict(re.findall(r'^id: (HP:\d+)\n(?:.+\n)*?def: "(.*)" \[', obo, re.MULTILINE))
    for part in (triage.train, triage.test):
        for row in part:
            definition = definitions[row["id"]].replace('\\"', '"').strip()
            assert row["prompt"] == f"Finding: {definition}\nDepartment:"


def test_every_completion_starts_with_a_space_and_every_prompt_ends_without(triage):
    assert all(re.fullmatch(" [a-z]+", label) for label in triage.labels)
    assert not any(prompt[-1].isspace() for prompt in texts(triage.train))


def test_a_task_says_whom_to_cite(triage):
    assert "Human Phenotype Ontology, release 2025-01-16" in triage.source
    assert "ScanCode" in lk.load_task("licenses", train=10, test=10).source


# Data of one's own


def as_jsonl(folder, rows=ROWS, encoding="utf-8", end="\n"):
    path = folder / "mine.jsonl"
    path.write_bytes(end.join(json.dumps(row, ensure_ascii=False) for row in rows).encode(encoding))
    return path


def as_csv(folder, rows=ROWS, encoding="utf-8"):
    path = folder / "mine.csv"
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


FORMATS = {
    "jsonl": as_jsonl,
    "jsonl with byte-order mark": lambda folder: as_jsonl(folder, encoding="utf-8-sig"),
    "jsonl with Windows line ends": lambda folder: as_jsonl(folder, end="\r\n"),
    "jsonl with empty lines": lambda folder: as_jsonl(folder, end="\n\n"),
    "csv": as_csv,
    "csv with byte-order mark": lambda folder: as_csv(folder, encoding="utf-8-sig"),
    "capital suffix": lambda folder: as_csv(folder).rename(folder / "MINE.CSV"),
    "path as a string": lambda folder: str(as_csv(folder)),
    "dataset": lambda folder: Dataset.from_list(ROWS),
    "more columns": lambda folder: Dataset.from_list([{**row, "note": 1} for row in ROWS]),
}


def test_every_format_gives_the_same_task(tmp_path):
    for name, build in FORMATS.items():
        task = lk.load_task(build(tmp_path), train=8, test=4)
        drawn = [{key: row[key] for key in ("prompt", "completion")} for row in [*task.train, *task.test]]
        assert sorted(drawn, key=str) == sorted(ROWS, key=str), name
        assert task.labels == (" no", " yes")
        assert len(task.test) == 4


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x1c"])
def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path, separator):
    rows = [{**row, "prompt": row["prompt"].replace(" ", separator)} for row in ROWS]
    path = tmp_path / "mine.jsonl"
    lines = [f'{{"prompt": "{row["prompt"]}", "completion": "{row["completion"]}"}}' for row in rows]
    if separator < " ":  # JSON allows no raw control characters
        lines = [line.replace(separator, f"\\u{ord(separator):04x}") for line in lines]
    path.write_text("\n".join(lines), encoding="utf-8")
    task = lk.load_task(path, train=8, test=4)
    assert sorted(texts(task.train) + texts(task.test)) == sorted(row["prompt"] for row in rows)


@pytest.mark.filterwarnings("ignore::labkit.tasks.task.DataWarning")
def test_a_space_comes_in_only_where_neither_side_has_one():
    for end, completion, expected in (
        (":", "yes", " yes"),
        (": ", "yes", "yes"),
        (":", " yes", " yes"),
        (":", "\ny", "\ny"),
        ("？", "是", "是"),
        ("？", "네", " 네"),
    ):
        rows = [{"prompt": f"{subject}{end}", "completion": completion} for subject in SUBJECTS]
        task = lk.load_task(Dataset.from_list(rows), train=6, test=4)
        assert set(task.train["completion"]) == set(task.test["completion"]) == {expected}
        assert set(texts(task.train)) <= {row["prompt"] for row in rows}


def test_free_text_has_no_labels():
    rows = [{"prompt": subject, "completion": f" about {subject}"} for subject in SUBJECTS]
    assert lk.load_task(Dataset.from_list(rows), train=6, test=4).labels == ()


def test_at_most_half_of_small_data_is_held_back():
    with pytest.warns(DataWarning, match=r"asked for test=300, got 6 to train on and 6 to test: there are 12 examples"):
        task = lk.load_task(Dataset.from_list(ROWS), test=300)
    assert (len(task.train), len(task.test)) == (6, 6)


def without(column):
    return [{key: value for key, value in row.items() if key != column} for row in ROWS]


def written(name: str, content: str | bytes):
    def build(folder):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return build


GOOD_LINE = json.dumps(ROWS[0])
PROBLEMS = {
    "missing column in jsonl": (
        lambda f: as_jsonl(f, without("completion")),
        "mine.jsonl has the column 'prompt'; ",
    ),
    "missing column in csv": (
        lambda f: as_csv(f, without("prompt")),
        "mine.csv has the column 'completion'; it is unclear which is",
    ),
    "missing columns in dataset": (
        lambda f: Dataset.from_dict({"q": ["a"]}),
        "your dataset has the column 'q'; ",
    ),
    "csv with more cells than columns": (written("a.csv", "q,a\n1,2,3\n"), "line 2: 3 cells where"),
    "empty jsonl": (written("a.jsonl", ""), "a.jsonl is empty"),
    "empty csv": (written("a.csv", ""), "a.csv is empty"),
    "csv of a header": (written("a.csv", "prompt,completion\n"), "a.csv is empty"),
    "empty dataset": (lambda f: Dataset.from_dict({"prompt": [], "completion": []}), "your dataset is empty"),
    "missing file": (lambda f: f / "none.jsonl", "There is no file .*none.jsonl"),
    "folder": (lambda f: (f / "a.csv").mkdir() or f / "a.csv", "The folder .*a.csv holds no text files"),
    "unknown suffix": (written("a.txt", GOOD_LINE), "a.txt is not a supported kind of file"),
    "unknown task": (lambda f: "triaje", "no task called 'triaje'"),
    "row of a dataset": (
        lambda f: Dataset.from_list([*ROWS, {"prompt": "a", "completion": None}]),
        r"^your dataset, row 13 \(dataset\[12\]\): the completion is null$",
    ),
    "numbers in a dataset": (
        lambda f: Dataset.from_dict({"prompt": ["a", "b"], "completion": [0, 1]}),
        "row 1 .* of type int: 0\n  row 2 .* of type int: 1",
    ),
    "one column twice": (written("a.csv", "prompt,completion,prompt\na,b,c\n"), "has a column twice"),
    "quote in the header": (written("a.csv", '"prompt,completion\na,b\n'), "line 1: the header has a stray quote"),
    "number": (lambda f: 7, "Data of type int cannot become a task"),
    "list of texts": (lambda f: ["a"], r"your list, row 1 \(list\[0\]\): not a dict but 'a'"),
    "one example": (lambda f: as_jsonl(f, ROWS[:1]), r"usable examples of mine.jsonl \(1\) are too few"),
    "all alike": (lambda f: as_jsonl(f, ROWS[:1] * 20), r"\(20\) are .* too much alike"),
}


def test_unusable_data_is_explained(tmp_path):
    for number, (name, (build, cause)) in enumerate(PROBLEMS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        data = build(folder)
        with pytest.raises(lk.LabkitError) as caught:
            lk.load_task(data)
        assert re.search(cause, caught.value.cause), name
        assert caught.value.remedy.endswith(".")


def test_an_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(lk.LabkitError) as caught:
        lk.load_task("triaje")
    assert (
        "Did you mean 'triage'? Valid names: instructions, licenses, preferences, tone, triage." in caught.value.remedy
    )


@pytest.mark.parametrize("counts", [{"train": 0}, {"test": 0}, {"train": -5}])
def test_counts_start_at_one(counts):
    with pytest.raises(lk.LabkitError, match="at least 1"):
        lk.load_task("triage", **counts)
