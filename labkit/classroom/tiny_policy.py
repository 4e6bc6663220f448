"""A tiny language model with an adapter that has learned something, for checks that must not take long."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from labkit.methods import LoRA
from labkit.models.model import Model

SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2}


def tiny_policy() -> tuple[Model, Model]:
    """Return a model without a tokenizer, and the same with an adapter; all numbers are drawn, the same each time."""
    with torch.random.fork_rng(devices=[]):  # the learner's random numbers stay what they are
        torch.manual_seed(0)
        config = AutoConfig.for_model("llama", initializer_range=0.2, **SIZES, **HEADS)
        module = AutoModelForCausalLM.from_config(config).eval()
        base = Model("tiny", module, cast(Any, None), "causal", torch.float32)
        policy = LoRA(rank=2).apply(base)
        for name, parameter in policy.trainable().items():
            if "lora_B" in name:
                parameter.data.normal_()
    return base, policy


def log_probabilities_of(model: Model, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each row's tokens after the first, in nats, shape (rows,)."""
    scores = model.module(ids).logits[:, :-1].log_softmax(-1)
    return scores.gather(2, ids[:, 1:, None]).sum((1, 2))
