"""The course's figures, as ``lk.plots``. They read well in greyscale and have units on every axis."""

from labkit.display.block import block
from labkit.display.comparisons import differences, predictions, sweep
from labkit.display.curves import accuracy, curves, history
from labkit.display.decisions import decisions
from labkit.display.diagram import diagram
from labkit.display.grids import grids
from labkit.display.memory import memory, timeline
from labkit.display.pareto import pareto
from labkit.display.parts import Bar, Box, Cells, Matrix

__all__ = [
    "Bar",
    "Box",
    "Cells",
    "Matrix",
    "accuracy",
    "block",
    "curves",
    "decisions",
    "diagram",
    "differences",
    "grids",
    "history",
    "memory",
    "pareto",
    "predictions",
    "sweep",
    "timeline",
]
