"""Compare new outputs of a cell with the stored ones, by nbval's own rule and the cell's tolerance."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import zip_longest
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from labkit.errors import shown
from labkit.extras import unusable

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What nbval leaves out (``IPyNbFile.skip_compare``): pictures, widgets with their random names, and numbers of cells.
SKIPPED: tuple[str, ...] = ("metadata", "traceback", "prompt_number", "output_type", "name", "execution_count")
SKIPPED += ("application/vnd.jupyter.widget-view+json", "image/png", "image/jpeg")
# tqdm's lines, which name times: "100%|██████| 60/60 [00:05<00:00, 11.3it/s]".
PROGRESS = re.compile(r"^.*\d+%\|.*\| *[\d.,kMG]+/[\d.,kMG?]+ \[.*\].*\n?|^\d+it \[.*\].*\n?", re.M)


def load_nbval() -> Any:
    """Return nbval's module; raise a ``MissingPackageError`` if it isn't installed."""
    try:
        from nbval import plugin
    except ImportError as problem:
        raise unusable("nbval", problem) from problem
    return plugin


def is_compared(cell: NotebookNode) -> bool:
    """Return whether a cell has stored outputs that no mark, such as ``# NBVAL_IGNORE_OUTPUT``, excludes."""
    nbval = load_nbval()
    marks = dict(nbval.find_metadata_tags(cell.metadata)) | dict(nbval.find_comment_markers(cell.source))
    return marks.get("check", True) is True and not marks.get("skip") and cell.execution_count is not None


def changes(stored: NotebookNode, new: NotebookNode) -> list[str]:
    """Return how the outputs of a cell differ from the stored ones beyond its tolerance: nothing where they agree.

    Raises:
        MissingPackageError: nbval, whose rule it is, isn't installed.
    """
    nbval = load_nbval()
    from labkit.testing.nbval_numbers import within_tolerance

    if not is_compared(stored):
        return []
    cell = _Cell(stored)
    test, ref = (nbval.coalesce_streams(copy.deepcopy(each.outputs)) for each in (new, stored))
    if within_tolerance(nbval.IPyNbCell.compare_outputs)(cell, _plain(test), _plain(ref), SKIPPED):
        return []
    told = cell.comparison_traceback
    if "" in told:  # numbers beyond the tolerance come before an empty line, and what nbval says of them after it
        told = told[: told.index("")] or told[1:]
    return [shortened(line) for line in told if line]


def shortened(line: str) -> str:
    """Return a line of at most 240 characters."""
    return line if len(line) <= 240 else f"{line[:160]} … {line[-77:]}"


def _plain(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Return outputs without progress bars."""
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            rest = PROGRESS.sub("", output.text)
            if output.text and not rest:
                continue
            output.text = rest
        kept.append(output)
    return kept


class _Cell:
    """What nbval's comparison needs of a cell of its own."""

    def __init__(self, cell: NotebookNode) -> None:
        self.cell = cell
        self.comparison_traceback: list[str] = []

    @cached_property
    def colors(self) -> Any:
        return SimpleNamespace(OKBLUE="", FAIL="", ENDC="")

    def sanitize(self, text: Any) -> Any:
        return text

    def format_output_compare(self, kind: str, stored: Any, new: Any) -> None:
        """Note the first line that differs; nbval calls it for two outputs that do."""
        lines = [text.splitlines() if isinstance(text, str) else [repr(text)] for text in (stored, new)]
        for number, (before, after) in enumerate(zip_longest(*lines), 1):
            if before != after:
                values = [shown(value) if value is not None else "nothing" for value in (before, after)]
                why = f"{kind}, line {number}: {values[0]} is stored, and {values[1]} is new; both must be equal"
                self.comparison_traceback.append(why)
                return
        self.comparison_traceback.append(f"{kind}: the ends of lines differ")
