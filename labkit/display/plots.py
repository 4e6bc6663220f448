"""The course's figures, as ``lk.plots``. They share one look, name their units, and say in words what they show."""

from labkit.display.alt import alt_text, describe
from labkit.display.bars import bars, columns
from labkit.display.block import block
from labkit.display.boxes import errors
from labkit.display.comparisons import differences, predictions, sweep
from labkit.display.curves import accuracy, curves, history
from labkit.display.decisions import decisions
from labkit.display.diagram import diagram
from labkit.display.grids import grids
from labkit.display.looks import look_of, looks
from labkit.display.memory import memory, timeline
from labkit.display.merging import merging
from labkit.display.mixed_batch import mixed_batch
from labkit.display.pareto import pareto, tradeoff
from labkit.display.parts import Bar, Box, Cells, Matrix
from labkit.display.quality import amounts, worth
from labkit.display.shares import shares
from labkit.display.style import figure
from labkit.display.two_tasks import two_tasks

__all__ = [
    "Bar",
    "Box",
    "Cells",
    "Matrix",
    "accuracy",
    "alt_text",
    "amounts",
    "bars",
    "block",
    "columns",
    "curves",
    "decisions",
    "describe",
    "diagram",
    "differences",
    "errors",
    "figure",
    "grids",
    "history",
    "look_of",
    "looks",
    "memory",
    "merging",
    "mixed_batch",
    "pareto",
    "predictions",
    "shares",
    "sweep",
    "timeline",
    "tradeoff",
    "two_tasks",
    "worth",
]
