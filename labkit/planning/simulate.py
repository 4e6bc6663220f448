"""Predict the memory of a training step from a step over weights without numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

from labkit.memory.report import KINDS, MemoryReport
from labkit.memory.trace import Books
from labkit.planning.fake import CPU, Hollow
from labkit.planning.sizes import allocated, reserved
from labkit.planning.skeleton import adapt, blocks_of, skeleton
from labkit.planning.step import Prediction, Step
from labkit.process import as_by_default, own_random_numbers
from labkit.training.accelerator import own_accelerate
from labkit.training.loop import Trainer
from labkit.training.processes import Processes

FEW = 3  # blocks from which all others are extrapolated


def predict(step: Step) -> Prediction:
    """Predict the memory of a training step; nothing of that size is allocated.

    One step of the real loop runs over a model of two blocks and of three. Each further block adds the same,
    so that memory at the same moment of the step is affine in their number. The highest moment may be another
    one in a deep model than in a shallow one: each stage of the step is extrapolated by itself. Two blocks are
    the fewest in which the first, the second and the last can be told apart.
    """
    layers = step.config.num_hidden_layers
    counts = [layers] if layers < FEW else [FEW - 1, FEW]
    books = [simulate(step, count) for count in counts]
    further = layers - counts[0]
    exact = [_highest([_peaks(*each) for each in books], further)]
    for granularity in (allocated, reserved):
        exact.append(_highest([_peaks(book.rounded(granularity), blocks) for book, blocks in books], further))
    return Prediction(*exact)


def _highest(peaks: list[dict[str, tuple[int, ...]]], further: int) -> MemoryReport:
    """Return the highest stage of a step after so many more blocks."""
    less, more = peaks[0], peaks[-1]
    stages = [stage for stage in less if stage in more]
    at = [tuple(a + further * (b - a) for a, b in zip(less[stage], more[stage], strict=True)) for stage in stages]
    return MemoryReport(**dict(zip(KINDS, max(at, key=sum), strict=True)))


def simulate(step: Step, layers: int | None = None) -> tuple[Books, tuple[str, ...]]:
    """Return the books of one training step over hollow weights, and the names of the model's blocks.

    With ``layers``, the model has so many blocks. The books' report has modules, a timeline and phases.
    """
    with as_by_default(), own_random_numbers(CPU), own_accelerate():
        model = adapt(skeleton(step.config, step.precision, step.classes, layers), step.method, step.quantization)
        hollow = Hollow()
        hollow.fill(model.module, *([model.head] if model.head else []))
        with hollow:
            # A second pass of an accumulation holds what the third does: the gradients of those before.
            short = {"steps": 1, "batch_size": len(step.examples), "accumulation": min(step.training.accumulation, 2)}
            config = replace(step.training, **short, optimizer="adamw")
            trainer = Trainer(model, step.examples, config, processes=Processes())
            for parameter in trainer.parameters:
                parameter.grad = torch.zeros_like(parameter)
            trainer.adamw.step()
            trainer.adamw.zero_grad(set_to_none=True)
            blocks = blocks_of(model.module, model.module.config.num_hidden_layers)
            with hollow.booking(model.module, trainer.adamw, model.head, blocks) as done:
                trainer.step(0)
    return done[0], blocks


def _peaks(books: Books, blocks: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Return bytes by kind at the highest moment of each stage of the step."""
    stages = [("before", 0)]
    phase = ""
    for (what, name, at), (*_, end) in pairwise([*books.marks, ("end", "", len(books.moves))]):
        if what == "phase":
            phase = name
            stages.append((name, at))
            if phase == "loss":
                # The output of the forward pass, with a prefix's cache, goes in the midst of it: a stage each.
                made = [position for position in range(at, end) if books.moves[position] > 0]
                stages += [(f"loss {number}", position) for number, position in enumerate(made)]
        elif name == f"forward {blocks[-1]}" and phase == "forward":
            stages.append(("last forward", at))
        elif name.startswith("forward ") and name != f"forward {blocks[0]}" and phase == "forward":
            stages.append(("middle forward", at))  # of three blocks alone: the last is no lower
        elif name == "backward loss" and phase == "loss":
            stages.append((name, at))
        elif name == f"backward {blocks[-1]}":
            stages.append(("last backward", at))
        elif name == f"backward {blocks[0]}":
            stages.append(("first backward", at))
        elif name == f"backward {blocks[1]}":
            stages.append(("second backward", at))
    best = books.highest(stages)
    if len(blocks) == FEW - 1 and "last backward" in best:
        best["second backward"] = best["last backward"]  # the second of two is the last
    return best
