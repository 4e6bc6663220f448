"""What the table says of each architecture is held against a tiny model of it."""

from dataclasses import fields

import pytest
import torch
from tiny import tiny_config, tiny_model
from torch import nn
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

import labkit as lk
from labkit.models.architectures import ARCHITECTURES, Block, block_of, key_value_heads, of_kind
from labkit.quant.matrix import is_linear, sides

FALCONS = (
    {"new_decoder_architecture": False},
    {"new_decoder_architecture": False, "multi_query": False, "num_kv_heads": 4},
)


def first_block(module):
    return next(part for part in module.modules() if isinstance(part, nn.ModuleList))[0]


def test_every_part_of_a_block_is_where_the_table_says():
    for name in ARCHITECTURES:
        block, inside = block_of(name), first_block(tiny_model(name).module)
        for field in fields(Block):
            path = getattr(block, field.name)
            if path and field.name != "mlp":
                assert is_linear(inside.get_submodule(path)), (name, path)
        if block.mlp:
            assert block.down.startswith(f"{block.mlp}."), name
        width = tiny_config(name).hidden_size
        assert sides(inside.get_submodule(block.o))[1] == sides(inside.get_submodule(block.down))[1] == width, name
        assert sides(inside.get_submodule(block.up))[0] == sides(inside.get_submodule(block.q))[0] == width, name


def test_no_linear_layer_of_a_block_is_left_out():
    for name in ARCHITECTURES:
        found = {path for path, layer in first_block(tiny_model(name).module).named_modules() if is_linear(layer)}
        parts = {getattr(block_of(name), field.name) for field in fields(Block) if field.name != "mlp"}
        assert found == parts - {""}, name


def test_causal_models_are_those_that_transformers_has_a_language_model_for():
    assert of_kind("causal") | of_kind("encoder") == ARCHITECTURES
    assert of_kind("causal").keys() <= MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys()
    assert of_kind("encoder").keys() <= MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys()


@torch.no_grad()
def test_heads_of_keys_and_values_are_those_of_the_cache():
    for name, sizes in [*((name, {}) for name in of_kind("causal")), *(("falcon", sizes) for sizes in FALCONS)]:
        config = tiny_config(name, **sizes)
        cache = DynamicCache()
        AutoModelForCausalLM.from_config(config).eval()(torch.tensor([[3, 4]]), past_key_values=cache, use_cache=True)
        keys = cache.layers[0].keys
        assert key_value_heads(config) == (keys.shape[1], keys.shape[3]), (name, sizes)


def test_an_unknown_architecture_is_refused_with_the_known_ones():
    with pytest.raises(lk.LabkitError, match=r"'gpt_bigcode' .*Known architectures: bert, .*, roberta\."):
        block_of("gpt_bigcode")
