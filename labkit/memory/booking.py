"""From a stream of allocations and releases to a report: which kind of memory each allocation was.

The stream is the same whether it was measured (``ledger.py``) or simulated (``hollow.py``).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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
        self._scratch: set[int] = set()
        self.opening = len(held)
        self.moves: list[int] = [*range(1, len(held) + 1)]  # +n: allocation n − 1 appears; −n: it is freed
        self.marks: list[tuple[str, str, int]] = []  # what, name, number of moves before it
        live = {address: number for number, address in enumerate(held)}
        born: set[int] = set()  # addresses of what may turn out to be activations
        path: list[str] = []
        phase = "forward"
        for what, address, size, name in events:
            if what == "alloc":
                if address in live:  # its release went unreported, as that of memory from before a recording does
                    self.moves.append(-live[address] - 1)
                number = live[address] = len(self.sizes)
                self.sizes.append(size)
                self.kinds.append("logits" if phase == "loss" else "temporaries")
                self.modules.append(path[-1] if path else "")
                self.moves.append(number + 1)
                if address == SCRATCH:
                    self._scratch.add(number)
                elif phase != "loss":
                    born.add(address)
            elif what == "free":
                born.discard(address)
                if (number := live.pop(address, None)) is not None:
                    self.moves.append(-number - 1)
            elif what == "gradient":
                if address in live:
                    self.kinds[live[address]], self.modules[live[address]] = "gradients", name
            elif what == "enter":
                if not path and phase == "backward":
                    born.clear()
                path.append(name)
            elif what == "exit":
                path = path[:-1]  # empty where a hook of somebody else's failed before ours could mark the entry
            else:
                self.marks.append((what, name, len(self.moves)))
                phase = name if what == "phase" else phase
                if what == "phase" and name == "forward":
                    born.clear()
            recomputed = what == "exit" and not path and phase == "backward"
            if recomputed or (what == "phase" and name == "loss"):
                for kept in born:
                    self.kinds[live[kept]] = "activations"
                born.clear()
        for address, module in states.items():
            if address in live:
                self.kinds[live[address]], self.modules[live[address]] = "optimizer", module

    def rounded(self, granularity: Callable[[int], int]) -> Books:
        """Return the same books with each size as a GPU's allocator makes it; a GPU needs no scratch for types."""
        other = copy.copy(self)
        other.sizes = [0 if i in self._scratch else granularity(size) for i, size in enumerate(self.sizes)]
        return other

    def report(self, resident: int = 0) -> MemoryReport:
        """Return the step's highest moment, and its timeline."""
        now = dict.fromkeys(KINDS, 0)
        for move in self.moves[: self.opening]:
            self._make(move, now)
        total = sum(now.values())
        moments = [(total, self.opening, tuple(now.values()))]
        for position in range(self.opening, len(self.moves)):
            total += self._make(self.moves[position], now)
            moments.append((total, position + 1, tuple(now.values())))
        moments = _thin(moments)
        peak = max(moments, key=lambda moment: moment[0])
        positions = [moment[1] for moment in moments]
        last = len(positions) - 1
        phases = {name: min(last, sum(p < at for p in positions)) for what, name, at in self.marks if what == "phase"}
        return MemoryReport(
            **dict(zip(KINDS, peak[2], strict=True)),
            modules=self._by_module(peak[1]),
            timeline=tuple(moment[2] for moment in moments),
            phases=phases,
            resident=resident,
        )

    def highest(self, stages: Sequence[tuple[str, int]]) -> dict[str, tuple[int, ...]]:
        """Return bytes by kind at the highest moment of each stage, which begins after so many moves.

        A stage that is listed several times has one highest moment.
        """
        now = dict.fromkeys(KINDS, 0)
        best: dict[str, tuple[int, ...]] = {}
        ends = [at for _, at in stages[1:]] + [len(self.moves)]
        position = total = 0
        for (stage, start), end in zip(stages, ends, strict=True):
            while position < start:
                total += self._make(self.moves[position], now)
                position += 1
            top = sum(best.get(stage, (-1,)))
            while True:
                if total > top:
                    top, best[stage] = total, tuple(now.values())
                if position >= end:
                    break
                total += self._make(self.moves[position], now)
                position += 1
        return best

    def _make(self, move: int, now: dict[str, int]) -> int:
        number = abs(move) - 1
        change = self.sizes[number] if move > 0 else -self.sizes[number]
        now[self.kinds[number]] += change
        return change

    def _by_module(self, until: int) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for move in self.moves[:until]:
            number = abs(move) - 1
            sums[self.modules[number]] += self.sizes[number] if move > 0 else -self.sizes[number]
        return {module: size for module, size in sums.items() if size}


def _thin(moments: Sequence[tuple]) -> list[tuple]:
    """Return the highest moment of each of at most MOMENTS equal stretches, in order."""
    stride = -(-len(moments) // MOMENTS)
    return [max(moments[i : i + stride], key=lambda moment: moment[0]) for i in range(0, len(moments), stride)]
