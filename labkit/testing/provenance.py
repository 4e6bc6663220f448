"""The record of what a notebook's outputs were made with, in ``metadata.labkit``; and what differs from it now."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.testing import probe
from labkit.testing.execution import planted
from labkit.testing.notebooks import code_cells

if TYPE_CHECKING:
    from nbformat import NotebookNode

KEY, VERSION = "labkit", 1
IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+(\w+)", re.M)
# What only installs a missing package, and which address it takes it from, computes nothing.
INSTALLS = re.compile(r"^(try:\n {4}import [^\n]+\n)except ImportError.*?\n {4}import [^\n]+$", re.M | re.S)
PROJECT = (".git", "pyproject.toml")  # the folder of a project has one of these


@dataclass(frozen=True)
class Cause:
    """Something that differs from the record.

    Attributes:
        what: what it is, before and now.
        apart: how to tell whether it made the difference.
    """

    what: str
    apart: str


def begin() -> str:
    """Return the code that has to run in the kernel before the first cell."""
    return f"{planted(probe)}_labkit_probe.begin()"


def end(notebook: NotebookNode, folder: Path) -> str:
    """Return the code that has to run after the last cell; it displays what ``record`` takes."""
    imported = {name for cell in code_cells(notebook) for name in IMPORT.findall(cell.source)}
    parents = [folder.resolve(), *folder.resolve().parents]
    root = next((parent for parent in parents if any((parent / mark).exists() for mark in PROJECT)), parents[0])
    return (
        "from IPython.display import display\nimport sys\n"
        f"found = sys.modules['_labkit_probe'].found({sorted(imported)!r}, {str(root)!r}, {str(parents[0])!r})\n"
        "display({'application/json': found}, raw=True)"
    )


def record(notebook: NotebookNode, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a notebook that has just been executed."""
    return {"version": VERSION, "code": code_hash(notebook), "outputs": outputs_hash(notebook), **found}


def code_hash(notebook: NotebookNode) -> str:
    """Return a hash of a notebook's code, without the address that a missing package would be installed from."""
    return _hash([INSTALLS.sub(r"\1", cell.source) for cell in code_cells(notebook)])


def outputs_hash(notebook: NotebookNode) -> str:
    """Return a hash of all stored outputs."""
    return _hash([cell.outputs for cell in code_cells(notebook)])


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def causes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Cause]:
    """Return what differs between two records: packages, processor, own code, and data, each as far as both name it."""
    found = []
    for name, (before, after) in _different(then, now, "packages").items():
        install = f"use Python {before}" if name == "python" else f"install {name}=={before.split('+')[0]} with pip"
        found.append(Cause(f"{name} {before} → {after}", install))
    processor = _different(then, now, "processor")
    threads = processor.pop("threads", None)
    if threads:
        found.append(Cause(f"threads {threads[0]} → {threads[1]}", f"OMP_NUM_THREADS={threads[0]}"))
    if processor:
        before, after = (", ".join(str(pair[side]) for pair in processor.values()) for side in (0, 1))
        precision = processor.get("precision")
        apart = f"LABKIT_PRECISION={precision[0]} computes as then" if precision else "run it on both processors"
        found.append(Cause(f"processor {before} → {after}", apart))
    if then["code"] != now["code"]:
        found.append(Cause("the notebook's own code", "git diff, or git stash"))
    if changed := _different(then, now, "sources"):
        found.append(Cause(f"source of {', '.join(changed)}", "git stash, or git worktree add ../then OLD-COMMIT"))
    if changed := _different(then, now, "data"):
        found.append(Cause(f"data in {', '.join(changed)}", f"git log {' '.join(changed)}"))
    return found


def _different(then: Mapping[str, Any], now: Mapping[str, Any], part: str) -> dict[str, tuple[Any, Any]]:
    before, after = then.get(part, {}), now.get(part, {})
    # What only one of both names is loaded or read by changed code: that is the cause then.
    return {key: (before[key], after[key]) for key in before if key in after and before[key] != after[key]}


def explain(stored: NotebookNode, now: Mapping[str, Any]) -> str:
    """Return why outputs may differ from the stored ones: a dependency, the processor, or the notebook's own code."""
    then = stored.metadata.get(KEY)
    if not then or then.get("version") != VERSION:
        return "There is no record of how the stored outputs were made; --write adds one."
    if then["outputs"] != outputs_hash(stored):
        return "The stored outputs are not those of the record: the notebook was run or edited by other means since."
    found = causes(then, now)
    if not found:
        return (
            "Nothing that is recorded differs: the notebook is not deterministic, or depends on what is not recorded."
        )
    if len(found) == 1:
        return f"Cause: {found[0].what}. Nothing else that is recorded differs."
    lines = [f"  {cause.what}\n    to tell: {cause.apart}" for cause in found]
    return "\n".join([f"{len(found)} things differ. Undo one at a time, and refresh again:", *lines])
