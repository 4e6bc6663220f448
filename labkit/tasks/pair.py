"""Pairs of replies: from the forms in which people keep them to lists of messages.

The forms are TRL's: ``prompt``, ``chosen`` and ``rejected`` as texts or as lists of messages; or no ``prompt``, and
both replies begin with it. What comes out has three lists of messages: the prompt's last one is the user's, and each
reply is one message. Texts become messages, since a model with a chat template is asked that way.
"""

from __future__ import annotations

import re
from itertools import takewhile

from labkit.conversations.messages import ROLES, conversation
from labkit.errors import LabkitError, shown
from labkit.tasks.row import plain, short

TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")  # as Anthropic's HH-RLHF writes conversations in one text
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
FORM = 'Write {"prompt": "…", "chosen": "…", "rejected": "…"}, or lists of messages.'


def pair_of(prompt: object, chosen: object, rejected: object) -> dict[str, list[dict[str, str]]]:
    """Return prompt, chosen and rejected as lists of messages.

    Args:
        prompt: a text, a list of messages, or None if both replies begin with it.
        chosen, rejected: texts, lists of messages, or single messages.

    Raises:
        LabkitError: there is no prompt or no reply, both replies are the same, or messages don't take turns.
    """
    sides = {name: _turns(value, name) for name, value in (("chosen", chosen), ("rejected", rejected))}
    begins = [_role(turns[0]) if isinstance(turns, list) else None for turns in sides.values()]
    if prompt is None or (isinstance(prompt, str) and set(begins) <= {"user", "system"}):
        read, sides = _common(sides)  # some sets repeat the question in a column of its own
    else:
        given = _turns(prompt, "prompt")
        read = [{"role": "user", "content": given.strip()}] if isinstance(given, str) else given
        repeated = all(isinstance(turns, list) and turns[: len(read)] == read for turns in sides.values())
        sides = {name: turns[len(read) :] if repeated else turns for name, turns in sides.items()}
    pair: dict[str, list[dict[str, str]]] = {"prompt": read}
    for name, turns in sides.items():
        pair[name] = [{"role": "assistant", "content": turns.strip()}] if isinstance(turns, str) else turns
    return _checked(pair)


def _checked(pair: dict[str, list[dict[str, str]]]) -> dict[str, list[dict[str, str]]]:
    if _role(pair["prompt"][-1]) != "user":
        raise LabkitError("the last message of the prompt is not the user's", "Let the prompt end with a question.")
    for name in ("chosen", "rejected"):
        if len(pair[name]) != 1:
            raise LabkitError(f"the {name} has {len(pair[name])} messages after the prompt", "Keep one reply.")
        reply = pair[name][0]
        if not str(reply.get("content", reply.get("value")) or "").strip():
            raise LabkitError(f"the {name} reply is empty", "Write a reply, or remove the pair.")
        try:
            *read, said = conversation([*pair["prompt"], reply], f"the conversation of the {name}")
        except LabkitError as wrong:
            raise LabkitError(wrong.cause.rstrip("."), wrong.remedy) from wrong
        pair[name] = [said]
    if plain(pair["chosen"][0]["content"]) == plain(pair["rejected"][0]["content"]):
        raise LabkitError(
            f"chosen and rejected are the same: {short(pair['chosen'][0]['content'])}",
            "Remove pairs without a difference: nothing can be learned from them.",
        )
    return pair | {"prompt": read}


def _role(message: dict) -> str | None:
    return ROLES.get(str(message.get("role", message.get("from"))).casefold())


def _turns(value: object, name: str) -> str | list[dict]:
    """Return a text, or messages: those of a list, or those that a text marks."""
    if hasattr(value, "tolist"):  # pandas reads lists in parquet files as arrays
        value = value.tolist()
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, (list, tuple)) and value and all(isinstance(message, dict) for message in value):
        return list(value)
    if not isinstance(value, str):
        raise LabkitError(f"the {name} is neither a text nor a list of messages: {shown(value)}", FORM)
    if not value.strip():
        raise LabkitError(f"the {name} has no text", "Fill it in or remove the pair.")
    marks = TURN.split(value.lstrip("\n"))
    if marks[0] or len(marks) < 3:
        return value
    turns = [
        {"role": SPEAKERS[who], "content": text.strip()} for who, text in zip(marks[1::2], marks[2::2], strict=True)
    ]
    # A prompt may end with the mark of the reply that follows.
    return turns[:-1] if name == "prompt" and turns[-1] == {"role": "assistant", "content": ""} else turns


def _common(sides: dict[str, str | list[dict]]) -> tuple[list[dict], dict[str, str | list[dict]]]:
    """Return the prompt that both sides begin with, and what is left of them."""
    a, b = sides.values()
    if isinstance(a, str) and isinstance(b, str):
        count = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(a, b, strict=False)))
        begin = a[:count]
        if begin not in (a, b):  # whole words: "a red" and "a round" differ after "a"
            begin = begin[: len(begin) - len(begin.split(" ")[-1].split("\n")[-1])]
        read: list[dict] = [{"role": "user", "content": begin.strip()}] if begin.strip() else []
        count = len(begin)
    elif isinstance(a, list) and isinstance(b, list):
        read = [one for one, _ in takewhile(lambda both: both[0] == both[1], zip(a, b, strict=False))]
        count = len(read)
    else:
        raise LabkitError("one reply is a text and the other a list of messages", FORM)
    if count == len(a) == len(b):
        raise LabkitError("chosen and rejected are the same", "Remove pairs without a difference.")
    if not read:
        raise LabkitError("there is no prompt, and chosen and rejected don't begin with one", FORM)
    left = {name: turns[count:] for name, turns in sides.items()}
    for name, turns in left.items():
        if not turns or (isinstance(turns, str) and not turns.strip()):
            raise LabkitError(f"the {name} reply is empty: all of it is the beginning of the other", FORM)
    return read, left
