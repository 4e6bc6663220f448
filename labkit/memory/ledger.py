"""Where the memory of a training step goes: a ledger of every tensor that is made and freed."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

KINDS = ("parameters", "optimizer", "gradients", "activations")


@dataclass(frozen=True)
class MemoryReport:
    """Bytes at the moment of a step when most memory was in use.

    Attributes:
        parameters: weights and buffers, trained or frozen.
        optimizer: AdamW's two running means for each trained weight.
        gradients: one number for each trained weight.
        activations: all else, mostly what the forward pass keeps for the backward pass.
        peak: the sum of the four.
        timeline: bytes of each kind after each event of the step, in the order of KINDS.
    """

    parameters: int
    optimizer: int
    gradients: int
    activations: int
    timeline: tuple[tuple[int, ...], ...] = field(default=(), repr=False)

    @property
    def peak(self) -> int:
        """Bytes in use at the peak."""
        return self.parameters + self.optimizer + self.gradients + self.activations

    def megabytes(self) -> dict[str, float]:
        """Return the four parts in units of 10⁶ bytes."""
        return {kind: getattr(self, kind) / 1e6 for kind in KINDS}


class Ledger(TorchDispatchMode):
    """A context manager around one training step that books every tensor storage.

    Each operation of the step passes through ``__torch_dispatch__``, in the forward and the backward
    pass alike. A storage is booked when an operation first returns it and struck off when it is freed.
    To which kind a storage belonged is settled at the end, when all gradients and states are known.
    Scratch memory inside an operation is not seen. On CUDA the peak is the allocator's own, and
    ``activations`` is what remains of it after the other three kinds.

    Args:
        parameters: all weights of the model, trained or not.
        optimizer: the optimizer that the step calls.
        buffers: other tensors that live as long as the model.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        buffers: Iterable[torch.Tensor] = (),
    ):
        super().__init__()
        self._parameters = list(parameters)
        self._buffers = list(buffers)
        self._optimizer = optimizer
        self._live: dict[int, int] = {}  # address of a live storage → its number in the ledger
        self._sizes: list[int] = []
        self._kinds: dict[int, str] = {}
        self._events: list[int] = []  # +n: storage n − 1 appears; −n: it is freed
        self._watches: list[weakref.finalize] = []
        self.report: MemoryReport | None = None

    def __enter__(self) -> Ledger:
        self._device = self._parameters[0].device
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        for tensor in [*self._parameters, *self._buffers]:
            self._book(tensor, "parameters")
        self._book_states()
        self._hooks = [
            p.register_post_accumulate_grad_hook(lambda q: self._book(q.grad, "gradients"))
            for p in self._parameters
            if p.requires_grad
        ]
        for parameter in self._parameters:
            if parameter.grad is not None:
                self._book(parameter.grad, "gradients")
        self._opening = len(self._events)
        return super().__enter__()

    def __exit__(self, *problem) -> None:
        super().__exit__(*problem)
        for hook in self._hooks:
            hook.remove()
        self._book_states()
        self.report = self._settle()
        for watch in self._watches:
            watch.detach()  # it would keep this ledger, and with it every weight, for as long as Python runs

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_iter(result):
            if isinstance(leaf, torch.Tensor):
                self._book(leaf)
        return result

    def _book_states(self) -> None:
        for state in self._optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    self._book(value, "optimizer")

    def _book(self, tensor: torch.Tensor, kind: str = "") -> None:
        storage = tensor.untyped_storage()
        if storage.device != self._device:
            return
        address = storage._cdata
        if address not in self._live:
            number = len(self._sizes)
            self._live[address] = number
            self._sizes.append(storage.nbytes())
            self._events.append(number + 1)
            self._watches.append(weakref.finalize(storage, self._strike, address, number))
        if kind:
            self._kinds[self._live[address]] = kind

    def _strike(self, address: int, number: int) -> None:
        if self._live.get(address) == number:
            del self._live[address]
            self._events.append(-number - 1)

    def _settle(self) -> MemoryReport:
        now = dict.fromkeys(KINDS, 0)
        timeline = []
        for position, event in enumerate(self._events, 1):
            number = abs(event) - 1
            kind = self._kinds.get(number, "activations")
            now[kind] += self._sizes[number] if event > 0 else -self._sizes[number]
            if position >= self._opening:  # before that, what was there already was merely counted
                timeline.append(tuple(now.values()))
        peak = dict(zip(KINDS, max(timeline, key=sum), strict=True))
        if self._device.type == "cuda":
            allocated = torch.cuda.max_memory_allocated(self._device)
            peak["activations"] = allocated - sum(peak[kind] for kind in KINDS[:3])
        return MemoryReport(**peak, timeline=tuple(timeline))
