"""The cell that installs the course, and the rule that nothing is installed by a name which others could register."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.utils.text import DollarFormatter

ROOT = Path(__file__).resolve().parents[2]
ADDRESS, COMMIT = "https://example.org/teacher/course.git", "0123456789abcdef0123456789abcdef01234567"
spec = importlib.util.spec_from_file_location("install_cell", ROOT / "tools" / "install_cell.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def run(cell, monkeypatch, installed=False):
    """Run a cell as IPython does, with a pip that only records what it is asked for and then provides labkit."""
    asked, labkit = [], types.ModuleType("labkit")
    monkeypatch.setitem(sys.modules, "labkit", labkit if installed else None)
    names = {}

    def magic(name, line):
        asked.append((name, *shlex.split(DollarFormatter().vformat(line, args=[], kwargs=names))))
        monkeypatch.setitem(sys.modules, "labkit", labkit)

    names["get_ipython"] = lambda: types.SimpleNamespace(run_line_magic=magic)
    exec(TransformerManager().transform_cell(cell), names)
    assert names["lk"] is labkit
    return asked


def test_every_lesson_begins_with_the_cell_that_the_command_writes():
    assert tool.lessons()
    for path in tool.lessons():
        found = re.search("git\\+.*@([0-9a-f]{40})", path.read_text(encoding="utf-8"))
        cell = tool.install_cell(tool.repository(), found[1] if found else "", path.name)
        assert tool.rewritten(path, cell) == path.read_text(encoding="utf-8"), path.name
        assert len(cell.splitlines()) <= (
            18 if path.name.startswith("12") else 16
        )  # its extras need a line of their own


def test_a_notebook_installs_every_extra_whose_packages_it_imports():
    brings = {"trl": "trade", "datasketch": "curation", "sklearn": "curation", "peft": "peft", "bitsandbytes": "quant"}
    brings |= {"openai": "trade"}
    for path in tool.lessons():
        source = "".join(
            "".join(cell["source"])
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if cell["cell_type"] == "code"
        )
        installed = re.search(r"\[([a-z,]+)\]", tool.install_cell(notebook=path.name))[1].split(",")
        for package, extra in brings.items():
            if re.search(rf"(import|from) {package}\b", source):
                assert extra in installed, path.name


def test_the_cell_finds_the_course_and_nothing_else(tmp_path, monkeypatch, capsys):
    course, other = tmp_path / "Kurs für alle", tmp_path / "other project"
    (course / "notebooks" / "deep").mkdir(parents=True)
    (course / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes().replace(b"\n", b"\r\n"))
    other.mkdir()
    (other / "pyproject.toml").write_bytes(b'[project]\nname = "other"\n# \xff\n')
    for cell in (tool.install_cell(), tool.install_cell(ADDRESS, COMMIT)):
        monkeypatch.chdir(other)  # where labkit can be imported, nothing happens
        assert run(cell, monkeypatch, installed=True) == []
        for folder in (course, course / "notebooks", course / "notebooks" / "deep", tmp_path):
            monkeypatch.chdir(folder)
            assert run(cell, monkeypatch) == [("pip", "install", "--quiet", f"{course}[lab,quant,peft]")]
    monkeypatch.chdir(other)
    assert run(cell, monkeypatch) == [
        ("pip", "install", "--quiet", f"finetune-labkit[lab,quant,peft] @ git+{ADDRESS}@{COMMIT}")
    ]
    with pytest.raises(ImportError, match="isn't inside the course's folder; clone"):
        run(tool.install_cell(), monkeypatch)
    assert capsys.readouterr() == ("", "")


def test_the_command_rewrites_all_cells_or_none(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    project = tmp_path / "pyproject.toml"
    project.write_text(f'[project]\nname = "finetune-labkit"\nurls.Repository = "{ADDRESS}"\n')
    before = {}
    for path in tool.lessons():
        before[path.name] = path.read_bytes()
        (tmp_path / "notebooks" / path.name).write_bytes(before[path.name])
    notebook = json.loads(before["00_start_here.ipynb"])  # some tools write a cell's lines as one text
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    before["one_text.ipynb"] = (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()
    (tmp_path / "notebooks" / "one_text.ipynb").write_bytes(before["one_text.ipynb"])

    def now():
        return {path.name: path.read_bytes() for path in (tmp_path / "notebooks").iterdir()}

    tool.main(["--commit", COMMIT], tmp_path)
    for name, text in now().items():
        old, new = json.loads(before[name]), json.loads(text)
        assert f"git+{ADDRESS}@{COMMIT}" in text.decode()
        first = next(index for index, cell in enumerate(old["cells"]) if cell["cell_type"] == "code")
        assert old["cells"][first].pop("source") != new["cells"][first].pop("source")
        assert old == new  # outputs and execution counts too
    project.write_text('[project]\nname = "finetune-labkit"\n')
    tool.main([], tmp_path)
    assert now() == before

    (tmp_path / "notebooks" / "zz.ipynb").write_bytes(before["00_start_here.ipynb"].replace(b"except Imp", b"except _"))
    project.write_text(f'[project]\nname = "finetune-labkit"\nurls.Repository = "{ADDRESS}"\n')
    for commit in (COMMIT, "main"):
        with pytest.raises(SystemExit):
            tool.main(["--commit", commit], tmp_path)
    (tmp_path / "notebooks" / "zz.ipynb").unlink()
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)  # as if the computer stopped there
    with pytest.raises(ZeroDivisionError):
        tool.main(["--commit", COMMIT], tmp_path)
    assert now() == before


def test_nothing_but_a_plain_address_goes_into_a_command():
    for address in (
        "git@host:a/b",
        "http://a.org/b",
        "https://a.org",
        "https://a.org/b c",
        'https://a.org/"; rm',
        "{x}",
    ):
        with pytest.raises(SystemExit, match="address"):
            tool.install_cell(address, COMMIT)
    for commit in ("", "main", COMMIT[:12], COMMIT + '"'):
        with pytest.raises(SystemExit, match="commit"):
            tool.install_cell(ADDRESS, commit)


TOOLS = r"(?:pip3?|conda|pipx|uv tool|uv pip) (?:install|download|wheel|run)|uvx|uv add"
COMMAND = re.compile(rf"\b(?:{TOOLS}) ([^\n`;|)]*)")
TAKES_A_FILE = {"-c", "--constraint", "-r", "--requirement", "--index-url", "-i", "--dest"}


def installs(text):
    """Yield what the commands in a text install: names, addresses and paths."""
    text = re.sub(r'",\s*"', " ", text)  # a command as a list of strings
    for command in COMMAND.finditer(text):
        words = iter(re.findall(r'"[^"]*"|\'[^\']*\'|[^\s"\',)]+', command[1].split(" #")[0]))
        for word in words:
            if word in TAKES_A_FILE:
                next(words, None)
            elif not word.startswith("-") and word != "]":  # the end of a command as a list
                yield word.strip("\"'")


def requirement_name(requirement):
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def held_by_others():
    project = tool.tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [item for extra in project["optional-dependencies"].values() for item in extra]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return {requirement_name(item) for item in [*project["dependencies"], *extras, *lock]}


def is_safe(word, known):
    path = word.startswith((".", "/")) or word == "{course[0]}"
    return path or (requirement_name(word) in known and "://" not in word) or word == "git+ADDRESS@COMMIT"


def test_nothing_in_the_repository_installs_a_name_that_nobody_holds():
    known = held_by_others()
    assert "torch" in known
    assert "finetune-labkit" not in known
    for bad in (
        "%pip install -q finetune-labkit",
        '["pip", "install", "labkit"]',
        "uvx labkit",
        "pip install torch nobody",
    ):
        assert not all(is_safe(word, known) for word in installs(bad)), bad
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    names = [name for name in listed.split("\0") if name and not name.startswith("data/results/")]
    seen = 0
    for name in set(names) - {Path(__file__).relative_to(ROOT).as_posix()}:
        # Not all is UTF-8: data/inbox.csv is in the encoding of Windows on purpose.
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace") if (ROOT / name).is_file() else ""
        if name.endswith(".ipynb"):
            text = text.replace('\\"', '"').replace("\\n", "\n")
        if name == "Makefile":
            text = text.replace("$(TORCH)", "torch").replace("$(call install,", "pip install $(")
            while "$(" in text:
                text = re.sub(r"\$\([^()]*\)", "", text)
        for word in installs(text):
            seen += 1
            assert is_safe(word, known), f"{name} installs {word!r}"
    assert seen > 15


def test_every_asset_that_pip_downloads_is_pinned_to_its_contents():
    manifest = tool.tomllib.loads((ROOT / "labkit" / "assets" / "manifest.toml").read_text(encoding="utf-8"))
    assert all(re.fullmatch("[0-9a-f]{64}", asset["sha256"]) for asset in manifest.values())
