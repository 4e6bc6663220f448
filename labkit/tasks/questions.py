"""What a task asks: the prompts that a model is to answer by itself, without the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.conversations.messages import conversation
from labkit.errors import LabkitError, shown
from labkit.tasks.task import Task


def questions(task: Task | Sequence[str] | Sequence[list[dict]]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return rows, and the prompt of each: a conversation that waits for a reply, or a text.

    Args:
        task: a task, whose training rows are asked: their ``messages`` without the last reply, or their ``prompt``; or
            a list of prompts, whose rows then have just ``prompt``.

    Raises:
        LabkitError: there are no prompts.
    """
    if isinstance(task, Task):
        if not {"messages", "prompt"} & set(columns := task.train.column_names):
            raise LabkitError(f"{task.name} has no prompts: its columns are {', '.join(columns)}.", "Name one prompt.")
        rows = [dict(row) for row in task.train]
        found = [question_of(row, number) for number, row in enumerate(rows, 1)]
    elif isinstance(task, (list, tuple)):
        rows, found = [{"prompt": prompt} for prompt in task], list(task)
    else:
        raise LabkitError(f"{shown(task)} has no prompts.", "Pass a task or a list of prompts.")
    if not found:
        raise LabkitError("There are no prompts.", "Pass a task with training examples, or a list of prompts.")
    return rows, found


def question_of(row: dict[str, Any], number: int = 1) -> Any:
    """Return what a row of a task asks; ``number`` names it in an error."""
    if row.get("messages"):
        turns = conversation(row["messages"], f"Conversation {number}")
        return turns[:-1] if turns[-1]["role"] == "assistant" else turns
    return row["prompt"]
