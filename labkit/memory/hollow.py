"""Tensors with a shape, a type and a device but no numbers, and a mode that computes with them.

A training step over hollow weights is the real step: the same loop, the same modules (bitsandbytes' layers are
imitated), the same operators in the same order. Only the arithmetic is left out, and with it the memory. Token
ids and masks stay real, so that code which looks at them (transformers leaves the mask out where nothing is
padded) takes the way that it takes in training.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from labkit.memory.booking import SCRATCH, Books, Event
from labkit.memory.watch import Watched

aten, prim = torch.ops.aten, torch.ops.prim
CPU = torch.device("cpu")
# Formulas of backward passes that scatter into fresh zeros in place, except while a mode watches.
IN_PLACE = {
    aten.index_put.default: aten.index_put_.default,
    aten.index_add.default: aten.index_add_.default,
    aten.scatter_add.default: aten.scatter_add_.default,
    aten.scatter.src: aten.scatter_.src,
    aten.scatter.value: aten.scatter_.value,
}


class Hollow(TorchDispatchMode):
    """While it is on, what is computed from a hollow tensor is hollow, and all else is real.

    Hollow tensors pretend to be on the CPU. Where a program asks for a number that nobody computed (is the loss
    finite?), the answer is 1, or true.
    """

    def __init__(self):
        super().__init__()
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._events: list[Event] | None = None
        self._live: dict[int, weakref.finalize] = {}
        self._backward = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # asked for so often that the long way would take a third of the time
        kwargs = kwargs or {}
        tensors = _tensors((*args, *kwargs.values()))
        fake = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        if fake or any(tensor.is_meta for tensor in tensors):
            if func is aten._local_scalar_dense.default:
                return True if tensors[0].dtype == torch.bool else 1.0
            if func is aten.equal.default:
                return True
            func = _as_without_mode(func, args)
        if self._events is not None:
            self._note_backward()
        with self._fake if fake else contextlib.nullcontext():
            result = func(*args, **kwargs)
        if self._events is not None:
            if scratch := _promoted(func, args):
                self._events.append(Event("alloc", SCRATCH, scratch))
            known = {_address(tensor) for tensor in tensors}  # a view of memory from before is not new
            for made in _tensors((result,)):
                if _address(made) not in known:
                    self._book(made)
            if scratch:
                self._events.append(Event("free", SCRATCH))
        return result

    def fill(self, *modules: nn.Module) -> None:
        """Replace the meta tensors of modules by hollow ones; tied weights stay tied."""
        made: dict[int, torch.Tensor] = {}
        for module in (inner for outer in modules for inner in outer.modules()):
            for store in (module._parameters, module._buffers):
                for name, tensor in store.items():
                    if tensor is None:
                        continue
                    if id(tensor) not in made:
                        hollow = FakeTensor(self._fake, tensor.detach(), CPU)
                        if isinstance(tensor, nn.Parameter):
                            hollow = nn.Parameter(hollow, requires_grad=tensor.requires_grad)
                        made[id(tensor)] = hollow
                    store[name] = made[id(tensor)]

    @contextlib.contextmanager
    def booking(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, head: nn.Module | None, blocks: tuple[str, ...] = ()
    ) -> Iterator[list[Books]]:
        """Book a step, as ``Ledger`` does a real one; afterwards the list that this gives holds the books.

        Args:
            module, optimizer, head: as for ``Ledger``.
            blocks: modules whose passes are to be marked.
        """
        watched = Watched(module, optimizer, head, _address)
        held = watched.held()
        self._live = dict.fromkeys(held)
        self._events = events = []
        hooks = watched.hook(events.append, blocks)
        done: list[Books] = []
        try:
            yield done
        finally:
            self._events = None
            for hook in hooks:
                hook.remove()
            for watch in filter(None, self._live.values()):
                watch.detach()
        # The optimizer makes no states for weights that never get a gradient, as an unused pooler's.
        graded = {event.name for event in events if event.what == "gradient"}
        held = {key: item for key, item in held.items() if item.kind != "optimizer" or item.module in graded}
        done.append(Books(held, events, watched.states()))

    def _note_backward(self) -> None:
        """Mark where a backward pass begins: autocast's copies of trained weights are gone by then."""
        backward = torch._C._current_graph_task_id() != -1
        if backward and not self._backward:
            self._events.append(Event("block", name="backward loss"))
        self._backward = backward

    def _book(self, tensor: torch.Tensor) -> None:
        if (tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device) != CPU:
            return
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self._live:
            self._events.append(Event("alloc", address, storage.nbytes()))
            self._live[address] = weakref.finalize(storage, self._strike, self._events, address)

    def _strike(self, events: list[Event], address: int) -> None:
        del self._live[address]
        events.append(Event("free", address))


def _tensors(arguments: Iterable) -> list[torch.Tensor]:
    """Return the tensors among arguments, those in lists included."""
    found = []
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            found.append(argument)
        elif isinstance(argument, list | tuple):
            found += _tensors(argument)
    return found


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _promoted(func, args: tuple) -> int:
    """Return the bytes of the copies that an elementwise operator makes on a CPU of numbers in another type."""
    if torch.Tag.pointwise not in func.tags:
        return 0
    operands = [arg for arg in args if isinstance(arg, torch.Tensor) and arg.dim()]
    if func.overloadpacket in (aten.where, aten.masked_fill, aten.masked_fill_):
        operands = [operand for operand in operands if operand.dtype != torch.bool]  # a mask stays a mask
    if len({operand.dtype for operand in operands}) < 2:
        return 0
    common = functools.reduce(torch.promote_types, (operand.dtype for operand in operands))
    copied = [operand for operand in operands if operand.dtype != common]
    if func._schema.is_mutable and args[0].dtype != common:
        copied.append(args[0])  # the result, before it is rounded to the type of the tensor that it goes into
    return sum(operand.numel() * common.itemsize for operand in copied)


def _as_without_mode(func, args: tuple):
    """Return the operator that runs where no dispatch mode is on.

    In the backward pass, torch adds gradients up in place and scatters into fresh zeros in place, except
    while a mode watches: it then makes a new tensor each time (``isTensorSubclassLike`` in torch's sources).
    """
    if torch._C._current_graph_task_id() == -1 or torch.is_grad_enabled():  # forward, or recomputation
        return func
    if func in IN_PLACE:
        return IN_PLACE[func]
    if func is aten.add.Tensor and _is_alone(*args):
        return aten.add_.Tensor
    return func


def _is_alone(old, new) -> bool:
    """Say whether the sum of two gradients may take the place of the first."""
    alike = isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor) and old.shape == new.shape
    # Its tensor and Python's handle on its memory; any more is another tensor over the same memory.
    return alike and old.dtype == new.dtype and torch._C._storage_Use_Count(_address(old)) == 2
