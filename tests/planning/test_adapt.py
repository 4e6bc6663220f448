"""The reference is the model itself, with numbers, adapted by the same method."""

import itertools

import pytest
import torch
from tiny import model_of, tiny_config

import labkit as lk
from labkit.models.meta import meta_model
from labkit.planning.adapt import adapt_model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_an_adapted_meta_model_trains_and_stores_what_the_adapted_model_does():
    for kind, method in itertools.product(
        ["llama", "gpt_neox", "bert"],
        [
            lk.FullFineTuning(),
            lk.LoRA(rank=2),
            lk.LoRA(rank=3, variant="dora"),
            lk.LoRA(rank=2, variant="pissa"),
            lk.QLoRA(rank=2, block_size=32),
            lk.QLoRA(rank=2, block_size=32, double=False),
            lk.QLoRA(rank=2, block_size=32, backend="labkit", format="int4"),
        ],
    ):
        drawn, model = (
            adapt_model(meta_model(tiny_config(kind), torch.float32), method),
            method.apply(model_of(tiny_config(kind))),
        )
        trained = {name: p.shape for name, p in drawn.trainable().items() if not name.startswith("head.")}
        assert trained == {name: p.shape for name, p in model.trainable().items()}
        head = sum(4 * p.numel() for name, p in drawn.trainable().items() if name.startswith("head."))
        assert head == (4 * (2 * 32 + 2) if kind == "bert" else 0)
        assert drawn.nbytes == model.nbytes + head


def test_full_fine_tuning_has_its_weights_in_32_bits():
    drawn = adapt_model(meta_model(tiny_config(), torch.bfloat16), lk.FullFineTuning())
    assert {p.dtype for p in drawn.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in drawn.parameters())
