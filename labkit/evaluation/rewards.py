"""Rewards that a program can verify: they cannot be wrong about what they check, and they check nothing else.

Each takes rows of a task with known answers, such as ``instructions``, and replies, as ``lk.score_replies`` does, and
returns a number for each reply. ``lk.reinforce`` takes any of them, alone or together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.errors import LabkitError, require_count
from labkit.evaluation.replies import score_replies
from labkit.generation.replies import Reply
from labkit.tasks.gym import gym_score_of
from labkit.tasks.instructions import choices_of
from labkit.tasks.phrasings import HOLE
from labkit.tasks.row import holds


def right(rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
    """Return 1 for each reply that is one of the accepted answers, such as the right department in its form."""
    return _hits("exact", rows, replies)


def in_form(rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
    """Return 1 for each reply in the form asked for, whatever it answers."""
    return _hits("form", rows, replies)


def mentioned(rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
    """Return 1 for each reply in which an accepted answer occurs. A reply that lists all choices gets it, too."""
    return _hits("mentioned", rows, replies)


def names_only(rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
    """Return 1 for each reply that names one of the choices that its question offers, an accepted one, and no other.

    Raises:
        LabkitError: a question offers no choices.
    """
    return [float(_names_only(row, reply.text)) for row, reply in zip(rows, replies, strict=True)]


def named_choices(row: dict[str, Any], text: str) -> list[str]:
    """Return which of the choices that a question offers occur in a text, as whole words.

    Raises:
        LabkitError: the question offers none.
    """
    if not (choices := choices_of(row)):
        raise LabkitError("A question offers no choices.", "Leave such out, as the kinds route and refuse.")
    return [choice for choice in choices if holds(text, choice)]


def ended(rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
    """Return 1 for each reply that the model ended by itself."""
    return [float(reply.stopped) for reply in replies]


def within(tokens: int) -> Callable[[list[dict[str, Any]], list[Reply]], list[float]]:
    """Return a reward of 1 for replies of at most so many tokens; beyond, it falls to 0 at twice as many."""
    most = require_count("tokens", tokens)

    def length(rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
        return [min(1.0, max(0.0, 2 - reply.tokens / most)) for reply in replies]

    length.__name__ = f"within_{most}"
    return length


def gym_score(rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
    """Return what the verifiers of Reasoning Gym give the replies, from 0 to 1.

    The rows are those of ``lk.load_task("reasoning-gym:chain_sum")``, for example. Some verifiers give part of it for
    a wrong answer that is near, or for a right one among other words.
    """
    return [gym_score_of(row, reply.text) for row, reply in zip(rows, replies, strict=True)]


def _names_only(row: dict[str, Any], text: str) -> bool:
    named = named_choices(row, text)
    return len(named) == 1 and row["form"].replace(HOLE, named[0]) in row["accepted"]


def _hits(measure: str, rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
    return [float(hit) for hit in getattr(score_replies(rows, replies), measure).hits]
