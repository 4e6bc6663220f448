"""Before a run: does it fit into the memory that is free?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import psutil
import torch

from labkit.assets.models import Model
from labkit.errors import LabkitError
from labkit.memory.report import MemoryReport
from labkit.methods import Method, get_method
from labkit.planning.configs import find_config, method_on
from labkit.planning.estimate import from_data
from labkit.planning.predicted import predicted
from labkit.planning.sizes import readable
from labkit.training.batching import Example, Schedule
from labkit.training.config import TrainingConfig

WAYS = 3  # to go on that a refusal names at most
SURE = 3  # times that a rough bound must fit to make a simulation needless


def require_fit(
    model: Model,
    method: Method,
    training: TrainingConfig,
    schedule: Schedule,
    classes: int = 0,
    *,
    inplace: bool = False,
) -> None:
    """Raise a ``LabkitError`` where a run's largest step would not fit into the free memory.

    Models of an architecture that cannot be planned for are let through.

    Args:
        model: where the run starts; weights that the method leaves as they are exist already.
        method: what is trained.
        training: how.
        schedule: the run's batches.
        classes: of an encoder's head.
        inplace: the method changes the model itself.
    """
    method = method_on(model, method)
    batch = schedule.largest_batch(-1)
    free = free_memory(model.device)
    try:
        if SURE * _bound(model, training, batch, classes) < free:
            return
        needed = _extra(_predict(model, method, training, batch, classes), model, inplace)
    except LabkitError:
        return
    if needed <= free:
        return
    ways = []
    for text, other_method, other in _smaller(method, training):
        part = batch[-other.batch_size :]  # sorted by length: the longest
        try:
            size = _extra(_predict(model, other_method, other, part, classes), model, inplace)
        except LabkitError:  # this model cannot be trained that way
            continue
        if size <= free:
            ways.append(f"{text} ({readable(size)})")
        if len(ways) == WAYS:
            break
    advice = (
        f"These would fit: {'; '.join(ways)}."
        if ways
        else "Nothing that labkit tried would fit: use shorter texts (max_length)."
    )
    raise LabkitError(
        f"A step of this run needs {readable(needed)} more memory, and {readable(free)} is free.",
        f"{advice} Or pass force=True to try it all the same.",
    )


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be had on a device."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return psutil.virtual_memory().available


def _smaller(method: Method, training: TrainingConfig) -> Iterator[tuple[str, Method, TrainingConfig]]:
    """Yield runs that take less, in words and settings, the nearest first."""
    saving = replace(training, gradient_checkpointing=True)
    if not training.gradient_checkpointing:
        yield "gradient_checkpointing=True", method, saving
    size, times = training.batch_size, training.accumulation
    while size > 1:
        size, times = size // 2, times * 2
        less = {"batch_size": size, "accumulation": times}
        yield f"batch_size={size}, accumulation={times}", method, replace(training, **less)
    for name in ("lora", "qlora"):
        if name != method.name:
            yield f'method="{name}"', get_method(name), training
            yield f'method="{name}", gradient_checkpointing=True', get_method(name), saving


def _predict(
    model: Model, method: Method, training: TrainingConfig, batch: Sequence[Example], classes: int
) -> MemoryReport:
    config = find_config(model)[1]
    training = replace(training, batch_size=len(batch))
    prediction = predicted(config, method, training, batch, model.precision, classes)
    return prediction.reserved if model.device.type == "cuda" else prediction.tensors


def _bound(model: Model, training: TrainingConfig, batch: Sequence[Example], classes: int) -> int:
    """Return roughly what the most expensive method would take, in no time."""
    length, learned = (max(sizes) for sizes in zip(*((len(e.tokens), e.learned) for e in batch), strict=True))
    config = find_config(model)[1]
    data = from_data(config, training, len(batch), length, max(learned, 1), model.precision, classes)
    return 16 * sum(p.numel() for p in model.parameters()) + 2 * model.nbytes + sum(data)


def _extra(report: MemoryReport, model: Model, inplace: bool) -> int:
    """Return the bytes that the run needs beside the model that is there already."""
    return report.peak - (model.nbytes if inplace else min(report.frozen, model.nbytes))
