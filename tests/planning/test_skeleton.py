"""The reference is the model itself, with numbers, as transformers makes it and ``load_model`` stores it."""

import itertools

import pytest
import torch
from tiny import model_of, tiny_config
from torch import nn
from transformers import AutoConfig

import labkit as lk
from labkit.models.model import store_linear_weights
from labkit.models.precision import PRECISIONS
from labkit.planning.skeleton import CAUSAL, ENCODERS, adapt, blocks_of, kind_of, skeleton

pytestmark = pytest.mark.usefixtures("one_thread")
EVERY = [*CAUSAL, *ENCODERS]


def real(config, precision=torch.float32):
    model = model_of(config)
    store_linear_weights(model.module, precision)
    model.precision = precision
    return model


def shapes(model):
    return {name: (tensor.shape, tensor.dtype) for name, tensor in model.module.state_dict().items()}


def test_the_kind_says_what_is_learned():
    for kind in EVERY:
        assert kind_of(tiny_config(kind)) == ("encoder" if kind in ENCODERS else "causal")


def test_other_architectures_are_refused_with_the_list_of_those_that_can_be_planned():
    for kind in ["mamba", "gpt2", "t5", "mixtral"]:
        message = f"no model type called '{kind}'.*Valid names: bert, distilbert, gpt_neox, llama, .*, roberta"
        with pytest.raises(lk.LabkitError, match=f"(?s){message}"):
            kind_of(AutoConfig.for_model(kind))
        with pytest.raises(lk.LabkitError, match=f"(?s){message}"):
            skeleton(AutoConfig.for_model(kind), torch.float32)


def test_names_shapes_types_and_bytes_are_those_of_the_real_model():
    for precision, kind in itertools.product(PRECISIONS.values(), EVERY):
        drawn, model = skeleton(tiny_config(kind), precision), real(tiny_config(kind), precision)
        assert shapes(drawn) == shapes(model)
        assert {tensor.device.type for tensor in [*drawn.parameters(), *drawn.module.buffers()]} == {"meta"}
        assert sum(p.numel() for p in drawn.module.parameters()) == sum(p.numel() for p in model.module.parameters())
        head = 4 * (2 * 32 + 2) if kind in ENCODERS else 0
        assert drawn.nbytes == model.nbytes + head
        assert (drawn.kind, drawn.precision, drawn.module.training) == (model.kind, precision, False)


def test_a_tied_head_is_counted_once_and_stays_in_32_bits():
    for precision in [torch.float32, torch.bfloat16]:
        config = tiny_config(tie_word_embeddings=True)
        drawn, model = skeleton(config, precision), real(config, precision)
        assert drawn.nbytes == model.nbytes
        assert drawn.module.lm_head.weight is drawn.module.model.embed_tokens.weight
        assert drawn.module.lm_head.weight.dtype == torch.float32


def test_an_encoder_gets_a_head_of_its_own():
    for classes in [2, 7]:
        head = skeleton(tiny_config("bert"), torch.bfloat16, classes).head
        assert (head.weight.shape, head.weight.dtype, head.weight.device.type) == ((classes, 32), torch.float32, "meta")
        assert skeleton(tiny_config("llama"), torch.bfloat16, classes).head is None


def test_any_number_of_blocks_can_be_asked_for():
    for kind in EVERY:
        config = tiny_config(kind, num_hidden_layers=4)
        before = config.to_dict()
        for layers in (2, 3):
            drawn = skeleton(config, torch.float32, layers=layers)
            assert shapes(drawn) == shapes(real(tiny_config(kind, num_hidden_layers=layers)))
            assert len(blocks_of(drawn.module, layers)) == layers
        assert config.to_dict() == before


def test_an_asset_is_drawn_as_it_is_loaded(smollm, minilm):
    for model in (smollm, minilm):
        drawn = skeleton(model.module.config, model.precision)
        assert shapes(drawn) == shapes(model)


# Blocks


def test_blocks_are_found_where_they_are():
    for kind, first in [
        ("llama", "model.layers.0"),
        ("opt", "model.decoder.layers.0"),
        ("gpt_neox", "gpt_neox.layers.0"),
        ("bert", "encoder.layer.0"),
        ("distilbert", "transformer.layer.0"),
    ]:
        module = skeleton(tiny_config(kind), torch.float32).module
        paths = blocks_of(module, 2)
        assert (paths[0], len(paths)) == (first, 2)
        blocks = [module.get_submodule(path) for path in paths]
        assert len({type(block) for block in blocks}) == 1
        inside = sum(p.numel() for block in blocks for p in block.parameters())
        assert inside == 2 * sum(p.numel() for p in blocks[0].parameters())
        names = [name for name, _ in module.named_parameters() if name.startswith(paths)]
        assert not [name for name, _ in module.named_parameters() if ".0." in name and name not in names]


def test_a_list_of_another_length_holds_no_blocks():
    for count in [1, 3]:
        with pytest.raises(lk.LabkitError, match="no list of blocks"):
            blocks_of(skeleton(tiny_config(), torch.float32).module, count)
        with pytest.raises(lk.LabkitError, match="no list of blocks"):
            blocks_of(nn.Linear(2, 2), count)


# Methods


def test_an_adapted_skeleton_trains_and_stores_what_the_adapted_model_does():
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
        drawn, model = adapt(skeleton(tiny_config(kind), torch.float32), method), method.apply(real(tiny_config(kind)))
        trained = {name: p.shape for name, p in drawn.trainable().items() if not name.startswith("head.")}
        assert trained == {name: p.shape for name, p in model.trainable().items()}
        head = sum(4 * p.numel() for name, p in drawn.trainable().items() if name.startswith("head."))
        assert head == (4 * (2 * 32 + 2) if kind == "bert" else 0)
        assert drawn.nbytes == model.nbytes + head


def test_full_fine_tuning_has_its_weights_in_32_bits():
    drawn = adapt(skeleton(tiny_config(), torch.bfloat16), lk.FullFineTuning())
    assert {p.dtype for p in drawn.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in drawn.parameters())
