"""How long a model takes for one text."""

from __future__ import annotations

import time
from statistics import median

import torch

from labkit.assets.models import Model
from labkit.errors import require_count
from labkit.evaluation.labels import room_of
from labkit.training.batching import Example, collate
from labkit.training.objectives import logits_at, sentence_vectors


@torch.no_grad()
def latency_ratio(base: Model, tuned: Model, text: str, *, repeats: int = 15) -> float:
    """Return how many times as long ``tuned`` takes to read one text as ``base``, at batch size 1.

    A text of more than 512 tokens is cut. The two take turns, so that whatever else the computer does slows both;
    medians leave out what disturbs one.
    """
    repeats = require_count("repeats", repeats)
    turns = [(_seconds(base, text), _seconds(tuned, text)) for _ in range(repeats + 3)]
    before, after = zip(*turns[3:], strict=True)  # the first ones fill caches
    return median(after) / median(before)


def _seconds(model: Model, text: str) -> float:
    model.module.eval()
    tokens = model.tokenizer(text, truncation=True, max_length=min(512, room_of(model)))["input_ids"]
    batch = collate([Example(tokens, 0)], model.tokenizer.pad_token_id, model.device)
    began = time.perf_counter()
    with model.autocast():
        if model.kind == "encoder":
            result = sentence_vectors(model, batch)
        else:
            result = logits_at(model, batch, torch.tensor([len(tokens) - 1], device=model.device))
    result.sum().item()  # a GPU works in the background: wait for the result
    return time.perf_counter() - began
