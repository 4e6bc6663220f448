"""A tiny model of every architecture whose parts the methods know, and of one more."""

from functools import cache

import torch
from tiny import STRONG, tiny_model
from torch.nn import functional as F

from labkit.models.architectures import ARCHITECTURES

KNOWN = list(ARCHITECTURES)
UNKNOWN = "gpt_bigcode"


@cache
def small(name):
    """Two blocks of width 32 whose MLP is 64 wide inside; tests must not change it."""
    own = {"n_inner": 64} if name == UNKNOWN else {}
    return tiny_model(name, vocab_size=64, **STRONG, **own)


@torch.no_grad()
def outputs(module, ids, **inputs):
    return module.eval()(input_ids=ids, **inputs)[0]


def backward(module, ids):
    """The gradient of some loss that every position of the output takes part in."""
    output = module.eval()(input_ids=ids)[0]
    F.cross_entropy(output.flatten(0, 1), ids.flatten() % output.shape[-1], reduction="sum").backward()
