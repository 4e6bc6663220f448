"""Find notebooks, read them and write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabkitError, shown
from labkit.extras import unusable
from labkit.storage.files import write_text

if TYPE_CHECKING:
    from nbformat import NotebookNode


def find(places: Iterable[Path]) -> Iterator[Path]:
    """Yield notebooks: files as they are named, and all in folders and below; in ``notebooks`` where none is named.

    Raises:
        LabkitError: a place has no notebook.
    """
    for place in [*places] or [Path("notebooks")]:
        hidden = ".ipynb_checkpoints"  # where JupyterLab keeps copies
        found = [place] if place.is_file() else sorted(p for p in place.rglob("*.ipynb") if hidden not in p.parts)
        if not found:
            raise LabkitError(f"There is no notebook in {place}.", "Name notebooks, or folders of notebooks.")
        yield from found


def read(path: Path) -> NotebookNode:
    """Return a notebook; raise a ``LabkitError`` if it isn't one, and a ``MissingPackageError`` without nbformat."""
    try:
        import nbformat
    except ImportError as problem:
        raise unusable("nbformat", problem) from problem
    try:
        notebook = nbformat.read(path, nbformat.NO_CONVERT)
        nbformat.validate(notebook)
    except (OSError, ValueError, KeyError, AttributeError, nbformat.ValidationError) as problem:
        reason = getattr(problem, "strerror", None) or shown(str(problem))
        raise LabkitError(f"{path} cannot be read as a notebook: {reason}.", "Name a file of Jupyter's.") from problem
    if notebook.nbformat != 4:
        raise LabkitError(f"{path} has an old format, {notebook.nbformat}.", "Open it in Jupyter, and save it.")
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def write(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook as Jupyter does, under a temporary name first: it is never incomplete."""
    import nbformat

    write_text(path, nbformat.writes(notebook) + "\n")


def name_of(notebook: NotebookNode, index: int) -> str:
    """Return what a person finds a cell of code by: the number that Jupyter shows beside it, and its first line."""
    cell, before = notebook.cells[index], notebook.cells[:index]
    number = cell.execution_count or 1 + sum(each.cell_type == "code" for each in before)
    lines = cell.source.strip().splitlines()
    return f"Cell [{number}], {lines[0]!r}," if lines else f"Cell [{number}]"
