"""Estimate a step's memory by the textbook formula, for comparison or if no simulation is possible."""

from __future__ import annotations

import torch
from torch import nn

from labkit.memory.hooks import StepHooks
from labkit.memory.report import KINDS, MemoryReport
from labkit.models.meta import kind_to_plan, meta_model
from labkit.planning.adapt import adapt_model, reference_model
from labkit.planning.step import Step


def estimate(step: Step) -> MemoryReport:
    """Return an estimate of a step's memory at its peak; the error is some tens of percent for full fine-tuning.

    It is the sum of weights, gradients, optimizer states, activations and logits; see ``from_data`` for the last
    two. The formula ignores the activations of adapters, and adds all activations to all gradients, though they
    never exist at the same time. Of a step that learns from rewards, it is the update alone.
    """
    layers = step.config.num_hidden_layers
    if step.alike:
        two, three = (_weights(step, count) for count in (2, 3))
        held = {kind: two[kind] + (layers - 2) * (three[kind] - two[kind]) for kind in KINDS}
    else:
        held = _weights(step, layers)
    activations, logits = from_data(step)
    return MemoryReport(**held | {"activations": activations, "logits": logits})


def from_data(step: Step) -> tuple[int, int]:
    """Return the formula's bytes of activations and of logits, which depend on the data.

    A block's activations in 16 bits take 34 bytes for each token and hidden dimension, without attention matrices
    (Korthikanti et al., 2022, arXiv:2205.05198, section 4.1).
    """
    config, bits = step.config, step.precision.itemsize
    numbers = len(step.read) * step.length * config.hidden_size
    blocks = config.num_hidden_layers * 17 * bits * numbers
    if step.training.gradient_checkpointing:
        blocks = 17 * bits * numbers + config.num_hidden_layers * 4 * numbers
    outputs = step.classes if kind_to_plan(config) == "encoder" else step.learned * config.vocab_size
    # Logits in the type of the computation, and in 32 bits for the loss, and the gradients of both.
    return blocks, 2 * len(step.read) * outputs * (bits + 4)


def _weights(step: Step, layers: int) -> dict[str, int]:
    model = meta_model(step.config, step.precision, step.classes, layers)
    model = adapt_model(model, step.method, step.quantization)
    beside: dict[str, nn.Module] = {}
    if step.reference_copy:
        copy = meta_model(step.config, step.precision, step.classes, layers)
        beside["reference"] = reference_model(copy, step.method, step.quantization).module
    hooks = StepHooks(model.module, torch.optim.AdamW(model.trainable().values()), model.head, id, beside)
    sizes = dict.fromkeys(KINDS, 0)
    for item in hooks.held().values():
        sizes[item.kind] += item.size
    count = sum(p.numel() for p in model.trainable().values())
    return sizes | {"optimizer": 8 * count, "gradients": 4 * count}
