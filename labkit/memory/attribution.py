"""Decide which kind of memory each allocation of a step is, and which module it belongs to."""

from __future__ import annotations

from collections.abc import Iterable

from labkit.memory.events import SCRATCH, Event, Held
from labkit.memory.trace import Trace


def attribute(held: dict[int, Held], events: Iterable[Event], states: dict[int, str]) -> Trace:
    """Return the trace of a step, each allocation with its kind and module.

    An allocation of the forward pass that still exists when the loss begins was kept for the backward pass:
    it is an activation. So is an allocation that remains after a block was recomputed, under gradient
    checkpointing. What the head and the loss allocate counts as logits; the rest is temporary.

    Args:
        held: what is in memory before the step, by address.
        events: the events of the step, in order.
        states: the module of each optimizer state after the step, by address.
    """
    reader = _Reader(held)
    reader.read(events)
    for address, module in states.items():
        reader.name(address, "optimizer", module)
    return reader.trace


class _Reader:
    """Reads events one by one, and keeps track of what is in memory at which address."""

    def __init__(self, held: dict[int, Held]):
        before = list(held.values())
        self.trace = Trace(
            sizes=[item.size for item in before],
            kinds=[item.kind for item in before],
            modules=[item.module for item in before],
            moves=[*range(1, len(before) + 1)],
            opening=len(before),
        )
        self._live = {address: number for number, address in enumerate(held)}
        self._born: set[int] = set()  # addresses of what may turn out to be activations
        self._path: list[str] = []  # the modules whose forward pass is running, the innermost last
        self._phase = "forward"

    def read(self, events: Iterable[Event]) -> None:
        readers = {"alloc": self._alloc, "free": self._free, "enter": self._enter, "exit": self._exit}
        for event in events:
            if event.what in readers:
                readers[event.what](event)
            elif event.what == "gradient":
                self.name(event.address, "gradients", event.name)
            else:
                self.trace.marks.append((event.what, event.name, len(self.trace.moves)))
                if event.what == "phase":
                    self._turn(event.name)

    def name(self, address: int, kind: str, module: str) -> None:
        if address in self._live:
            number = self._live[address]
            self.trace.kinds[number], self.trace.modules[number] = kind, module

    def _alloc(self, event: Event) -> None:
        self._free(event)  # if its release was not reported, as for memory that is older than the recording
        number = self._live[event.address] = len(self.trace.sizes)
        self.trace.sizes.append(event.size)
        self.trace.kinds.append("logits" if self._phase == "loss" else "temporaries")
        self.trace.modules.append(self._path[-1] if self._path else "")
        self.trace.moves.append(number + 1)
        if event.address == SCRATCH:
            self.trace.scratch.add(number)
        elif self._phase != "loss":
            self._born.add(event.address)

    def _free(self, event: Event) -> None:
        self._born.discard(event.address)
        if (number := self._live.pop(event.address, None)) is not None:
            self.trace.moves.append(-number - 1)

    def _enter(self, event: Event) -> None:
        if not self._path and self._phase == "backward":  # a recomputation begins
            self._born.clear()
        self._path.append(event.name)

    def _exit(self, event: Event) -> None:
        del self._path[-1:]  # nothing if another library's hook failed before ours could mark the entry
        if not self._path and self._phase == "backward":
            self._keep()

    def _turn(self, phase: str) -> None:
        self._phase = phase
        if phase == "forward":
            self._born.clear()
        elif phase == "loss":
            self._keep()

    def _keep(self) -> None:
        for address in self._born:
            self.trace.kinds[self._live[address]] = "activations"
        self._born.clear()
