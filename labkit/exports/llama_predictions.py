"""What a model and llama.cpp predict, side by side."""

from __future__ import annotations

import math

import numpy as np
import torch

from labkit.exports.gguf_tokenizer import all_ends
from labkit.exports.likeness import alike
from labkit.exports.llama import LlamaCpp
from labkit.exports.reference import WRITTEN, Reference

LIKELIEST = 1000  # tokens whose log-probabilities llama.cpp is asked for; all of them would take a second a position


def predictions(reference: Reference, llama: LlamaCpp) -> tuple[list[bool], list[float]]:
    """Return, after each beginning of each row, whether the likeliest token is the same, and the KL divergence."""
    same, kl = list[bool](), list[float]()
    for row, logits in zip(reference.rows, reference.logits, strict=True):
        for count, here in enumerate(logits.double().log_softmax(dim=-1), 1):
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


def greedy(reference: Reference, llama: LlamaCpp) -> float:
    """Return the share of greedily written tokens that are the same up to the first difference of each answer."""
    shares, ends = list[float](), all_ends(reference.model)
    for start, here in zip(reference.starts, reference.answers, strict=True):
        written, ended = llama.continued(start, WRITTEN)
        there = [token for token in written if token not in ends] + [here[-1]] * (ended and here[-1] in ends)
        shares.append(alike(here, there) / max(len(here), len(there)))
    return float(np.mean(shares))
