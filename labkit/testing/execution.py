"""Execute a notebook in a kernel of its own, as a person would from top to bottom."""

from __future__ import annotations

import asyncio
import os
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
from labkit.testing.notebooks import name_of
from labkit.testing.working_copy import merged, prepared

if TYPE_CHECKING:
    from nbformat import NotebookNode

ANSWER = "application/json"
TIMEOUT = 900  # seconds a cell


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
    work, at = prepared(notebook), [0]
    if after:
        work.cells.append(new_code_cell(after))

    async def start(**_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # nbclient would kill the kernel and carry on here
            with suppress(RuntimeError):  # other threads have no handlers, and Windows none of asyncio's
                asyncio.get_running_loop().remove_signal_handler(number)
        if before:
            assert client.kc is not None
            apart = f"exec({before!r}, {{}})"  # its names are none of the notebook's
            reply = await client.kc.execute_interactive(apart, silent=True, allow_stdin=False)  # type: ignore[attr-defined]
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
    return Executed(merged(notebook, work), seconds, answer)


def planted(module: ModuleType) -> str:
    """Return code that makes a module, ``_labkit_NAME``, of this one's text in a kernel that may not have labkit."""
    name = f"_labkit_{module.__name__.rpartition('.')[2]}"
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    return (
        f"import sys, types\n{name} = sys.modules[{name!r}] = types.ModuleType({name!r})\n"
        f"exec(compile({text!r}, {name!r}, 'exec'), vars({name}))\n"
    )


def _failed(work: NotebookNode, index: int, reason: str) -> LabkitError:
    return LabkitError(f"{name_of(work, index)} failed: {reason}.", "Repair it; the stored outputs are as they were.")
