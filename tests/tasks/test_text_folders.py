import os
import warnings
from collections import Counter
from pathlib import Path

import pytest

import labkit as lk

STORY = " ".join(f"word{i}" for i in range(500))


def loaded(folder: Path, **options) -> lk.Task:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lk.load_task(folder, **options)


def write(folder: Path, texts: dict[str, str | bytes]) -> Path:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def labelled(count: int = 20) -> dict[str, str]:
    return {f"{label}/{i}.txt": f"The {label} number {i}\n" for label in ("cats", "dogs") for i in range(count)}


def test_subfolders_are_labels(tmp_path):
    unread = {"read.me": "a", "cats/7.jpg": "a", "0.txt": "a", "cats/more/8.txt": "a", ".hidden/1.txt": "a"}
    task = loaded(write(tmp_path, labelled() | unread))
    found = Counter((row["prompt"], row["completion"]) for row in [*task.train, *task.test])
    expected = [(f"{text.strip()}\nLabel:", f" {name.split('/')[0]}") for name, text in labelled().items()]
    assert found == Counter(expected)
    assert (task.name, task.labels) == (tmp_path.name, (" cats", " dogs"))
    assert "files that were not read, 4: '7.jpg', 'more', '0.txt', 'read.me'" in task.notes


def test_faults_of_texts_are_named_by_file(tmp_path):
    bad = {
        "cats/20.txt": " \n",
        "dogs/20.txt": "Some\0thing",
        "dogs/21.txt": "Ω\n".encode() + b"\xe9",
        "dogs/22.txt": b"%PDF-1.7",
    }
    write(tmp_path, labelled() | bad)
    with pytest.raises(lk.LabkitError) as caught:
        loaded(tmp_path)
    whats = [
        "cats/20.txt: the text has no text",
        "dogs/20.txt: the text holds a NUL character",
        "dogs/21.txt: line 2: not UTF-8",
        "dogs/22.txt: 22.txt is not text but a PDF",
    ]
    lines = caught.value.cause.splitlines()
    assert len(lines) == 4
    assert all(what in line for what, line in zip(whats, lines, strict=True)), lines
    task = loaded(tmp_path, skip_bad=True)
    assert (len(task.train) + len(task.test), task.left_out) == (40, {"can't be used": 4})


def test_what_is_said_of_training_texts_names_their_files(tmp_path):
    write(tmp_path / "test", labelled(3))
    write(tmp_path / "train", labelled(20) | {"zebras/1.txt": "The only one"})
    task = loaded(tmp_path)
    assert any("'zebras' (zebras/1.txt)" in note for note in task.notes), task.notes
    assert (len(task.train), len(task.test)) == (41, 6)


def test_texts_in_one_folder_are_to_be_continued(tmp_path):
    chinese = "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少" * 50
    task = loaded(write(tmp_path, {"a.txt": STORY, "b.md": chinese, "c.txt": "Too short to be continued"}))
    pieces = {row["prompt"] + row["completion"] for row in [*task.train, *task.test]}
    assert "".join(sorted(pieces, key=(STORY + chinese).index)).replace(" ", "") == STORY.replace(" ", "") + chinese
    assert all(len(piece) <= 800 for piece in pieces)
    for row in [*task.train, *task.test]:
        assert len(row["prompt"].split()) == 8 or len(row["prompt"]) == 40
    assert task.labels == ()
    assert any("3 files were cut into 7 passages" in note and "1 that end sooner" in note for note in task.notes)


def test_folders_that_hold_no_texts_are_explained(tmp_path, monkeypatch):
    for name, texts, words in (
        ("empty", {}, "Save the texts as .txt"),
        ("tables", {"a.csv": "text,label\n", "b.csv": "a"}, "Pass one of its files: 'a.csv', 'b.csv'"),
        ("pictures", {"cats/1.jpg": "a"}, "holds no text files"),
        ("two", {"train.csv": "a", "train.tsv": "a", "test.csv": "a"}, "There are 2 train sets: "),
        ("test", {"train.csv": "text,label\na,b\n", "test.csv": "text,label\n"}, "test/test.csv is empty"),
    ):
        (tmp_path / name).mkdir()
        with pytest.raises(lk.LabkitError) as caught:
            loaded(write(tmp_path / name, texts))
        assert words in str(caught.value), name

    def forbidden(self):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(lk.LabkitError, match="empty' can't be read: Permission denied"):
        loaded(tmp_path / "empty")
