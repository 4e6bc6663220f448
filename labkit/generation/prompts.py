"""What a model is asked to continue: texts, token ids or conversations, as ids that leave room for the reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

from labkit.conversations.length import OLDEST, shortened
from labkit.conversations.messages import conversation
from labkit.errors import LabkitError, shown
from labkit.models.encoding import known_ids, prompt_ids
from labkit.models.model import Model
from labkit.models.truncation import fit, say_lost

Prompts: TypeAlias = Sequence[str] | Sequence[Sequence[int]] | Sequence[Sequence[dict]]


def fitted(model: Model, prompts: Prompts, count: int) -> list[list[int]]:
    """Return the ids of each prompt, cut so that ``count`` tokens can follow, and warn once if any was cut.

    A text loses its beginning, a conversation its oldest turns.

    Raises:
        LabkitError: the model is an encoder, a prompt is none of the three kinds, or there is no room.
    """
    if model.kind != "causal":
        raise LabkitError(
            f"{model.name} is an encoder: it reads text but cannot write any.",
            "Use a causal model such as smollm2-135m.",
        )
    if isinstance(prompts, str) or not hasattr(prompts, "__iter__"):
        raise LabkitError(f"A list of prompts is needed, not {shown(prompts)}.", "Put it in brackets: [prompt].")
    given, room = list(prompts), model.max_length - count
    if given and all(isinstance(prompt, str) for prompt in given):
        return fit(model, prompt_ids(model, cast(list[str], given)), room, "prompt")
    if given and all(isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], dict) for prompt in given):
        return _conversations(model, cast(list[Sequence[dict]], given), room)
    known = range(model.embeddings.num_embeddings)
    for number, prompt in enumerate(given, 1):
        ids = prompt if isinstance(prompt, (list, tuple)) else ()
        if not ids or any(type(token) is not int or token not in known for token in ids):
            raise LabkitError(
                f"Prompt {number} is no list of token ids from 0 to {len(known) - 1}: {shown(prompt)}.",
                "Pass texts, conversations, or lists of whole numbers as the tokenizer gives them; all of one kind.",
            )
    return fit(model, [list(prompt) for prompt in cast(list[list[int]], given)], room, "prompt")


def asked(messages: object, name: str = "The conversation") -> list[dict[str, str]]:
    """Return a conversation that waits for a reply, checked."""
    turns = conversation(messages, name)
    if turns[-1]["role"] != "user":
        raise LabkitError(f"{name} ends with a reply already.", "Let the last message be the user's.")
    return turns


def _conversations(model: Model, prompts: list[Sequence[dict]], room: int) -> list[list[int]]:
    rows, count = [], 0
    for number, messages in enumerate(prompts, 1):
        name = "The conversation" if len(prompts) == 1 else f"Conversation {number}"
        turns = asked(messages, name)
        try:
            kept = shortened(model.tokenizer, turns, room, reply=True)
        except LabkitError as problem:
            cause = problem.cause if len(prompts) == 1 else f"{name}: {problem.cause}"
            raise LabkitError(cause, problem.remedy) from problem
        rows.append(kept.ids)
        count += kept.cut > 0
    say_lost(count, len(rows), "conversation", OLDEST, room)
    return known_ids(model, rows)
