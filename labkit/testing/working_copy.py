"""The copy of a notebook that is executed, and what the notebook takes over from it."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from labkit.testing.notebooks import code_cells

if TYPE_CHECKING:
    from nbformat import NotebookNode

SKIPPED, RAISES = "skip-execution", "raises-exception"  # nbclient's own tags
TAGS = {"NBVAL_SKIP": SKIPPED, "NBVAL_RAISES_EXCEPTION": RAISES}  # what nbval's comments and tags say to nbclient


def prepared(notebook: NotebookNode) -> NotebookNode:
    """Return a copy in which nbval's marks are nbclient's tags."""
    work = copy.deepcopy(notebook)
    work.metadata.pop("widgets", None)
    for cell in code_cells(work):
        tags = {*cell.metadata.get("tags", [])}
        for mark, tag in TAGS.items():
            if re.search(rf"^\s*#+\s*{mark}\s*$", cell.source, re.M) or mark.lower().replace("_", "-") in tags:
                tags.add(tag)
        cell.metadata["tags"] = sorted(tags)
    return work


def merged(notebook: NotebookNode, work: NotebookNode) -> NotebookNode:
    """Return the notebook with what its executed copy has: outputs, counts, language and state of widgets."""
    new = copy.deepcopy(notebook)
    for cell, done in zip(code_cells(new), code_cells(work), strict=True):
        if SKIPPED not in done.metadata["tags"]:
            cell.outputs, cell.execution_count = _joined(done.outputs), done.execution_count
    new.metadata.pop("widgets", None)
    for key in {"language_info", "widgets"} & work.metadata.keys():
        new.metadata[key] = work.metadata[key]
    return new


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return outputs with what was printed in pieces in one piece, without what a carriage return overwrote."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream" and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = re.sub(r"^.*\r(?=[^\n])", "", output.text, flags=re.M)
    return joined
