"""Execute a notebook in a kernel of its own, as a person would from top to bottom."""

from __future__ import annotations

import asyncio
import copy
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from labkit.errors import LabkitError
from labkit.extras import unusable
from labkit.testing.notebooks import code_cells, name_of

if TYPE_CHECKING:
    from nbformat import NotebookNode

ANSWER = "application/json"
TIMEOUT = 900  # seconds a cell
SKIPPED, RAISES = "skip-execution", "raises-exception"  # nbclient's own tags
TAGS = {"NBVAL_SKIP": SKIPPED, "NBVAL_RAISES_EXCEPTION": RAISES}  # what nbval's comments and tags say to nbclient


@dataclass(frozen=True)
class Executed:
    """A notebook with new outputs, how long it took in seconds, and what the code after it displayed."""

    notebook: NotebookNode
    seconds: float
    answer: Any = None


def execute(
    notebook: NotebookNode, folder: Path, before: str = "", after: str = "", timeout: int = TIMEOUT
) -> Executed:
    """Run a notebook in a new kernel, without asking anybody, and return a copy with what its cells gave.

    Cells marked ``NBVAL_SKIP`` are left as they are; one marked ``NBVAL_RAISES_EXCEPTION`` may fail.

    Args:
        notebook: which one; it stays as it was.
        folder: the kernel's working directory.
        before: code that runs before the first cell, unseen.
        after: code that runs after the last cell and displays an ``application/json``, which is ``answer``.
        timeout: seconds that a cell may take.

    Raises:
        LabkitError: a cell failed or took too long, the kernel died, or there is no such kernel.
    """
    try:
        from jupyter_client.kernelspec import NoSuchKernel
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
        from nbformat.v4 import new_code_cell
    except ImportError as problem:
        raise unusable("nbclient", problem) from problem
    work, at = _prepared(notebook), [0]
    if after:
        work.cells.append(new_code_cell(after))

    async def start(**_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # nbclient would kill the kernel and carry on here
            with suppress(RuntimeError):  # other threads have no handlers, and Windows none of asyncio's
                asyncio.get_running_loop().remove_signal_handler(number)
        if before:
            assert client.kc is not None
            reply = await client.kc.execute_interactive(before, silent=True, allow_stdin=False)  # type: ignore[attr-defined]
            if reply["content"]["status"] != "ok":
                raise RuntimeError("\n".join(reply["content"]["traceback"]))

    settings: dict[str, Any] = {
        "timeout": timeout,
        "record_timing": False,
        "resources": {"metadata": {"path": str(folder)}},
    }
    hooks: dict[str, Any] = {"on_notebook_start": start, "on_cell_start": lambda cell_index, **_: at.append(cell_index)}
    client = NotebookClient(work, **settings, **hooks)
    began = time.perf_counter()
    try:
        # What the kernel's own process prints, such as warnings about its sockets, is nobody's output.
        client.execute(env=os.environ | {"LABKIT_UNATTENDED": "1"}, stderr=subprocess.DEVNULL)
    except CellExecutionError as problem:
        raise _failed(work, at[-1], f"{problem.ename}: {problem.evalue}") from problem
    except CellTimeoutError as problem:
        raise _failed(work, at[-1], f"it took more than {timeout} seconds") from problem
    except DeadKernelError as problem:
        raise _failed(work, at[-1], "the kernel died, perhaps for want of memory") from problem
    except NoSuchKernel as problem:
        raise LabkitError(
            f"There is no kernel called {problem.name!r} here.", "Open the notebook in Jupyter, and choose a kernel."
        ) from problem
    seconds = time.perf_counter() - began
    shown = work.cells.pop().outputs if after else []
    answer = next((output.data[ANSWER] for output in shown if ANSWER in output.get("data", {})), None)
    return Executed(_merged(notebook, work), seconds, answer)


def planted(module: ModuleType) -> str:
    """Return code that makes a module, ``_labkit_NAME``, of this one's text in a kernel that may not have labkit."""
    name = f"_labkit_{module.__name__.rpartition('.')[2]}"
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    return (
        f"import sys, types\n{name} = sys.modules[{name!r}] = types.ModuleType({name!r})\n"
        f"exec(compile({text!r}, {name!r}, 'exec'), vars({name}))\n"
    )


def _prepared(notebook: NotebookNode) -> NotebookNode:
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


def _merged(notebook: NotebookNode, work: NotebookNode) -> NotebookNode:
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


def _failed(work: NotebookNode, index: int, reason: str) -> LabkitError:
    return LabkitError(f"{name_of(work, index)} failed: {reason}.", "Repair it; the stored outputs are as they were.")
