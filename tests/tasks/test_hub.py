import json
import warnings
from pathlib import Path

import datasets
import httpx
import pytest
from datasets.exceptions import DatasetNotFoundError

import labkit as lk
from labkit.tasks import hub

ROWS = [{"text": f"Is {i} even?", "label": "no" if i % 2 else "yes"} for i in range(40)]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder that the hub's data sets are loaded from."""
    real = datasets.load_dataset

    def load(name: str) -> datasets.DatasetDict:
        return real(str(tmp_path / "hub" / name), cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(hub, "load_dataset", load)
    monkeypatch.setattr(hub, "offline", lambda: False)
    datasets.disable_progress_bars()
    yield tmp_path / "hub"
    datasets.enable_progress_bars()


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def loaded(name: str) -> lk.Task:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lk.load_task(name)


def refused(name: str) -> str:
    with pytest.raises(lk.LabkitError) as caught:
        loaded(name)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::labkit.tasks.task.DataWarning")
def test_a_data_set_on_the_hub_is_a_task(repository):
    write(repository / "ana" / "whole", train_jsonl=LINES)
    write(repository / "ana" / "split", train_jsonl=LINES, test_jsonl=LINES[: LINES.index("\n") + 1])
    whole, split = loaded("ana/whole"), loaded("ana/split")
    assert whole.train.to_list() == lk.load_task(datasets.Dataset.from_list(ROWS)).train.to_list()
    assert (len(split.train), len(split.test)) == (40, 1)
    assert (whole.name, split.name) == ("ana/whole", "ana/split")
    write(repository / "ana" / "null", train_jsonl=LINES + '{"text": null, "label": "no"}')
    assert "ana/null, part train, row 41 (dataset[40]): the text is null" in refused("ana/null")


def test_what_the_hub_refuses_is_explained(repository, monkeypatch):
    config = (
        "---\nconfigs:\n- config_name: {}\n  data_files: {}.jsonl\n- config_name: {}\n  data_files: {}.jsonl\n---\n"
    )
    write(repository / "ana" / "two", README_md=config.format(*["en"] * 2, *["de"] * 2), en_jsonl=LINES, de_jsonl=LINES)
    write(repository / "ana" / "code", code_py="print()")
    write(repository / "ana" / "none", README_md="# Nothing")
    write(repository / "ana" / "mixed", train_jsonl=LINES, test_jsonl='{"a": [1]}\n')
    write(repository / "ana" / "broken", train_jsonl='{"a": 1}\n{"a": \n')
    assert "['en', 'de']" in (message := refused("ana/two"))
    assert "load_task(datasets.load_dataset('ana/two', 'THE PART'))" in message
    assert "ana/code can't be loaded as it is: Dataset scripts are no longer supported" in refused("ana/code")
    assert "ana/none, on the hub, holds no data" in refused("ana/none")
    assert "ana/mixed can't be loaded as it is" in refused("ana/mixed")
    assert "ana/broken can't be loaded as it is" in refused("ana/broken")
    for problem, words in (
        (DatasetNotFoundError("Dataset 'a/b' doesn't exist"), "no data set on the hub that is open to you"),
        (ConnectionError("Couldn't reach 'a/b' on the Hub"), "and the hub can't be reached: Couldn't reach"),
        (httpx.ReadTimeout("The read operation timed out"), "The read operation timed out"),
    ):

        def failing(name: str, problem: Exception = problem):
            raise problem

        monkeypatch.setattr(hub, "load_dataset", failing)
        message = refused("a/b")
        assert words in message
        assert "a/b" in message


def test_offline_no_hub_is_asked(monkeypatch):
    monkeypatch.setattr(hub, "load_dataset", None)
    monkeypatch.setenv("LABKIT_OFFLINE", "1")
    assert "a/b is not a file or folder here; the hub is forbidden by LABKIT_OFFLINE" in refused("a/b")


def test_a_path_that_leads_nowhere_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "load_dataset", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("data/inbox", "./inbox", "../inbox", "/data/inbox", "data/2024/inbox", "ana/inbox.csv"):
        assert "There is no file" in refused(name)
