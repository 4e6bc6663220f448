"""A widget: choose a layer, a format and a block size, and see what quantization does to the weight."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from labkit.display.grids import draw_grid, said, scaled_by_block
from labkit.display.looks import looks
from labkit.display.pictures import as_html
from labkit.extras import unusable
from labkit.methods.targets import find_targets
from labkit.models.model import Model
from labkit.quant.blockwise import quantize
from labkit.quant.codebooks import LEVELS, levels
from labkit.quant.error import relative_error

try:
    import ipywidgets as widgets
except ImportError as problem:
    raise unusable("ipywidgets", problem) from problem

SAMPLE = 2**18  # weights of a layer that are looked at: few enough to answer a choice at once


class QuantizationExplorer(widgets.VBox):
    """Show a layer's weights on the chosen grid, and the error that quantization makes.

    Args:
        model: its linear layers are shown; in floats, not quantized.

    Attributes:
        layer, format, block_size, double: the controls; code can set their ``value``, too.
        error: relative error of the last choice.
        bits: stored bits a parameter of the last choice.
    """

    def __init__(self, model: Model):
        model.require_floats()
        self._layers = find_targets(model.module, "all-linear")
        self.layer = widgets.Dropdown(options=list(self._layers), description="layer")
        # Without an own tooltip, ipywidgets 8 shows "null" over the description.
        self.format = widgets.ToggleButtons(options=list(LEVELS), description="format", tooltip="")
        # Not a slider, to which ipywidgets gives no name that a screen reader could say, and no value but its place.
        self.block_size = widgets.Dropdown(
            options=[32, 64, 128, 256, 512, 1024, 2048, 4096], value=64, description="block size"
        )
        self.double = widgets.Checkbox(value=False, description="double quantization")
        self._verdict, self._picture = widgets.HTML(), widgets.HTML()
        controls = (self.layer, self.format, self.block_size, self.double)
        for control in controls:
            control.observe(lambda _: self.update(), names="value")
        self.update()
        super().__init__([*controls, self._verdict, self._picture])

    def update(self) -> None:
        """Quantize the chosen layer anew and draw it."""
        weight = self._layers[self.layer.value].get_parameter("weight").detach().flatten()[:SAMPLE].float().cpu()
        quantized = quantize(weight, self.format.value, self.block_size.value, self.double.value)
        self.error, self.bits = relative_error(weight, quantized.dequantize()), quantized.bits_per_parameter
        self._verdict.value = (
            f"<b>relative error {self.error:.2%}</b> at <b>{self.bits:.3f} bits</b> a parameter "
            f"({weight.numel():,} weights of this layer)"
        )
        scaled = scaled_by_block(weight, self.block_size.value)
        self._picture.value = _draw(scaled, levels(self.format.value), self.format.value)


def _draw(scaled: np.ndarray, grid: torch.Tensor, name: str) -> str:
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")  # not pyplot's, so that Jupyter doesn't show it again
    ax = figure.subplots()
    draw_grid(ax, scaled, grid, looks(LEVELS)[name].ink)
    ax.set(xlabel=f"weight / absmax of its block, with the levels of {name}", ylabel="weights", xlim=(-1.05, 1.05))
    return as_html(figure, said(name, grid, scaled))
