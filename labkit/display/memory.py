"""Draw the memory of a training step: at its peak, and over the course of the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.display.alt import describe, listed, number
from labkit.display.labels import room, row_above, wrapped
from labkit.display.style import INK, PALETTE, SMALL, axes_for, contrast, legend, tinted
from labkit.errors import LabkitError
from labkit.memory import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labkit.memory.report import MemoryReport

# Weights, as in drawings of models; then what the update needs, in blue; then what depends on the batch. Neighbours
# differ in lightness or hatch.
TRAINED, FROZEN = PALETTE["vermillion"], "#DCE4EE"
KIND_STYLES = {
    "trainable": (TRAINED, ""),
    "frozen": (FROZEN, ""),
    "quantized": (FROZEN, "////"),
    "optimizer": (PALETTE["sky blue"], ""),
    "gradients": (PALETTE["blue"], "\\\\"),
    "activations": (PALETTE["bluish green"], ""),
    "logits": (PALETTE["yellow"], ".."),
    "temporaries": (tinted(PALETTE["reddish purple"]), "xx"),
}


def memory(reports: Mapping[str, MemoryReport], ax: Axes | None = None, unit: str = "MB") -> Axes:
    """Draw a stacked bar for each report: what was in memory at the peak of a step, in MB or GB (10⁶, 10⁹ bytes)."""
    ax = axes_for(ax, 7, 1.7 + room(reports, 0.6))
    scale = {"MB": 1e6, "GB": 1e9}[unit]
    most = max(report.peak for report in reports.values()) / scale
    left = [0.0] * len(reports)
    said: dict[str, list[str]] = {name: [] for name in reports}
    for kind, (color, hatch) in KIND_STYLES.items():
        sizes = [getattr(report, kind) / scale for report in reports.values()]
        if max(sizes) < most / 300:
            continue  # too thin to be seen
        edge: dict[str, Any] = {"edgecolor": INK, "linewidth": 0.5, "hatch": hatch}
        bars = ax.barh(range(len(reports)), sizes, left=left, color=color, label=kind, **edge)
        ax.bar_label(
            bars,
            labels=[f"{size:.{0 if most > 100 else 1}f}" if size > most / 11 else "" for size in sizes],
            label_type="center",
            fontsize=SMALL,
            color=max(("white", "black"), key=lambda ink: contrast(ink, color)),
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1},
        )
        left = [a + b for a, b in zip(left, sizes, strict=True)]
        for name, size in zip(reports, sizes, strict=True):
            said[name] += [f"{kind} {number(size)}"] if size else []
    ax.set_yticks(range(len(reports)), [wrapped(name) for name in reports])
    ax.set(xlabel=f"memory at the peak of a step ({unit})")
    ax.grid(visible=False, axis="y")
    ax.invert_yaxis()
    legend(ax, columns=4)
    sums = [f"{name} {number(r.peak / scale)} ({', '.join(said[name])})" for name, r in reports.items()]
    describe(ax, f"Stacked bars: {ax.get_xlabel()}. {listed(sums)}")
    return ax


def timeline(report: MemoryReport, ax: Axes | None = None) -> Axes:
    """Draw the memory over the course of one step: forward, loss, backward, update (in MB, 10⁶ bytes).

    Raises:
        LabkitError: the report has no timeline, such as that of a saved run or of a plan.
    """
    if not report.timeline:
        raise LabkitError(
            "This report holds only the peak of a step: saved runs and plans keep no timeline.",
            "Draw the memory of a run that finetune has just returned, or use lk.plots.memory.",
        )
    ax = axes_for(ax, 7, 4)
    last = max(1, len(report.timeline) - 1)
    xs = [100 * i / last for i in range(len(report.timeline))]
    lines = dict(zip(KINDS, zip(*report.timeline, strict=True), strict=True))
    shown = [kind for kind in KIND_STYLES if max(lines[kind]) > report.peak / 300]
    series = [[value / 1e6 for value in lines[kind]] for kind in shown]
    colors = [KIND_STYLES[kind][0] for kind in shown]
    areas = ax.stackplot(xs, series, colors=colors, labels=shown, edgecolor=INK, linewidth=0.3)
    for area, kind in zip(areas, shown, strict=True):
        area.set_hatch(KIND_STYLES[kind][1])
    starts = {name: 100 * at / last for name, at in report.phases.items()}
    for x in starts.values():
        ax.axvline(x, color=INK, linestyle=":", linewidth=1)
    row_above(ax, starts)
    ax.set(xlabel="progress of one step (% of allocations and releases)", ylabel="memory in use (MB)")
    ax.set(xlim=(0, 100), ylim=(0, 1.05 * report.peak / 1e6))
    legend(ax, reverse=True)  # in the order of the stack
    totals = [sum(moment) / 1e6 for moment in report.timeline]
    peaks = listed(f"{kind} {number(max(ys))}" for kind, ys in zip(shown, series, strict=True))
    top = f"It is highest, {number(max(totals))} MB, at {xs[totals.index(max(totals))]:.0f}%."
    describe(ax, f"Stacked areas: memory in use (MB) over the progress of one step (%). {top} Most of each: {peaks}")
    return ax
