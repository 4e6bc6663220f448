"""Accelerate, set up for one run."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from labkit.assets.models import Model


def make_accelerator(model: Model) -> Accelerator:
    """Return an Accelerator for the model's device and precision."""
    short = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}[model.precision]
    # Accelerate allows one precision and one device a process, we one a run.
    known = AcceleratorState._shared_state
    if known and known["device"].type != model.device.type:
        AcceleratorState._reset_state(reset_partial_state=True)
    elif known and known.get("_mixed_precision") != short:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=short, cpu=model.device.type == "cpu", device_placement=False)
