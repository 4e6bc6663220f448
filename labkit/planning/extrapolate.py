"""From simulated steps of a shallow model to the memory of a step of a deep one."""

from __future__ import annotations

from itertools import pairwise

from labkit.memory.report import KINDS, MemoryReport
from labkit.memory.trace import Trace
from labkit.planning.simulate import simulate
from labkit.planning.sizes import allocated, reserved
from labkit.planning.step import Prediction, Step

FEW = 3  # blocks from which all others are extrapolated


def extrapolate(step: Step) -> Prediction:
    """Return the memory of a training step; nothing of that size is allocated.

    One step of the real loop runs over a model of two blocks and of three. Each further block adds the same,
    so that memory at the same moment of the step is affine in their number. The highest moment may be another
    one in a deep model than in a shallow one: each stage of the step is extrapolated by itself. Two blocks are
    the fewest in which the first, the second and the last can be told apart.
    """
    layers = step.config.num_hidden_layers
    counts = [layers] if layers < FEW else [FEW - 1, FEW]
    traces = [simulate(step, count) for count in counts]
    further = layers - counts[0]
    exact = [_highest([_peaks(*each) for each in traces], further)]
    for granularity in (allocated, reserved):
        exact.append(_highest([_peaks(trace.rounded(granularity), blocks) for trace, blocks in traces], further))
    return Prediction(*exact)


def _highest(peaks: list[dict[str, tuple[int, ...]]], further: int) -> MemoryReport:
    """Return the highest stage of a step after so many more blocks."""
    less, more = peaks[0], peaks[-1]
    stages = [stage for stage in less if stage in more]
    at = [tuple(a + further * (b - a) for a, b in zip(less[stage], more[stage], strict=True)) for stage in stages]
    return MemoryReport(**dict(zip(KINDS, max(at, key=sum), strict=True)))


def _peaks(trace: Trace, blocks: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Return bytes by kind at the highest moment of each stage of the step."""
    stages = [("before", 0)]
    phase = ""
    for (what, name, at), (*_, end) in pairwise([*trace.marks, ("end", "", len(trace.moves))]):
        if what == "phase":
            phase = name
            stages.append((name, at))
            if phase == "loss":
                # The output of the forward pass, with a prefix's cache, goes in the midst of it: a stage each.
                made = [position for position in range(at, end) if trace.moves[position] > 0]
                stages += [(f"loss {number}", position) for number, position in enumerate(made)]
        elif name == f"forward {blocks[-1]}" and phase == "forward":
            stages.append(("last forward", at))
        elif name.startswith("forward ") and name != f"forward {blocks[0]}" and phase == "forward":
            stages.append(("middle forward", at))  # of three blocks alone: the last is no lower
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
