"""A widget: choose a model and a method, and see how much memory a training step takes, next to sizes of GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

from matplotlib.figure import Figure

from labkit.display.alt import alt_text
from labkit.display.memory import memory
from labkit.display.pictures import as_html
from labkit.display.style import INK, SMALL
from labkit.errors import LabkitError
from labkit.extras import unusable
from labkit.methods.method import METHODS
from labkit.models.config import BLUEPRINTS
from labkit.models.precision import PRECISIONS
from labkit.planning.plan import Plan, plan
from labkit.planning.sizes import readable

try:
    import ipywidgets as widgets
except ImportError as problem:
    raise unusable("ipywidgets", problem) from problem

CARDS = (16, 24, 48, 80)  # GB of the GPUs to compare with


class MemoryPlanner(widgets.VBox):
    """Show the memory of the chosen training step.

    Args:
        models: names to choose among; all published sizes by default.

    Attributes:
        model, method, precision, batch_size, length, checkpointing: the controls; code can set their ``value``, too.
        plan: of the last choice that can be planned.
    """

    def __init__(self, models: Sequence[str] = tuple(BLUEPRINTS)):
        self.model = widgets.Dropdown(options=models, description="model")
        # Without an own tooltip, ipywidgets 8 shows "null" over the description.
        self.method = widgets.ToggleButtons(options=list(METHODS), description="method", tooltip="")
        precisions = {"options": list(PRECISIONS), "value": "bfloat16"}
        self.precision = widgets.ToggleButtons(**precisions, description="precision", tooltip="")
        # Not sliders, to which ipywidgets gives no name that a screen reader could say, and no value but its place.
        self.batch_size = widgets.Dropdown(options=[2**i for i in range(8)], description="batch size")
        self.length = widgets.Dropdown(options=[2**i for i in range(5, 12)], value=512, description="length")
        self.checkpointing = widgets.Checkbox(value=False, description="gradient checkpointing")
        self._verdict, self._picture = widgets.HTML(), widgets.HTML()
        self._controls = [self.model, self.method, self.precision, self.batch_size, self.length, self.checkpointing]
        for control in self._controls:
            control.observe(lambda _: self.update(), names="value")
        self.update()
        super().__init__([*self._controls, self._verdict, self._picture])

    def update(self) -> None:
        """Plan the chosen run and draw it, or say why it can't be done."""
        self._verdict.value = "planning …"
        try:
            self.plan = _planned(*(control.value for control in self._controls))
        except LabkitError as refusal:  # an error here would be lost: it belongs to no cell
            self._verdict.value = escape(str(refusal)).replace("\n", "<br>")
            self._picture.layout.display = "none"
            return
        self._picture.layout.display = None
        self._verdict.value = (
            f"<b>{readable(self.plan.peak)}</b> of tensors at the peak; on a GPU about "
            f"<b>{readable(self.plan.total)}</b>, with what its allocator and CUDA take"
        )
        self._picture.value = _draw(self.plan)


@cache
def _planned(model: str, method: str, precision: str, batch_size: int, length: int, checkpointing: bool) -> Plan:
    return plan(
        model, method, length=length, precision=precision, batch_size=batch_size, gradient_checkpointing=checkpointing
    )


def _draw(planned: Plan) -> str:
    figure = Figure(figsize=(7, 2.9), layout="constrained")  # not pyplot's, so that Jupyter doesn't show it again
    ax = memory({planned.method.name: planned.report}, figure.subplots(), unit="GB")
    peak = planned.peak / 1e9
    next_larger = [size for size in CARDS if peak < size < 8 * peak][:1]
    cards = [size for size in CARDS if size <= peak] + next_larger
    for size in cards:
        ax.axvline(size, color=INK, linestyle="--", linewidth=1)
        place: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "top", "fontsize": SMALL, "color": INK}
        ax.annotate(f"{size} GB", (size, -1.25), (-3, 0), textcoords="offset points", **place)
    ax.set_ylim(0.5, -1.3)  # room for the labels above the bar
    ax.set_xlim(0, 1.05 * max([peak, *cards]))
    lines = f" Lines mark GPUs of {', '.join(map(str, cards))} GB." if cards else ""
    return as_html(figure, alt_text(ax) + lines)
