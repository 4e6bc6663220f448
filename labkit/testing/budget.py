"""Measure how long notebooks take, what memory they hold and how much they compute: ``labkit budget``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from labkit.computer import circumstances
from labkit.errors import LabkitError
from labkit.models.precision import pick_device, pick_precision
from labkit.storage.cache import course_data
from labkit.storage.files import write_text
from labkit.storage.records import read_json, stamped
from labkit.testing import operations
from labkit.testing.budget_table import with_figures
from labkit.testing.execution import execute, planted
from labkit.testing.notebooks import find, read
from labkit.testing.peak import Watch

if TYPE_CHECKING:
    from nbformat import NotebookNode

FAST = "AVX512-BF16"
SECONDS = {FAST: (90, 60), "CUDA": (90, 60)}  # on two cores: the most for a notebook, and for the mean of all
SECONDS_ELSEWHERE = (240, 180)
PEAK = 3.5e9  # bytes
# What makes torch compute as on an older processor, or in fewer threads: it is stored with the figures.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "LABKIT_PRECISION",
    "MKL_ENABLE_INSTRUCTIONS",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
)
HEADING = f"{'notebook':<26}{'seconds':>8}{'limit':>7}{'GB':>7}{'limit':>7}{'operations':>13}  made with"


@dataclass(frozen=True)
class Measured:
    """What a notebook took.

    Attributes:
        path: of the notebook.
        kind: of the processor, such as AVX512-BF16 or AVX2.
        made: date, processor, threads, precision, versions, and variables of the environment that slow torch down.
        seconds: from the start of the kernel to its end.
        peak: the most bytes that the kernel and its processes held.
        operations: floating-point operations of products, if they were counted.
        problem: why it could not be executed.
    """

    path: Path
    kind: str
    made: dict[str, Any]
    seconds: float = 0.0
    peak: int = 0
    operations: int | None = None
    problem: LabkitError | None = None

    def __str__(self) -> str:
        if self.problem:
            return f"{self.path.stem:<26}{self.problem}"
        limit = limits(self.kind)[0]
        count = "–" if self.operations is None else f"{self.operations:.2e}"
        over = [f"{self.seconds - limit:.0f} s"] * (self.seconds > limit)
        over += [f"{(self.peak - PEAK) / 1e9:.2f} GB"] * (self.peak > PEAK)
        by = f"{self.made['processor']}, {self.kind}, {self.made['precision']}, {self.made['threads']} threads"
        return (
            f"{self.path.stem:<26}{self.seconds:>8.1f}{limit:>7}{self.peak / 1e9:>7.2f}{PEAK / 1e9:>7.1f}{count:>13}"
            f"  {by}{'; over by ' + ' and '.join(over) if over else ''}"
        )


def limits(kind: str) -> tuple[int, int]:
    """Return the most seconds that a notebook may take on a kind of processor, and the mean of all."""
    return SECONDS.get(kind, SECONDS_ELSEWHERE)


def mean(measured: Iterable[Measured]) -> str:
    """Return a line with the mean time, where several notebooks ran."""
    ran = [each for each in measured if each.problem is None]
    if len(ran) < 2:
        return ""
    seconds, limit = sum(each.seconds for each in ran) / len(ran), limits(ran[0].kind)[1]
    over = f"; over by {seconds - limit:.0f} s" if seconds > limit else ""
    return f"{'mean':<26}{seconds:>8.1f}{limit:>7}{over}"


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
