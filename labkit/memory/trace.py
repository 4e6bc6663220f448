"""All allocations and releases of a training step, and the reports computed from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import NamedTuple

from labkit.memory.report import KINDS, MemoryReport

MOMENTS = 2000  # the most that a report's timeline has


class Moment(NamedTuple):
    """What is in use after ``position`` moves: total bytes, and bytes by kind in the order of KINDS."""

    position: int
    total: int
    kinds: tuple[int, ...]


@dataclass
class Trace:
    """All allocations of a step, numbered; those from before the step come first.

    Attributes:
        sizes: bytes of each allocation.
        kinds: kind of each allocation, one of KINDS.
        modules: path of the module that each allocation belongs to.
        moves: allocations and releases in order; n + 1: allocation n is made, −n − 1: it is freed.
        marks: for each phase and block that begins: what, name, and the number of moves before it.
        opening: the number of allocations from before the step.
        scratch: the numbers of the allocations that are scratch memory inside an operator.
    """

    sizes: list[int]
    kinds: list[str]
    modules: list[str]
    moves: list[int]
    marks: list[tuple[str, str, int]] = field(default_factory=list)
    opening: int = 0
    scratch: set[int] = field(default_factory=set)

    def rounded(self, granularity: Callable[[int], int]) -> Trace:
        """Return the trace with each size rounded as a GPU's allocator does; a GPU converts types without scratch."""
        sizes = [0 if i in self.scratch else granularity(size) for i, size in enumerate(self.sizes)]
        return replace(self, sizes=sizes)

    def report(self, resident: int = 0) -> MemoryReport:
        """Return the memory at the step's highest moment, and its timeline."""
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
        """Return the bytes by kind at the highest moment of each stage.

        Args:
            stages: name of each stage and the number of moves before it, in order. A name may occur several
                times: these parts of the step then have one highest moment.
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
    """Return the highest moment of each of at most MOMENTS equal parts, in order."""
    stride = -(-len(moments) // MOMENTS)
    return [max(moments[i : i + stride], key=attrgetter("total")) for i in range(0, len(moments), stride)]
