"""From conversations, or tokens with labels, to examples of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.conversations.length import OLDEST
from labkit.conversations.masks import masked
from labkit.conversations.pieces import IGNORED, row
from labkit.errors import LabkitError
from labkit.models.model import Model
from labkit.models.truncation import say_lost
from labkit.tasks.task import Task
from labkit.training.batching import Example


def has_conversations(model: Model, task: Task) -> bool:
    """Return whether a model is trained on a task's conversations, in its chat template, rather than on plain texts."""
    return model.kind == "causal" and "messages" in task.train.column_names


def encode_conversations(
    model: Model, conversations: Sequence[object], max_length: int, learn: str = "last"
) -> list[Example]:
    """Tokenize conversations; each ``Example.mask`` says which tokens are learned.

    A conversation longer than ``max_length``, or than the model can read, loses its oldest turns, and a
    ``TruncationWarning`` says how many did.

    Raises:
        LabkitError: a conversation can't be used; the message names it by its number.
    """
    most, examples, cut = min(max_length, model.max_length), [], 0
    for number, messages in enumerate(conversations, 1):
        try:
            found = masked(model.tokenizer, messages, learn, most)
        except LabkitError as problem:
            raise LabkitError(f"Conversation {number}: {problem.cause}", problem.remedy) from problem
        cut += found.cut > 0
        examples.append(Example(found.ids, sum(found.learned), mask=tuple(found.learned)))
    say_lost(cut, len(conversations), "conversation", OLDEST, most)
    return examples


def encode_tokens(model: Model, rows: Sequence[dict[str, Any]], max_length: int) -> list[Example]:
    """Return examples of rows that come as tokens: ``input_ids``, and ``labels`` with -100 where nothing is learned.

    A mask of one's own is trained this way. Nothing is cut, since a cut might take away the end of an answer.

    Raises:
        LabkitError: a row is no list of known tokens, is too long, has a label that is another token, or learns its
            first token, which nothing precedes.
    """
    most, known = min(max_length, model.max_length), range(model.embeddings.num_embeddings)
    examples = []
    for number, given in enumerate(rows, 1):
        ids, labels = row("input_ids", given["input_ids"]), row("labels", given["labels"])
        learned = tuple(label != IGNORED for label in labels)
        if len(labels) != len(ids) or labels != [
            token if label != IGNORED else IGNORED for token, label in zip(ids, labels, strict=False)
        ]:
            raise LabkitError(
                f"Row {number} has labels that are not its tokens.",
                "Give each token its own number as a label, or -100. Don't shift labels: the model does.",
            )
        if not ids or len(ids) > most or any(token not in known for token in ids):
            raise LabkitError(
                f"Row {number} has {len(ids)} tokens, and {model.name} takes 1 to {most}, numbered 0 to "
                f"{len(known) - 1}.",
                "Use the model's own tokenizer, and shorten the row or raise max_length.",
            )
        examples.append(Example(ids, sum(learned), mask=learned))
    if not any(example.learned for example in examples):
        raise LabkitError("No row has a label to learn.", "Give labels to the tokens of answers.")
    return examples
