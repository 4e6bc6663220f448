"""The reference is the model itself, with numbers, as transformers makes it and ``load_model`` stores it."""

import copy
import itertools
import re

import pytest
import torch
from tiny import model_of, tiny_config
from torch import nn
from transformers import AutoConfig

import labkit as lk
from labkit.models.architectures import ARCHITECTURES
from labkit.models.config import blueprint_config
from labkit.models.meta import blocks_of, kind_to_plan, meta_model
from labkit.models.precision import PRECISIONS, store_linear_weights

pytestmark = pytest.mark.usefixtures("one_thread")
EVERY = [name for name, known in ARCHITECTURES.items() if known.planned]
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


# Meta models of any configuration


def real(config, precision=torch.float32):
    model = model_of(config)
    store_linear_weights(model.module, precision)
    model.precision = precision
    return model


def shapes(model):
    return {name: (tensor.shape, tensor.dtype) for name, tensor in model.module.state_dict().items()}


def test_the_kind_says_what_is_learned():
    for kind in EVERY:
        assert kind_to_plan(tiny_config(kind)) == ARCHITECTURES[kind].kind


def test_other_architectures_are_refused_with_the_list_of_those_that_can_be_planned():
    for kind in ["mamba", "modernbert", "t5", "mixtral"]:
        message = f"no model type called '{kind}'.*Valid names: bert, distilbert, falcon, gemma2, gpt2, .*, roberta"
        with pytest.raises(lk.LabkitError, match=f"(?s){message}"):
            kind_to_plan(AutoConfig.for_model(kind))
        with pytest.raises(lk.LabkitError, match=f"(?s){message}"):
            meta_model(AutoConfig.for_model(kind), torch.float32)


def test_names_shapes_types_and_bytes_are_those_of_the_real_model():
    for precision, kind in itertools.product(PRECISIONS.values(), EVERY):
        drawn, model = meta_model(tiny_config(kind), precision), real(tiny_config(kind), precision)
        assert shapes(drawn) == shapes(model)
        assert {tensor.device.type for tensor in [*drawn.parameters(), *drawn.module.buffers()]} == {"meta"}
        assert sum(p.numel() for p in drawn.module.parameters()) == sum(p.numel() for p in model.module.parameters())
        head = 4 * (2 * 32 + 2) if ARCHITECTURES[kind].kind == "encoder" else 0
        assert drawn.nbytes == model.nbytes + head
        assert (drawn.kind, drawn.precision, drawn.module.training) == (model.kind, precision, False)


def test_a_tied_head_is_counted_once_and_stays_in_32_bits():
    for precision in [torch.float32, torch.bfloat16]:
        config = tiny_config(tie_word_embeddings=True)
        drawn, model = meta_model(config, precision), real(config, precision)
        assert drawn.nbytes == model.nbytes
        assert drawn.module.lm_head.weight is drawn.module.model.embed_tokens.weight
        assert drawn.module.lm_head.weight.dtype == torch.float32


def test_an_encoder_gets_a_head_of_its_own():
    for classes in [2, 7]:
        head = meta_model(tiny_config("bert"), torch.bfloat16, classes).head
        assert (head.weight.shape, head.weight.dtype, head.weight.device.type) == ((classes, 32), torch.float32, "meta")
        assert meta_model(tiny_config("llama"), torch.bfloat16, classes).head is None


def test_any_number_of_blocks_can_be_asked_for():
    for kind in EVERY:
        config = tiny_config(kind, num_hidden_layers=4)
        before = config.to_dict()
        for layers in (2, 3):
            drawn = meta_model(config, torch.float32, layers=layers)
            assert shapes(drawn) == shapes(real(tiny_config(kind, num_hidden_layers=layers)))
            assert len(blocks_of(drawn.module, layers)) == layers
        assert config.to_dict() == before


def test_an_asset_is_drawn_as_it_is_loaded(smollm, minilm):
    for model in (smollm, minilm):
        drawn = meta_model(model.module.config, model.precision)
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
        module = meta_model(tiny_config(kind), torch.float32).module
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
            blocks_of(meta_model(tiny_config(), torch.float32).module, count)
        with pytest.raises(lk.LabkitError, match="no list of blocks"):
            blocks_of(nn.Linear(2, 2), count)
