import copy
import itertools
import re

import peft
import pytest
from torch import nn
from transformers import LlamaForCausalLM

import labkit as lk
from labkit.methods import FullFineTuning, LoRA, QLoRA, quantize_model
from labkit.methods.adapter import adapters_of
from labkit.methods.targets import find_targets, replace_layer

NAMES = "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"


def peft_targets(module, names):
    """The paths of the layers that PEFT adapts."""
    twin = peft.get_peft_model(copy.deepcopy(module), peft.LoraConfig(target_modules=names))
    return [name for name, layer in twin.base_model.model.named_modules() if isinstance(layer, peft.tuners.lora.Linear)]


def test_all_linear_means_what_it_means_to_peft(request):
    for fixture in ["tiny", "tiny_encoder"]:
        module = request.getfixturevalue(fixture).module
        found = find_targets(module, "all-linear")
        assert list(found) == peft_targets(module, "all-linear")
        assert all(layer is module.get_submodule(path) for path, layer in found.items())


def test_a_head_with_weights_of_its_own_is_no_target_either(tiny):
    config = copy.deepcopy(tiny.module.config)
    config.tie_word_embeddings = False
    module = LlamaForCausalLM(config)
    assert "lm_head" not in find_targets(module, "all-linear")
    assert list(find_targets(module, "all-linear")) == peft_targets(module, "all-linear")


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
def test_a_name_is_a_layers_own_or_an_end_of_its_path(tiny):
    for names, count in [
        ("q_proj", 2),
        (["q_proj"], 2),
        (("q_proj", "v_proj"), 4),
        (["self_attn.q_proj", "layers.1.mlp.up_proj"], 3),
        (["model.layers.0.self_attn.k_proj"], 1),
        (["q_proj", "model.layers.0.self_attn.q_proj"], 2),
        ("lm_head", 1),
    ]:
        found = find_targets(tiny.module, names)
        assert len(found) == count
        assert list(found) == peft_targets(tiny.module, [names] if isinstance(names, str) else list(names))


def test_layers_in_4_bits_are_targets_too(tiny):
    for backend in ["labkit", "bitsandbytes"]:
        quantized = quantize_model(tiny, lk.Quantization(block_size=32, backend=backend))
        for names in ("all-linear", "q_proj", ["model.layers.1.mlp.down_proj"]):
            assert list(find_targets(quantized.module, names)) == list(find_targets(tiny.module, names))


def test_an_unknown_name_gets_the_nearest_ones_and_all(tiny):
    for (name, near), listed in itertools.product(
        [
            ("qproj", "q_proj"),
            ("q_prj", "q_proj"),
            ("gate", "gate_proj"),
            ("lmhead", "lm_head"),
        ],
        [False, True],
    ):
        message = rf"No linear layer .*'{name}'; near to it: .*{near}.*\n.*Choose among {NAMES}, or all-linear"
        with pytest.raises(lk.LabkitError, match=message):
            find_targets(tiny.module, ["v_proj", name] if listed else name)


def test_what_is_no_linear_layers_name_is_refused(tiny):
    for name in ["norm", "embed_tokens", "self_attn", "proj", "_proj", "", "lm_head.", "layers"]:
        with pytest.raises(lk.LabkitError, match=f"No linear layer of this model is called {re.escape(repr(name))}"):
            find_targets(tiny.module, [name])


def test_no_names_at_all_are_refused(tiny):
    for empty in [[], ()]:
        with pytest.raises(lk.LabkitError, match=rf"target_modules is empty: .*\n.*{NAMES}"):
            LoRA(target_modules=empty).apply(tiny)


def test_a_bad_name_leaves_the_model_as_it_was(tiny):
    for inplace in [False, True]:
        with pytest.raises(lk.LabkitError, match="No linear layer"):
            LoRA(target_modules=["q_proj", "nope"]).apply(tiny, inplace=inplace)
        assert not adapters_of(tiny)
        assert all(p.requires_grad for p in tiny.parameters())


def test_a_layer_is_replaced_where_its_path_leads():
    for path in ["head", "body.0", "body.1.inner"]:
        module = nn.ModuleDict(
            {"head": nn.Linear(1, 1), "body": nn.Sequential(nn.Linear(1, 1), nn.ModuleDict({"inner": nn.Linear(1, 1)}))}
        )
        others = {
            name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear) and name != path
        }
        new = nn.Linear(2, 2)
        replace_layer(module, path, new)
        assert module.get_submodule(path) is new
        assert all(module.get_submodule(name) is layer for name, layer in others.items())


def test_a_model_with_an_adapter_is_to_be_merged_first(tiny):
    for second, first in itertools.product(
        [LoRA(rank=4), QLoRA(block_size=32, backend="labkit"), FullFineTuning()],
        [LoRA(rank=2), LoRA(rank=2, target_modules="lm_head"), LoRA(rank=2, variant="dora")],
    ):
        tuned = first.apply(tiny)
        with pytest.raises(lk.LabkitError, match=r"tiny has an adapter already.*\n.*lk\.merge"):
            second.apply(tuned)
        again = second.apply(lk.merge(tuned))
        assert again.trainable()
