import json
from pathlib import Path

import pytest

from labkit.errors import LabkitError
from labkit.storage.ownership import require_ours, strangers
from labkit.storage.records import write_record


@pytest.fixture
def run(tmp_path):
    """A folder of a run, with one file besides the record."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "weights").write_text("1")
    write_record(folder, "run", {"method": "lora"})
    return folder


def check(folder: Path, **options) -> None:
    require_ours(folder, "run", ["method"], ["run.json", "weights"], **options)


def test_only_what_labkit_did_not_write_is_a_stranger(run):
    assert strangers(run, ["run.json", "weights"]) == []
    (run / "sub").mkdir()
    (run / "sub" / "notes.txt").write_text("mine")
    (run / "link").symlink_to(run / "sub")
    (run / ".ipynb_checkpoints").mkdir()
    (run / ".ipynb_checkpoints" / "copy").write_text("Jupyter's")
    (run / ".DS_Store").write_text("the Finder's")
    assert strangers(run, ["run.json", "weights"]) == ["link", "sub/notes.txt"]


def test_a_folder_that_labkit_wrote_may_be_replaced(run):
    check(run)
    (run / "run.json").write_text(json.dumps({"method": "lora"}))  # of version 0, without a list of files
    check(run)
    with pytest.raises(LabkitError, match="not the folder of a labkit checkpoint"):
        require_ours(run, "checkpoint", ["done"], ["run.json", "weights"])
    (run / "notes.txt").write_text("mine")
    with pytest.raises(LabkitError, match=r"holds notes\.txt, which labkit did not write"):
        check(run)


@pytest.mark.parametrize("text", [None, "{", "[1]", '{"distance": "5 km"}'])
def test_without_a_record_it_is_labkits_only_where_half_of_one_may_be(run, text):
    (run / "run.json").unlink()
    if text:
        (run / "run.json").write_text(text)
    with pytest.raises(LabkitError, match=r"it has no run\.json that says so"):
        check(run)
    if text in (None, "{"):
        check(run, half=True)
    else:  # a whole file, of somebody else
        with pytest.raises(LabkitError, match=r"it has no run\.json that says so"):
            check(run, half=True)
