"""Count the floating-point operations of a notebook's products without changing what it computes.

torch's own ``FlopCounterMode`` is a dispatch mode: while one is on, torch adds gradients out of place, so that memory
which a notebook measures isn't the same, and assertions about it fail. It also counts no attention on a CPU. The mode
here looks one level higher, at calls of torch's functions. It asks ``FlopCounterMode`` about tensors without numbers,
once for each shape, and counts a product's gradients when the backward pass reaches them.

This file needs torch alone: its text is also run in kernels that don't have labkit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import autograd
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

ATTENTION = "scaled_dot_product_attention"
PRODUCTS = {"linear", "matmul", "__matmul__", "__rmatmul__", "mm", "addmm", "addmm_", "bmm", "baddbmm", "addbmm"}
PRODUCTS |= {"mv", "addmv", "dot", "vdot", "inner", "outer", "einsum", "tensordot", "bilinear", "chain_matmul", "ger"}
PRODUCTS |= {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "multi_dot", ATTENTION}
PRODUCTS |= {"lstm", "gru", "multi_head_attention_forward"}
RECOMPUTED = 2.5  # fused attention computes its scores again in the backward pass: five products instead of two


class Operations(TorchFunctionMode):
    """Counts the operations of products that Python code asks torch for, in the forward and in the backward pass.

    A product of m × k by k × n numbers is 2mkn operations. Element-wise operations, which are few, don't count, nor do
    products that compiled code calls by itself, such as those of bitsandbytes on a CPU, other threads and processes.
    Tensors without numbers (fake, or on the device ``meta``) cost nothing and don't count.

    Attributes:
        counts: operations by the name of the function; those of its gradients as ``NAME, backward``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._known: dict[Any, tuple[int, int]] = {}

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in PRODUCTS:
            self._count(name, func, args, kwargs, result)
        return result

    def _count(self, name: str, func: Callable, args: tuple, kwargs: dict, result: Any) -> None:
        leaves, tree = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        made = next((leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, torch.Tensor)), None)
        if made is None or any(type(t) not in (torch.Tensor, torch.nn.Parameter) or t.is_meta for t in tensors):
            return
        learns = made.grad_fn is not None
        shapes = tuple((leaf.shape, learns and leaf.requires_grad) for leaf in tensors)
        others = tuple(repr(leaf) for leaf in leaves if not isinstance(leaf, torch.Tensor))
        key = name, shapes, others
        if key not in self._known:
            self._known[key] = _attention(*args[:3]) if name == ATTENTION else _on_paper(func, leaves, tree, learns)
        forward, backward = self._known[key]
        self.counts[name] += forward
        if made.grad_fn is not None:
            if name == ATTENTION and "Flash" in made.grad_fn.name():
                backward = int(forward * RECOMPUTED)
            label = f"{name}, backward"
            # Called when this product's gradients are computed, and not where they never are.
            made.grad_fn.register_prehook(lambda _: self.counts.update({label: backward}))


@contextmanager
def counting() -> Iterator[Operations]:
    """Count the operations of the block, and of what backward passes call, such as blocks that are computed again."""
    operations, run = Operations(), autograd._engine_run_backward

    def watched(*args: Any, **kwargs: Any) -> Any:
        with operations:  # torch takes all such modes off before it runs a backward pass
            return run(*args, **kwargs)

    autograd._engine_run_backward = watched
    try:
        with operations:
            yield operations
    finally:
        autograd._engine_run_backward = run


def begin() -> None:
    """Count from now on, as long as this process lives."""
    _running.append(counting())
    _running.append(_running[0].__enter__())


def found() -> dict[str, int]:
    """Return what was counted since ``begin``."""
    return dict(_running[1].counts)


_running: list[Any] = []  # it also keeps what counts from being collected


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[int, int]:
    forward = sdpa_flop_count(query.shape, key.shape, value.shape)
    return forward, 2 * forward


def _on_paper(func: Callable, leaves: list, tree: Any, learns: bool) -> tuple[int, int]:
    """Return the operations of a function and of its gradients, found with tensors that have only a shape."""
    with ExitStack() as stack:
        stack.enter_context(_disable_current_modes())  # a notebook's own, which may count bytes, say
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(learns))
        stack.enter_context(torch.autocast("cpu", enabled=False))
        # Whoever watches what is kept for a backward pass, such as checkpoints, must not see this one.
        stack.enter_context(saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor))
        empty = [_shape_of(leaf, learns) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(empty, tree)
        counter = stack.enter_context(FlopCounterMode(display=False))
        result = func(*args, **kwargs)
        forward = counter.get_total_flops()
        if learns:
            made = next(leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, torch.Tensor))
            made.sum().backward()
    return forward, counter.get_total_flops() - forward


def _shape_of(tensor: torch.Tensor, learns: bool) -> torch.Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype  # the operands of a cast product may differ
    return torch.empty(tensor.shape, dtype=dtype, device="meta", requires_grad=learns and tensor.requires_grad)
