"""What works without the packages of the extras, and what is said where one is missing."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

import labkit as lk
from labkit.extras import EXTRAS, SHIPPING, SOURCES, TOOLS
from labkit.quant.bnb import load_bitsandbytes
from labkit.testing.refresh import refresh

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COURSE = ("lab", "quant", "peft", "curation")


def without(packages, code):
    """Run code in a new process that has none of these packages, and return what it prints."""
    block = f"import sys\nfor name in {packages!r}:\n    sys.modules[name] = None\n"
    result = subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def names(requirements):
    return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}


def test_pyproject_has_each_package_in_its_extra_alone():
    extras = {extra: names(requirements) for extra, requirements in PROJECT["optional-dependencies"].items()}
    for package, extra in (EXTRAS | TOOLS | SOURCES | SHIPPING).items():
        assert [name for name in extras if package in extras[name]] == [extra]
    assert names(PROJECT["dependencies"]).isdisjoint({*EXTRAS, "jupyterlab"})
    assert set(EXTRAS.values()) == {*COURSE}


def test_whatever_installs_the_course_for_its_notebooks_installs_these_extras():
    every = ",".join((*COURSE, "serve", "llama", "trade"))
    for path in ("README.md", ".github/workflows/test.yml", "Makefile"):
        assert every in (ROOT / path).read_text(encoding="utf-8"), path


CODE = """
import importlib, pkgutil
import labkit as lk
for name in lk.__all__:
    try:
        getattr(lk, name)
    except lk.LabkitError:
        print(name)
for module in pkgutil.walk_packages(lk.__path__, "labkit.", onerror=lambda name: None):
    try:
        module.name == "labkit.__main__" or importlib.import_module(module.name)
    except lk.LabkitError:
        print(module.name)
"""


@pytest.mark.parametrize(
    ("packages", "public", "modules"),
    [
        (["bitsandbytes"], [], []),
        (["peft"], [], ["contrib.peft_bottleneck"]),
        (["fastapi"], [], ["serving"]),
        (
            ["ipywidgets"],
            ["ChatWidget", "MemoryPlanner", "QuantizationExplorer", "SideBySide"],
            ["display.chat", "display.explorer", "display.planner", "display.side_by_side"],
        ),
        (
            [*EXTRAS],
            [
                "ChatWidget",
                "MemoryPlanner",
                "QuantizationExplorer",
                "SideBySide",
                "plots",
                "show_episodes",
                "show_masks",
                "show_replies",
            ],
            ["contrib.peft_bottleneck", "display"],
        ),
    ],
    ids=["bitsandbytes", "peft", "fastapi", "widgets", "all"],
)
def test_only_what_needs_a_package_lacks_it(packages, public, modules):
    assert without([*packages, "jupyterlab"], CODE) == [*public, *(f"labkit.{name}" for name in modules)]


def test_the_command_works_without_extras():
    code = "from labkit.cli import main\nmain(['plan', 'llama-7b', '--method', 'full', '--length', '16'])"
    assert without([*EXTRAS, "jupyterlab"], code)[:3] == ["full", "on", "llama-7b,"]


@pytest.mark.parametrize("package", ["ipywidgets", "matplotlib", "peft"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, package):
    needs = {"ipywidgets": "display.planner", "matplotlib": "display", "peft": "contrib.peft_bottleneck"}[package]
    for name in [name for name in sys.modules if name.startswith(f"labkit.{needs}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(lk.LabkitError, match=f"^{package} cannot be used here: .*{package}") as caught:
        importlib.import_module(f"labkit.{needs}")
    assert f'`pip install ".[{EXTRAS[package]}]"`' in caught.value.remedy


@pytest.mark.parametrize("package", TOOLS)
def test_a_tool_that_executes_notebooks_is_asked_for_when_it_is_needed(monkeypatch, tmp_path, package):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    (result,) = refresh([tmp_path])
    assert str(result.problem).startswith(f"{package} cannot be used here: ")
    assert '`pip install ".[test]"`' in result.problem.remedy


def test_without_bitsandbytes_the_other_backend_trains(monkeypatch, tiny, colours):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(lk.LabkitError, match=r"^bitsandbytes cannot be used here") as caught:
        load_bitsandbytes()
    assert '`pip install ".[quant]"`' in caught.value.remedy
    settings = {"steps": 2, "batch_size": 4, "progress": False}
    with pytest.raises(lk.LabkitError, match='backend="labkit"'):
        lk.finetune(tiny, colours, lk.QLoRA(block_size=32), force=True, **settings)
    assert len(lk.finetune(tiny, colours, lk.QLoRA(block_size=32, backend="labkit"), **settings).history) == 2


def test_curation_asks_for_its_packages_when_they_are_needed(monkeypatch):
    rows = [{"text": f"text number {i} of some", "label": "ab"[i % 2]} for i in range(20)]
    for package, module in (("py3langid", "py3langid"), ("scikit-learn", "sklearn"), ("datasketch", "datasketch")):
        for name in [name for name in sys.modules if name.split(".")[0] == module]:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(lk.LabkitError, match=f"^{package} cannot be used here") as caught:
            lk.inspect(rows)
        assert '`pip install ".[curation]"`' in caught.value.remedy


def test_a_task_from_elsewhere_asks_for_its_package(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "reasoning_gym"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(lk.LabkitError, match=r"^reasoning-gym cannot be used here") as caught:
        lk.load_task("reasoning-gym:chain_sum")
    assert '`pip install ".[gym]"`' in caught.value.remedy
