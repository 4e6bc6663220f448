"""Tensors with a shape, a type and a device but no numbers, and a mode that computes with them.

A training step over fake weights is the real step: the same loop, the same modules (layers of bitsandbytes are
imitated), the same operators in the same order. Only the arithmetic is left out, and with it the memory. Token
ids and masks stay real, so that code that depends on their values (transformers drops the mask if nothing is
padded) takes the same branches as in training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from labkit.memory.attribution import attribute
from labkit.memory.events import Event
from labkit.memory.hooks import StepHooks
from labkit.memory.trace import Trace
from labkit.planning.fake_recorder import CPU, FakeRecorder
from labkit.planning.operators import address_of, as_without_mode

aten, prim = torch.ops.aten, torch.ops.prim


class FakeMode(TorchDispatchMode):
    """While it is active, what is computed from a fake tensor is fake, and everything else is real.

    Torch's own ``FakeTensorMode``, which does the computing here, would make everything else fake too. Fake
    tensors pretend to be on the CPU. If a program reads a number that was never computed (is the loss finite?),
    it gets 1, or True.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._recorder: FakeRecorder | None = None  # while a step is traced

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # so frequent that the code below would take a third of the time for it
        kwargs = kwargs or {}
        tensors = _tensors((*args, *kwargs.values()))
        fake = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        if fake or any(tensor.is_meta for tensor in tensors):
            if func is aten._local_scalar_dense.default:
                dtype = tensors[0].dtype
                return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1
            if func is aten.equal.default:
                return True
            func = as_without_mode(func, args)
        if self._recorder:
            self._recorder.before_operator()
        with self._fake if fake else contextlib.nullcontext():
            result = func(*args, **kwargs)
        if self._recorder:
            self._recorder.after_operator(func, args, tensors, _tensors((result,)))
        return result

    def fill(self, *modules: nn.Module) -> None:
        """Replace the meta tensors of modules with fake ones; tied weights stay tied."""
        made: dict[int, Any] = {}  # a fake parameter or buffer, by id of the tensor that it replaces
        for module in (inner for outer in modules for inner in outer.modules()):
            for store in (module._parameters, module._buffers):
                for name, tensor in store.items():
                    if tensor is None:
                        continue
                    if id(tensor) not in made:
                        made[id(tensor)] = FakeTensor(self._fake, tensor.detach(), CPU)
                        if isinstance(tensor, nn.Parameter):
                            made[id(tensor)] = nn.Parameter(made[id(tensor)], requires_grad=tensor.requires_grad)
                    store[name] = made[id(tensor)]

    def mark(self, part: str) -> None:
        """Mark in the trace, if there is one, that a part of the step begins."""
        if self._recorder:
            self._recorder.events.append(Event("part", name=part))

    @contextlib.contextmanager
    def trace(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        head: nn.Module | None,
        blocks: tuple[str, ...] = (),
        beside: Mapping[str, nn.Module] | None = None,
    ) -> Iterator[list[Trace]]:
        """Trace a step, as ``Ledger`` measures a real one; the list that is yielded holds the trace afterwards.

        Args:
            module, optimizer, head, beside: as for ``Ledger``.
            blocks: paths of modules whose passes are marked.
        """
        hooks = StepHooks(module, optimizer, head, address_of, beside)
        held = hooks.held()
        self._recorder = recorder = FakeRecorder(held)
        handles = list(hooks.register(recorder.events.append, blocks))
        done: list[Trace] = []
        try:
            yield done
        finally:
            self._recorder = None
            recorder.stop()
            for handle in handles:
                handle.remove()
        # The optimizer makes no states for weights that never get a gradient, such as an unused pooler's.
        graded = {event.name for event in recorder.events if event.what == "gradient"}
        held = {key: item for key, item in held.items() if item.kind != "optimizer" or item.module in graded}
        done.append(attribute(held, recorder.events, hooks.states()))


def _tensors(arguments: Iterable[object]) -> list[torch.Tensor]:
    """Return the tensors among arguments, including those in lists."""
    found: list[torch.Tensor] = []
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            found.append(argument)
        elif isinstance(argument, list | tuple):
            found += _tensors(argument)
    return found
