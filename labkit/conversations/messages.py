"""Check conversations and give them one form: a list of ``{"role": …, "content": …}``."""

from __future__ import annotations

from labkit.errors import LabkitError, shown

ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
KEYS = {"role", "content", "from", "value"}


def conversation(messages: object, name: str = "The conversation") -> list[dict[str, str]]:
    """Return a conversation with the roles system, user and assistant.

    Args:
        messages: a list of ``{"role": …, "content": …}``, or of ``{"from": …, "value": …}`` as ShareGPT writes it. A
            system message may come first; then user and assistant take turns, the user first.
        name: what an error calls it, such as "Conversation 3".

    Raises:
        LabkitError: it is no such list; the message says where and what to do.
    """
    if hasattr(messages, "tolist"):  # pandas reads lists in parquet files as arrays
        messages = messages.tolist()
    if not isinstance(messages, (list, tuple)) or not messages:
        raise LabkitError(f"{name} is no list of messages but {shown(messages)}.", "Pass [{'role': …, 'content': …}].")
    within = name[0].lower() + name[1:]
    turns = [_message(message, f"Message {place} of {within}") for place, message in enumerate(messages, 1)]
    for place, turn in enumerate(turns, 1):
        if turn["role"] == "system" and place > 1:
            two = turns[0]["role"] == "system"
            raise LabkitError(
                f"{name} has {'two system messages' if two else f'its system message at place {place}'}.",
                "Join them into one." if two else "Put it first.",
            )
    spoken = turns[1:] if turns[0]["role"] == "system" else turns
    for place, turn in enumerate(spoken):
        if turn["role"] != ("user", "assistant")[place % 2]:
            number = place + 1 + len(turns) - len(spoken)
            twice = f"two messages of the {turn['role']} in a row, the second at place {number}"
            raise LabkitError(
                f"{name} has {twice if place else 'no message of the user before the assistant speaks'}.",
                "Let user and assistant take turns, the user first: join messages of one speaker.",
            )
    if not spoken:
        raise LabkitError(f"{name} has a system message only.", "Add what the user and the assistant say.")
    return turns


def answered(messages: object, name: str = "The conversation") -> list[dict[str, str]]:
    """Return a conversation that ends with a reply; raise a ``LabkitError`` for what isn't one."""
    turns = conversation(messages, name)
    if turns[-1]["role"] != "assistant":
        raise LabkitError(f"{name} ends with no reply.", "Let the last message be the assistant's.")
    return turns


def _message(message: object, name: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise LabkitError(f"{name} is no dictionary but {shown(message)}.", "Write {'role': …, 'content': …}.")
    given = {key: value for key, value in message.items() if value is not None}  # data sets fill unused keys with None
    if calls := given.keys() & {"tool_calls", "function_call", "tool_call_id"}:
        raise LabkitError(f"{name} has {min(calls)!r}: tools are not supported.", "Leave such conversations out.")
    if odd := given.keys() - KEYS:
        raise LabkitError(f"{name} has the unknown key {min(odd, key=str)!r}.", "Keep role and content only.")
    role, content = (given.get(a, given.get(b)) for a, b in (("role", "from"), ("content", "value")))
    if role is None:
        raise LabkitError(f"{name} has no role.", "Say who speaks: system, user or assistant.")
    known = ROLES.get(str(role).strip().casefold())
    if known is None:
        raise LabkitError(f"{name} has the unknown role {shown(role)}.", f"Use one of {', '.join(ROLES)}.")
    if isinstance(content, (list, dict)):
        raise LabkitError(f"{name} holds a {type(content).__name__}, not a text.", "Images can't be read: pass a text.")
    if not isinstance(content, str) or not content.strip():
        raise LabkitError(f"{name} is empty.", "Write something, or leave the conversation out.")
    return {"role": known, "content": content}
