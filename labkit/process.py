"""What a run shares with the whole process: it takes turns with other runs, and leaves the state as it found it."""

from __future__ import annotations

import gc
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

NUMBERLESS = ("cpu", "meta")  # devices that have no random numbers beside those of the CPU
PATIENCE = 10  # seconds that a thread waits for another one before it says so
_TURN = threading.RLock()  # the thread that has it may take it again: a callback may evaluate or train


@contextmanager
def alone() -> Iterator[None]:
    """Let one thread at a time into such blocks; the others wait.

    torch's random numbers and its profiler, and Accelerate's state, belong to the whole process. Two runs at
    the same time would draw each other's numbers, and two profilers end the process.
    """
    if not _TURN.acquire(timeout=PATIENCE):
        warnings.warn("Another thread is at work in labkit; this one waits until that is done.", stacklevel=3)
        _TURN.acquire()
    try:
        yield
    finally:
        _TURN.release()


@contextmanager
def without_collector() -> Iterator[None]:
    """Don't search for cycles of objects inside the block: each search would visit all of a million rows again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def as_by_default() -> Iterator[None]:
    """Compute as a new process would inside the block: with gradients, in float32; one thread at a time."""
    with alone(), torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        for device in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
            stack.enter_context(torch.autocast(device, enabled=False))
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Draw and seed freely inside the block: afterwards, the caller's random numbers go on as if nobody had drawn.

    The caller's are those of Python, numpy and torch, on the CPU and on ``device``.
    """
    devices = [] if device.type in NUMBERLESS else [device]
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices, device_type=device.type if devices else None):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_all(seed: int, device: torch.device) -> None:
    """Seed Python, numpy, torch's CPU and ``device``; other devices keep their numbers, unlike in ``manual_seed``."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if device.type not in NUMBERLESS:
        with device:
            torch.get_device_module(device.type).manual_seed(seed)


@contextmanager
def inference(model) -> Iterator[None]:
    """Compute inside the block as one does after training; one thread at a time is let in.

    The network of the ``labkit`` model is in evaluation mode, no gradients are recorded, and matrix products run in
    the model's precision. Afterwards all of this is as it was, each module in its own mode.
    """
    with alone():
        modes = [(part, part.training) for part in model.module.modules()]
        try:
            model.module.eval()
            with torch.no_grad(), model.autocast():
                yield
        finally:
            for part, mode in modes:
                part.training = mode
