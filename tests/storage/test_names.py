from pathlib import Path

import pytest

from labkit.errors import LabkitError
from labkit.storage import names

NOT_NAMES = [
    *("", " ", ".", "..", "...", "/", "~", "./", "a/..", "a/../..", "../a", "a/../b"),
    *(Path(), Path("/"), Path("..")),
]
NOT_EVERYWHERE = [
    *("CON", "con", "nul.txt", "Com1", "LPT9.tar.gz", "aux", "CONOUT$", "x/prn"),
    *("a:b", "a*", "what?", 'say "a"', "a<b", "a>b", "a|b", "a\\b", "a\nb", "a\tb", "bell\a"),
    *("a.", "a ", " a", "a. ", ".a", ".git", "x/.a", "ä" * 101, "a" * 201),
]
NO_TEXT = ["a\0b", "half \ud800", None, 3, b"a", "~nobody-is-called-so/a"]
GOOD = [
    *("first-try", "Läufe von heute", "日本語", "v1.2", "a" * 200, "console", "com10"),
    *("x/y/z", "./three", "/tmp/ü b/c"),
]


def test_a_name_that_not_every_system_takes_is_refused():
    for name in [*NOT_NAMES, *NOT_EVERYWHERE, *NO_TEXT]:
        with pytest.raises(LabkitError) as caught:
            names.require_new_name(name)
        assert caught.value.remedy
    with pytest.raises(LabkitError, match=r"^'con' is the name of a device on Windows"):
        names.require_new_name("con")
    with pytest.raises(LabkitError, match="leads upwards") as caught:
        names.require_new_name("../a")
    assert str(Path("..").resolve() / "a") in caught.value.remedy


def test_other_names_are_taken():
    for name in GOOD:
        names.require_new_name(name)
        names.require_new_name(Path(name))
    assert names.as_path("~/a b") == Path.home() / "a b"
