"""What notebooks take is measured, stored beside what other processors measured, and shown in the README."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cells import write_notebook

from labkit import cli
from labkit.errors import LabkitError
from labkit.testing.budget import budget, count_operations, put
from labkit.testing.budget_table import with_figures
from labkit.testing.measured import Measured, mean
from labkit.testing.notebooks import read
from labkit.testing.peak import Watch

ROOT = Path(__file__).resolve().parents[2]
MADE = {"processor": "An EPYC", "threads": 2, "precision": "float32", "date": "2026-01-01"}
PRODUCT = "import torch\nx = torch.ones(64, 32, requires_grad=True)\nw = torch.ones(32, 16)"
BACKWARD = "(x @ w).sum().backward()"


def test_operations_are_counted_across_cells_and_only_of_products(tmp_path):
    write_notebook(tmp_path / "a.ipynb", {1: (PRODUCT, [], None), 2: (BACKWARD, [], None), 3: ("x.exp()", [], None)})
    assert count_operations(read(tmp_path / "a.ipynb"), tmp_path) == 2 * (2 * 64 * 32 * 16)


def test_a_notebook_is_measured(tmp_path, capsys):
    source = "import time\nheld = bytearray(300_000_000)\ntime.sleep(1)\ndel held"
    write_notebook(tmp_path / "a.ipynb", {"": (source, [], None)})
    (measured,) = budget([tmp_path])
    assert measured.seconds > 1
    assert 3e8 < measured.peak < 1e9
    assert measured.operations is None
    write_notebook(tmp_path / "a.ipynb", {"": ("1 / 0", [], None)})
    assert cli.main(["budget", str(tmp_path)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    with pytest.raises(LabkitError, match="the course's notebooks"):
        [*budget([tmp_path], store=True)]


def test_memory_of_children_is_watched_from_one_taking_to_the_next():
    code = "held = bytearray({}); print(flush=True); input()"
    with Watch() as watch:
        for size in (200_000_000, 1000):
            child = subprocess.Popen(
                [sys.executable, "-c", code.format(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            child.stdout.readline()
            watch.take()
            time.sleep(0.5)
            child.communicate(b"\n")
            assert (watch.take() > 200_000_000) == (size > 1000)


def test_limits_stand_beside_what_was_measured():
    slow = Measured(Path("03_x.ipynb"), "AVX2", MADE, 250, int(3.62e9), 1234 * 10**9)
    fast = Measured(Path("04_x.ipynb"), "AVX512-BF16", MADE, 89, int(3.4e9))
    assert str(slow).split()[:6] == ["03_x", "250.0", "240", "3.62", "3.5", "1.23e+12"]
    assert str(slow).endswith("An EPYC, AVX2, float32, 2 threads; over by 10 s and 0.12 GB")
    assert str(fast).split()[:6] == ["04_x", "89.0", "90", "3.40", "3.5", "–"]
    assert str(fast).endswith("threads")
    assert mean([fast, fast]).split() == ["mean", "89.0", "60;", "over", "by", "29", "s"]
    assert mean([fast]) == ""


def test_figures_of_other_processors_and_notebooks_are_kept(tmp_path):
    path = tmp_path / "data" / "budget.json"
    path.parent.mkdir()
    row = "| 03 | x | a b | 9 | 8 | 7 | – |"
    (tmp_path / "README.md").write_text(f"text\n{row}\n| 04 | y | c | 6 | 5 | 4 | – |\n")
    put(path, Measured(Path("03_x.ipynb"), "AVX512-BF16", MADE, 30, int(2.4e9), 10**12))
    assert "| 03 | x | a b | 9 | 0.5 | 7 | 1 |" in (tmp_path / "README.md").read_text()
    put(path, Measured(Path("04_y.ipynb"), "AVX2", MADE, 66, int(2e9)))
    put(path, Measured(Path("03_x.ipynb"), "AVX2", MADE, 60, int(2.44e9)))
    put(path, Measured(Path("03_x.ipynb"), "AVX2", MADE, 90, int(2.55e9)))
    stored = json.loads(path.read_text())
    assert stored["kinds"]["AVX512-BF16"]["03_x"] == {"seconds": 30, "peak_bytes": 2400000000, **MADE}
    assert stored["kinds"]["AVX2"]["03_x"]["seconds"] == 90
    assert stored["operations"] == {"03_x": {"count": 10**12, **MADE}}
    assert (tmp_path / "README.md").read_text().splitlines() == [
        "text",
        "| 03 | x | a b | 1.5 | 0.5 | 2.5 | 1 |",
        "| 04 | y | c | 1.1 | 5 | 4 | – |",
    ]


def test_the_readme_shows_what_is_stored_and_every_lesson_was_measured_on_one_kind_at_least():
    stored = json.loads((ROOT / "data" / "budget.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_figures(readme, stored) == readme
    lessons = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert any(lessons <= figures.keys() for figures in stored["kinds"].values())
