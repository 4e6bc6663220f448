"""Concept drawings: rows of matrices, boxes, bars and cells, with signs and arrows between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from matplotlib import pyplot as plt

from labkit.display.alt import describe
from labkit.display.drawing import GAP, NAME, NOTE, arrow, extent, write
from labkit.display.pieces import Piece, Scales, piece_of
from labkit.display.states import INK
from labkit.errors import LabkitError, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE, ROWS, MARGIN = 16, 20, 14  # points
BACK = 22  # how far below a row its arrow back lies


def diagram(*rows: Sequence[Any] | str, title: str = "", caption: str = "") -> Axes:
    """Draw rows of parts, one below another, in a figure that is as large as they need.

    A part is a ``Matrix``, a ``Box``, a ``Bar``, ``Cells``, a list of parts that stand one above another, or a text.
    ``"→"`` or ``"→ label"`` is an arrow, ``"↓ label"`` an arrow down, and ``"↩ name"`` or ``"↩ name: label"``, at the
    end of a row, an arrow back to the part of that name. Any other text stands as it is, such as ``"+"``; of several
    letters at the start of a row, it is the row's label.

    Matrices, bars and cells are to scale, each kind to its own, the same in the whole diagram. What would be too thin
    to be seen is drawn thicker and marked with an asterisk, and the caption says so. The size of a box says nothing.

    Args:
        rows: each a list of parts, or a single text.
        title: above the drawing.
        caption: below it.

    Returns:
        Axes whose units are points. A description in words belongs to ``axes.figure``.

    Raises:
        LabkitError: something can't be drawn, or there is nothing to draw.
    """
    lines = [[row] if isinstance(row, str) else list(row) for row in rows]
    if not all(lines) or not lines:
        raise LabkitError("There is nothing to draw, or a row is empty.", "Give each row at least one part.")
    scales = Scales([list(_flat(line)) for line in lines])
    labels = [line.pop(0) if _has_label(line) else "" for line in lines]
    indent = max(extent(label, NAME, "bold")[0] + 2 * GAP if label else 0 for label in labels)
    pieces = [_row(line, scales) for line in lines]
    notes = [caption] if caption else []
    notes += [f"* drawn thicker than to scale: {', '.join(scales.thin)}"] if scales.thin else []
    inner = max(indent + max(piece.width for piece in pieces), extent(title, TITLE, "bold")[0])
    below = "\n".join(line for note in notes for line in wrap(note, max(40, int(inner / NOTE * 1.75))))
    width = max(inner, extent(below, NOTE)[0]) + 2 * MARGIN
    top, bottom = (extent(text, size)[1] + (ROWS if text else 0) for text, size in ((title, TITLE), (below, NOTE)))
    height = sum(piece.above + piece.below + ROWS for piece in pieces) - ROWS + top + bottom + 2 * MARGIN
    figure = plt.figure(figsize=(width / 72, height / 72), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    write(ax, width / 2, height - MARGIN, title, TITLE, weight="bold", va="top")
    write(ax, width / 2, MARGIN, below, NOTE, va="bottom", color="0.25")
    y = height - MARGIN - top
    for label, piece in zip(labels, pieces, strict=True):
        y -= piece.above
        write(ax, MARGIN, y, label, NAME, weight="bold", ha="left")
        piece.draw(ax, MARGIN + indent if indent else (width - piece.width) / 2, y)
        y -= piece.below + ROWS
    said = [_said([f"{label}:", *line] if label else line) for label, line in zip(labels, lines, strict=True)]
    sentences = [text.strip().rstrip(".") for text in ("Diagram", title, *said, *notes)]
    describe(figure, " ".join(f"{' '.join(text.split())}." for text in sentences if text))
    return ax


def _flat(parts: Sequence[Any]) -> Iterator[Any]:
    for part in parts:
        yield from _flat(part) if isinstance(part, (list, tuple)) else [part]


def _has_label(line: Sequence[Any]) -> bool:
    first = line[0]
    return len(line) > 1 and isinstance(first, str) and len(first) > 1 and first[0] not in "→↓"


def _row(parts: Sequence[Any], scales: Scales) -> Piece:
    """Return a row's piece: its parts side by side, and perhaps an arrow back from the last one, below them."""
    leads_back = isinstance(parts[-1], str) and parts[-1].startswith("↩")
    name, _, label = (text.strip() for text in (parts[-1][1:] if leads_back else "").partition(":"))
    parts = parts[: len(parts) - leads_back]
    names = [getattr(part, "name", None) for part in parts]
    if leads_back and name not in names[:-1]:
        raise LabkitError(f"No earlier part of the row is called {shown(name)}.", "Let the arrow lead back to a part.")
    pieces = [piece_of(part, scales) for part in parts]
    starts = [sum(piece.width + GAP for piece in pieces[:at]) for at in range(len(pieces))]
    above, below = max(piece.above for piece in pieces), max(piece.below for piece in pieces)

    def draw(ax: Axes, x: float, y: float) -> None:
        for start, piece in zip(starts, pieces, strict=True):
            piece.draw(ax, x + start, y)
        if leads_back:
            low, at = y - below - BACK, names.index(name)
            begin, end = (x + starts[i] + pieces[i].width / 2 for i in (-1, at))
            ax.plot([begin, begin, end, end], [y - pieces[-1].below, low, low, low + GAP], color=INK, linewidth=1.4)
            arrow(ax, (end, low), (end, y - pieces[at].below))
            write(ax, (begin + end) / 2, low - 4, label, NOTE, va="top")

    deep = BACK + 4 + extent(label, NOTE)[1] if leads_back else 0
    return Piece(starts[-1] + pieces[-1].width, above, below + deep, draw)


def _said(parts: Sequence[Any]) -> str:
    """Return parts in words, in the order of the drawing."""
    return " ".join("[" + "; ".join(map(str, p)) + "]" if isinstance(p, (list, tuple)) else str(p) for p in parts)
