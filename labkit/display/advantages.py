"""How an advantage looks: blue above the baseline, vermillion below, and told without colour by a sign and a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from labkit.display.style import INK, PALETTE, darkened, tinted
from labkit.tasks.summary_table import visible

UP, DOWN, LEVEL = "▲", "▼", "○"
MEANINGS = {
    UP: "better than its baseline: learning makes it likelier",
    DOWN: "worse: learning makes it less likely",
    LEVEL: "neither",
}
# How each sign looks: its colour, and a line that tells it without colour.
LOOKS = {
    UP: (PALETTE["blue"], f"3px solid {darkened(PALETTE['blue'], 4.5)}"),
    DOWN: (PALETTE["vermillion"], f"3px dotted {darkened(PALETTE['vermillion'], 4.5)}"),
    LEVEL: ("#ffffff", "3px solid transparent"),
}
PALEST, FULL = 0.1, 0.5  # shares of a colour in the paint of the smallest and of the largest advantage
LEAST = 0.01  # a smaller share of the largest advantage counts as none: rounding makes such, too
TINY = 1e-3  # the least that counts as the largest advantage
LONGEST = 2_000  # characters shown of a text
WHOLE = 30  # letters of a token that no line's end divides


@dataclass(frozen=True)
class Paint:
    """Signs, numbers and colours of advantages.

    Attributes:
        largest: of all that are shown; it has the full colour.
    """

    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Paint:
        """Return the paint for these advantages."""
        return cls(max([TINY, *map(abs, values)]))

    def sign(self, value: float) -> str:
        """Return ▲, ▼, or ○ for what is about 0."""
        return LEVEL if abs(value) < LEAST * self.largest else UP if value > 0 else DOWN

    def number(self, values: Sequence[float]) -> str:
        """Return the span of some advantages, with the sign that all have."""
        signs, ends = {self.sign(value) for value in values}, [_number(min(values)), _number(max(values))]
        return " ".join([*signs] * (len(signs) == 1) + [" to ".join(dict.fromkeys(ends))])

    def html(self, tokens: Sequence[str], values: Sequence[float]) -> str:
        """Return tokens as HTML; a sign stands where it turns, and each token has its number as a title.

        A line ends between tokens, so that the space that most begin with stays with its word.
        """
        made, before = [], ""
        for place, (text, value) in enumerate(zip(tokens, values, strict=True)):
            sign, share = self.sign(value), abs(value) / self.largest
            made += [f"<b>{sign}</b>"] * (sign != before)
            made.append(painted(shown(text), sign, share, f"token {place}: advantage {_number(value)}"))
            made.append("<br>" if "\n" in text else "<wbr>")
            before = sign
        return "".join(made)

    def runs(self, tokens: Sequence[str], values: Sequence[float]) -> list[tuple[str, str]]:
        """Return the number and the text of each run of tokens of one sign, broken where a line ends."""
        found: list[tuple[list[float], str]] = []
        for text, value in zip(tokens, values, strict=True):
            if not found or self.sign(found[-1][0][-1]) != self.sign(value) or found[-1][1].endswith("↵"):
                found.append(([], ""))
            before, so_far = found.pop()
            found.append(([*before, value], so_far + shown(text)))
        return [(self.number(each), text) for each, text in found]


def shown(text: str) -> str:
    """Return a text with signs for ends of lines and escapes for characters that can't be seen."""
    return visible(text.replace("\n", "↵"), LONGEST)


def painted(text: str, sign: str, share: float, title: str = "") -> str:
    """Return a text as HTML in the colour of its sign, of which it has a share."""
    color, line = LOOKS[sign]
    ground = tinted(color, PALEST + (FULL - PALEST) * share)
    style = f"background:{ground};color:{INK};border-bottom:{line};margin-right:1px;padding:1px;white-space:pre"
    style += "-wrap" * (len(text) > WHOLE)
    return f'<span style="{style}"' + f' title="{escape(title)}"' * bool(title) + f">{escape(text)}</span>"


def _number(value: float) -> str:
    return f"{value + 0:+.3g}"  # 0 is added since -0.0 would have a minus
