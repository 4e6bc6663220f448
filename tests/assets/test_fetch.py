"""Assets come from wheels built here, which the real pip takes from a folder: no test needs a network."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
from safetensors import SafetensorError

from labkit.assets import download, fetch, manifest
from labkit.errors import LabkitError

PACKAGE = Path(fetch.__file__).parents[1]
FILES = {"toy_data/data/a.txt": "first\n", "toy_data/data/b.txt": "second\n", "toy_data/code.py": "raise SystemExit\n"}


def make_wheel(folder: Path, files: dict[str, str]) -> Path:
    wheel = folder / "toy_data-1.0-py3-none-any.whl"
    info = {
        "METADATA": "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as bundle:
        for name, text in {**files, **{f"toy_data-1.0.dist-info/{name}": text for name, text in info.items()}}.items():
            bundle.writestr(name, text)
    return wheel


@pytest.fixture
def home(tmp_path):
    return tmp_path / "Ort für Größe"


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    return folder


@pytest.fixture
def stock(tmp_path, home, index, monkeypatch):
    """Return a function that makes "toy" the only asset, and its wheel the only one that pip finds."""
    for variable in ("LABKIT_OFFLINE", "HF_HUB_OFFLINE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    settings = {"LABKIT_HOME": home, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": index, "PIP_CONFIG_FILE": os.devnull}
    for variable, value in settings.items():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.setattr(manifest, "MANIFEST", tmp_path / "manifest.toml")
    monkeypatch.setattr(fetch, "_verified", set())

    def put(files: dict[str, str] = FILES, **changes) -> Path:
        wheel = make_wheel(index, files)
        entry = {
            "package": "toy-data",
            "version": "1.0",
            "wheel": wheel.name,
            "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
            "megabytes": 1,
            "members": ["toy_data/data/*.txt"],
            "kind": "text",
            "description": "a toy",
            "licence": "none",
            "source": "made up",
            **changes,
        }
        # JSON's strings, numbers, booleans and lists are TOML's as well.
        lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
        manifest.MANIFEST.write_text("\n".join(["[toy]", *lines]))
        manifest.load_manifest.cache_clear()
        return wheel

    yield put
    manifest.load_manifest.cache_clear()


@pytest.fixture
def fake_pip(tmp_path, monkeypatch):
    """Return a function that makes ``python -m pip`` run the given code instead."""

    def install(code: str) -> None:
        package = tmp_path / "fake" / "pip"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(package.parent))

    return install


def assets_in(home: Path) -> list[str]:
    """List everything that lies in the cache, hidden leftovers included."""
    return sorted(os.listdir(home / "assets"))


def forget() -> None:
    """Make the next call look at the files again, as a new process would."""
    fetch._verified.clear()


def test_a_good_wheel_becomes_files_with_a_receipt(stock, home):
    wheel = stock()
    folder = fetch.ensure("toy")
    assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt", "receipt.json"}
    assert (folder / "a.txt").read_text() == "first\n"
    receipt = json.loads((folder / "receipt.json").read_text())
    assert receipt["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert receipt["files"] == {
        name: [len(content), hashlib.sha256(content).hexdigest()]
        for name, content in (("a.txt", b"first\n"), ("b.txt", b"second\n"))
    }
    assert assets_in(home) == [folder.name]


def test_a_cached_asset_needs_neither_pip_nor_network(stock, monkeypatch):
    wheel = stock()
    folder = fetch.ensure("toy")
    wheel.unlink()
    forget()
    monkeypatch.setenv("LABKIT_OFFLINE", "1")
    assert fetch.ensure("toy") == folder


def test_an_archive_may_be_kept_whole(stock):
    wheel = stock(keep_archive=True)
    folder = fetch.ensure("toy")
    assert {path.name for path in folder.iterdir()} == {wheel.name, "receipt.json"}
    assert (folder / wheel.name).read_bytes() == wheel.read_bytes()


def test_a_wrong_checksum_is_refused_with_both_checksums(stock, home):
    wheel = stock(sha256="0" * 64)
    with pytest.raises(LabkitError, match="checksum") as caught:
        fetch.ensure("toy")
    assert "0" * 64 in caught.value.cause
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() in caught.value.cause
    assert "mirror" in caught.value.remedy
    assert assets_in(home) == []


def test_labkit_checks_the_archive_itself_too(stock, home, fake_pip):
    wheel = stock()
    good = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fake_pip(
        "import pathlib, sys\nfolder = pathlib.Path(sys.argv[sys.argv.index('--dest') + 1])\n"
        f"(folder / {wheel.name!r}).write_text('altered')"
    )
    with pytest.raises(LabkitError) as caught:
        fetch.ensure("toy")
    assert good in caught.value.cause
    assert hashlib.sha256(b"altered").hexdigest() in caught.value.cause
    assert assets_in(home) == []


def spoil_same_size(folder):
    (folder / "a.txt").write_text("fir5t\n")


def spoil_truncate(folder):
    (folder / "a.txt").write_text("fir")


def spoil_missing(folder):
    (folder / "a.txt").unlink()


def spoil_receipt_missing(folder):
    (folder / "receipt.json").unlink()


def spoil_receipt_cut(folder):
    (folder / "receipt.json").write_text('{"files": {"a.t')


def spoil_receipt_empty(folder):
    (folder / "receipt.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "remark"),
    [
        (spoil_same_size, "a.txt is damaged"),
        (spoil_truncate, "a.txt is damaged"),
        (spoil_missing, "a.txt is missing"),
        (spoil_receipt_missing, "the receipt is missing or unreadable"),
        (spoil_receipt_cut, "the receipt is missing or unreadable"),
        (spoil_receipt_empty, "the receipt is missing or unreadable"),
    ],
)
def test_a_spoilt_asset_is_fetched_again(stock, home, capsys, spoil, remark):
    stock()
    folder = fetch.ensure("toy")
    spoil(folder)
    forget()
    assert fetch.ensure("toy") == folder
    assert f"toy: {remark}; fetching it again" in capsys.readouterr().err
    assert fetch.find_damage(folder) == ""
    assert (folder / "a.txt").read_text() == "first\n"
    assert assets_in(home) == [folder.name]


def test_a_receipt_that_names_no_files_is_none(tmp_path):
    for text in ('{"files": {}}', '{"files": ["a.txt"]}', '{"files": {"a.txt": 3}}', "[]", "\xff"):
        (tmp_path / "receipt.json").write_text(text, encoding="latin-1")
        assert fetch.find_damage(tmp_path) == "the receipt is missing or unreadable"


def test_a_damaged_asset_is_not_replaced_where_it_holds_a_file_of_somebodys_own(stock):
    stock()
    folder = fetch.ensure("toy")
    for spoil, name in [(spoil_truncate, "notes.txt"), (spoil_receipt_missing, "thesis.odt"), (str, "sub/a.txt")]:
        spoil(folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
        forget()
        with pytest.raises(LabkitError, match=f"holds {name}, which labkit did not write"):
            fetch.ensure("toy")
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink()
    assert fetch.ensure("toy") == folder


def test_an_asset_that_a_killed_process_put_aside_is_found_again(stock, monkeypatch):
    stock()
    folder = fetch.ensure("toy")
    folder.rename(folder.with_name(f".{folder.name}.labkit-old"))
    forget()
    monkeypatch.setattr(fetch, "download", None)
    assert fetch.ensure("toy") == folder


def test_a_deleted_folder_is_fetched_again_in_the_same_process(stock):
    stock()
    folder = fetch.ensure("toy")
    shutil.rmtree(folder)
    assert (fetch.ensure("toy") / "a.txt").read_text() == "first\n"


def test_a_new_pin_never_meets_old_files(stock):
    stock()
    old = fetch.ensure("toy")
    stock({"toy_data/data/a.txt": "newer\n"})
    new = fetch.ensure("toy")
    assert (old / "a.txt").read_text() == "first\n"
    assert (new / "a.txt").read_text() == "newer\n"


# torch and transformers, which only a conversion needs, would take these processes seconds to import.
DRIVER = """
import os, signal, sys, time, types
from pathlib import Path

