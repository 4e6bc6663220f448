"""A conversation as plain text, for models that read no chat template: an encoder reads all before the last reply."""

from __future__ import annotations

SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}


def last_reply(turns: list[dict[str, str]]) -> tuple[str, str]:
    """Return a conversation, as ``labkit.conversations.messages.answered`` gives it, up to its last reply; and that."""
    read = "".join(f"{SPEAKERS[turn['role']]}: {turn['content']}\n" for turn in turns[:-1])
    return f"{read}{SPEAKERS['assistant']}:", turns[-1]["content"]
