"""Accelerate, set up for one run by the run's own settings, whatever the environment says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import GradientAccumulationPlugin
from torch.optim import Optimizer

from labkit.errors import LabkitError
from labkit.models.model import Model
from labkit.training.processes import LAUNCHER

UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor or context parallelism",
    "ACCELERATE_USE_TP": "tensor parallelism",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker's own launcher",
}
OFF = {"", "0", "n", "no", "f", "false", "off"}


def accelerate(model: Model, optimizer: Optimizer) -> tuple[Accelerator, AcceleratedOptimizer]:
    """Return an Accelerator for the model's device and precision, and the optimizer wrapped for it.

    Accelerate reads settings from environment variables that begin with ``ACCELERATE_``: gradient accumulation,
    compilation, a device, a framework. They would silently change the gradient, so they are ignored here. For what
    several processes do together, see ``processes.py``.

    Raises:
        LabkitError: the environment asks for what labkit doesn't support, such as DeepSpeed or FSDP.
    """
    for name, what in UNSUPPORTED.items():
        if _is_on(name):
            raise LabkitError(f"{name} asks for {what}, which labkit doesn't support.", f"Unset {name}.")
    if model.device.type != "cpu" and _is_on("ACCELERATE_USE_CPU"):
        raise LabkitError(
            f"ACCELERATE_USE_CPU asks for the CPU, and {model.name} is on {model.device}.",
            'Unset it, or load the model with device="cpu".',
        )
    short = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}[model.precision]
    # Accelerate allows one precision and one device per process, labkit one per run.
    known = AcceleratorState._shared_state
    if known and known["device"].type != model.device.type:
        AcceleratorState._reset_state(reset_partial_state=True)
    elif known and known.get("_mixed_precision") != short:
        AcceleratorState._reset_state()
    with _unset([name for name in os.environ if name.startswith("ACCELERATE_") or name in LAUNCHER]):
        accelerator = Accelerator(
            mixed_precision=short,
            cpu=model.device.type == "cpu",
            device_placement=False,
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            dynamo_backend="no",
        )
        return accelerator, accelerator.prepare_optimizer(optimizer)


@contextmanager
def own_accelerate() -> Iterator[None]:
    """Let Accelerate start afresh inside the block; afterwards, restore its state in this process."""
    states = [each._shared_state for each in (AcceleratorState, PartialState, GradientState)]
    kept = [dict(state) for state in states]
    for state in states:
        state.clear()
    try:
        yield
    finally:
        for state, before in zip(states, kept, strict=True):
            state.clear()
            state.update(before)


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() not in OFF


@contextmanager
def _unset(names: Iterable[str]) -> Iterator[None]:
    taken = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)