sys.modules["labkit"] = types.ModuleType("labkit")
sys.modules["labkit"].__path__ = [sys.argv[4]]
sys.modules["labkit.assets.gguf"] = types.ModuleType("labkit.assets.gguf")
from labkit.assets import download, fetch, manifest

manifest.MANIFEST = Path(sys.argv[1])
meeting = Path(sys.argv[2])
if sys.argv[3] == "killed":
    fetch.extract = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
(meeting / f"ready-{os.getpid()}").touch()
while not (meeting / "go").exists():
    time.sleep(0.01)
folder = fetch.ensure("toy", progress=False)
print(folder, folder.stat().st_ino)
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts processes which all call ``ensure`` at the same moment."""
    children = []

    def launch(*roles: str) -> list[subprocess.Popen]:
        arguments = [sys.executable, "-c", DRIVER, str(manifest.MANIFEST), str(tmp_path)]
        for role in roles:
            pipe = subprocess.PIPE
            command = [*arguments, role, str(PACKAGE)]
            children.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
        while len(list(tmp_path.glob("ready-*"))) < len(roles):
            assert all(child.poll() is None for child in children)
            time.sleep(0.05)
        (tmp_path / "go").touch()
        return children

    yield launch
    for child in children:
        child.kill()
        child.communicate()


def test_two_processes_may_fill_the_cache_at_once(stock, home, start):
    stock()
    answers = []
    for child in start("ordinary", "ordinary"):
        output, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        answers.append(output.rsplit(maxsplit=1))
    # The same folder, also by its number on the disk: the second one waited, and did not fetch again.
    assert answers[0] == answers[1]
    assert fetch.find_damage(Path(answers[0][0])) == ""
    assert assets_in(home) == [Path(answers[0][0]).name]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_process_leaves_no_asset_and_its_rest_is_swept_up(stock, home, start):
    stock()
    (child,) = start("killed")
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert all(name.startswith(".toy") for name in assets_in(home))
    folder = fetch.ensure("toy")
    assert assets_in(home) == [folder.name]


@pytest.mark.parametrize("variable", ["LABKIT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_with_an_empty_cache_says_how_to_fill_it(stock, home, monkeypatch, variable):
    stock()
    monkeypatch.setenv(variable, "1")
    with pytest.raises(LabkitError, match="offline") as caught:
        fetch.ensure("toy")
    assert str(home) in caught.value.cause
    assert "labkit fetch toy" in caught.value.remedy
    assert variable in caught.value.remedy
    assert assets_in(home) == []


def test_a_package_that_is_not_there_is_named(stock, home):
    stock().unlink()
    with pytest.raises(LabkitError, match=r"toy-data 1\.0") as caught:
        fetch.ensure("toy")
    assert "proxy" in caught.value.remedy
    assert assets_in(home) == []


def test_without_a_network_the_remedy_is_named(stock, home, monkeypatch):
    stock()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(LabkitError, match="could not download") as caught:
        fetch.ensure("toy")
    assert "Check the network" in caught.value.remedy
    assert assets_in(home) == []


@pytest.mark.parametrize(
    ("code", "cause", "remedy"),
    [
        ("raise SystemExit('OSError: [Errno 28] No space left on device')", "disk is full", "LABKIT_HOME"),
        ("raise SystemExit('/usr/bin/python3: No module named pip')", "no pip", "ensurepip"),
        ("raise SystemExit('ERROR: something new')", "ERROR: something new", "Check the network"),
        ("raise SystemExit(3)", "pip said nothing", "Check the network"),
    ],
)
def test_what_pip_says_is_explained(stock, home, fake_pip, code, cause, remedy):
    stock()
    fake_pip(code)
    with pytest.raises(LabkitError) as caught:
        fetch.ensure("toy")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert assets_in(home) == []


def test_an_interrupted_download_leaves_no_pip_behind(stock, home, tmp_path, fake_pip, monkeypatch):
    stock()
    note = tmp_path / "pid"
    fake_pip(
        f"import os, pathlib, time\nnew = pathlib.Path({str(note)!r} + '.new')\nnew.write_text(str(os.getpid()))\n"
        f"new.rename({str(note)!r})\ntime.sleep(600)"
    )
    pause = time.sleep

    def interrupted(seconds):
        if note.exists():
            raise KeyboardInterrupt
        pause(seconds)

    monkeypatch.setattr(download.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch.ensure("toy")
    assert not psutil.pid_exists(int(note.read_text()))
    assert assets_in(home) == []


def test_the_download_shows_a_bar_on_standard_error(stock, capsys):
    stock()
    fetch.ensure("toy")
    seen = capsys.readouterr()
    assert "toy:" in seen.err
    assert "100%" in seen.err
    assert "1.00M/1.00M" in seen.err
    assert seen.out == ""


def test_the_bar_may_be_turned_off(stock, capsys):
    stock()
    fetch.ensure("toy", progress=False)
    assert capsys.readouterr().err == ""


def test_a_home_that_cannot_be_a_folder_is_explained(stock, tmp_path, monkeypatch):
    stock()
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(LabkitError, match="No files can be written") as caught:
        fetch.ensure("toy")
    assert "LABKIT_HOME" in caught.value.remedy


def raising(problem):
    def function(*arguments, **options):
        raise problem

    return function


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_half_written(stock, home, monkeypatch):
    stock()
    monkeypatch.setattr(fetch.shutil, "copyfileobj", raising(FULL))
    with pytest.raises(LabkitError, match="disk is full"):
        fetch.ensure("toy")
    assert assets_in(home) == []


def test_a_full_disk_leaves_the_old_asset_where_it_was(stock, home, monkeypatch):
    stock()
    folder = fetch.ensure("toy")
    spoil_same_size(folder)
    forget()
    monkeypatch.setattr(fetch.shutil, "copyfileobj", raising(FULL))
    with pytest.raises(LabkitError, match="disk is full"):
        fetch.ensure("toy")
    assert assets_in(home) == [folder.name]
    assert (folder / "b.txt").read_text() == "second\n"


@pytest.mark.parametrize(
    ("problem", "raised"),
    [
        (RuntimeError("torn"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (SafetensorError("I/O error: No space left on device (os error 28)"), LabkitError),
    ],
)
def test_a_failed_conversion_leaves_no_asset(stock, home, monkeypatch, problem, raised):
    stock({"toy_data/data/a.gguf": "weights"}, members=["toy_data/data/*.gguf"], convert="gguf")
    monkeypatch.setattr(fetch.gguf, "gguf_to_safetensors", raising(problem))
    with pytest.raises(raised):
        fetch.ensure("toy")
    assert assets_in(home) == []


def test_a_conversion_is_part_of_the_receipt(stock, monkeypatch):
    def rewrite(gguf, folder):
        (folder / "a.safetensors").write_text(gguf.read_text().upper())

    stock({"toy_data/data/a.gguf": "weights"}, members=["toy_data/data/*.gguf"], convert="gguf")
    monkeypatch.setattr(fetch.gguf, "gguf_to_safetensors", rewrite)
    folder = fetch.ensure("toy")
    assert (folder / "a.safetensors").read_text() == "WEIGHTS"
    assert list(json.loads((folder / "receipt.json").read_text())["files"]) == ["a.safetensors"]


def test_an_unknown_asset_is_answered_with_the_valid_names(stock):
    stock()
    with pytest.raises(LabkitError, match="tyo") as caught:
        fetch.ensure("tyo")
    assert "Valid names: toy." in caught.value.remedy


def test_the_encoder_has_the_config_of_its_model():
    config = json.loads((fetch.ensure("minilm") / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]


def test_a_filled_cache_is_readable_by_all_and_needs_no_lock(stock, monkeypatch):
    stock()
    folder = fetch.ensure("toy", progress=False)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in [folder, *folder.rglob("*")])

    def refuse(name):
        raise PermissionError(name)

    monkeypatch.setattr(fetch, "_verified", set())
    monkeypatch.setattr(fetch.cache, "locked", refuse)
    assert fetch.ensure("toy", progress=False) == folder
