"""Token ids as rows of numbers and as texts, whatever they came in; what templates, masks and checks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.errors import LabkitError, shown

IGNORED = -100  # the label that cross_entropy leaves out


def row(name: str, values: Any) -> list[int]:
    """Return ids, labels or a mask of one example as a list; a batch of one counts as its example.

    Raises:
        LabkitError: the values are no row of whole numbers.
    """
    values = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(values, (list, tuple)) and len(values) == 1 and isinstance(values[0], (list, tuple)):
        values = values[0]
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, int) for value in values):
        raise LabkitError(f"{name} must be a list of token ids, not {shown(values)}.", "Pass one row of a batch.")
    return [int(value) for value in values]


def text_of(tokenizer: Any, token: int) -> str:
    """Return the text of one token, special ones too; a number that is no token is shown as such."""
    word = tokenizer.convert_ids_to_tokens(token) if 0 <= token < len(tokenizer) else None
    if word is None:
        return f"⟨{token}⟩"
    text = tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    # SentencePiece writes a space as ▁ and drops it when a token is decoded alone.
    return f" {text}" if word.startswith("▁") and not text.startswith(" ") else text


def padding(tokenizer: Any, ids: list[int], attention: list[int] | None = None, ending: int = 0) -> list[bool]:
    """Return which tokens are padding: those not attended to, or else the run of padding tokens at either end.

    Args:
        tokenizer: whose ``pad_token_id``.
        ids: of one row.
        attention: its mask, where there is one.
        ending: how many padding tokens belong to the text itself at its end.
    """
    if attention is not None:
        return [not attended for attended in attention]
    count, pad = len(ids), tokenizer.pad_token_id
    left = next((at for at, token in enumerate(ids) if token != pad), count)
    right = next((at for at, token in enumerate(reversed(ids)) if token != pad), count)
    right = max(0, right - ending)
    return [at < left or at >= count - right for at in range(count)]


def shared(one: Sequence, other: Sequence) -> int:
    """Return how long the common beginning of two texts or rows is."""
    ends = min(len(one), len(other))
    return next((at for at in range(ends) if one[at] != other[at]), ends)
