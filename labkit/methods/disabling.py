"""Disable a model's adapter inside a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labkit.errors import LabkitError
from labkit.methods.adapter import adapters_of
from labkit.methods.merging import MergeableLinear
from labkit.models.model import Model
from labkit.process import alone


@contextmanager
def disable_adapter(model: Model) -> Iterator[None]:
    """Have a fine-tuned model compute what it computed before the adapter, inside the block.

    Preference learning compares the model with itself before training; this way the weights are in memory only once.
    The outputs are the base model's, bit for bit: that of QLoRA is the 4-bit one. PiSSA is no exception, because labkit
    never changes the frozen weights (PEFT's PiSSA does). An encoder's classifier is the one from before training too,
    which is none where there was none: ``evaluate`` is zero-shot then.

    Parameters keep their values and ``requires_grad``, and modules their modes; no gradient reaches the adapter. Blocks
    may be nested, and the adapter comes back after an error too. Other models over the same weights are not affected.
    The model can be neither copied nor saved inside.
    With gradient checkpointing, run the backward pass inside the block, because it computes the layers again.

    Threads: labkit's own training and evaluation in other threads wait until the block ends, so don't wait for them
    inside it. A thread that calls ``model.module`` directly meanwhile gets the base model's output.

    Raises:
        LabkitError: the model has no adapter, as after full fine-tuning or ``lk.merge``, or an adapter is merged into
            its layer.
    """
    with alone():
        adapters = adapters_of(model).values()
        _require_separate(model, list(adapters))
        flags = [(adapter, adapter.disabled) for adapter in adapters]
        before = model.disabled, model.head, model.labels
        try:
            for adapter, _ in flags:
                adapter.disabled = True
            model.disabled = True
            if model.untrained_head is not None:
                model.head, model.labels = model.untrained_head
            yield
        finally:
            for adapter, flag in flags:
                adapter.disabled = flag
            model.disabled, model.head, model.labels = before


def _require_separate(model: Model, adapters: list) -> None:
    if not adapters and model.untrained_head is None:
        raise LabkitError(
            f"{model.name} has no adapter to disable: full fine-tuning and lk.merge change the weights themselves.",
            "Keep the base model beside it: lk.load_model gives it again.",
        )
    merged = [each for each in adapters if isinstance(each, MergeableLinear) and each.original]
    if merged:
        raise LabkitError(
            f"{len(merged)} of the {len(adapters)} adapters in {model.name} are merged into the weights.",
            "Call unmerge() on these layers first.",
        )
