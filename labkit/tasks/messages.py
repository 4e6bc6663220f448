"""Conversations as examples: the model learns the last reply and reads all before it."""

from __future__ import annotations

# How data sets name the speakers, and how a prompt does. Chat templates are a topic of their own.
SPEAKERS = {
    "system": "System",
    "user": "User",
    "human": "User",
    "assistant": "Assistant",
    "gpt": "Assistant",
}


def last_reply(messages: object) -> tuple[str, str]:
    """Return a conversation up to its last reply, and that reply.

    Args:
        messages: a list of ``{"role": …, "content": …}``, or of ``{"from": …, "value": …}`` as ShareGPT writes it.

    Raises:
        ValueError: it is not such a list, or doesn't end with a reply; the text says what is wrong.
    """
    if hasattr(messages, "tolist"):  # pandas reads lists in parquet files as arrays
        messages = messages.tolist()
    if not isinstance(messages, (list, tuple)) or not messages:
        raise ValueError("is not a list of messages")
    turns = []
    for place, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise ValueError(f"has as message {place} a {type(message).__name__}")
        role, content = (message.get(a, message.get(b)) for a, b in (("role", "from"), ("content", "value")))
        if (speaker := SPEAKERS.get(str(role).strip().casefold())) is None:
            raise ValueError(f"has as role of message {place} {role!r}, not one of {', '.join(SPEAKERS)}")
        if isinstance(content, (list, dict)):
            raise ValueError(f"has in message {place} a {type(content).__name__}, not a text")
        if not isinstance(content, str) or not content.strip():
            raise ValueError(f"has no text in message {place}")
        turns.append((speaker, content))
    if turns[-1][0] != "Assistant":
        raise ValueError("ends with no reply: the last message must be the assistant's")
    if len(turns) < 2:
        raise ValueError("has a reply and nothing before it")
    read = "".join(f"{speaker}: {content}\n" for speaker, content in turns[:-1])
    return f"{read}Assistant:", turns[-1][1]
