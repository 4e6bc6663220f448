"""A tokenizer as GGUF stores it: tokens, merges, what splits a text before them, special tokens, chat template."""

from __future__ import annotations

import json
import re
from typing import Any

import gguf

from labkit.conversations.templates import turn_ends
from labkit.errors import LabkitError
from labkit.exports.errors import ExportError
from labkit.models.encoding import frame
from labkit.models.generation import end_ids
from labkit.models.model import Model

# What a text is split at before merges apply: GGUF stores only a name, for which llama.cpp has a rule.
PRE_TOKENIZERS = {"smollm": ("Digits", "ByteLevel"), "gpt-2": ("ByteLevel",)}
_SETTINGS = {"individual_digits": True, "add_prefix_space": False, "use_regex": True}
# These only mark the reply for a loss mask. llama.cpp's reader of templates does not know them.
_MARKS = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")


def tokenizer_metadata(model: Model) -> dict[str, Any]:
    """Return the keys and values under ``tokenizer.``.

    Raises:
        ExportError: llama.cpp would split texts otherwise than this tokenizer.
    """
    tokenizer, made = model.tokenizer, _described(model)
    tokens, types = _tokens(made, model.module.config.vocab_size)
    front, back = frame(tokenizer)
    known = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    known |= {"unknown": tokenizer.unk_token_id, "padding": tokenizer.pad_token_id}
    # A text has several ends where a turn ends otherwise, or the model's files name more than the tokenizer.
    others = sorted(all_ends(model) - {tokenizer.eos_token_id})
    if len(others) > 2:
        raise ExportError(
            f"{model.name} has {len(others) + 1} tokens that end a text, and a GGUF file has place for three.",
            "Leave those out of generation_config.eos_token_id that the model never writes.",
        )
    known |= dict(zip(("eot", "eom"), others, strict=False))
    ids = {f"tokenizer.ggml.{name}_token_id": token for name, token in known.items() if token is not None}
    template = chat_template(model)
    return {
        "tokenizer.ggml.model": "gpt2",  # byte-level BPE, whoever made it
        "tokenizer.ggml.pre": _pre_tokenizer(model, made),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in made["model"]["merges"]],
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.add_bos_token": front == [tokenizer.bos_token_id],
        "tokenizer.ggml.add_eos_token": back == [tokenizer.eos_token_id],
        **ids,
        **({"tokenizer.chat_template": template} if template else {}),
    }


def all_ends(model: Model) -> set[int]:
    """Return the tokens that end a text or the assistant's turn."""
    return end_ids(model) | (turn_ends(model.tokenizer) if chat_template(model) else set())


def chat_template(model: Model) -> str:
    """Return the chat template as other programs read it, or "" where there is none."""
    if not getattr(model.tokenizer, "chat_template", None):
        return ""
    template = model.tokenizer.get_chat_template()
    return _MARKS.sub(lambda mark: f"{mark[1]}{'endif' if mark[2] else 'if true'}{mark[3]}", template)


def _described(model: Model) -> dict[str, Any]:
    """Return what tokenizer.json says."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _other(model, "it is not one of the package tokenizers")
    return json.loads(backend.to_str())


def _pre_tokenizer(model: Model, made: dict[str, Any]) -> str:
    """Return llama.cpp's name for what the tokenizer does before it merges."""
    bpe, steps = made["model"], made["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    kinds = tuple(step.get("type") for step in steps)
    name = next((name for name, known in PRE_TOKENIZERS.items() if kinds == known), None)
    odd = [f"{key}={step[key]}" for step in steps for key, value in _SETTINGS.items() if step.get(key, value) != value]
    odd += [key for key in ("unk_token", "dropout", "byte_fallback", "ignore_merges") if bpe.get(key)]
    odd += [token["content"] for token in made["added_tokens"] if any(token[key] for key in ("lstrip", "rstrip"))]
    if bpe["type"] != "BPE" or made["normalizer"] or name is None or odd:
        what = ", ".join([bpe["type"], str((made["normalizer"] or {}).get("type")), *map(str, kinds), *odd])
        raise _other(model, f"it is made of {what}")
    return name


def _tokens(made: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Return the texts of all tokens, and their types as llama.cpp numbers them."""
    # The table of word vectors may have more rows than there are tokens.
    texts = [f"[PAD{token}]" for token in range(size)]
    types = [int(gguf.TokenType.UNUSED)] * size
    for text, token in made["model"]["vocab"].items():
        texts[token], types[token] = text, int(gguf.TokenType.NORMAL)
    for added in made["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        texts[added["id"]], types[added["id"]] = added["content"], int(kind)
    return texts, types


def _other(model: Model, what: str) -> LabkitError:
    known = ", ".join(f"{name} ({' and '.join(steps)})" for name, steps in PRE_TOKENIZERS.items())
    return ExportError(
        f"The tokenizer of {model.name} cannot be written as GGUF: {what}.",
        f"Known are byte-level BPE tokenizers that split a text as one of these: {known}.",
    )
