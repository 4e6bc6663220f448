"""Draw a ladder of questions: the first one answered with yes leads to advice."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt

from labkit.display.alt import describe, listed
from labkit.display.drawing import arrow, extent, rounded, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE, PAD, APART, ARROW = 12, 9, 30, 48  # points: of the text, around it, between rows, between the columns
QUESTION, ADVICE = 30, 46  # letters in a line


def decisions(questions: Sequence[tuple[str, str]], otherwise: str, ax: Axes | None = None) -> Axes:
    """Draw questions from top to bottom: yes leads to the advice on the right, no to the next question.

    Args:
        questions: pairs of a question and what to do if the answer is yes.
        otherwise: what to do if every answer is no.
        ax: where to draw; it needs room, for texts don't shrink. Without it, the figure is as large as they need.
    """
    asked = [fill(question, QUESTION, break_on_hyphens=False) for question, _ in questions]
    advised = [fill(advice, ADVICE, break_on_hyphens=False) for _, advice in questions]
    last = fill(otherwise, QUESTION, break_on_hyphens=False)
    left, right = (max((extent(t, SIZE)[0] for t in texts), default=0) for texts in ([*asked, last], advised))
    left, right = left + 2 * PAD, right + 2 * PAD
    # Questions are as high as their row, so that every arrow has the same length.
    rows = [
        max(extent(one, SIZE)[1], extent(other, SIZE)[1]) + 2 * PAD for one, other in zip(asked, advised, strict=True)
    ]
    rows.append(extent(last, SIZE)[1] + 2 * PAD)
    width, height = left + ARROW + right + 2 * PAD, sum(rows) + APART * len(questions) + 2 * PAD
    if ax is None:
        ax = plt.figure(figsize=(width / 72, height / 72), facecolor="white").add_axes((0, 0, 1, 1))
    ax.set(xlim=(-PAD, width - PAD), ylim=(PAD - height, PAD))
    ax.axis("off")
    top = 0.0
    for question, advice, row in zip(asked, advised, rows[:-1], strict=True):
        y = top - row / 2
        _box(ax, 0, y, left, row, question, "data")
        _box(ax, left + ARROW, y, right, row, advice, "frozen")
        arrow(ax, (left, y), (left + ARROW, y))
        write(ax, left + ARROW / 2 - 3, y + 3, "yes", SIZE, va="bottom")
        arrow(ax, (left / 2, top - row), (left / 2, top - row - APART))
        write(ax, left / 2 + 6, top - row - APART / 2, "no", SIZE, ha="left")
        top -= row + APART
    _box(ax, 0, top - rows[-1] / 2, left, rows[-1], last, "frozen")
    steps = listed(f"{question} If yes: {advice.rstrip('.')}" for question, advice in questions)
    last = f"Else: {otherwise.rstrip('.')}."
    describe(ax, f"A ladder of questions, of which the first one answered with yes counts. {steps} {last}")
    return ax


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, state: str) -> None:
    rounded(ax, x, y - height / 2, width, height, state)
    write(ax, x + width / 2, y, text, SIZE)
