"""Draw the memory of a training step: at its peak, and over the course of the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt

from labkit.errors import LabkitError
from labkit.memory import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labkit.memory.report import MemoryReport

# Weights are dark, what the update needs is grey, and what depends on the batch is light.
KIND_STYLES = {
    "trainable": ("0.10", ""),
    "frozen": ("0.35", ""),
    "quantized": ("0.35", "xx"),
    "optimizer": ("0.58", ""),
    "gradients": ("0.58", "//"),
    "activations": ("0.78", ""),
    "logits": ("0.78", ".."),
    "temporaries": ("0.92", ""),
}


def memory(reports: Mapping[str, MemoryReport], ax: Axes | None = None, unit: str = "MB") -> Axes:
    """Draw a stacked bar for each report: what was in memory at the peak of a step, in MB or GB (10⁶, 10⁹ bytes)."""
    ax = ax or plt.subplots(figsize=(7, 1.4 + 0.7 * len(reports)), layout="constrained")[1]
    scale = {"MB": 1e6, "GB": 1e9}[unit]
    most = max(report.peak for report in reports.values()) / scale
    left = [0.0] * len(reports)
    for kind, (grey, hatch) in KIND_STYLES.items():
        sizes = [getattr(report, kind) / scale for report in reports.values()]
        if max(sizes) < most / 300:
            continue  # too thin to be seen
        bars = ax.barh(list(reports), sizes, left=left, color=grey, hatch=hatch, edgecolor="white", label=kind)
        ax.bar_label(
            bars,
            labels=[f"{size:.{0 if most > 100 else 1}f}" if size > most / 14 else "" for size in sizes],
            label_type="center",
            color="white" if grey < "0.6" else "black",
            bbox={"facecolor": grey, "edgecolor": "none", "pad": 1},
        )
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    ax.set(xlabel=f"memory at the peak of a step ({unit})")
    ax.invert_yaxis()
    ax.legend(ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
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
    ax = ax or plt.subplots(figsize=(7.5, 3.6), layout="constrained")[1]
    last = max(1, len(report.timeline) - 1)
    xs = [100 * i / last for i in range(len(report.timeline))]
    lines = dict(zip(KINDS, zip(*report.timeline, strict=True), strict=True))
    shown = [kind for kind in KIND_STYLES if max(lines[kind]) > report.peak / 300]
    series = [[value / 1e6 for value in lines[kind]] for kind in shown]
    colors = [KIND_STYLES[kind][0] for kind in shown]
    areas = ax.stackplot(xs, series, colors=colors, labels=shown, edgecolor="white", linewidth=0.3)
    for area, kind in zip(areas, shown, strict=True):
        area.set_hatch(KIND_STYLES[kind][1])
    starts = {name: 100 * at / last for name, at in report.phases.items()}
    for number, (name, x) in enumerate(starts.items()):
        ax.axvline(x, color="black", linestyle=":", linewidth=1)
        height = -10 - 11 * (number % 3)  # the loss is short: its label would touch the next
        ax.annotate(
            name, (x, 1), (3, height), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9
        )
    ax.set(xlabel="progress of one step (% of allocations and releases)", ylabel="memory in use (MB)")
    ax.set_ylim(top=1.25 * report.peak / 1e6)
    ax.legend(ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax
