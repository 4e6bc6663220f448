"""Hooks that mark what a training step is doing while its memory is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_iter
from torch.utils.hooks import RemovableHandle

from labkit.memory.events import Event, Held
from labkit.quant.bnb import is_bnb, quantized_tensors
from labkit.quant.linear import Linear4bit

HEAD = "head"  # the name in reports of a head outside the network


class StepHooks:
    """Hooks on a network, its head and its optimizer.

    Args:
        module: the network.
        optimizer: the optimizer that the step calls.
        head: a head outside the network, such as an encoder's classifier.
        address: returns a number that identifies the memory of a tensor.
        beside: other networks in memory by name, such as a reference or a value head.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        head: nn.Module | None = None,
        address: Callable[[torch.Tensor], int] = lambda tensor: tensor.untyped_storage().data_ptr(),
        beside: Mapping[str, nn.Module] | None = None,
    ):
        self.address = address
        self.modules = dict(module.named_modules(prefix="")) | ({HEAD: head} if head is not None else {})
        self.networks: list[Any] = [module]  # each of whose passes has its phases
        for name, other in (beside or {}).items():
            self.modules |= dict(other.named_modules(prefix=name))
            self.networks += [other] if hasattr(other, "get_output_embeddings") else []
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        self._idle = {id(each) for other in (beside or {}).values() for each in other.parameters()} - trained
        self.optimizer = optimizer
        self._parameters: dict[torch.Tensor, str] = {}  # with their modules; a tied weight belongs to the first
        for path, inner in self.modules.items():
            for parameter in inner.parameters(recurse=False):
                self._parameters.setdefault(parameter, path)
        inside = getattr(module, "get_output_embeddings", lambda: None)()
        self.head: nn.Module | None = head if head is not None else inside

    def held(self) -> dict[int, Held]:
        """Return, by address, what stays in memory between steps; tied weights count once."""
        found: dict[int, Held] = {}
        for tensor, kind, path in self._tensors():
            found.setdefault(self.address(tensor), Held(tensor.untyped_storage().nbytes(), kind, path))
        return found

    def states(self) -> dict[int, str]:
        """Return, by address, the module of each tensor in the optimizer's state."""
        return {self.address(tensor): path for tensor, path in self._states()}

    def _tensors(self) -> Iterator[tuple[torch.Tensor, str, str]]:
        for path, module in self.modules.items():
            coded = isinstance(module, Linear4bit) or is_bnb(module)
            for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                if tensor.requires_grad and id(tensor) not in self._idle:
                    yield tensor, "trainable", path
                else:
                    yield tensor, "quantized" if coded and tensor is not module.bias else "frozen", path
                if tensor.grad is not None:
                    yield tensor.grad, "gradients", path
            if is_bnb(module):
                yield from ((tensor, "quantized", path) for tensor in quantized_tensors(module))
        yield from ((tensor, "optimizer", path) for tensor, path in self._states())

    def _states(self) -> Iterator[tuple[torch.Tensor, str]]:
        for parameter, state in self.optimizer.state.items():
            for tensor in state.values():
                if isinstance(tensor, torch.Tensor):
                    yield tensor, self._parameters.get(parameter, "")

    def register(self, mark: Callable[[Event], None], blocks: tuple[str, ...] = ()) -> Iterator[RemovableHandle]:
        """Register hooks that call ``mark`` with an event at each turn of the step; yield the handle of each.

        Args:
            mark: called with each event.
            blocks: paths of modules whose forward and backward passes are marked as well.
        """
        yield self.optimizer.register_step_pre_hook(lambda *_: mark(Event("phase", name="update")))
        for path, module in self.modules.items():
            enter, leave = Event("enter", name=path), Event("exit", name=path)
            yield module.register_forward_pre_hook(lambda *_, e=enter: mark(e))
            # Under gradient checkpointing, a recomputation stops by an exception once it has all that it needs.
            yield module.register_forward_hook(lambda *_, e=leave: mark(e), always_call=True)
        for parameter, path in self._parameters.items():
            if parameter.requires_grad:
                yield parameter.register_post_accumulate_grad_hook(
                    lambda p, path=path: mark(Event("gradient", self.address(p.grad), name=path))
                )
        for path in blocks:
            ahead, back = Event("block", name=f"forward {path}"), Event("block", name=f"backward {path}")
            yield self.modules[path].register_forward_pre_hook(lambda *_, e=ahead: mark(e))
            yield self.modules[path].register_forward_hook(_on_gradient(mark, back))
        forward, loss, backward = (Event("phase", name=name) for name in ("forward", "loss", "backward"))
        for network in self.networks:
            yield network.register_forward_pre_hook(lambda *_: mark(forward))
        for reference in self.networks[1:]:
            yield reference.get_output_embeddings().register_forward_pre_hook(lambda *_: mark(loss))
        if self.head is not None:
            yield self.head.register_forward_pre_hook(lambda *_: mark(loss))
            yield self.head.register_forward_pre_hook(_on_gradient(mark, backward))
        else:
            yield self.modules[""].register_forward_hook(lambda *_: mark(loss))
            yield self.modules[""].register_forward_hook(_on_gradient(mark, backward))


def _on_gradient(mark: Callable[[Event], None], event: Event) -> Callable[..., None]:
    """Return a forward (pre-)hook that marks ``event`` when a gradient reaches the module's output (or input)."""

    def hook(module: nn.Module, *passing: Any) -> None:
        for tensor in tree_iter(passing[-1]):
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda _: mark(event))
                return

    return hook
