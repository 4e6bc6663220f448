"""Measure how long notebooks take, what memory they hold and how much they compute: ``labkit budget``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from labkit.computer import circumstances
from labkit.errors import LabkitError
from labkit.models.precision import pick_device, pick_precision
from labkit.storage.cache import course_data
from labkit.storage.files import write_text
from labkit.storage.records import read_json, stamped
from labkit.testing import operations
from labkit.testing.budget_table import FAST, with_figures
from labkit.testing.execution import execute, planted
from labkit.testing.measured import Measured
from labkit.testing.notebooks import find, read
from labkit.testing.peak import Watch

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What makes torch compute as on an older processor, or in fewer threads: it is stored with the figures.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "LABKIT_PRECISION",
    "MKL_ENABLE_INSTRUCTIONS",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
)


def budget(places: Iterable[Path] = (), count: bool = False, store: bool = False) -> Iterator[Measured]:
    """Execute notebooks one after the other, and yield what each took.

    Args:
        places: notebooks, and folders of them; all in the folder ``notebooks`` by default.
        count: count operations too, in a second run: the first is measured undisturbed.
        store: put the figures into ``data/budget.json``, beside those of other kinds of processors, and the README.

    Raises:
        LabkitError: figures of notebooks that aren't the course's are to be stored.
    """
    paths = [*find(places)]
    own = course_data().parent / "notebooks"
    if store and not all(path.resolve().is_relative_to(own) for path in paths):
        raise LabkitError("data/budget.json holds figures of the course's notebooks.", "Leave --write out.")
    device = pick_device()
    precision = pick_precision("auto", device)
    limited = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    kind, made = kind_of(device, precision), circumstances(device, precision) | {"environment": limited}
    for path in paths:
        try:
            notebook = read(path)
            with Watch() as watch:
                seconds = execute(notebook, path.parent).seconds
            found = count_operations(notebook, path.parent) if count else None
        except LabkitError as problem:
            yield Measured(path, kind, made, problem=problem)
            continue
        measured = Measured(path, kind, made, seconds, watch.take(), found)
        if store:
            put(course_data() / "budget.json", measured)
        yield measured


def kind_of(device: torch.device, precision: torch.dtype) -> str:
    """Return the kind of processor by what makes it fast: arithmetic in 16 bits, or its widest instructions."""
    if device.type == "cuda":
        return "CUDA"
    return FAST if precision == torch.bfloat16 else torch.backends.cpu.get_cpu_capability()


def count_operations(notebook: NotebookNode, folder: Path) -> int | None:
    """Return how many floating-point operations a notebook's products take; None in a kernel without torch."""
    begin = f"{planted(operations)}_labkit_operations.begin()"
    before = f"import importlib.util\nif importlib.util.find_spec('torch'):\n    exec({begin!r})"
    after = (
        "import sys\nfrom IPython.display import display\ncounter = sys.modules.get('_labkit_operations')\n"
        "display({'application/json': counter.found() if counter else {}}, raw=True)"
    )
    counts = execute(notebook, folder, before, after).answer
    return sum(counts.values()) if counts else None


def put(path: Path, measured: Measured) -> None:
    """Put figures into the file, in place of those of the same notebook on the same kind of processor, and the README.

    Operations don't depend on the processor, and are kept until they are counted again.
    """
    stored = read_json(path, "budget", ("kinds", "operations")) if path.exists() else {"kinds": {}, "operations": {}}
    name, figures = measured.path.stem, {"seconds": round(measured.seconds, 1), "peak_bytes": measured.peak}
    of_kind = {**stored["kinds"].get(measured.kind, {}), name: figures | measured.made}
    kinds = {**stored["kinds"], measured.kind: dict(sorted(of_kind.items()))}
    counts = stored["operations"]
    if measured.operations is not None:
        counts = dict(sorted({**counts, name: {"count": measured.operations, **measured.made}}.items()))
    content = stamped("budget", {"kinds": dict(sorted(kinds.items())), "operations": counts})
    write_text(path, json.dumps(content, indent=1) + "\n")
    readme = path.parent.parent / "README.md"
    if readme.is_file():
        write_text(readme, with_figures(readme.read_text(encoding="utf-8"), content))
