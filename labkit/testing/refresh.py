"""Execute notebooks anew, say which outputs changed and why, and store the new ones: ``labkit refresh``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabkitError
from labkit.testing import provenance
from labkit.testing.comparison import changes, is_compared, load_nbval
from labkit.testing.execution import TIMEOUT, execute
from labkit.testing.notebooks import code_cells, find, name_of, read, write

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True)
class Refreshed:
    """What became of a notebook.

    Attributes:
        path: of the notebook.
        compared: how many cells have stored outputs that count.
        changed: what differs beyond tolerance, by cell.
        why: what may have changed the outputs; empty where none did.
        problem: why it could not be executed; None if it was.
        written: whether new outputs were stored.
    """

    path: Path
    compared: int = 0
    changed: Mapping[str, list[str]] = field(default_factory=dict)
    why: str = ""
    problem: LabkitError | None = None
    written: bool = False

    @property
    def agrees(self) -> bool:
        """Whether the notebook ran, and its outputs are the stored ones within tolerance."""
        return not self.changed and self.problem is None

    def __str__(self) -> str:
        if self.problem:
            return f"{self.path}: {self.problem}"
        lines = []
        for name, told in self.changed.items():
            lines += [f"  {name}", *(f"    {line}" for line in told)]
        count = f"{len(self.changed)} of {self.compared} compared cells changed beyond tolerance"
        count = count if self.compared else "no cell has stored outputs that are compared"
        end = " The new outputs are stored." if self.written else ""
        why = [f"  {line}" for line in self.why.splitlines()]
        return "\n".join([f"{self.path}: {count}.{end}", *lines, *why])


def refresh(places: Iterable[Path] = (), store: bool = False, timeout: int = TIMEOUT) -> Iterator[Refreshed]:
    """Execute notebooks and compare their outputs with the stored ones, one after the other.

    Args:
        places: notebooks, and folders of them; all in the folder ``notebooks`` by default.
        store: put the new outputs and the record of how they were made into a notebook all of whose cells ran, unless
            its outputs agree and were made under the same circumstances.
        timeout: seconds that a cell may take.
    """
    for path in [*find(places)]:
        try:
            yield _refresh(path, store, timeout)
        except LabkitError as problem:
            yield Refreshed(path, problem=problem)


def _refresh(path: Path, store: bool, timeout: int) -> Refreshed:
    load_nbval()  # rather than find out after minutes that it is missing
    stored = read(path)
    in_python = stored.metadata.get("kernelspec", {}).get("language", "python") == "python"
    around = (provenance.begin(), provenance.end(stored, path.parent)) if in_python else ("", "")
    done = execute(stored, path.parent, *around, timeout)  # a cell that fails ends it here: the file stays as it is
    now = provenance.record(done.notebook, done.answer or {})
    compared, changed = 0, {}
    for index, (old, new) in enumerate(zip(stored.cells, done.notebook.cells, strict=True)):
        if old.cell_type == "code":
            compared += is_compared(old)
            if told := changes(old, new):
                changed[name_of(stored, index).rstrip(",")] = told
    why = provenance.explain(stored, now) if changed else ""
    written = store and (bool(changed) or _is_stale(stored, done.notebook, now))
    if written:
        done.notebook.metadata[provenance.KEY] = now
        write(path, done.notebook)
    return Refreshed(path, compared, changed, why, written=written)


def _is_stale(stored: NotebookNode, new: NotebookNode, now: Mapping[str, Any]) -> bool:
    """Return whether outputs that agree, or don't count, were made otherwise than they are now, or by nobody knows."""
    then = stored.metadata.get(provenance.KEY, {})
    return (
        then.get("version") != provenance.VERSION
        or then["outputs"] != provenance.outputs_hash(stored)
        or bool(provenance.causes(then, now))
        or [cell.execution_count for cell in code_cells(stored)] != [cell.execution_count for cell in code_cells(new)]
    )
