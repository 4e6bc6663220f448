"""What operators do with memory that a dispatch mode cannot see, or that differs while a mode is active."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch._ops import OpOverload

aten = torch.ops.aten
# Private parts of torch, which may change. They are named here so that importing this module fails in a torch
# without them, and predictions become estimates.
graph_task, storage_users = torch._C._current_graph_task_id, torch._C._storage_Use_Count
# Operators that backward passes run in place on new zeros, except while a mode is active.
IN_PLACE = {
    aten.index_put.default: aten.index_put_.default,
    aten.index_add.default: aten.index_add_.default,
    aten.scatter_add.default: aten.scatter_add_.default,
    aten.scatter.src: aten.scatter_.src,
    aten.scatter.value: aten.scatter_.value,
}


def address_of(tensor: torch.Tensor) -> int:
    """Return a number that identifies the storage of a tensor, fake or real."""
    return tensor.untyped_storage()._cdata


def promoted(func: OpOverload, args: tuple[Any, ...]) -> int:
    """Return the bytes of the copies that an operator makes on a CPU to convert its inputs to one type.

    Elementwise operators do so, and sums of integers and of truth values, which are added up in 64 bits.
    """
    if func.overloadpacket is aten.sum and not args[0].is_floating_point() and args[0].dtype != torch.int64:
        return args[0].numel() * torch.int64.itemsize
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
        copied.append(args[0])  # the result, before it is rounded to the type of the output tensor
    return sum(operand.numel() * common.itemsize for operand in copied)


def as_without_mode(func: OpOverload, args: tuple[Any, ...]) -> OpOverload:
    """Return the operator that would run if no dispatch mode were active.

    In the backward pass, torch adds gradients in place and scatters into new zeros in place. While a mode is
    active, it makes a new tensor each time (``isTensorSubclassLike`` in torch's sources).
    """
    if graph_task() == -1 or torch.is_grad_enabled():  # forward, or recomputation
        return func
    if func in IN_PLACE:
        return IN_PLACE[func]
    if func is aten.add.Tensor and _is_alone(*args):
        return aten.add_.Tensor
    return func


def _is_alone(old: object, new: object) -> bool:
    """Return whether the sum of two gradients may overwrite the first."""
    if not (isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor)):
        return False
    alike = old.shape == new.shape and old.dtype == new.dtype
    # Two users: the tensor, and Python's handle on its storage. A third would be another tensor over that storage.
    return alike and storage_users(address_of(old)) == 2
