import ast
import errno
import hashlib
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from labkit.errors import LabkitError
from labkit.storage import files
from labkit.storage.folders import new_folder


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write_and_raise(folder: Path, problem: BaseException):
    (folder / "new.txt").write_text("new")
    raise problem


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_explained_and_nothing_is_half_written(tmp_path, monkeypatch, problem):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    with pytest.raises(LabkitError, match="disk is full") as caught, new_folder(tmp_path / "thing") as new:
        write_and_raise(new, problem)
    assert "LABKIT_HOME" in caught.value.remedy
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_forbidden_folder_is_named(tmp_path, code):
    with pytest.raises(LabkitError) as caught, files.writing_to(tmp_path / "mine"):
        raise OSError(code, os.strerror(code))
    assert str(tmp_path / "mine") in caught.value.cause
    assert os.strerror(code) in caught.value.cause
    assert "LABKIT_HOME" in caught.value.remedy


@pytest.mark.parametrize("problem", [OSError(errno.EIO, "broken"), SafetensorError("bad header")])
def test_other_failures_pass_as_they_are(tmp_path, problem):
    with pytest.raises(type(problem)) as caught, files.writing_to(tmp_path):
        raise problem
    assert caught.value is problem


@pytest.fixture
def note(tmp_path):
    path = tmp_path / "note.json"
    path.write_text("old")
    return path


def test_a_text_is_written_and_its_folder_made(tmp_path):
    path = tmp_path / "deep" / "folder" / "note.txt"
    files.write_text(path, "Größe: 4 → 8\n")
    assert path.read_bytes() == "Größe: 4 → 8\n".encode()
    assert os.listdir(path.parent) == ["note.txt"]


def test_a_written_text_takes_the_place_of_the_old_one(note):
    files.write_text(note, "new")
    assert tree(note.parent) == {"note.json": "new"}


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=["022", "077"])
def test_a_written_text_can_be_read_by_others(note, umask):
    before = os.umask(umask)
    try:
        files.write_text(note, "new")
    finally:
        os.umask(before)
    assert note.stat().st_mode & 0o044 == 0o044


def test_every_text_file_names_its_encoding():
    """Without one, Windows takes that of the country, which has no 4 → 8 and no ü of the others."""
    package = Path(files.__file__).parents[1]
    nameless = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.rpartition(".")[2] not in ("open", "read_text", "write_text"):
                continue
            binary = any("b" in str(getattr(argument, "value", "")) for argument in node.args)
            ours = called in ("os.open", "bundle.open", "write_text")  # no text, or UTF-8 by itself
            if not (binary or ours or any(keyword.arg == "encoding" for keyword in node.keywords)):
                nameless.append(f"{path.name}:{node.lineno} {called}")
    assert not nameless


def test_a_text_is_written_through_a_link(note, tmp_path):
    (tmp_path / "link.json").symlink_to(note)
    files.write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert note.read_text() == "new"


def test_whoever_looks_sees_the_old_text_until_the_new_one_is_whole(note, monkeypatch):
    seen, replace = [], os.replace

    def look(source, target):
        seen.append((note.read_text(), Path(source).read_text(), Path(source).parent))  # a rename needs one disk
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    files.write_text(note, "new")
    assert seen == [("old", "new", note.parent)]


@pytest.mark.parametrize(
    ("problem", "raised"),
    [
        (OSError(errno.EIO, "the disk hiccups"), OSError),
        (OSError(errno.ENOSPC, "No space left on device"), LabkitError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["broken", "full", "interrupted"],
)
def test_a_failure_leaves_the_old_text_and_no_temporary_file(note, monkeypatch, problem, raised):
    def fail(*_):
        raise problem

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(raised):
        files.write_text(note, "new")
    assert tree(note.parent) == {"note.json": "old"}


def test_a_text_that_cannot_be_encoded_leaves_the_old_one_and_no_temporary_file(note):
    with pytest.raises(UnicodeEncodeError):
        files.write_text(note, "half a character: \ud800")
    assert tree(note.parent) == {"note.json": "old"}


def test_the_checksum_is_that_of_the_whole_file(tmp_path):
    content = bytes(range(256)) * 8200  # more than one piece, and the last one is not full
    (tmp_path / "file").write_bytes(content)
    assert files.sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_the_nearest_existing_folder_may_be_far_up(tmp_path):
    assert files.nearest_existing(tmp_path / "a" / "b") == tmp_path
    assert files.nearest_existing(tmp_path) == tmp_path


def test_a_drive_that_cannot_sync_is_no_fault_and_one_that_fails_is(note, monkeypatch):
    for code in (errno.EINVAL, errno.ENOTSUP, errno.EIO):

        def fail(handle, code=code):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fail)
        if code == errno.EIO:
            with pytest.raises(OSError, match=os.strerror(code)):
                files.sync(note)
        else:
            files.sync(note)
            files.sync(note.parent)
