"""How long a model takes to read one text, compared with another model."""

from __future__ import annotations

import time
from statistics import median

import torch

from labkit.errors import require_count
from labkit.models.encoding import padding_id
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model
from labkit.training.batching import Example, collate, read
from labkit.training.objectives import logits_at, sentence_vectors


def latency_ratio(base: Model, tuned: Model, text: str, *, repeats: int = 15) -> float:
    """Return the time that ``tuned`` takes to read one text, as a multiple of ``base``'s, at batch size 1.

    The two take turns, so other load on the computer slows both, and each turn gives one ratio. Their median ignores
    what disturbs only a few turns; a ratio of two medians would compare quiet turns with busy ones. A text
    that is too long for one of them is cut, for both, to what both can read, with a ``TruncationWarning``.

    Raises:
        LabkitError: ``repeats`` is not a whole number from 1 up, or ``text`` is not a text.
    """
    repeats = require_count("repeats", repeats)
    room = min(base.max_length, tuned.max_length)
    (mine,) = read(base, [text], room)
    (theirs,) = [mine] if tuned.tokenizer is base.tokenizer else read(tuned, [text], room)
    turns = [(_seconds(base, mine), _seconds(tuned, theirs)) for _ in range(repeats + 3)]
    return median(after / before for before, after in turns[3:])  # without the first three, which fill caches


def _seconds(model: Model, text: Example) -> float:
    batch = collate([text], padding_id(model), model.device)
    with inference(model):
        began = time.perf_counter()
        if model.kind == "encoder":
            result = sentence_vectors(model, batch)
        else:
            result = logits_at(model, batch, torch.tensor([len(text.tokens) - 1], device=model.device))
        result.sum().item()  # a GPU works asynchronously: wait for the result
        return time.perf_counter() - began
