"""A widget: choose a model and a method, and see what a training step takes beside the sizes of GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO

import ipywidgets as widgets
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, ScalarFormatter

from labkit.assets.blueprints import BLUEPRINTS
from labkit.assets.precision import PRECISIONS
from labkit.display.plots import LINES, MARKERS, plot_memory
from labkit.methods.registry import METHODS
from labkit.planning import Plan, plan
from labkit.planning.sizes import readable

CARDS = (16, 24, 48, 80)  # GB of GPUs that are drawn


class MemoryPlanner(widgets.VBox):
    """Bar and verdict follow the choice.

    Args:
        models: names to choose among; all published sizes by default.

    Attributes:
        model, method, precision, batch_size, length, checkpointing: the controls; set their ``value`` from code too.
        plan: of the last choice.
    """

    def __init__(self, models: Sequence[str] = tuple(BLUEPRINTS)):
        self.model = widgets.Dropdown(options=models, description="model")
        self.method = widgets.ToggleButtons(options=list(METHODS), description="method")
        self.precision = widgets.ToggleButtons(options=list(PRECISIONS), value="bfloat16", description="precision")
        self.batch_size = widgets.SelectionSlider(options=[2**i for i in range(8)], description="batch size")
        self.length = widgets.SelectionSlider(options=[2**i for i in range(5, 12)], value=512, description="length")
        self.checkpointing = widgets.Checkbox(value=False, description="gradient checkpointing")
        self._verdict, self._picture = widgets.HTML(), widgets.Image(format="png", width=700)
        controls = (self.model, self.method, self.precision, self.batch_size, self.length, self.checkpointing)
        for control in controls:
            control.observe(lambda _: self.update(), names="value")
        self.update()
        super().__init__([*controls, self._verdict, self._picture])

    def update(self) -> None:
        """Plan the chosen run and draw it."""
        chosen = (self.model, self.method, self.precision, self.batch_size, self.length, self.checkpointing)
        self.plan = _planned(*(control.value for control in chosen))
        self._verdict.value = (
            f"<b>{readable(self.plan.peak)}</b> of tensors at the peak; on a GPU about "
            f"<b>{readable(self.plan.total)}</b>, with what its allocator and CUDA take"
        )
        self._picture.value = _draw(self.plan)


@cache
def _planned(model: str, method: str, precision: str, batch_size: int, length: int, checkpointing: bool) -> Plan:
    settings = {"precision": precision, "batch_size": batch_size, "gradient_checkpointing": checkpointing}
    return plan(model, method, length=length, **settings)


def _draw(planned: Plan) -> bytes:
    figure = Figure(figsize=(7, 2.4), layout="constrained")  # not pyplot's: nothing else is to show it
    ax = plot_memory({planned.method.name: planned.report}, figure.subplots(), unit="GB")
    peak = planned.peak / 1e9
    next_larger = [size for size in CARDS if peak < size < 8 * peak][:1]
    cards = [size for size in CARDS if size <= peak] + next_larger
    for size in cards:
        ax.axvline(size, color="black", linestyle="--", linewidth=1)
        ax.annotate(f"{size} GB", (size, -0.45), (-9, 0), textcoords="offset points", rotation=90, fontsize=8)
    ax.set_ylim(0.5, -1.3)  # room for the labels above the bar
    ax.set_xlim(0, 1.05 * max([peak, *cards]))
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def plot_predictions(pairs: Mapping[str, Sequence[tuple[int, int]]], ax: Axes | None = None) -> Axes:
    """Draw predicted against measured peaks, in MB; right predictions lie on the diagonal.

    Args:
        pairs: by name of a method, (measured, predicted) in bytes.
        ax: where to draw.
    """
    ax = ax or plt.subplots(figsize=(5, 4.4), layout="constrained")[1]
    every = [value / 1e6 for points in pairs.values() for point in points for value in point]
    ends = [0.8 * min(every), 1.25 * max(every)]
    ax.plot(ends, ends, color="0.5", linestyle=LINES[1], linewidth=1, label="predicted = measured")
    for number, (name, points) in enumerate(pairs.items()):
        xs, ys = zip(*[(measured / 1e6, predicted / 1e6) for measured, predicted in points], strict=True)
        marker = MARKERS[number % len(MARKERS)]
        face = "none" if number >= len(MARKERS) else "0.3"
        ax.plot(xs, ys, marker, color="0.1", markerfacecolor=face, markersize=8, label=name)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.6)))
    ax.set(xlabel="measured peak of a step (MB)", ylabel="predicted peak (MB)")
    ax.legend(frameon=False)
    return ax
