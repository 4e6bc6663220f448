"""Draw a ladder of questions: the first one answered with yes leads to advice."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEP = 1.5


def decisions(questions: Sequence[tuple[str, str]], otherwise: str, ax: Axes | None = None) -> Axes:
    """Draw questions from top to bottom: yes leads to the advice on the right, no to the next question.

    Args:
        questions: pairs of a question and what to do if the answer is yes.
        otherwise: what to do if every answer is no.
        ax: where to draw.
    """
    ax = ax or plt.subplots(figsize=(9, 1.15 * (len(questions) + 1)), layout="constrained")[1]
    arrow = {"arrowstyle": "->", "color": "0.3", "linewidth": 1.2}
    for row, (question, advice) in enumerate(questions):
        y = -STEP * row
        _box(ax, (0, y), fill(question, 34), "white")
        _box(ax, (5.6, y), fill(advice, 52), "0.9")
        ax.annotate("", (3.3, y), (1.7, y), arrowprops=arrow)
        ax.text(2.5, y + 0.08, "yes", ha="center", va="bottom", fontsize=9)
        ax.annotate("", (0, y - STEP + 0.45), (0, y - 0.45), arrowprops=arrow)
        ax.text(0.12, y - STEP / 2, "no", ha="left", va="center", fontsize=9)
    _box(ax, (0, -STEP * len(questions)), fill(otherwise, 34), "0.9")
    ax.set(xlim=(-1.9, 8), ylim=(-STEP * len(questions) - 0.7, 0.7))
    ax.axis("off")
    return ax


def _box(ax: Axes, centre: tuple[float, float], text: str, face: str) -> None:
    box = {"facecolor": face, "edgecolor": "0.3", "boxstyle": "round,pad=0.4"}
    ax.text(*centre, text, ha="center", va="center", fontsize=9, bbox=box)
