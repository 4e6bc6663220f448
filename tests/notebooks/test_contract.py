"""What every notebook promises, checked without running it; nbval runs them."""

import ast
import inspect
import json
import re
from operator import attrgetter
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

import labkit as lk
from labkit.testing.notebooks import read
from labkit.testing.provenance import VERSION, code_hash, outputs_hash

ROOT = Path(__file__).resolve().parents[2]
# JupyterLab keeps copies of its own, in a hidden folder.
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if path.parent.name != ".ipynb_checkpoints")
LESSONS = [path for path in NOTEBOOKS if path.parent.name == "notebooks"]
MACHINE_PATHS = re.compile(r"(/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\Users)")


SUBPLOTS = inspect.signature(plt.subplots).parameters
TAKE_SETTINGS = {"lk.finetune", "lk.plan", "lk.predict_memory", "lk.reinforce", "lk.reward_model"}


def cells(path, kind):
    found = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]
    return [{**c, "source": "".join(c["source"])} for c in found]


def by_name(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda p: p.stem)


def test_there_are_notebooks():
    assert {"00_start_here", "01_full_fine_tuning"} <= {path.stem for path in LESSONS}


@by_name(NOTEBOOKS)
def test_every_code_cell_was_run_and_at_least_70_percent_are_compared(path):
    code = cells(path, "code")
    assert all(cell["execution_count"] for cell in code)
    ignored = sum("NBVAL_IGNORE_OUTPUT" in cell["source"] for cell in code)
    assert ignored <= 0.3 * len(code)


@by_name(NOTEBOOKS)
def test_stored_outputs_hold_no_error_and_no_path_of_one_machine(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            text = json.dumps({k: v for k, v in output.items() if k != "data"}) + json.dumps(
                output.get("data", {}).get("text/plain", "")
            )
            assert not MACHINE_PATHS.search(text), text


@by_name(NOTEBOOKS)
def test_stored_outputs_are_those_of_the_code_and_made_with_the_locked_packages(path):
    notebook = read(path)
    record = notebook.metadata.get("labkit")
    remedy = f"labkit refresh --write {path.relative_to(ROOT)}"
    assert record is not None, f"no record of how the outputs were made: {remedy}"
    assert record["version"] == VERSION
    assert record["code"] == code_hash(notebook), f"the code was changed since: {remedy}"
    assert record["outputs"] == outputs_hash(notebook), f"the outputs were made by other means: {remedy}"
    assert {"name", "system", "instructions", "threads", "precision"} <= record["processor"].keys()
    assert {"labkit", "labkit.models"} <= record["sources"].keys()
    assert all((path.parent / file).is_file() for file in record["data"])
    # A package may have two releases in the lock, for two versions of Python.
    lock = {line.split(" ;")[0] for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()}
    for package in ("torch", "transformers", "numpy"):
        assert f"{package}=={record['packages'][package].split('+')[0]}" in lock


@by_name(NOTEBOOKS)
def test_every_picture_has_words_for_those_who_do_not_see_it(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                words = output["metadata"].get("image/png", {}).get("alt", "")
                assert len(words) >= 40, cell["source"]
                assert " " in words.strip()


@by_name(LESSONS)
def test_a_lesson_opens_and_closes_as_promised(path):
    text = cells(path, "markdown")
    opening, everything = text[0]["source"], "\n".join(cell["source"] for cell in text)
    for part in ("minutes", "The one idea.", "The paper."):
        assert part in opening
    assert everything.count("<details>") >= 3
    assert everything.count("## Exercise") >= 2
    assert everything.count("**Predict.**") >= 2
    assert "glossary.md" in everything
    code = "\n".join(cell["source"] for cell in cells(path, "code"))
    assert code.count("\ncheck.") >= 2
    assert "except ImportError" in cells(path, "code")[0]["source"]


def calls(path):
    """Yield (dotted name, keywords) of every call of labkit in a notebook, such as ``lk.plots.accuracy``."""
    for cell in cells(path, "code"):
        source = re.sub(r"^(\s*)%.*$", r"\1pass", cell["source"], flags=re.MULTILINE)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and re.fullmatch(r"(lk|check)(\.\w+)+", name := ast.unparse(node.func)):
                yield name, [k.arg for k in node.keywords if k.arg]


@by_name(NOTEBOOKS)
def test_every_name_and_keyword_that_a_notebook_uses_exists(path):
    settings = lk.TrainingConfig.__dataclass_fields__
    for name, keywords in calls(path):
        owner, _, path = name.partition(".")
        function = attrgetter(path)({"lk": lk, "check": lk.check}[owner])
        known = inspect.signature(function).parameters
        for keyword in keywords:
            passed_on = settings if name in TAKE_SETTINGS else SUBPLOTS if name == "lk.plots.figure" else ()
            assert keyword in known or keyword in passed_on, f"{name}({keyword}=…)"


def texts():
    """Yield (path, text) of everything written for readers."""
    for path in NOTEBOOKS:
        yield path, "\n".join(cell["source"] for cell in cells(path, "markdown"))
    for pattern in ("*.md", "docs/*.md", "data/*.md", "notebooks/**/*.md"):
        for path in ROOT.glob(pattern):
            yield path, path.read_text(encoding="utf-8")


def test_links_between_files_lead_somewhere():
    for path, text in texts():
        for target in re.findall(r"\]\(([^)#\s]+)\)", text):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_files_and_names_of_the_library_that_texts_mention_exist():
    for path, text in texts():
        if path.name != "CHANGELOG.md":
            for file in re.findall(r"\blabkit(?:/\w+)+(?:\.\w+)?", text):
                assert (ROOT / file).exists(), f"{path.name}: {file}"
            for name in re.findall(r"\blk\.(\w+)", text):
                assert hasattr(lk, name), f"{path.name}: lk.{name}"
