"""State that a run shares with the whole process: runs take turns, and restore the state that they change."""

from __future__ import annotations

import gc
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

NUMBERLESS = ("cpu", "meta")  # devices without random numbers other than the CPU's
PATIENCE = 10  # seconds that a thread waits for another one before it warns
_TURN = threading.RLock()  # the thread that holds it may take it again: a callback may evaluate or train


@contextmanager
def alone() -> Iterator[None]:
    """Let only one thread at a time run such a block; the others wait.

    torch's random numbers and its profiler, and Accelerate's state, belong to the whole process. Two runs at
    the same time would draw each other's numbers, and a second profiler would crash the process.
    """
    if not _TURN.acquire(timeout=PATIENCE):
        warnings.warn("Another thread is using labkit; this one waits until it is done.", stacklevel=3)
        _TURN.acquire()
    try:
        yield
    finally:
        _TURN.release()


@contextmanager
def without_collector() -> Iterator[None]:
    """Switch garbage collection off inside the block: each collection would visit all of a million rows again."""
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
    """Restore the caller's random numbers after the block, which may draw and seed freely.

    These are the random numbers of Python, numpy and torch, on the CPU and on ``device``.
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
    """Seed Python, numpy, torch's CPU and ``device``; unlike ``torch.manual_seed``, leave other devices alone."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if device.type not in NUMBERLESS:
        with device:
            torch.get_device_module(device.type).manual_seed(seed)
