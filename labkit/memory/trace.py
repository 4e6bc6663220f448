"""From a stream of allocations and releases to a report: which kind of memory each allocation was.

The stream is the same whether it was measured (``ledger.py``) or simulated (``hollow.py``).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from labkit.memory.report import KINDS, MemoryReport

MOMENTS = 2000  # of a step that a report keeps
SCRATCH = -1  # address of what an operator on a CPU holds while it works, in a simulation


class Event(NamedTuple):
    """Something that happened.

    ``what`` is "alloc" or "free" (address, size), "gradient" (address: now a parameter's gradient), "enter" or
    "exit" (name of a module, in a forward pass), "phase" ("forward", "loss", "backward", "update"), or "block"
    ("forward" or "backward", and the name of a module whose pass begins, or "loss").
    """

    what: str
    address: int = 0
    size: int = 0
    name: str = ""


class Held(NamedTuple):
    """Memory that is there before the step: its size, kind and module."""

    size: int
    kind: str
    module: str = ""


class Moment(NamedTuple):
    """What is in use after so many moves: bytes in all, and by kind in the order of KINDS."""

    position: int
    total: int
    kinds: tuple[int, ...]


class Books:
    """All allocations of a step, numbered, each with its kind and module.

    An allocation of the forward pass that is still there when the loss begins was kept for the backward
    pass: an activation. So is one that a block's recomputation leaves, under gradient checkpointing. What
    the head and the loss allocate counts as logits; the rest is temporary.

    Args:
        held: by address, what is in memory before.
        events: the step.
        states: by address, the module of each optimizer state after the step.
    """

    def __init__(self, held: dict[int, Held], events: Iterable[Event], states: dict[int, str]):
        self.sizes = [item.size for item in held.values()]
        self.kinds = [item.kind for item in held.values()]
        self.modules = [item.module for item in held.values()]
        self.opening = len(held)
        self.moves: list[int] = [*range(1, len(held) + 1)]  # +n: allocation n − 1 appears; −n: it is freed
        self.marks: list[tuple[str, str, int]] = []  # what, name, number of moves before it
        self._scratch: set[int] = set()
        self._live = {address: number for number, address in enumerate(held)}
        self._born: set[int] = set()  # addresses of what may turn out to be activations
        self._path: list[str] = []  # the modules whose forward pass is running, the innermost last
        self._phase = "forward"
        readers = {"alloc": self._alloc, "free": self._free, "enter": self._enter, "exit": self._exit}
        for event in events:
            if event.what in readers:
                readers[event.what](event)
            elif event.what == "gradient":
                self._name(event.address, "gradients", event.name)
            else:
                self.marks.append((event.what, event.name, len(self.moves)))
                if event.what == "phase":
                    self._turn(event.name)
        for address, module in states.items():
            self._name(address, "optimizer", module)

    def _alloc(self, event: Event) -> None:
        self._free(event)  # where a release went unreported, as those of memory from before a recording do
        number = self._live[event.address] = len(self.sizes)
        self.sizes.append(event.size)
        self.kinds.append("logits" if self._phase == "loss" else "temporaries")
        self.modules.append(self._path[-1] if self._path else "")
        self.moves.append(number + 1)
        if event.address == SCRATCH:
            self._scratch.add(number)
        elif self._phase != "loss":
            self._born.add(event.address)

    def _free(self, event: Event) -> None:
        self._born.discard(event.address)
        if (number := self._live.pop(event.address, None)) is not None:
            self.moves.append(-number - 1)

    def _enter(self, event: Event) -> None:
        if not self._path and self._phase == "backward":  # a recomputation begins
            self._born.clear()
        self._path.append(event.name)

    def _exit(self, event: Event) -> None:
        del self._path[-1:]  # none where a hook of somebody else's failed before ours could mark the entry
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
            self.kinds[self._live[address]] = "activations"
        self._born.clear()

    def _name(self, address: int, kind: str, module: str) -> None:
        if address in self._live:
            self.kinds[self._live[address]], self.modules[self._live[address]] = kind, module

    def rounded(self, granularity: Callable[[int], int]) -> Books:
        """Return the same books with each size as a GPU's allocator makes it; a GPU needs no scratch for types."""
        other = copy.copy(self)
        other.sizes = [0 if i in self._scratch else granularity(size) for i, size in enumerate(self.sizes)]
        return other

    def report(self, resident: int = 0) -> MemoryReport:
        """Return the step's highest moment, and its timeline."""
        moments = _thin(self._moments()[self.opening :])
        peak = max(moments, key=attrgetter("total"))
        starts = [(name, at) for what, name, at in self.marks if what == "phase"]
        last = len(moments) - 1
        return MemoryReport(
            **dict(zip(KINDS, peak.kinds, strict=True)),
            modules=self._by_module(peak.position),
            timeline=tuple(moment.kinds for moment in moments),
            phases={name: min(last, sum(moment.position < at for moment in moments)) for name, at in starts},
            resident=resident,
        )

    def highest(self, stages: Sequence[tuple[str, int]]) -> dict[str, tuple[int, ...]]:
        """Return bytes by kind at the highest moment of each stage, which begins after so many moves.

        A stage that is listed several times has one highest moment.
        """
        moments = self._moments()
        ends = [at for _, at in stages[1:]] + [len(self.moves)]
        parts: dict[str, list[Moment]] = {}
        for (stage, start), end in zip(stages, ends, strict=True):
            parts.setdefault(stage, []).extend(moments[start : end + 1])
        return {stage: max(part, key=attrgetter("total")).kinds for stage, part in parts.items()}

    def _moments(self) -> list[Moment]:
        now = dict.fromkeys(KINDS, 0)
        total = 0
        moments = [Moment(0, 0, tuple(now.values()))]
        for position, move in enumerate(self.moves, 1):
            number = abs(move) - 1
            change = self.sizes[number] if move > 0 else -self.sizes[number]
            now[self.kinds[number]] += change
            total += change
            moments.append(Moment(position, total, tuple(now.values())))
        return moments

    def _by_module(self, until: int) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for move in self.moves[:until]:
            number = abs(move) - 1
            sums[self.modules[number]] += self.sizes[number] if move > 0 else -self.sizes[number]
        return {module: size for module, size in sums.items() if size}


def _thin(moments: Sequence[Moment]) -> list[Moment]:
    """Return the highest moment of each of at most MOMENTS equal stretches, in order."""
    stride = -(-len(moments) // MOMENTS)
    return [max(moments[i : i + stride], key=attrgetter("total")) for i in range(0, len(moments), stride)]
