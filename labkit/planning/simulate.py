"""Simulate a training step over fake weights, which take no memory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from labkit.memory.trace import Trace
from labkit.models.meta import blocks_of, meta_model
from labkit.models.model import Model
from labkit.planning.adapt import adapt_model, reference_model
from labkit.planning.fake import FakeMode
from labkit.planning.fake_recorder import CPU
from labkit.planning.rehearsal import Rehearsal
from labkit.planning.step import Step
from labkit.process import as_by_default, own_random_numbers
from labkit.training.accelerator import own_accelerate
from labkit.training.loop import Trainer
from labkit.training.processes import Processes


def simulate(step: Step, layers: int | None = None) -> tuple[Trace, tuple[str, ...]]:
    """Return the trace of one training step over fake weights, and the names of the model's blocks.

    Args:
        step: the training step.
        layers: number of blocks of the model, instead of the configuration's number.
    """
    with as_by_default(), own_random_numbers(CPU), own_accelerate():
        made = partial(meta_model, step.config, step.precision, step.classes, layers)
        model = adapt_model(made(), step.method, step.quantization)
        copy = reference_model(made(), step.method, step.quantization) if step.reference_copy else None
        mode = FakeMode()
        mode.fill(model.module, *([model.head] if model.head else []), *([copy.module] if copy else []))
        with mode:
            trainer = _trainer(step, model, copy, mode)
            beside: dict[str, nn.Module] = {"reference": copy.module} if copy else {}
            if isinstance(trainer, Rehearsal) and trainer.value_head is not None:
                beside["value"] = trainer.value_head
            trainer.prepare()
            for parameter in trainer.parameters:
                parameter.grad = torch.zeros_like(parameter)
            trainer.adamw.step()
            trainer.adamw.zero_grad(set_to_none=True)
            blocks = blocks_of(model.module, model.module.config.num_hidden_layers)
            with mode.trace(model.module, trainer.adamw, model.head, blocks, beside) as done:
                trainer.step(0)
    return done[0], blocks


def _trainer(step: Step, model: Model, copy: Model | None, mode: FakeMode) -> Trainer:
    config = replace(step.training, steps=1, optimizer="adamw", packing=False)  # packed rows come packed
    if step.rl:
        # An update needs what the one before it did, whatever came out of it.
        return Rehearsal(model, step, config, replace(step.rl, updates=1), mode, copy)
    # Two batches are enough for accumulation: the third needs what the second does, gradients included.
    batch = len(step.examples) // (2 if step.training.preference else 1)
    config = replace(config, batch_size=batch, accumulation=min(step.training.accumulation, 2))
    return Trainer(model, step.examples, config, processes=Processes())
