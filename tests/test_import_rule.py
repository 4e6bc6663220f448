"""Imports go one way only; the order is in pyproject.toml, and import-linter checks it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def lint(folder):
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_follow_the_rule():
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 kept, 0 broken" in result.stdout


def test_imports_against_the_rule_are_found(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for source in (ROOT / "labkit").rglob("*.py"):
        copy = tmp_path / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    wrong = {
        "labkit.storage.cache": "labkit.training.config",
        "labkit.methods.lora": "labkit.experiment",
        "labkit.training.loop": "labkit.evaluation",
    }
    for importer, imported in wrong.items():
        with (tmp_path / f"{importer.replace('.', '/')}.py").open("a") as file:
            file.write(f"\n\ndef late():\n    import {imported}\n")

    result = lint(tmp_path)
    assert result.returncode == 1
    for importer, imported in wrong.items():
        assert f"{importer} -> {imported}" in " ".join(result.stdout.split())
