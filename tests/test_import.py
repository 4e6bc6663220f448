"""``import labkit`` and ``labkit --help`` are light, and every name is there when it is first used."""

import ast
import pydoc
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import labkit as lk

HEAVY = ("torch", "transformers", "numpy", "pandas", "matplotlib")


def in_a_new_process(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_neither_the_import_nor_help_loads_a_heavy_library():
    for lines in ("import labkit", "import labkit.cli; labkit.cli.main(['plan', '--help'])"):
        code = f"""
import sys
try:
    {lines}
except SystemExit as end:
    assert end.code == 0
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""
        assert in_a_new_process(code).endswith("heavy: []\n"), lines


def test_python_m_labkit_is_the_command(monkeypatch):
    shown = subprocess.run(
        [sys.executable, "-m", "labkit", "plan", "--help"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("usage: labkit plan")
    monkeypatch.setattr("labkit.cli.main", lambda: 1)
    with pytest.raises(SystemExit) as end:
        runpy.run_module("labkit", run_name="__main__")
    assert end.value.code == 1


def test_names_come_in_any_order_from_any_number_of_threads():
    # All threads begin at once, some with a module of a package and some with the package.
    in_a_new_process("""
import importlib, pickle, threading
import labkit as lk

begin, problems = threading.Barrier(2 * len(lk.__all__)), []

def take(name):
    try:
        begin.wait()
        getattr(lk, name)
    except BaseException as problem:
        problems.append((name, repr(problem)))

names = [*lk.__all__, *reversed(lk.__all__)]
threads = [threading.Thread(target=take, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not problems, problems

import labkit.experiment, labkit.planning.plan, labkit.methods.merge, labkit.cli
for name in ("finetune", "plan", "merge", "doctor"):
    assert callable(getattr(lk, name)), name
assert pickle.loads(pickle.dumps(lk.LoRA(rank=4))) == lk.LoRA(rank=4)
assert pickle.loads(pickle.dumps(lk.finetune)) is lk.finetune
""")


def test_the_list_of_names_the_table_and_what_editors_read_agree():
    tree = ast.parse(Path(lk.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    homes = {alias.name: statement.module for statement in block.body for alias in statement.names}
    assert sorted(lk.__all__) == sorted(homes) == sorted(dir(lk))
    table = {name: module for module, names in lk._HOMES.items() for name in names.split()}
    assert table == homes


def test_all_names_are_found_by_star_imports_and_by_help():
    space = {}
    exec("from labkit import *", space)
    assert space.keys() - {"__builtins__"} == set(lk.__all__)
    page = pydoc.plain(pydoc.render_doc(lk))
    assert "finetune(" in page
    assert "class LoRA(" in page


def test_no_name_is_both_a_module_and_something_else():
    modules = {path.stem for path in Path(lk.__file__).parent.iterdir() if path.suffix in ("", ".py")}
    assert not modules & set(lk.__all__)


def test_rooms_are_there_and_other_names_are_not():
    assert lk.evaluation.drift.__module__ == "labkit.evaluation.vectors"
    for name in ("finetun", "_private", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(lk, name)
    with pytest.raises(ImportError, match="nosuch"):
        from labkit import nosuch  # noqa: F401


def test_a_library_that_a_room_needs_and_lacks_is_named(monkeypatch, tmp_path):
    (tmp_path / "room.py").write_text("import nosuch_library")
    monkeypatch.setattr(lk, "__path__", [*lk.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="nosuch_library"):
        lk.room  # noqa: B018
