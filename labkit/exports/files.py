"""What differs between the files of an export and the model: template, end tokens, tokenizer, config."""

from __future__ import annotations

import json
from collections.abc import Iterator

from labkit.errors import shown
from labkit.exports import plain
from labkit.exports.subject import Subject

# What a config says of how and by whom it was written, and what the generation config says better.
ASIDE = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}


def changed_files(subject: Subject, found: dict) -> Iterator[str]:
    """Yield what is wrong with the files that every export has: chat template, end tokens, tokenizer.

    Args:
        subject: what was exported.
        found: what ``labkit.exports.plain`` found in the folder.
    """
    if "error" in found:
        yield f"it cannot be loaded ({found['error']})"
        return
    if (rendered := found["rendered"]) != subject.rendered:
        own, other = next(pair for pair in zip(subject.rendered, rendered, strict=True) if pair[0] != pair[1])
        yield f"chat template: it writes {_short(other)} there and {_short(own)} here"
    if found["ends"] != subject.ends:
        there, here = ([str(subject.model.tokenizer.decode([i])) for i in ids] for ids in (found["ends"], subject.ends))
        yield f"end tokens: {', '.join(there) or 'none'} there, {', '.join(here) or 'none'} here"
    if (roles := plain.special(subject.model.tokenizer)) != found["special"]:
        role = next(role for role in roles if roles[role] != found["special"][role])
        yield f"end tokens: {role} is {found['special'][role]!r} there and {roles[role]!r} here"
    if found["ids"] != subject.ids:
        wrong = [text for text, *ids in zip(subject.texts, subject.ids, found["ids"], strict=True) if ids[0] != ids[1]]
        yield f"tokenizer: {len(wrong)} of {len(subject.ids)} texts give other tokens, such as {shown(wrong[0])}"


def changed_config(here: str, there: dict) -> Iterator[str]:
    """Yield what differs between two configs of a model: one as JSON, and one that was read from a folder."""
    wanted = json.loads(here)
    for key in sorted({*wanted, *there} - ASIDE):
        if wanted.get(key) != there.get(key):
            kind = "rope base" if key.startswith("rope") else "tied head" if key.startswith("tie_") else "configuration"
            yield f"{kind}: {key} is {there.get(key)} there and {wanted.get(key)} here"


def _short(text: str | None) -> str:
    return "nothing" if text is None else repr(text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}")
