"""How long a text a model can read, and what is left of one that is longer."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from traceback import walk_stack

from transformers import PretrainedConfig

from labkit.models.architectures import ARCHITECTURES

MAX_LENGTH = 512  # tokens of an example that are read at once, unless another number is asked for
UNLIMITED = 1 << 20  # for models without a limit of their own


class TruncationWarning(UserWarning):
    """A text was longer than what is read at once, and a part of it was left out."""


def longest_of(config: PretrainedConfig) -> int:
    """Return how many tokens a model can read at once."""
    names = ("max_position_embeddings", "n_positions", "max_seq_len")
    positions = next((value for name in names if (value := getattr(config, name, None))), UNLIMITED)
    known = ARCHITECTURES.get(config.model_type)
    return positions - config.pad_token_id - 1 if known and known.padding_first else positions


def cut(ids: list[int], room: int, head: int = 0, tail: int | None = None) -> list[int]:
    """Return token ids that are at most ``room`` many, and at least ``head + (tail or 0) + 1``.

    The first ``head`` ids stay, such as the token that begins every text. Behind them the beginning is left out: what
    a prompt asks stands at its end. Where ``tail`` is given, the last ids stay as well and the end is left out.
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
        part: what of them is lost, such as their ``"beginning"``.
        limit: the length to name.
    """
    count = sum(length > room for length, room in zip(lengths, rooms, strict=True))
    if count:
        were, their = ("was", "its") if count == 1 else ("were", "their")
        which = f"The {what}" if len(lengths) == 1 else f"{count} of {len(lengths)} {what}s"
        warn(f"{which} {were} longer than {limit} tokens and lost {their} {part}.")


def warn(text: str) -> None:
    """Give a ``TruncationWarning`` that points to the line that called labkit, where it is shown once."""
    names = [frame.f_globals.get("__name__", "").split(".")[0] for frame, _ in walk_stack(sys._getframe())]
    place = len(names) - names[::-1].index("labkit")  # of whoever called labkit, or a decorator of labkit's function
    while place + 1 < len(names) and names[place] in ("torch", "contextlib"):
        place += 1
    warnings.warn(text, TruncationWarning, stacklevel=place + 1)
