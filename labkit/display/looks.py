"""How a series looks: a method has one colour and marker in all figures, and anything else a look by its position."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from labkit.display.style import GREY, PALETTE, darkened, tinted
from labkit.errors import require_count

Dashes = str | tuple[int, tuple[float, ...]]

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", ">", "p", "*", "d", "8")
LINES: tuple[Dashes, ...] = ("-", "--", ":", "-.", (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)))
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "oo", "++")
# Yellow is left out: on white, it must be so dark that it is no yellow any more.
ORDER = ("blue", "vermillion", "bluish green", "reddish purple", "orange", "sky blue", "black")


@dataclass(frozen=True)
class Look:
    """How a series is drawn.

    Attributes:
        color: of the palette.
        marker: of its points.
        line: the style of its line.
        hatch: of its bars.
    """

    color: str
    marker: str = "o"
    line: Dashes = "-"
    hatch: str = ""

    @property
    def ink(self) -> str:
        """The colour, dark enough for lines and markers on white."""
        return darkened(self.color, 3)

    @property
    def text(self) -> str:
        """The colour, dark enough for text on white."""
        return darkened(self.color, 4.5)

    @property
    def tint(self) -> str:
        """The colour, light enough for areas that have something drawn on them."""
        return tinted(self.color)


def _color(name: str, *rest: str | Dashes) -> Look:
    return Look(PALETTE[name], *rest)  # type: ignore[arg-type]


# The first pattern that is found in a name counts: variants stand before their family.
METHOD_LOOKS = (
    (r"\bbefore\b|\bbase\b|untuned", Look(GREY, "d", ":")),
    (r"\bqlora\b.*labkit", _color("sky blue", "d", "--", "xx")),
    (r"\bqlora\b.*checkpoint", _color("sky blue", "8", ":", "++")),
    (r"\bqlora\b", _color("sky blue", "D", "-.", "//")),
    (r"\bdora\b", _color("blue", "h", ":", "..")),
    (r"\bpissa\b", _color("blue", "p", "--", "xx")),
    (r"\brslora\b|√r", _color("blue", "^", "-.", "\\\\")),
    (r"\blora\b.*r ?= ?[1-4]\b", _color("blue", "<", ":")),
    (r"\blora\b.*r ?= ?(32|64|128|256)\b", _color("blue", ">", "-.")),
    (r"\blora\b|α/r", _color("blue", "s", "--")),
    (r"\bpfeiffer\b", _color("vermillion", "v", "--", "//")),
    (r"\bparallel\b", _color("vermillion", "<", ":", "..")),
    (r"bottleneck|\badapters\b|\bhoulsby\b", _color("vermillion", "^", "-.")),
    (r"\bia(3|³)", _color("bluish green", "P", (0, (8, 2)))),
    (r"\bprefix\b.*random", _color("reddish purple", "p", "--", "//")),
    (r"\bprefix\b", _color("reddish purple", "X", ":")),
    (r"\bprompt\b.*random", _color("orange", "8", "--", "//")),
    (r"\bprompt\b", _color("orange", "*", (0, (4, 1, 1, 1, 1, 1)))),
    (r"\bhead\b", _color("yellow", "h", "-.")),
    (r"\bfull\b", _color("black", "o", "-")),
)


def method_look(name: str) -> Look | None:
    """Return the look of a method, or None for a name that is no method's."""
    return next((look for pattern, look in METHOD_LOOKS if re.search(pattern, str(name), re.IGNORECASE)), None)


def look_of(name: str, number: int = 0) -> Look:
    """Return the look of a method, which is the same in all figures, or of the ``number``-th other series.

    Args:
        name: as a figure shows it, such as "LoRA r=4".
        number: the position of a name that is no method's.
    """
    return method_look(name) or Look(*_at(require_count("number", number, low=0)))


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Return a look for each name of a figure; no two are the same."""
    names = list(dict.fromkeys(names))
    found = {name: look for name in names if (look := method_look(name))}
    others = [name for name in names if name not in found]
    taken = {look.color for look in found.values()}
    free = [number for number, color in enumerate(ORDER) if PALETTE[color] not in taken] or [0]
    for number, name in enumerate(others):
        color = PALETTE[ORDER[free[number % len(free)]]]
        found[name] = replace(look_of("", number), color=color)
    shown: dict[str, Look] = {}
    for name in names:
        used = {(look.color, look.marker) for look in shown.values()}
        look = found[name]
        if (look.color, look.marker) in used:  # two settings of one method: the color stays
            spare = [number for number, marker in enumerate(MARKERS) if (look.color, marker) not in used] or [0]
            _, marker, line, hatch = _at(spare[0])
            look = replace(look, marker=marker, line=line, hatch=hatch)
        shown[name] = look
    return shown


def _at(number: int) -> tuple[str, str, Dashes, str]:
    parts = (MARKERS, LINES, HATCHES)
    marker, line, hatch = (part[number % len(part)] for part in parts)
    return PALETTE[ORDER[number % len(ORDER)]], marker, line, hatch  # type: ignore[return-value]
