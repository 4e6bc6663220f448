"""``import labkit`` and ``labkit --help`` are light, and every name is there when it is first used."""

import importlib
import pkgutil
import pydoc
import subprocess
import sys
import threading
import time
from operator import attrgetter
from pathlib import Path
from types import ModuleType

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


def test_python_m_labkit_is_the_command():
    command = [sys.executable, "-m", "labkit"]
    shown = subprocess.run([*command, "plan", "--help"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("usage: labkit plan")
    failed = subprocess.run([*command, "plan", "nothing-of-this-name"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "nothing-of-this-name" in failed.stderr


def test_bitsandbytes_says_nothing_whoever_imports_it():
    code = "import labkit, sys, peft, bitsandbytes; print(sys.stdout.name)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("<stdout>\n", "")


def test_names_mean_the_same_whatever_is_imported_first():
    in_a_new_process("""
import importlib, pickle, sys
for first in ("labkit.planning.plan", "labkit.methods.merging", "labkit.experiment"):
    for name in [name for name in sys.modules if name.partition(".")[0] == "labkit"]:
        del sys.modules[name]
    importlib.import_module(first)
    from labkit.methods import merge
    from labkit.planning import estimate, plan, predict_step
    import labkit as lk
    for function in (lk.finetune, lk.plan, lk.merge, lk.doctor, lk.plots.memory, merge, predict_step):
        assert type(function).__name__ == "function", (first, function)
    for module in (lk.check, lk.plots, lk.experiment, lk.memory, plan, estimate):
        assert type(module).__name__ == "module", (first, module)
assert pickle.loads(pickle.dumps(lk.LoRA(rank=4))) == lk.LoRA(rank=4)
assert pickle.loads(pickle.dumps(lk.finetune)) is lk.finetune
""")


def test_no_package_exports_the_name_of_a_module_of_its_own():
    """Otherwise ``from labkit.methods import X`` would depend on what was imported first."""
    assert not {module.name for module in pkgutil.iter_modules(lk.__path__)} & set(lk.__all__)
    for package in [each.name for each in pkgutil.iter_modules(lk.__path__) if each.ispkg]:
        room = importlib.import_module(f"labkit.{package}")
        modules = {module.name for module in pkgutil.iter_modules(room.__path__)}
        exported = {name for name in modules & vars(room).keys() if not isinstance(vars(room)[name], ModuleType)}
        assert not exported, package


def test_a_thread_that_needs_what_another_is_importing_waits_for_it(monkeypatch, tmp_path):
    # One thread imports a package, which takes its time and then needs its module. Another thread begins with the
    # module, which needs the package. Each would wait for the other, and Python would hand out half a module.
    room = tmp_path / "slow"
    room.mkdir()
    (room / "__init__.py").write_text("import time\ntime.sleep(0.3)\nfrom labkit.slow.part import late")
    (room / "part.py").write_text("import labkit.slow\nlate = 3")
    monkeypatch.setattr(lk, "__path__", [*lk.__path__, str(tmp_path)])
    monkeypatch.setitem(lk._HOME_OF, "late", "labkit.slow.part")
    found = {}

    def take(name, path):
        try:
            found[name] = attrgetter(path)(lk)
        except BaseException as problem:
            found[name] = problem

    threads = [threading.Thread(target=take, args=given) for given in (("package", "slow.late"), ("module", "late"))]
    try:
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        assert found == {"package": 3, "module": 3}
    finally:
        for name in ("slow", "late"):
            vars(lk).pop(name, None)
        for name in ("labkit.slow", "labkit.slow.part"):
            sys.modules.pop(name, None)


def test_every_name_is_the_one_that_editors_read_of():
    space = {}
    stub = Path(lk.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    exec(stub, space)
    named = {name: value for name, value in space.items() if not name.startswith("__")}
    assert sorted(lk.__all__) == sorted(dir(lk)) == sorted(named)
    for name, value in named.items():
        assert getattr(lk, name) is value, name


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
