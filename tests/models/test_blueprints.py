import copy
import itertools
import re

import pytest
import torch

import labkit as lk
from labkit.models.blueprints import blueprint_config

# As the models' pages on the hub count them; for the last of Llama 3 and for GPT-3 (Brown et al., 2020, table D.1)
# four digits are known.
PARAMETERS = {
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-33b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-405b": 405.9e9,
    "qwen2.5-7b": 7_615_616_512,
    "gpt3-175b": 174.6e9,
}
TOLERANCE = {"llama-3.1-405b": 1e-3, "gpt3-175b": 2e-3}
# Outputs of q and o, outputs of k and v, width of the MLP, layers.
LLAMAS = {
    "smollm2-135m": (576, 192, 1536, 30),
    "smollm2-1.7b": (2048, 2048, 8192, 24),
    "llama-65b": (8192, 8192, 22016, 80),
    "llama-3-70b": (8192, 1024, 28672, 80),
    "llama-3.1-405b": (16384, 1024, 53248, 126),
    "qwen2.5-7b": (3584, 512, 18944, 28),
}


def trained(name, **settings):
    return sum(p.numel() for p in lk.LoRA(**settings).apply(lk.blueprint(name)).trainable().values())


def test_every_blueprint_is_counted_here():
    assert lk.BLUEPRINTS.keys() == PARAMETERS.keys()


def test_a_blueprint_has_as_many_parameters_as_the_published_model():
    for name, expected in PARAMETERS.items():
        count = sum(p.numel() for p in lk.blueprint(name).parameters())
        assert count == pytest.approx(expected, rel=TOLERANCE.get(name, 0), abs=0)


def test_nothing_is_allocated():
    for name in PARAMETERS:
        model = lk.blueprint(name)
        tensors = [*model.parameters(), *model.module.buffers()]
        assert {tensor.device.type for tensor in tensors} == {"meta"}
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert (model.kind, model.tokenizer, model.device.type) == ("causal", None, "meta")


def test_heads_have_the_published_size():
    for name in PARAMETERS:
        config = blueprint_config(name)
        assert config.hidden_size / config.num_attention_heads == (64 if name.startswith("smollm2") else 128)


def test_the_blueprint_of_smollm2_has_the_names_and_shapes_of_the_real_model(smollm):
    drawn, real = lk.blueprint("smollm2-135m").module, smollm.module
    ours, theirs = ({name: p.shape for name, p in module.named_parameters()} for module in (drawn, real))
    assert ours == theirs
    assert drawn.state_dict().keys() == real.state_dict().keys()
    assert drawn.lm_head.weight is drawn.model.embed_tokens.weight
    assert real.lm_head.weight is real.model.embed_tokens.weight


def test_a_blueprint_is_printed_with_its_size():
    assert repr(lk.blueprint("llama-7b")) == "Model('llama-7b', causal, 6.7 billion parameters, meta)"


def test_making_a_blueprint_leaves_the_table_as_it_was():
    for name in ["smollm2-135m", "gpt3-175b"]:
        before = copy.deepcopy(lk.BLUEPRINTS)
        first, second = lk.blueprint(name), lk.blueprint(name)
        assert before == lk.BLUEPRINTS
        assert first.module is not second.module
        assert [p.shape for p in first.parameters()] == [p.shape for p in second.parameters()]


def test_an_unknown_name_lists_the_names():
    for make in [lk.blueprint, blueprint_config]:
        message = "There is no blueprint called 'llama-7'.\n→ Did you mean 'llama-7b'? Valid names: "
        with pytest.raises(lk.LabkitError, match=re.escape(message)) as caught:
            make("llama-7")
        assert caught.value.remedy.removesuffix(".").split(": ")[1].split(", ") == sorted(PARAMETERS)


# Adapters


def test_lora_of_rank_4_on_gpt3_takes_38_megabytes():
    count = trained("gpt3-175b", rank=4, target_modules=["q_proj", "v_proj"])
    assert count == 18_874_368  # Hu et al., 2021, section 7.1: "18M (roughly 35MB if stored in FP16)"
    assert round(2 * count / 1e6, 1) == 37.7


def test_lora_on_gpt3_has_the_size_in_its_paper():
    for rank, millions in [(1, 4.7), (8, 37.7)]:
        count = trained("gpt3-175b", rank=rank, target_modules=["q_proj", "v_proj"])
        assert round(count / 1e6, 1) == millions  # table 4


def test_adapters_have_the_size_that_peft_prints():
    for name, settings, count in [
        ("llama-7b", {"rank": 8, "target_modules": ["q_proj", "v_proj"]}, 4_194_304),
        ("llama-7b", {"rank": 8}, 19_988_480),
        ("llama-3-8b", {"rank": 16}, 41_943_040),
        ("qwen2.5-7b", {"rank": 16}, 40_370_176),
    ]:
        assert trained(name, **settings) == count


def test_lora_on_all_linear_layers_of_a_llama_follows_the_formula():
    for rank, name in itertools.product([1, 16], LLAMAS):
        hidden, kv, mlp, layers = LLAMAS[name]
        attention = 2 * (hidden + hidden) + 2 * (hidden + kv)
        assert trained(name, rank=rank) == layers * rank * (attention + 3 * (hidden + mlp))


def test_lora_on_all_linear_layers_of_gpt3_follows_the_formula():
    assert trained("gpt3-175b", rank=8) == 96 * 8 * (4 * (1 + 1) + 2 * (1 + 4)) * 12288


def test_an_adapted_blueprint_is_still_a_blueprint():
    tuned = lk.LoRA().apply(lk.blueprint("gpt3-175b"))
    assert {p.device.type for p in tuned.parameters()} == {"meta"}
    assert all(p.requires_grad == ("lora_" in name) for name, p in tuned.module.named_parameters())
