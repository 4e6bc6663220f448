import os
import stat
import zipfile
from pathlib import Path

import pytest

from labkit.assets.archive import extract
from labkit.errors import LabkitError


def archive_of(folder: Path, *members: zipfile.ZipInfo | str) -> Path:
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        for member in members:
            bundle.writestr(member, "content")
    return path


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3  # Unix, where the upper half of external_attr is the file's mode
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("member", "pattern"),
    [
        ("../data/evil.txt", "data/*.txt"),
        ("toy/../../data/evil.txt", "data/*.txt"),
        ("data/../evil.txt", "*.txt"),
        ("/data/evil.txt", "data/*.txt"),
        ("data/..\\..\\evil.txt", "data/*.txt"),
        ("data/C:\\evil.txt", "data/*.txt"),
        (link("data/evil.txt"), "data/*.txt"),
    ],
)
def test_a_member_that_points_elsewhere_is_refused(tmp_path, member, pattern):
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    archive = archive_of(tmp_path, member)
    with pytest.raises(LabkitError, match="out of its folder") as caught:
        extract(archive, [pattern], target)
    assert "trust" in caught.value.remedy
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]


def test_only_files_that_match_are_taken(tmp_path):
    archive = archive_of(
        tmp_path, "toy/data/a.txt", "toy/data/a.py", "toy/a.txt", "other/data/b.txt", "toy/data/c.json"
    )
    (tmp_path / "out").mkdir()
    taken = extract(archive, ["toy/data/*.txt", "toy/data/c.json"], tmp_path / "out")
    assert sorted(path.name for path in taken) == sorted(os.listdir(tmp_path / "out")) == ["a.txt", "c.json"]


def test_a_file_of_the_same_name_in_a_nested_folder_is_not_taken(tmp_path):
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("toy/model/config.json", "the model's")
        bundle.writestr("toy/model/1_Pooling/config.json", "the pooling layer's")
    extract(archive, ["toy/model/*.json"], tmp_path)
    assert (tmp_path / "config.json").read_text() == "the model's"


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path):
    archive = archive_of(tmp_path, "toy/a.txt")
    with pytest.raises(LabkitError, match=r"\*\.json") as caught:
        extract(archive, ["toy/*.json"], tmp_path)
    assert "manifest" in caught.value.remedy
