"""What a model says, computed once, which each GGUF file of it is compared with in llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from labkit.conversations.templates import render
from labkit.errors import LabkitError, require_count
from labkit.exports.gguf_tokenizer import all_ends, chat_template
from labkit.exports.probes import TEXTS, conversations
from labkit.methods.exact import in_float32
from labkit.models.decoding import Decoding
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model

POSITIONS = 150  # a few seconds for each file; 500 take three times as long and give steadier means
WRITTEN = 16  # tokens of a greedy answer


@dataclass(frozen=True)
class Reference:
    """A model's own predictions, in float32 on the CPU; weights in 4 bits are dequantized.

    Attributes:
        model: what was exported.
        rows: the tokens of texts.
        logits: of each row, shape (tokens, vocabulary).
        starts: the tokens of conversations up to a reply; where there is no chat template, the beginnings of texts.
        answers: what the model writes after each of these with the likeliest token each time; what ends it is in it.
    """

    model: Model
    rows: list[list[int]]
    logits: list[torch.Tensor]
    starts: list[list[int]]
    answers: list[list[int]]

    @classmethod
    def of(cls, model: Model, positions: int = POSITIONS) -> Reference:
        """Compute what ``model`` says: what comes next at ``positions`` places of texts, and greedy answers.

        Raises:
            LabkitError: the texts have fewer positions.
        """
        tokenizer, exact = model.tokenizer, replace(model, module=in_float32(model), precision=torch.float32)
        rows = _rows(model, positions)
        talks = [render(tokenizer, each, reply=True) for each in conversations()] if chat_template(model) else []
        starts = [tokenizer(talk, add_special_tokens=False)["input_ids"] for talk in talks] or [row[:6] for row in rows]
        with inference(exact):
            logits = [exact.module(torch.tensor([row])).logits[0] for row in rows]
        return cls(model, rows, logits, starts, [written(exact, start) for start in starts])


def written(model: Model, start: Sequence[int], count: int = WRITTEN) -> list[int]:
    """Return what a model writes after ``start`` with the likeliest token each time, up to one that ends a text."""
    decoding, tokens, ends = Decoding(model, [start]), list[int](), all_ends(model)
    with inference(model):
        while len(tokens) < count and (not tokens or tokens[-1] not in ends):
            likeliest = decoding.logits().argmax(dim=-1)
            tokens.append(int(likeliest))
            decoding.append(likeliest, [True])
    return tokens


def _rows(model: Model, positions: int) -> list[list[int]]:
    """Return the tokens of texts, the last one cut so that there are ``positions`` in all."""
    left = require_count("positions", positions)
    rows = []
    for text in TEXTS:
        rows.append(model.tokenizer(text, verbose=False)["input_ids"][:left])
        if not (left := left - len(rows[-1])):
            return rows
    raise LabkitError(
        f"There are texts for {positions - left} positions with the tokenizer of {model.name}, not for {positions}.",
        "Ask for fewer positions; the default is 150.",
    )
