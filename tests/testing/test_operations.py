"""Operations of training steps are those that torch's own counter finds, and counting changes nothing."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

import labkit as lk
from labkit.testing.operations import counting

aten = torch.ops.aten
# torch's counter knows fused attention on cards alone.
FUSED = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(
        g, q, k, v
    ),
}
CASES = {
    "full": ("full", {}),
    "lora": ("lora", {}),
    "checkpointing": ("lora", {"gradient_checkpointing": True}),
    "qlora": (lk.QLoRA(block_size=32, backend="labkit"), {}),
    "prefix": ("prefix", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_training_run_takes_as_many_as_torch_counts_and_the_same_memory(tiny, colours, case):
    method, settings = CASES[case]

    def train():
        return lk.finetune(tiny, colours, method, steps=2, batch_size=4, progress=False, **settings)

    plain = train()
    with counting() as ours:
        counted = train()
    with FlopCounterMode(display=False, custom_mapping=FUSED) as theirs:
        train()
    assert sum(ours.counts.values()) == theirs.get_total_flops() > 10**7
    assert counted.history[-1]["loss"] == plain.history[-1]["loss"]
    assert counted.memory.peak == plain.memory.peak


class Seen(TorchDispatchMode):
    """Notes what torch computes, as a notebook's own mode may."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_mode_of_the_notebook_sees_nothing_of_the_counting():
    x, w = torch.ones(3, 4, requires_grad=True), torch.ones(4, 5)
    with Seen() as alone:
        (x @ w).sum().backward()
    x.grad = None
    with counting() as operations, Seen() as counted:
        (x @ w).sum().backward()
    assert counted.names == alone.names
    assert sum(operations.counts.values()) == 240


def test_products_count_by_their_shapes_and_gradients_where_they_are_computed():
    x, w = torch.ones(3, 4, requires_grad=True), torch.ones(4, 5)
    with counting() as operations:
        x @ w
        assert operations.counts == {"matmul": 2 * 3 * 4 * 5} or operations.counts == {"__matmul__": 2 * 3 * 4 * 5}
        operations.counts.clear()
        loss = torch.nn.functional.linear(x, w.T).sum()
        assert sum(operations.counts.values()) == 120  # the backward pass is not reached yet
        loss.backward()
        assert operations.counts == {"linear": 120, "linear, backward": 120}  # of x alone: w learns nothing
        operations.counts.clear()
        torch.einsum("ij,jk->ik", x.detach(), w)
        torch.empty(3, 4, device="meta") @ torch.empty(4, 5, device="meta")  # costs nothing
        torch.exp(x)
        assert operations.counts == {"einsum": 120}
        operations.counts.clear()
        layer = torch.nn.Linear(4, 5, bias=False)
        checkpoint(lambda it: layer(it).exp(), x, use_reentrant=False).sum().backward()
        assert operations.counts == {"linear": 2 * 120, "linear, backward": 2 * 120}  # computed again, then x and w
    x @ w
    assert sum(operations.counts.values()) == 480
