"""What a model and llama.cpp predict, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from labkit.exports.gguf_tokenizer import all_ends
from labkit.exports.llama import LlamaCpp
from labkit.models.decoding import Decoding
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model

LIKELIEST = 1000  # tokens whose log-probabilities llama.cpp is asked for; all of them would take a second a position


def in_float32(model: Model) -> Model:
    """Return the model with its adapter and without the rounding of 16-bit arithmetic; a 4-bit one as it is."""
    return model if model.quantization else replace(model.copy(share_weights=False), precision=torch.float32)


def predictions(model: Model, llama: LlamaCpp, rows: Sequence[Sequence[int]]) -> tuple[list[bool], list[float]]:
    """Return, after each beginning of each row, whether the likeliest token is the same, and the KL divergence."""
    same, kl = list[bool](), list[float]()
    for row in rows:
        with inference(model):
            logits = model.module(torch.tensor([row], device=model.device)).logits[0].double().cpu()
        for count, here in enumerate(logits.log_softmax(dim=-1), 1):
            there = llama.next(row[:count], LIKELIEST)
            same.append(next(iter(there)) == int(here.argmax()))
            kl.append(divergence(here, there))
    return same, kl


def divergence(here: torch.Tensor, there: dict[int, float]) -> float:
    """Return KL(here ‖ there) in nats, where all tokens that ``there`` lacks count as one."""
    p = here[list(there)].exp()
    q = torch.tensor(list(there.values()), dtype=torch.float64)
    rest_p, rest_q = max(0.0, 1 - float(p.sum())), max(1e-12, 1 - float(q.exp().sum()))
    rest = rest_p * math.log(rest_p / rest_q) if rest_p > 1e-9 else 0.0
    return float((p * (here[list(there)] - q)).sum()) + rest


def greedy(model: Model, llama: LlamaCpp, starts: Sequence[list[int]], count: int = 16) -> float:
    """Return the share of greedily written tokens that are the same up to the first difference of each answer."""
    shares, ends = list[float](), all_ends(model)
    for start in starts:
        decoding, here = Decoding(model, [start]), list[int]()
        with inference(model):
            while len(here) < count and (not here or here[-1] not in ends):
                likeliest = decoding.logits().argmax(dim=-1)
                here.append(int(likeliest))
                decoding.append(likeliest, [True])
        written, ended = llama.continued(start, count)
        there = [token for token in written if token not in ends] + [here[-1]] * (ended and here[-1] in ends)
        shares.append(alike(here, there) / max(len(here), len(there)))
    return float(np.mean(shares))


def alike(here: Sequence, there: Sequence) -> int:
    """Return how long two texts or lists are the same."""
    unlike = (at for at, (a, b) in enumerate(zip(here, there, strict=False)) if a != b)
    return next(unlike, min(len(here), len(there)))
