"""What a figure shows, in words: for those who don't see it, and for programs that read a notebook.

Jupyter keeps the words with the picture, as ``alt`` in the metadata of the output, where nbconvert's classic HTML and
nbviewer read them, and as its plain text, where VS Code, MyST and terminals do. JupyterLab 4 reads neither: there, with
``LABKIT_ALT_TEXT=print`` in the environment, the words are printed above the figure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WORDS: WeakKeyDictionary[Axes | Figure, str] = WeakKeyDictionary()
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")


def describe(drawn: Axes | Figure, words: str) -> None:
    """Say what axes or a whole figure show. Every function of ``lk.plots`` does this for what it draws.

    Args:
        drawn: the axes, or the figure.
        words: a sentence or two: the kind of drawing, its axes with their units, and what it shows.
    """
    _WORDS[drawn] = " ".join(words.split())
    _tell_jupyter()


def alt_text(drawn: Axes | Figure) -> str:
    """Return what was said of axes, or of a figure: else of all its axes, each with its title."""
    if drawn in _WORDS or not isinstance(drawn, Figure):
        return _WORDS.get(drawn, "")
    said = [(" ".join(ax.get_title().split()), _WORDS[ax]) for ax in drawn.axes if ax in _WORDS]
    return " ".join(f"{title}: {words}" if title else words for title, words in said)


def number(value: float) -> str:
    """Return a number with three digits, or all those before its point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def listed(parts: Iterable[str]) -> str:
    """Return the parts of a list as a sentence."""
    return "; ".join(parts) + "."


def course(name: str, xs: Sequence[float], ys: Sequence[float]) -> str:
    """Return where a curve begins and ends, and its lowest and highest points if they lie between."""
    ends = f"{name} from {number(ys[0])} at {number(xs[0])} to {number(ys[-1])} at {number(xs[-1])}"
    turns = [
        f"{word} {number(ys[at])} at {number(xs[at])}"
        for word, at in (("lowest", ys.index(min(ys))), ("highest", ys.index(max(ys))))
        if ys[at] not in (ys[0], ys[-1])
    ]
    return ", ".join([ends, *turns])


def _tell_jupyter() -> None:
    """Have IPython add the words to pictures of figures; its settings may have changed since the last figure."""
    ipython = sys.modules.get("IPython")
    if ipython is None or (shell := ipython.get_ipython()) is None:
        return
    formatters = shell.display_formatter.formatters
    for kind in PICTURES:
        try:
            draw = formatters[kind].lookup_by_type(Figure)
        except KeyError:
            continue  # such as SVG, where PNG is shown
        if getattr(draw, "func", None) is not _with_words:
            formatters[kind].for_type(Figure, partial(_with_words, draw))
    formatters["text/plain"].for_type(Figure, lambda drawn, page, cycle: page.text(alt_text(drawn) or repr(drawn)))


def _with_words(draw: Callable[[Figure], Any], drawn: Figure) -> Any:
    """Return the picture and its metadata, with the words in them."""
    picture, words = draw(drawn), alt_text(drawn)
    if picture is None or not words:
        return picture
    if os.environ.get("LABKIT_ALT_TEXT") == "print":
        print("Figure:", words)  # noqa: T201  asked for by the reader
    data, metadata = picture if isinstance(picture, tuple) else (picture, {})
    return data, {**metadata, "alt": words}
