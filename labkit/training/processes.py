"""Several processes, one run: each computes its share of a batch, and all take the same step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
from torch import distributed

from labkit.errors import LabkitError
from labkit.training.batching import IGNORED, Example

WAIT = 60  # seconds that a process waits for the others
# The environment variables that launchers set: torch's and Accelerate's first, then those of MPI.
SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
LOCAL = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
LAUNCHER = (*SIZE, *RANK, *LOCAL)


@dataclass(frozen=True)
class Processes:
    """How many processes train one model, and which of them this is.

    Each holds the whole model, computes the gradient on its share of every batch, and sums the gradients of all
    processes. Every process then takes the same step, so the weights stay equal (data parallelism).
    """

    count: int = 1
    rank: int = 0
    device: str = "cpu"

    def share_of(self, batch: Sequence[Example], together: int = 1) -> Sequence[Example]:
        """Return this process's part of a batch, in which each so many examples stay together: 2 for pairs.

        If nothing is left for this process, its part is an example of which nothing is learned: the gradient is then
        0, and the same weights have a gradient in every process.
        """
        mine = [example for place, example in enumerate(batch) if place // together % self.count == self.rank]
        return mine or [replace(e, learned=0, label=IGNORED, mask=None, parts=()) for e in batch[:together]]

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes, detached; with one process, the tensor itself."""
        if self.count == 1:
            return tensor
        whole = tensor.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(whole)
        return whole

    def add_up(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace the gradients by their sums over all processes."""
        if self.count > 1:
            for parameter in parameters:
                if parameter.grad is not None:  # None: no process uses the parameter
                    parameter.grad.copy_(self.total(parameter.grad))

    def any(self, answer: bool) -> bool:
        """Return whether ``answer`` is true in at least one process."""
        return self.total(torch.tensor(float(answer), device=self.device)).item() > 0


def count_processes() -> int:
    """Return the number of processes according to a launcher's environment variables.

    Raises:
        LabkitError: a variable is not a whole number, or the variables by which processes find each other are missing.
    """
    if distributed.is_initialized():
        return distributed.get_world_size()
    sizes = {name: _number(name) for name in SIZE}
    count = max(sizes.values())
    if count > 1:
        needed = {"RANK": RANK, "LOCAL_RANK": LOCAL, "MASTER_ADDR": ("MASTER_ADDR",), "MASTER_PORT": ("MASTER_PORT",)}
        missing = [first for first, names in needed.items() if not any(os.environ.get(name) for name in names)]
        if missing:
            raise _others_missing(count, f"but not {', '.join(missing)}, which a launcher also sets")
    return max(count, 1)


def meet_the_others(device: torch.device) -> Processes:
    """Connect to the other processes of this run, if a launcher has started some.

    Raises:
        LabkitError: they don't connect within ``WAIT`` seconds, or ``count_processes`` raises it.
    """
    count = count_processes()
    if count > 1 and not distributed.is_initialized():
        rank = next(_number(name) for name in RANK if os.environ.get(name))
        try:
            wait = timedelta(seconds=WAIT)
            store, rank, count = next(distributed.rendezvous("env://", rank, count, timeout=wait))
        except (RuntimeError, ValueError) as problem:
            raise _others_missing(count, f"but they didn't meet within {WAIT} seconds") from problem
        store.set_timeout(distributed.constants.default_pg_timeout)
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=count)
    return Processes(count, distributed.get_rank() if count > 1 else 0, str(device))


def _number(name: str) -> int:
    text = os.environ.get(name) or "0"
    try:
        return int(text)
    except ValueError:
        raise LabkitError(f"{name} must be a whole number, not {text!r}.", f"Unset {name}.") from None


def _others_missing(count: int, what: str) -> LabkitError:
    known = [f"{name}={os.environ[name]}" for name in LAUNCHER if os.environ.get(name)]
    return LabkitError(
        f"This is one of {count} processes, as {', '.join(known)} says, {what}.",
        "Start all of them with `accelerate launch` or `torchrun`; to train in this process alone, unset these.",
    )
