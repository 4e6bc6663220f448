"""Folders are written, replaced and found again, also by processes that are killed at any moment."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.errors import LabkitError
from labkit.storage import folders

PACKAGE = Path(folders.__file__).parents[1]


def tree(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text(errors="replace") for path in files}


def write_and_raise(folder: Path, problem: BaseException):
    (folder / "new.txt").write_text("new")
    raise problem


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))


@pytest.fixture
def old(tmp_path):
    folder = tmp_path / "Läufe von heute" / "thing"
    folder.mkdir(parents=True)
    (folder / "old.txt").write_text("old")
    return folder


def test_a_new_folder_appears_only_when_the_block_ends(tmp_path):
    final = tmp_path / "deep" / "thing"
    with folders.new_folder(final) as new:
        (new / "file.txt").write_text("hello")
        assert not final.exists()
    assert tree(tmp_path / "deep") == {"thing/file.txt": "hello"}


def test_a_replaced_folder_keeps_nothing_of_the_old_one(old):
    with folders.new_folder(old, replace=True) as new:
        (new / "new.txt").write_text("new")
        assert tree(old) == {"old.txt": "old"}
    assert tree(old.parent) == {"thing/new.txt": "new"}
    assert os.listdir(old.parent) == ["thing"]


def test_an_interrupted_block_leaves_the_old_folder_and_nothing_else(old):
    for interruption in (ValueError, KeyboardInterrupt):
        with pytest.raises(interruption), folders.new_folder(old, replace=True) as new:
            write_and_raise(new, interruption())
        assert tree(old.parent) == {"thing/old.txt": "old"}
        assert os.listdir(old.parent) == ["thing"]


def test_what_must_stay_stays(old, tmp_path):
    def mine(folder):
        raise LabkitError(f"{folder.name} is mine.", "Leave it.")

    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("text")
    link.symlink_to(old)
    before = tree(tmp_path)
    for final, options, message in [
        (old, {}, "exists already"),
        (file, {}, "exists already"),
        (old, {"replace": True, "check": mine}, "thing is mine"),
        (file, {"replace": True}, "file is a file"),
        (link, {"replace": True}, "is a link"),
    ]:
        with pytest.raises(LabkitError, match=message), folders.new_folder(final, **options):
            pytest.fail("refused too late: what takes long to make is lost")
        assert tree(tmp_path) == before
    assert link.is_symlink()


def test_what_comes_into_the_place_meanwhile_stays(tmp_path):
    with pytest.raises(LabkitError, match="exists already"), folders.new_folder(tmp_path / "thing"):
        shutil.copytree(PACKAGE / "quant", tmp_path / "thing")  # as another process might
    assert tree(tmp_path / "thing").keys() == tree(PACKAGE / "quant").keys()


def test_the_old_folder_comes_back_when_a_rename_fails(old, monkeypatch):
    rename = os.replace
    for failing in (1, 2):
        for problem in (OSError(errno.EIO, "the disk hiccups"), KeyboardInterrupt("hiccups")):
            calls = []

            def flaky(source, target, calls=calls, failing=failing, problem=problem):
                calls.append(target)
                if len(calls) == failing:
                    raise problem
                rename(source, target)

            monkeypatch.setattr(os, "replace", flaky)
            with pytest.raises(type(problem), match="hiccups"), folders.new_folder(old, replace=True) as new:
                (new / "new.txt").write_text("new")
            assert tree(old.parent) == {"thing/old.txt": "old"}
            assert os.listdir(old.parent) == ["thing"]


def test_leftovers_go_when_nobody_can_be_writing_them_any_more(tmp_path):
    names = [".a.abcdefgh.labkit-new", ".a.b.abcdefgh.labkit-new", ".notes", ".a.labkit-new", ".a.abcdefgh.labkit-new2"]
    for name in names:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, time.time() - 2 * folders.DAY))
    (tmp_path / ".c.abcdefgh.labkit-new").mkdir()
    assert [path.name for path in folders.leftovers(tmp_path, "a")] == names[:1]
    with folders.new_folder(tmp_path / "thing"):
        pass
    kept = {"thing", ".c.abcdefgh.labkit-new", *names[2:]}
    assert set(os.listdir(tmp_path)) - {"home"} == kept


def test_a_cache_that_is_only_read_keeps_nobody_from_writing_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("no folder: nothing can be written in it, even by an administrator")
    with folders.new_folder(tmp_path / "mine" / "thing") as new:
        (new / "new.txt").write_text("new")
    assert tree(tmp_path / "mine" / "thing") == {"new.txt": "new"}


# One process imports the module, without torch, and forks a child for each death: at the n-th call of a function that
# changes names or waits for the disk. The child dies as SIGKILL would have it, with no clean-up.
KILLS = """
import os, shutil, sys, types
from pathlib import Path

sys.modules["labkit"] = types.ModuleType("labkit")
sys.modules["labkit"].__path__ = [sys.argv[2]]
from labkit.storage import cache, folders

assert "torch" not in sys.modules
CALLS = [(os, "replace"), (os, "fsync"), (os, "mkdir"), (os, "rmdir"), (os, "unlink"), (os, "open"), (os, "close")]
final = Path(sys.argv[1]) / "Läufe" / "thing"


def save(text):
    with folders.new_folder(final, replace=True) as new:
        for name in ("a.txt", "run.json"):
            (new / name).write_text(text)


def killed(at, text):
    child = os.fork()
    if child == 0:
        seen = [0]

        def count():
            seen[0] += 1
            if seen[0] == at:
                os._exit(9)

        def dying(real):
            def call(*args, **options):
                count()  # before the call
                result = real(*args, **options)
                count()  # and after it
                return result
            return call

        for module, name in CALLS:
            setattr(module, name, dying(getattr(module, name)))
        save(text)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


save("0")
kills = lost = at = new = gaps = 0
while kills < 100 or at > 1:
    at += 1
    before = (final / "run.json").read_text()
    if not killed(at, str(kills)):
        at = 0  # all moments of one replacement were tried
        shutil.rmtree(final)
        save("0")
        continue
    kills += 1
    gaps += not final.exists()
    folders.recover(final.parent)
    found = {path.name: path.read_text() for path in final.iterdir()} if final.exists() else {}
    whole = found.keys() == {"a.txt", "run.json"} and len(set(found.values())) == 1
    lost += not whole or found["run.json"] not in (before, str(kills - 1))
    new += whole and found["run.json"] != before
print(kills, lost, new, gaps)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_replacement_that_is_killed_at_any_moment_loses_nothing(tmp_path):
    (tmp_path / "kills.py").write_text(KILLS, encoding="utf-8")
    command = [sys.executable, "-X", "utf8", str(tmp_path / "kills.py"), str(tmp_path), str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kills, lost, new, gaps = map(int, done.stdout.split())
    assert kills >= 100
    assert lost == 0
    assert 0 < new < kills  # some were killed before and some after the new folder had its name
    assert gaps > 0  # and some in between, where only ``recover`` finds the old one
