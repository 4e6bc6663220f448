"""A judge that no reward model knows: is a reply about what was asked, or could it stand below any question?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.conversations.messages import conversation
from labkit.evaluation.vectors import embed
from labkit.generation.replies import Reply
from labkit.models.model import Model
from labkit.tasks.questions import question_of
from labkit.training.rewards import Reward

NOTHING = "."  # what stands for an empty reply, which has no vector


def on_topic(encoder: Model, rows: Iterable[dict[str, Any]]) -> Reward:
    """Return a reward of 1 for each reply that is nearer to its own question than to all others.

    Near is what an encoder's vectors say, by the cosine of their angle. It doesn't tell whether a reply is true, or
    plain, or whole: one that repeats the question gets it, too. With a weight of 0 in ``lk.reinforce``, it is watched
    and not learned.

    Args:
        encoder: such as minilm, as it came: not the reward model.
        rows: the questions; each reply must belong to one of them.
    """
    texts = list(dict.fromkeys(_last(row) for row in rows))
    place, vectors = {text: number for number, text in enumerate(texts)}, embed(encoder, texts)

    def on_topic(rows: list[dict[str, Any]], replies: list[Reply]) -> list[float]:
        said = embed(encoder, [reply.text.strip() or NOTHING for reply in replies])
        own = [place[_last(row)] for row in rows]
        return [float(nearest == number) for nearest, number in zip((said @ vectors.T).argmax(1), own, strict=True)]

    return on_topic


def _last(row: dict[str, Any]) -> str:
    asked = question_of(row)
    return asked if isinstance(asked, str) else conversation(asked)[-1]["content"]
