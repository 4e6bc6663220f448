"""Record the allocator's events during a step, through torch's profiler."""

from __future__ import annotations

import os

import torch
from torch.profiler import ProfilerActivity, record_function

from labkit.memory.events import Event

PREFIX = "labkit:"
# The profiler would print two lines at each start: this level is above theirs.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

try:
    from torch._C._profiler import (
        ProfilerConfig,
        ProfilerState,
        RecordScope,
        _EventType,
        _ExperimentalConfig,
        _ExtraFields_Allocation,
    )
    from torch.autograd import _disable_profiler, _enable_profiler, _prepare_profiler
except ImportError:  # private parts of torch, which may change: Trainer then measures nothing, and a test fails
    SUPPORTED = False
else:
    SUPPORTED = True


def can_record() -> bool:
    """Return whether this torch has what ``Recorder`` needs, and no other profiler is running."""
    # The first flag is for this thread only; the second is for torch.profiler in any thread.
    running = torch.autograd._profiler_enabled() or torch.autograd.profiler._is_profiler_enabled
    return SUPPORTED and not running


class Recorder:
    """Records every allocation between ``start`` and ``stop``, scratch memory inside operators included.

    ``torch.profiler.profile`` would also record each operator and make a short step 1/8 slower; here only
    the events of ``mark`` and the memory events are recorded.
    """

    def __init__(self, device: torch.device):
        self._device = device

    def start(self) -> None:
        """Start recording."""
        config = ProfilerConfig(ProfilerState.KINETO, False, True, False, False, False, _ExperimentalConfig())
        activities = {ProfilerActivity.CPU}
        if self._device.type == "cuda":
            activities.add(ProfilerActivity.CUDA)
        _prepare_profiler(config, activities)
        _enable_profiler(config, activities, {RecordScope.USER_SCOPE})  # type: ignore[call-arg]  # torch's stub lacks it

    def end(self) -> None:
        """Stop recording if ``stop`` was not reached."""
        if torch.autograd._profiler_enabled():
            _disable_profiler()

    def mark(self, event: Event) -> None:
        """Record an event of our own between the allocations."""
        with record_function(f"{PREFIX}{event.what}:{event.address}:{event.name}"):
            pass

    def stop(self) -> list[Event]:
        """Stop recording, and return the events in order."""
        result = _disable_profiler()
        timed: list[tuple[int, Event]] = []
        waiting = list(reversed(result.experimental_event_tree()))
        while waiting:
            node = waiting.pop()
            waiting += reversed(node.children)
            if node.tag == _EventType.Allocation:
                memory = node.extra_fields
                assert isinstance(memory, _ExtraFields_Allocation)
                if memory.device.type == self._device.type:
                    size = memory.alloc_size
                    event = Event("alloc" if size > 0 else "free", memory.ptr, abs(size))
                    timed.append((node.start_time_ns, event))
            elif node.name.startswith(PREFIX):
                what, address, name = node.name.removeprefix(PREFIX).split(":", 2)
                timed.append((node.start_time_ns, Event(what, int(address), name=name)))
        timed.sort(key=lambda pair: pair[0])  # stable: simultaneous events stay in order
        return [event for _, event in timed]
