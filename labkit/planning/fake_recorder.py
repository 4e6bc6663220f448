"""Record the memory of a simulated step, as the ``Recorder`` in ``labkit.memory`` does for a real one."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor

from labkit.memory.events import SCRATCH, Event
from labkit.planning.operators import address_of, graph_task, promoted

CPU = torch.device("cpu")
aten = torch.ops.aten


class FakeRecorder:
    """Records what each operator allocates on the CPU, and when it is freed.

    Args:
        held: addresses of the memory from before the step.
    """

    def __init__(self, held: Iterable[int]):
        self.events: list[Event] = []
        self._live: dict[int, weakref.finalize | None] = dict.fromkeys(held)  # by address; None if from before
        self._backward = False

    def before_operator(self) -> None:
        """Mark where a backward pass begins: autocast has dropped its copies of trained weights by then."""
        backward = graph_task() != -1
        if backward and not self._backward:
            self.events.append(Event("block", name="backward loss"))
        self._backward = backward

    def after_operator(
        self, func: OpOverload, args: tuple[Any, ...], inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
    ) -> None:
        """Record the scratch memory of an operator, and its new tensors."""
        if scratch := promoted(func, args):
            self.events.append(Event("alloc", SCRATCH, scratch))
        # A view of an input is not new. What ``torch.tensor`` makes, out of sight of a mode, comes through lift_fresh.
        known = set() if func is aten.lift_fresh.default else {address_of(tensor) for tensor in inputs}
        for made in outputs:
            if address_of(made) not in known:
                self._alloc(made)
        if scratch:
            self.events.append(Event("free", SCRATCH))

    def stop(self) -> None:
        """Stop recording what is freed."""
        for watch in filter(None, self._live.values()):
            watch.detach()

    def _alloc(self, tensor: torch.Tensor) -> None:
        if (tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device) != CPU:
            return
        storage = tensor.untyped_storage()
        address = address_of(tensor)
        if address not in self._live:
            self.events.append(Event("alloc", address, storage.nbytes()))
            self._live[address] = weakref.finalize(storage, self._free, address)

    def _free(self, address: int) -> None:
        del self._live[address]
        self.events.append(Event("free", address))
