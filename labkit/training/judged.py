"""What an encoder reads of a question and a reply, and pairs of replies of which one is preferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from labkit.conversations.messages import conversation
from labkit.errors import LabkitError, shown
from labkit.models.encoding import frame, known_ids, tokenize
from labkit.models.model import Model
from labkit.models.truncation import say_lost
from labkit.training.batching import Example

Question: TypeAlias = str | Sequence[dict]  # a text, or a conversation


@dataclass(frozen=True)
class Pair(Example):
    """A pair of replies to one question: the ``tokens`` of the chosen one, and those of the rejected one.

    Attributes:
        rejected: token ids.
    """

    rejected: tuple[int, ...] = ()


def encode_replies(model: Model, questions: Sequence[Question], replies: Sequence[str]) -> list[list[int]]:
    """Return the ids of each question and its reply, as an encoder reads pairs: ``[CLS] question [SEP] reply [SEP]``.

    Of what is too long for the model, the question loses its beginning, and a reply that is too long by itself its end.
    A ``TruncationWarning`` says how many did.

    Raises:
        LabkitError: a question is no text and no conversation, or a reply is no text or empty.
    """
    texts = [_text(question, number) for number, question in enumerate(questions, 1)]
    for number, reply in enumerate(replies, 1):
        if not isinstance(reply, str):
            raise LabkitError(f"Reply {number} is no text but {shown(reply)}.", "Pass a text for each question.")
    front, back = frame(model.tokenizer)
    most, rows, cut = model.max_length - len(front) - 2 * len(back), [], 0
    for asked, said in zip(tokenize(model, texts), tokenize(model, replies), strict=True):
        cut += len(asked) + len(said) > most
        answer = said[:most]
        rows.append([*front, *asked[max(0, len(asked) + len(answer) - most) :], *back, *answer, *back])
    say_lost(cut, len(rows), "reply with its question", "beginning", model.max_length)
    return known_ids(model, rows)


def encode_preferences(model: Model, rows: Sequence[dict[str, Any]]) -> list[Pair]:
    """Return pairs of rows with ``prompt``, ``chosen`` and ``rejected``.

    Raises:
        LabkitError: a row can't be used: its replies are equal, or one is empty.
    """
    both = [(reply_text(row, "chosen", n), reply_text(row, "rejected", n)) for n, row in enumerate(rows, 1)]
    for number, (chosen, rejected) in enumerate(both, 1):
        if chosen.strip() == rejected.strip():
            raise LabkitError(f"Row {number} prefers {shown(chosen)} to itself.", "Leave such pairs out.")
    asked = [row["prompt"] for row in rows]
    ids = encode_replies(model, asked * 2, [chosen for chosen, _ in both] + [rejected for _, rejected in both])
    pairs = zip(ids[: len(rows)], ids[len(rows) :], strict=True)
    return [Pair(chosen, 0, rejected=tuple(rejected)) for chosen, rejected in pairs]


def reply_text(row: dict[str, Any], column: str, number: int) -> str:
    """Return a reply of a row, which is a text or a list of one message; ``number`` names the row in an error."""
    given = row.get(column)
    text = given[0].get("content") if isinstance(given, list) and given and isinstance(given[0], dict) else given
    if not isinstance(text, str) or not text.strip():
        raise LabkitError(
            f"Row {number} has as {column} no reply but {shown(given)}.",
            "Write a text, or [{'role': 'assistant', 'content': …}].",
        )
    return text


def _text(question: Question, number: int) -> str:
    """Return what an encoder reads of a question: a conversation's texts, a line for each message."""
    if isinstance(question, str):
        return question
    return "\n".join(turn["content"] for turn in conversation(question, f"Question {number}"))
