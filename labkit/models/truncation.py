"""Cut texts that are longer than a model can read, and warn of it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from traceback import walk_stack
from typing import TYPE_CHECKING

from labkit.errors import LabkitError
from labkit.models.encoding import frame

if TYPE_CHECKING:
    from labkit.models.model import Model


class TruncationWarning(UserWarning):
    """A text was longer than what is read at once, and a part of it was left out."""


def fit(model: Model, rows: list[list[int]], rooms: int | Sequence[int], what: str, limit: int = 0) -> list[list[int]]:
    """Cut prompts to the number of tokens that there is room for, and warn once if any was cut.

    A causal model's prompt loses its beginning, except for the tokens that begin every text. An encoder's text loses
    its end.

    Args:
        model: the model that will read them.
        rows: as ``prompt_ids`` gives them.
        rooms: how many ids there is room for, for all rows or for each.
        what: the noun for a row in the warning, in the singular, such as "prompt".
        limit: the length that the warning names; ``rooms`` by default.

    Raises:
        LabkitError: nothing of a text would be left.
    """
    room_of = [rooms] * len(rows) if isinstance(rooms, int) else rooms
    tail = len(frame(model.tokenizer)[1]) if model.kind == "encoder" else None
    part = "end" if model.kind == "encoder" else "beginning"
    fitting = []
    for number, (ids, room, head) in enumerate(zip(rows, room_of, headings(model, rows), strict=True), 1):
        if room < min(len(ids), head + (tail or 0) + 1):
            raise LabkitError(
                f"Nothing is left of {what} {number}: it takes {len(ids)} tokens, and there is room for "
                f"{max(room, 0)}. {model.name} can read {model.max_length} tokens at once.",
                "Make more room: raise max_length, or ask for fewer new tokens or shorter labels.",
            )
        fitting.append(cut(ids, room, head, tail))
    say_cut([len(ids) for ids in rows], room_of, what, part, limit or max(room_of, default=0))
    return fitting


def headings(model: Model, rows: Sequence[list[int]]) -> list[int]:
    """Return how many of the first ids of each prompt begin every text, and must not be cut."""
    front, begin = frame(model.tokenizer)[0], getattr(model.tokenizer, "bos_token_id", None)
    return [len(front) or int(begin is not None and ids[:1] == [begin]) for ids in rows]


def cut(ids: list[int], room: int, head: int = 0, tail: int | None = None) -> list[int]:
    """Cut token ids to ``room``, which must be at least ``head + (tail or 0) + 1``.

    The first ``head`` ids stay, such as the token that begins every text. After them the beginning is left out, because
    a prompt's question is at its end. Where ``tail`` is given, the last ids stay as well and the end is left out.
    """
    if len(ids) <= room:
        return ids
    keep = room - head - (tail or 0)
    if tail is None:
        return ids[:head] + ids[len(ids) - keep :]
    return ids[: head + keep] + ids[len(ids) - tail :]


def say_cut(lengths: Sequence[int], rooms: Sequence[int], what: str, part: str, limit: int) -> None:
    """Warn once of all texts that are longer than their room.

    Args:
        lengths, rooms: tokens of each text, and how many of them are read.
        what: the texts, in the singular.
        part: the part that is lost, such as "beginning".
        limit: the length to name.
    """
    count = sum(length > room for length, room in zip(lengths, rooms, strict=True))
    say_lost(count, len(lengths), what, part, limit)


def say_lost(count: int, total: int, what: str, part: str, limit: int) -> None:
    """Warn once that ``count`` of ``total`` texts lost a part; the other arguments are those of ``say_cut``."""
    if count:
        were, their = ("was", "its") if count == 1 else ("were", "their")
        which = f"The {what}" if total == 1 else f"{count} of {total} {what}s"
        warn(f"{which} {were} longer than {limit} tokens and lost {their} {part}.")


def warn(text: str, kind: type[Warning] = TruncationWarning) -> None:
    """Give a warning that points to the line that called labkit, where it is shown once."""
    names = [frame.f_globals.get("__name__", "").split(".")[0] for frame, _ in walk_stack(sys._getframe())]
    # the caller's frame, or that of a decorator around labkit's function
    place = len(names) - names[::-1].index("labkit")
    while place + 1 < len(names) and names[place] in ("torch", "contextlib"):
        place += 1
    warnings.warn(text, kind, stacklevel=place + 1)
