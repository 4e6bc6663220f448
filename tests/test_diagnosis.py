import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from labkit import cli
from labkit.assets.fetch import asset_folder
from labkit.assets.manifest import load_manifest
from labkit.diagnosis import doctor

GIGABYTE = 10**9


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache on a roomy computer without a GPU."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    for variable in ("LABKIT_OFFLINE", "HF_HUB_OFFLINE", "LABKIT_PRECISION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    room(monkeypatch, memory=16, disk=50)
    return tmp_path


@pytest.fixture
def filled(home):
    """The same with every asset in place, as far as the receipts tell."""
    for asset in load_manifest().values():
        folder = asset_folder(asset)
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"content")
        receipt = {"files": {"file": (7, hashlib.sha256(b"content").hexdigest())}}
        (folder / "receipt.json").write_text(json.dumps(receipt))
    return home


def room(monkeypatch, memory: float = 16, disk: float = 50) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory * GIGABYTE))
    monkeypatch.setattr("labkit.memory.free._groups", lambda root: ())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=disk * GIGABYTE))


def report(capsys) -> tuple[dict[str, str], list[str]]:
    """Return the lines of the report by their first column of 14 characters, and the problems."""
    lines = capsys.readouterr().out.splitlines()
    return {line[:14].strip(): line[14:] for line in lines}, [line for line in lines if line.startswith("✗")]


def test_a_healthy_computer_is_well(filled, capsys):
    assert doctor()
    lines, problems = report(capsys)
    assert problems == []
    assert "All is well." in lines
    assert {lines[name] for name in load_manifest()} == {"ready"}


def test_the_report_shows_what_the_course_will_run_on(filled, capsys):
    doctor()
    lines, _ = report(capsys)
    assert lines["Python"] == platform.python_version()
    assert lines["torch"] == torch.__version__
    assert lines["device"] == f"cpu ({torch.get_num_threads()} threads)"
    assert lines["processor"].strip()
    assert lines["bfloat16"].startswith("not in hardware")
    assert lines["precision"] == "float32 (32-bit)"
    assert lines["free memory"] == "16.0 GB"
    assert lines["free disk"] == "50.0 GB"
    assert lines["network"] == "allowed"


def test_every_missing_asset_is_listed_with_its_remedy(home, capsys):
    assert cli.main(["doctor"]) == 1
    lines, problems = report(capsys)
    assert problems == [f"✗ {name}: not fetched. Run `labkit fetch {name}`." for name in load_manifest()]
    assert {lines[name] for name in load_manifest()} == {"not fetched"}
    assert "5 to fix." in lines


def test_a_missing_extra_is_a_problem_with_its_remedy(filled, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest))
    assert not doctor()
    lines, problems = report(capsys)
    assert problems == ['✗ peft, which notebooks need, is not installed: run `pip install ".[peft]"`.']
    assert (lines["peft"], lines["bitsandbytes"]) == ("not installed", importlib.metadata.version("bitsandbytes"))


def test_looking_writes_nothing(home, capsys):
    doctor()
    assert list(home.iterdir()) == []


def test_a_damaged_asset_is_found(filled, capsys):
    (asset_folder(load_manifest()["hpo"]) / "file").write_bytes(b"c0ntent")
    assert not doctor()
    lines, problems = report(capsys)
    assert problems == ["✗ hpo: file is damaged. Run `labkit fetch hpo`."]
    assert (lines["hpo"], lines["minilm"]) == ("file is damaged", "ready")


@pytest.mark.parametrize(
    ("shortage", "words"),
    [({"memory": 4.9}, ("memory", "close other programs")), ({"disk": 0.9}, ("disk", "LABKIT_HOME"))],
)
def test_too_little_room_is_a_problem(filled, monkeypatch, capsys, shortage, words):
    room(monkeypatch, **shortage)
    assert not doctor()
    _, (problem,) = report(capsys)
    assert all(word in problem for word in words)


def test_a_home_below_a_file_is_a_problem(home, monkeypatch, capsys):
    (home / "file").write_text("not a folder")
    monkeypatch.setenv("LABKIT_HOME", str(home / "file" / "lab"))
    assert not doctor()
    _, problems = report(capsys)
    assert problems[0] == f"✗ {home / 'file' / 'lab'} cannot be written: set LABKIT_HOME to a folder of your own."


def test_a_home_that_is_read_only_is_a_problem(filled, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # chmod would not stop the superuser
    assert not doctor()
    _, (problem,) = report(capsys)
    assert problem.startswith(f"✗ {filled} cannot be written")


def test_a_home_that_is_not_yet_there_is_no_problem(home, monkeypatch, capsys):
    monkeypatch.setenv("LABKIT_HOME", str(home / "later" / "lab"))
    doctor()
    assert not any("cannot be written" in problem for problem in report(capsys)[1])


def test_a_processor_is_named_and_its_bfloat16_is_hardware_where_it_says_so(filled, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["labkit.diagnosis"], "processor", lambda device: "Some Processor")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert doctor()
    lines, _ = report(capsys)
    assert (lines["processor"], lines["bfloat16"]) == ("Some Processor", "in hardware")


def test_a_precision_that_does_not_exist_is_a_problem_of_the_environment(filled, monkeypatch, capsys):
    monkeypatch.setenv("LABKIT_PRECISION", "int3")
    assert not doctor()
    assert "no precision called 'int3'" in report(capsys)[1][0]


def test_offline_mode_is_shown(filled, monkeypatch, capsys):
    monkeypatch.setenv("LABKIT_OFFLINE", "1")
    doctor()
    assert report(capsys)[0]["network"] == "off (offline mode)"


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((7, 5), "float16 (16-bit, with loss scaling)"), ((8, 0), "bfloat16 (16-bit)")],
)
def test_a_gpu_is_shown_with_its_own_memory(filled, monkeypatch, capsys, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12 * GIGABYTE, 16 * GIGABYTE))
    assert doctor()
    lines, _ = report(capsys)
    assert lines["device"] == "cuda (Some GPU)"
    assert lines["bfloat16"].startswith("in hardware") == (capability == (8, 0))
    assert lines["precision"] == precision
    assert lines["free memory"] == "12.0 GB"
