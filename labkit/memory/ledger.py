"""Measure where the memory of a training step goes, from the allocator's own events."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

import psutil
import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.memory.attribution import attribute
from labkit.memory.events import Event
from labkit.memory.hooks import StepHooks
from labkit.memory.recorder import Recorder, can_record
from labkit.memory.report import MemoryReport
from labkit.memory.trace import Trace
from labkit.process import alone


class Ledger:
    """A context manager around one training step that records every allocation; afterwards, see ``report``.

    The allocator reports each allocation and release, scratch memory inside operators included; hooks on the
    modules show what it is for. The results of the step do not change.
    On CUDA the peak is the allocator's ``max_memory_allocated``; any part that the events miss counts as temporary.

    Args:
        module: the network.
        optimizer: the optimizer that the step calls.
        head: a head outside the network, such as an encoder's classifier.
        beside: other networks in memory by name, such as a reference or a value head.

    Raises:
        LabkitError: on entering, if another profiler is running.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        head: nn.Module | None = None,
        beside: Mapping[str, nn.Module] | None = None,
    ):
        self._hooks = StepHooks(module, optimizer, head, beside=beside)
        self._device = next(module.parameters()).device
        self._recorder = Recorder(self._device)
        self._resident = 0
        self._trace: Trace | None = None
        self._report: MemoryReport | None = None

    def __enter__(self) -> Ledger:
        with ExitStack() as stack:
            stack.enter_context(alone())
            if not can_record():
                raise LabkitError(
                    "A ledger needs torch's profiler to itself, and it is in use.",
                    "End the other ledger or profile first; a process can have one at a time.",
                )
            if self._device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self._device)
            self._process = psutil.Process()
            self._held = self._hooks.held()
            for hook in self._hooks.register(self._mark):
                stack.callback(hook.remove)
            stack.callback(self._recorder.end)
            self._recorder.start()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        with self._open:
            self._look()
            events = self._recorder.stop()
        self._trace = attribute(self._held, events, self._hooks.states())
        if self._device.type == "cuda":
            self._peak = torch.cuda.max_memory_allocated(self._device)
        del self._hooks, self._held, self._open  # the ledger may outlive the model

    @property
    def report(self) -> MemoryReport | None:
        """The memory of the step, computed at the first access; None before the step."""
        if self._trace and not self._report:
            report = self._trace.report(resident=self._resident)
            if self._device.type == "cuda":
                missed = max(0, self._peak - report.peak)
                report = replace(report, temporaries=report.temporaries + missed)
            self._report = report
        return self._report

    def _mark(self, event: Event) -> None:
        if event.what == "phase":
            self._look()
        self._recorder.mark(event)

    def _look(self) -> None:
        self._resident = max(self._resident, self._process.memory_info().rss)
