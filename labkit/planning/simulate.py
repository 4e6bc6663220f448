"""Simulate a training step over fake weights, which take no memory."""

from __future__ import annotations

from dataclasses import replace

import torch

from labkit.memory.trace import Trace
from labkit.models.meta import blocks_of, meta_model
from labkit.planning.adapt import adapt_model
from labkit.planning.fake import FakeMode
from labkit.planning.fake_recorder import CPU
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
        model = meta_model(step.config, step.precision, step.classes, layers)
        model = adapt_model(model, step.method, step.quantization)
        mode = FakeMode()
        mode.fill(model.module, *([model.head] if model.head else []))
        with mode:
            # Two batches are enough for accumulation: the third needs what the second does, gradients included.
            accumulation = min(step.training.accumulation, 2)
            batch = len(step.examples) // (2 if step.training.preference else 1)
            config = replace(step.training, steps=1, batch_size=batch, accumulation=accumulation, optimizer="adamw")
            config = replace(config, packing=False)  # packed rows come packed
            trainer = Trainer(model, step.examples, config, processes=Processes())
            trainer.prepare()
            for parameter in trainer.parameters:
                parameter.grad = torch.zeros_like(parameter)
            trainer.adamw.step()
            trainer.adamw.zero_grad(set_to_none=True)
            blocks = blocks_of(model.module, model.module.config.num_hidden_layers)
            with mode.trace(model.module, trainer.adamw, model.head, blocks) as done:
                trainer.step(0)
    return done[0], blocks
