"""What makes a figure hard to read, found with the renderer: any test of a figure can ask for its faults."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from labkit.display.style import SMALL, contrast

SLACK = 1  # pixels by which boxes may touch


def texts_of(figure):
    """Return the texts of a figure that are drawn and not empty, with their boxes."""
    renderer = figure.canvas.get_renderer()
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    hidden = {id(text) for ax in figure.axes for text in hidden_ticks(ax)}
    return [(text, Text.get_window_extent(text, renderer)) for text in found if id(text) not in hidden]


def hidden_ticks(ax: Axes):
    """Yield the labels of an axes' ticks that aren't drawn: those outside its limits, and all if it has no axis."""
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            for label, shown in ((tick.label1, tick.label1.get_visible()), (tick.label2, tick.label2.get_visible())):
                margin = 1e-6 * (high - low)
                if not (ax.axison and shown and low - margin <= tick.get_loc() <= high + margin):
                    yield label
        if not ax.axison:
            yield from (axis.label, axis.get_offset_text())


def faults(figure, smallest=SMALL):
    """Return what is wrong with a figure: texts over one another, cut off, small or pale, and lines too pale."""
    FigureCanvasAgg(figure).draw()
    texts = texts_of(figure)
    found = [f"{text.get_text()!r} has {text.get_size()} points" for text, _ in texts if text.get_size() < smallest]
    for (one, first), (other, second) in combinations(texts, 2):
        both = first.intersection(first, second)
        if both is not None and both.width > SLACK and both.height > SLACK:
            found.append(f"{one.get_text()!r} covers {other.get_text()!r}")
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in texts:
        if box.x0 < -SLACK or box.y0 < -SLACK or box.x1 > width + SLACK or box.y1 > height + SLACK:
            found.append(f"{text.get_text()!r} is cut off at {box}")
        patch = text.get_bbox_patch()
        ground = patch.get_facecolor() if patch else "white"
        if contrast(text.get_color(), ground) < 4.5:
            found.append(f"{text.get_text()!r} is {text.get_color()} on {ground}")
    for ax in figure.axes:
        for line in ax.lines:
            if line.get_visible() and to_rgba(line.get_color())[3] > 0 and contrast(line.get_color()) < 3:
                found.append(f"the line {line.get_label()!r} is {line.get_color()}")
        numbered = any(label.get_visible() and label.get_text() for label in ax.get_xticklabels())
        if ax.axison and numbered and not ax.get_xlabel():
            found.append("an x axis has no label")
    if to_rgba(figure.get_facecolor()) != (1, 1, 1, 1):
        found.append("the ground isn't white")
    return found
