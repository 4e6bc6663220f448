"""What operators do with memory that a dispatch mode does not see, or changes by being there."""

from __future__ import annotations

import functools

import torch

aten = torch.ops.aten
# Parts of torch that may change: named here, so that a torch without them cannot import this module, and plans
# become estimates.
graph_task, storage_users = torch._C._current_graph_task_id, torch._C._storage_Use_Count
# Formulas of backward passes that scatter into fresh zeros in place, except while a mode watches.
IN_PLACE = {
    aten.index_put.default: aten.index_put_.default,
    aten.index_add.default: aten.index_add_.default,
    aten.scatter_add.default: aten.scatter_add_.default,
    aten.scatter.src: aten.scatter_.src,
    aten.scatter.value: aten.scatter_.value,
}


def address_of(tensor: torch.Tensor) -> int:
    """Return what tells the storage of a tensor, fake or real, from any other's."""
    return tensor.untyped_storage()._cdata


def promoted(func, args: tuple) -> int:
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


def as_without_mode(func, args: tuple):
    """Return the operator that runs where no dispatch mode is on.

    In the backward pass, torch adds gradients up in place and scatters into fresh zeros in place, except
    while a mode watches: it then makes a new tensor each time (``isTensorSubclassLike`` in torch's sources).
    """
    if graph_task() == -1 or torch.is_grad_enabled():  # forward, or recomputation
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
    return alike and old.dtype == new.dtype and storage_users(address_of(old)) == 2
