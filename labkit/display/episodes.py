"""Sampled replies with their rewards, each token coloured by its advantage: what learning from rewards sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from labkit.display.advantages import LONGEST, MEANINGS, Paint, painted
from labkit.display.style import INK
from labkit.errors import LabkitError
from labkit.errors import shown as briefly
from labkit.printing import printable
from labkit.tasks.summary_table import visible
from labkit.training.episodes import Episode

WIDTH = 24  # of the left column in a terminal


@dataclass(frozen=True)
class Episodes:
    """Replies, what they earned, and what learning makes of their tokens; shown as HTML or as text."""

    episodes: tuple[Episode, ...]

    @property
    def words(self) -> str:
        """What is shown, in a sentence."""
        return (
            f"Rewards of {len(self.episodes)} replies to {len(self._groups())} prompts, and their tokens by advantage: "
            f"{self._paint().number(self._values())}."
        )

    def __str__(self) -> str:
        paint = self._paint()
        lines = [self.words, *(_line(sign, meaning) for sign, meaning in MEANINGS.items())]
        for number, group in self._groups():
            lines += ["", f"prompt {number}", *(_line(who, text) for who, text in _turns(group[0]))]
            for place, episode in enumerate(group, 1):
                facts = ", ".join(f"{name} {value}" for name, value in _facts(episode, paint).items())
                lines.append(f"reply {place}: {facts}")
                lines += [_line(number, text) for number, text in paint.runs(episode.tokens, episode.advantages)]
        return printable("\n".join(lines))

    __repr__ = __str__

    def _repr_html_(self) -> Any:
        if os.environ.get("LABKIT_ALT_TEXT") == "print":
            print("Figure:", self.words)  # noqa: T201  asked for by the reader
        paint = self._paint()
        key = " ".join(f"{painted(sign, sign, 1)} {escape(meaning)}." for sign, meaning in MEANINGS.items())
        body = "".join(_table(number, group, paint) for number, group in self._groups())
        # White, so that it reads in Jupyter's dark theme, too.
        style = f"background:white;color:{INK};padding:.6em;font-size:14px;overflow-wrap:anywhere"
        html = f'<div role="figure" aria-label="{escape(self.words)}" style="{style}"><div>{key}</div>{body}</div>'
        return html, {"alt": self.words}

    def _groups(self) -> list[tuple[int, list[Episode]]]:
        return [(number, list(group)) for number, group in groupby(self.episodes, key=lambda each: each.prompt)]

    def _values(self) -> list[float]:
        return [value for episode in self.episodes for value in episode.advantages]

    def _paint(self) -> Paint:
        return Paint.of(self._values())


def show_episodes(episodes: Sequence[Episode]) -> Episodes:
    """Show, for each prompt, its sampled replies: their rewards, and their tokens coloured by their advantages.

    The colour of a token is the stronger, the larger its advantage beside the largest one shown. Its sign can be told
    without colour: ▲ or ▼ stands where it turns, and lines under tokens are solid above the baseline, dotted below.

    Args:
        episodes: what ``lk.sample_episodes`` returned, or some of these.

    Raises:
        LabkitError: there are no episodes.
    """
    given: Any = episodes if isinstance(episodes, (list, tuple)) else [episodes]
    if not given or not all(isinstance(each, Episode) for each in given):
        raise LabkitError(f"These are no episodes: {briefly(episodes)}.", "Pass what lk.sample_episodes returned.")
    return Episodes(tuple(given))


def _turns(episode: Episode) -> list[tuple[str, str]]:
    if isinstance(episode.asked, str):
        return [("asked", visible(episode.asked, LONGEST))]
    return [(turn["role"], visible(turn["content"], LONGEST)) for turn in episode.asked]


def _facts(episode: Episode, paint: Paint) -> dict[str, str]:
    """Return what is written beside a reply, by its heading."""
    found = {"reward": f"{episode.reward:.3g}"}
    if len(episode.rewards) > 1:
        found |= {visible(name): f"{value:.3g}" for name, value in episode.rewards.items()}
    ended = "yes" if episode.reply.stopped else "no"
    return found | {"advantage": paint.number(episode.advantages), "tokens": str(episode.reply.tokens), "ended": ended}


def _line(who: str, text: str) -> str:
    return f"{who:>{WIDTH}} │ " + text.replace("\n", "\n" + " " * WIDTH + " │ ")


def _table(number: int, group: list[Episode], paint: Paint) -> str:
    # Each cell has its own ground: JupyterLab's dark theme darkens every other row.
    cell = f"background:white;border:1px solid {INK};padding:.4em;text-align:left;vertical-align:top"
    # JupyterLab makes all columns equal, and a word that is wider breaks anywhere: not so headings and numbers.
    fact = f"{cell};overflow-wrap:normal"
    names = [escape(name).replace("_", "_<wbr>") for name in _facts(group[0], paint)]
    heads = "".join(f'<th scope="col" style="{fact}">{name}</th>' for name in names)
    rows = ""
    for each in group:
        facts = "".join(f'<td style="{fact}">{escape(value)}</td>' for value in _facts(each, paint).values())
        reply = f"<bdi>{paint.html(each.tokens, each.advantages)}</bdi>"
        rows += f'<tr>{facts}<td style="{cell};font-family:monospace;line-height:2">{reply}</td></tr>'
    turns = "".join(
        f'<p style="margin:.6em 0 .2em;white-space:pre-wrap"><b>{escape(who)}:</b> <bdi>{escape(text)}</bdi></p>'
        for who, text in _turns(group[0])
    )
    style = f"background:white;color:{INK};border-collapse:collapse;font-size:14px;width:100%;table-layout:auto"
    head = f'<thead><tr>{heads}<th scope="col" style="{cell};width:60%">reply</th></tr></thead>'
    return f'{turns}<table aria-label="Replies to prompt {number}" style="{style}">{head}<tbody>{rows}</tbody></table>'
