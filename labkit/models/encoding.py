"""From text to token ids: one way for training, evaluation and generation.

A model should be asked what it was trained on. So the ids of a prompt are the same in all three, and a completion is
tokenized as the continuation of a text, whatever the tokenizer puts before or behind a text that stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from transformers import PreTrainedTokenizerBase

from labkit.errors import LabkitError

if TYPE_CHECKING:
    from labkit.models.model import Model

PROBES = ("a", "A", "0", ".", "的")
ANCHORS = (":", "a", "\n", ".", "x1")


def prompt_ids(model: Model, prompts: Sequence[str]) -> list[list[int]]:
    """Return the ids that a model reads of each prompt.

    For a causal model these are the tokens that its tokenizer puts before a text, once, also where the prompt itself
    begins with them, and the prompt. What the tokenizer puts behind a text is left out: it would say that the text is
    over. An empty prompt becomes the token that begins a text, or else the one that ends the text before it. For an
    encoder, which reads whole texts, they are what its tokenizer gives.

    Raises:
        LabkitError: a prompt is no text, gives no token, or one that the model does not know.
    """
    front, back = frame(model.tokenizer)
    rows = tokenize(model, prompts)
    if model.kind == "encoder":
        rows = [front + ids + back for ids in rows]
    else:
        rows = [ids if front and ids[: len(front)] == front else front + ids for ids in rows]
    first = next((i for i in (model.tokenizer.bos_token_id, model.tokenizer.eos_token_id) if i is not None), None)
    if first is not None:
        rows = [ids or [first] for ids in rows]
    elif not all(rows):
        raise LabkitError(
            f"Text {rows.index([]) + 1} is empty, and the tokenizer of {model.name} has no token that begins a text.",
            "Write something.",
        )
    return known_ids(model, rows)


def completion_ids(model: Model, completions: Sequence[str], *, end: bool = True) -> list[list[int]]:
    """Return the ids that continue a prompt with each completion.

    Some tokenizers mark the beginning of a text that stands alone, as the beginning of a word for example. Inside a
    text that mark would be a space too many. So a completion is also tokenized behind something else, and where both
    ways give another text, the second is right.

    Args:
        model: whose tokenizer.
        completions: what continues the prompts.
        end: add the token that ends a text, where there is one and the completion has none.

    Raises:
        LabkitError: a completion is no text, or gives a token that the model does not know.
    """
    rows, stop = tokenize(model, completions), model.tokenizer.eos_token_id
    waiting = set(range(len(rows)))
    for anchor, start in zip(ANCHORS, tokenize(model, ANCHORS), strict=True):
        if not start or model.tokenizer.unk_token_id in start:
            continue  # unknown characters may become one with those that follow
        order = sorted(waiting)
        for row, ids in zip(order, tokenize(model, [anchor + completions[i] for i in order]), strict=True):
            if ids[: len(start)] == start:
                waiting.remove(row)
                if _decoded(model, start + rows[row]) != _decoded(model, ids):
                    rows[row] = ids[len(start) :]
    if end and stop is not None:
        rows = [ids if ids and ids[-1] == stop else [*ids, stop] for ids in rows]
    return known_ids(model, rows)


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids that a tokenizer puts before a text and behind it."""
    for probe in PROBES:
        inside = tokenizer(probe, add_special_tokens=False)["input_ids"]
        whole = tokenizer(probe)["input_ids"]
        for at in range(len(whole) - len(inside) + 1):
            if inside and whole[at : at + len(inside)] == inside:
                return whole[:at], whole[at + len(inside) :]
    return [], []


def tokenize(model: Model, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text alone.

    Raises:
        LabkitError: what was passed is no list of texts.
    """
    if isinstance(texts, str):
        raise LabkitError(f"A list of texts is needed, not the text {texts[:40]!r}.", "Put it in brackets: [text].")
    texts = list(texts)
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise LabkitError(f"Text {number} is no text but {text!r}.", "Pass a string.")
    # labkit itself warns of texts that are too long.
    return model.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []


def padding_id(model: Model) -> int:
    """Return the id that pads short rows of a batch; any id that the model knows will do, because it is never read."""
    pad = model.tokenizer.pad_token_id
    return pad if pad is not None and 0 <= pad < _vocabulary(model) else 0


def known_ids(model: Model, rows: list[list[int]]) -> list[list[int]]:
    """Return the rows as they are; raise a ``LabkitError`` where one has a token that the model does not know."""
    count = _vocabulary(model)
    for ids in rows:
        if ids and max(ids) >= count:
            raise LabkitError(
                f"The tokenizer gives the token {max(ids)}, {model.tokenizer.decode([max(ids)])!r}, but {model.name} "
                f"knows {count} only.",
                "Use the tokenizer that belongs to the model, or enlarge it: model.module.resize_token_embeddings("
                f"{max(len(model.tokenizer), max(ids) + 1)}).",
            )
    return rows


def _vocabulary(model: Model) -> int:
    return model.embeddings.num_embeddings


def _decoded(model: Model, ids: list[int]) -> str:
    return cast(str, model.tokenizer.decode(ids, clean_up_tokenization_spaces=False))
