import errno
from pathlib import Path

import pytest

from labkit.storage import cache


def test_a_fault_inside_a_lock_is_not_the_locks(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    with pytest.raises(PermissionError), cache.locked("mine"):
        raise PermissionError(errno.EACCES, "somewhere else")


@pytest.mark.parametrize("place", ["data", "labkit/data"], ids=["in a clone", "in a wheel"])
def test_the_courses_data_lie_beside_the_package_or_inside_it(tmp_path, monkeypatch, place):
    module = tmp_path / "labkit" / "assets" / "cache.py"
    module.parent.mkdir(parents=True)
    (tmp_path / place).mkdir()
    monkeypatch.setattr(cache, "__file__", str(module))
    assert cache.course_data() == tmp_path / place


def test_the_courses_data_are_there():
    assert (cache.course_data() / "general_knowledge.jsonl").is_file()


def test_the_home_is_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    assert cache.home() == tmp_path
    monkeypatch.setenv("LABKIT_HOME", "~/lab")
    assert cache.home() == Path.home() / "lab"
    monkeypatch.delenv("LABKIT_HOME")
    assert "labkit" in cache.home().parts


@pytest.mark.parametrize("variable", ["LABKIT_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(("value", "expected"), [("1", True), ("TRUE", True), ("on", True), ("0", False), ("", False)])
def test_either_variable_turns_offline_mode_on(monkeypatch, variable, value, expected):
    for name in ("LABKIT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    assert cache.offline() is expected
