"""Check before a run that its steps fit into the free memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch

from labkit.errors import LabkitError
from labkit.memory.free import available_memory
from labkit.methods import get_method
from labkit.models.model import Model
from labkit.planning.estimate import from_data
from labkit.planning.predict import predict_step
from labkit.planning.sizes import readable
from labkit.planning.step import Step

WAYS = 3  # the most alternatives that an error names
SURE = 3  # if this many times a rough bound fits, no simulation is needed


def require_fit(model: Model, step: Step, *, inplace: bool = False) -> None:
    """Raise a ``LabkitError`` if a step would not fit into the free memory.

    Models that labkit cannot plan for are not checked.

    Args:
        model: the model that the run starts from; its frozen weights are in memory already.
        step: the largest step of the run, from ``step_of``.
        inplace: whether the method changes the model itself.
    """
    free = free_memory(model.device)
    try:
        if SURE * _bound(model, step) < free:
            return
        needed = _extra(model, step, inplace)
    except LabkitError:
        return
    if needed <= free:
        return
    ways = list(itertools.islice(_ways(model, step, inplace, free), WAYS))
    advice = "Nothing that labkit tried would fit: use shorter texts (max_length)."
    if ways:
        advice = f"These would fit: {'; '.join(ways)}."
    raise LabkitError(
        f"A step of this run needs {readable(needed)} more memory, and {readable(free)} is free.",
        f"{advice} Or pass force=True to try it all the same.",
    )


def free_memory(device: torch.device) -> int:
    """Return the bytes of free memory on a device."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return available_memory()


def _ways(model: Model, step: Step, inplace: bool, free: int) -> Iterator[str]:
    """Yield the settings that would fit, with the memory that they need."""
    for text, smaller in _smaller(step):
        try:
            size = _extra(model, smaller, inplace)
        except LabkitError:  # this model cannot be trained with these settings
            continue
        if size <= free:
            yield f"{text} ({readable(size)})"


def _smaller(step: Step) -> Iterator[tuple[str, Step]]:
    """Yield smaller steps with their settings, the smallest changes first."""
    saving = replace(step.training, gradient_checkpointing=True)
    if not step.training.gradient_checkpointing:
        yield "gradient_checkpointing=True", replace(step, training=saving)
    size, times, preference = step.training.batch_size, step.training.accumulation, step.training.preference
    together = 2 if preference else 1  # rows of a pair
    while size > 1 and not (size < 4 and preference and preference.loss == "kto"):  # KTO needs two pairs
        size, times = size // 2, times * 2
        training = replace(step.training, batch_size=size, accumulation=times)
        longest = sorted(step.examples, key=lambda example: len(example.tokens))[-size * together :]
        yield f"batch_size={size}, accumulation={times}", replace(step, training=training, examples=longest)
    for name in ("lora", "qlora"):
        if name != step.method.name:
            other = replace(step, method=get_method(name))
            yield f'method="{name}"', other
            yield f'method="{name}", gradient_checkpointing=True', replace(other, training=saving)


def _bound(model: Model, step: Step) -> int:
    """Return a rough bound, quickly: the bytes that the most expensive method would take."""
    return 16 * sum(p.numel() for p in model.parameters()) + 2 * model.nbytes + sum(from_data(step))


def _extra(model: Model, step: Step, inplace: bool) -> int:
    """Return the bytes that a step needs in addition to the model that is in memory already."""
    prediction = predict_step(step)
    report = prediction.reserved if model.device.type == "cuda" else prediction.tensors
    return report.peak - (model.nbytes if inplace else min(report.frozen, model.nbytes))
