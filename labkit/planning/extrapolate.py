"""Extrapolate the memory of a deep model's training step from simulated steps of two shallow ones."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from labkit.memory.report import KINDS, MemoryReport
from labkit.memory.trace import Trace
from labkit.planning.allocator import allocated, reserved
from labkit.planning.simulate import simulate
from labkit.planning.step import Prediction, Step

FEW = 3  # blocks of the larger shallow model


def extrapolate(step: Step) -> Prediction:
    """Return the memory of a training step, without allocating it.

    One step of the real loop is simulated over a model of two blocks and one over a model of three. Each further
    block adds the same, so the memory at a given moment of the step is affine in the number of blocks. A deep
    model may reach its peak at another moment than a shallow one, so each stage of the step is extrapolated
    separately. Two blocks are the fewest for which the stages of the first and the last block are separate.
    Where a method names layers of single blocks, all blocks are simulated.
    """
    layers = step.config.num_hidden_layers
    if layers < FEW or not step.alike:
        trace, _ = simulate(step)
        return Prediction(*(each.report() for each in (trace, trace.rounded(allocated), trace.rounded(reserved))))
    traces = [simulate(step, count) for count in (FEW - 1, FEW)]
    further = layers - (FEW - 1)
    reports = [_highest([_peaks(*each) for each in traces], further)]
    for granularity in (allocated, reserved):
        reports.append(_highest([_peaks(trace.rounded(granularity), blocks) for trace, blocks in traces], further))
    return Prediction(*reports)


def _highest(peaks: list[dict[str, tuple[int, ...]]], further: int) -> MemoryReport:
    """Return the memory in the highest stage of a step over a model with ``further`` more blocks."""
    less, more = peaks[0], peaks[-1]
    stages = [stage for stage in less if stage in more]
    at = [tuple(a + further * (b - a) for a, b in zip(less[stage], more[stage], strict=True)) for stage in stages]
    sizes: dict[str, Any] = dict(zip(KINDS, max(at, key=sum), strict=True))
    return MemoryReport(**sizes)


def _peaks(trace: Trace, blocks: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Return the bytes by kind at the highest moment of each stage of the step."""
    stages = [("before", 0)]
    part = phase = ""  # where a step learns from rewards, several parts have the same phases
    for (what, name, at), (*_, end) in pairwise([*trace.marks, ("end", "", len(trace.moves))]):
        if what == "part":
            part = f"{name} "
            stages.append((f"{part}begins", at))
        elif what == "phase":
            phase = name
            stages.append((f"{part}{name}", at))
            if phase == "loss":
                # The forward pass's output and a prefix's cache are freed somewhere in it: a stage per allocation.
                made = [position for position in range(at, end) if trace.moves[position] > 0]
                stages += [(f"{part}loss {number}", position) for number, position in enumerate(made)]
        elif name == f"forward {blocks[-1]}" and phase == "forward":
            stages.append((f"{part}last forward", at))
        elif name.startswith("forward ") and name != f"forward {blocks[0]}" and phase == "forward":
            # Only with three blocks: the last one's stage is at least as high.
            stages.append((f"{part}middle forward", at))
        elif name == "backward loss" and phase == "loss":
            stages.append((name, at))
        elif name == f"backward {blocks[-1]}":
            stages.append(("last backward", at))
        elif name == f"backward {blocks[0]}":
            stages.append(("first backward", at))
        elif name == f"backward {blocks[1]}":
            stages.append(("second backward", at))
    best = trace.highest(stages)
    if len(blocks) == FEW - 1 and "last backward" in best:
        best["second backward"] = best["last backward"]  # the second of two is the last
    return best
