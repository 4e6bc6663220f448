"""Every supported architecture: the table of methods, and its parts that are unlike Llama's."""

import copy
import math

import peft
import pytest
import torch
from letters import TEXT, Letters, after_words
from moved import trained
from table import PAGE, page
from tiny import CAUSAL, ENCODERS, STRONG, tiny_model
from torch import nn
from transformers import MambaConfig, MambaForCausalLM, MixtralConfig, MixtralForCausalLM
from transformers.pytorch_utils import Conv1D

import labkit as lk
from labkit.methods import METHODS
from labkit.models.architectures import ARCHITECTURES
from labkit.models.model import Model
from labkit.quant.layers import is_4bit

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore:fan_in_fan_out")]
BACKENDS = ("bitsandbytes", "labkit")
FALCONS = (
    {"new_decoder_architecture": True},
    {"new_decoder_architecture": False},
    {"new_decoder_architecture": False, "multi_query": False, "num_kv_heads": 4, "alibi": True},
)


def small(kind, **sizes):
    return tiny_model(kind, Letters(), **(STRONG | {"max_position_embeddings": 64} | sizes))


@torch.no_grad()
def outputs(module, ids, mask=None):
    output = module.eval()(input_ids=ids, attention_mask=None if mask is None else mask.long())[0]
    return output if mask is None else output * mask[..., None]


def test_the_page_says_what_works_today():
    assert PAGE.read_text(encoding="utf-8") == page(), "Run python tests/table.py, and look at what has changed."


# GPT-2, whose weights are stored the other way round


@pytest.fixture
def gpt2():
    return small("gpt2")


CONFIGS = {
    "lora": lambda: peft.LoraConfig(target_modules="all-linear", r=4, lora_alpha=8),
    "dora": lambda: peft.LoraConfig(target_modules="all-linear", r=4, lora_alpha=8, use_dora=True),
    "ia3": peft.IA3Config,
}
OURS = {
    "lora": lk.LoRA(rank=4, alpha=8),
    "dora": lk.LoRA(rank=4, alpha=8, variant="dora"),
    "ia3": lk.IA3(),
}


@pytest.mark.parametrize("name", OURS)
def test_gpt2_is_adapted_as_peft_does_and_the_files_go_both_ways(gpt2, ids, tmp_path, name):
    method, twin = OURS[name], peft.get_peft_model(copy.deepcopy(gpt2.module), CONFIGS[name]())
    theirs = [path for path, layer in twin.base_model.model.named_modules() if hasattr(layer, "base_layer")]
    assert list(method.find(gpt2)) == theirs
    assert len(theirs) == {"ia3": 4}.get(name, 8)

    tuned = trained(gpt2, method)
    method.save(tuned, tmp_path)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(gpt2.module), tmp_path, is_trainable=True)
    torch.testing.assert_close(outputs(loaded, ids), outputs(tuned.module, ids), atol=1e-5, rtol=1e-5)
    for module in (loaded, tuned.module):
        module(input_ids=ids, labels=ids).loss.backward()
    found, expected = (
        sorted(p.grad.norm().item() for p in module.parameters() if p.requires_grad)
        for module in (tuned.module, loaded)
    )
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert found[0] > 0

    loaded.save_pretrained(tmp_path)
    assert torch.equal(outputs(method.load(gpt2, tmp_path).module, ids), outputs(tuned.module, ids))


@pytest.mark.parametrize("name", [*OURS, "pissa"])
def test_merged_into_gpt2_it_answers_alike_and_is_plain_gpt2_again(gpt2, ids, tmp_path, name):
    tuned = trained(gpt2, OURS.get(name) or lk.LoRA(rank=4, variant="pissa"))
    merged = lk.merge(tuned)
    torch.testing.assert_close(outputs(merged.module, ids), outputs(tuned.module, ids), atol=1e-4, rtol=1e-4)
    merged.module.save_pretrained(tmp_path)
    again = type(gpt2.module).from_pretrained(tmp_path)
    assert torch.equal(outputs(again, ids), outputs(merged.module, ids))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gpt2_in_4_bits_is_stored_so_as_a_whole(gpt2, ids, backend):
    stored = lk.quantize_model(gpt2, lk.Quantization(block_size=32, backend=backend))
    assert sum(is_4bit(layer) for layer in stored.module.modules()) == 8
    assert repr(stored).replace(", nf4", "") == repr(gpt2)
    close = nn.functional.cosine_similarity(outputs(stored.module, ids), outputs(gpt2.module, ids), dim=-1)
    assert close.mean() > 0.95

    tuned = trained(stored, lk.QLoRA(block_size=32, backend=backend))
    merged = lk.merge(tuned, dequantize=True)
    assert sum(isinstance(layer, Conv1D) for layer in merged.module.modules()) == 8
    torch.testing.assert_close(outputs(merged.module, ids), outputs(tuned.module, ids), atol=1e-4, rtol=1e-4)
    assert (merged.module.transformer.h[0].attn.c_attn.weight.shape) == (32, 96)


# What is not made of linear layers


def by_hand(kind):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64, "pad_token_id": 0, "eos_token_id": 2}
    if kind == "mamba":
        return Model("mamba", MambaForCausalLM(MambaConfig(**sizes)).eval(), Letters(), "causal", torch.float32)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32, "num_local_experts": 2}
    module = MixtralForCausalLM(MixtralConfig(**sizes, **heads))
    return Model("mixtral", module.eval(), Letters(), "causal", torch.float32)


def test_experts_and_convolutions_are_never_left_out_in_silence():
    for kind in ("mixtral", "mamba"):
        model = by_hand(kind)
        before = repr(model.module)
        for call in (lk.quantize_model, lk.LoRA(rank=2).apply, lk.QLoRA(rank=2, block_size=32).apply):
            with pytest.raises(lk.LabkitError, match=r"would leave out \d+ weights of M\w+ that no linear layer holds"):
                call(model, inplace=True)
        for method in (lk.IA3(), lk.BottleneckAdapters()):
            with pytest.raises(lk.LabkitError, match=rf"'{kind}'"):
                method.apply(model, inplace=True)
        assert repr(model.module) == before
        assert model.quantization is None
        assert all(p.requires_grad for p in model.parameters())
    names = lk.LoRA(rank=2, target_modules=["q_proj", "v_proj"]).apply(by_hand("mixtral")).trainable()
    assert len(names) == 4  # whoever names layers gets these


def test_a_prefix_needs_keys_and_values():
    with pytest.raises(lk.LabkitError, match="layers of 'mamba' take no keys and values"):
        lk.PrefixTuning(virtual_tokens=4).apply(by_hand("mamba"))


# Virtual tokens


def every():
    for kind in [*CAUSAL, *ENCODERS]:
        for sizes in FALCONS if kind == "falcon" else ({},):
            yield small(kind, **sizes)


def test_virtual_tokens_start_as_words_that_every_architecture_has_read(ids, mask):
    seen = set()
    for method in (lk.PrefixTuning(virtual_tokens=5, text=TEXT), lk.PromptTuning(virtual_tokens=5, text=TEXT)):
        for model in every():
            if method.name == "prefix" and model.name in ("distilbert", "modernbert"):
                continue
            tuned = method.apply(model)
            expected = outputs(model.module, *after_words(ids, mask))[:, 5:]
            if method.name == "prefix" and model.kind == "encoder":  # the words have not seen the text
                assert outputs(tuned.module, ids, mask).shape == expected.shape
            else:
                torch.testing.assert_close(
                    outputs(tuned.module, ids, mask), expected, atol=1e-4, rtol=1e-4, msg=lambda m, n=model.name: n + m
                )
            seen.add(model.name)
    assert seen == {*ARCHITECTURES}


def test_every_decoder_continues_texts_alike_with_the_cache_and_without(ids):
    for tuning in (lk.PrefixTuning, lk.PromptTuning):
        for model in every():
            if model.kind == "encoder":
                continue
            module, text = trained(model, tuning(virtual_tokens=5, text=TEXT)).module, ids
            settings = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None, "max_new_tokens": 4}
            found = module.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
            for _ in range(4):
                text = torch.cat([text, outputs(module, text)[:, -1:].argmax(dim=-1)], dim=1)
            assert torch.equal(found, text), model.name


def test_inputs_without_names_are_not_lost(ids, mask):
    mask = mask.flip(1)  # of texts that end at the right: what lies to the left would be read
    for tuning in (lk.PrefixTuning, lk.PromptTuning):
        for kind in ("llama", "bert", "gpt_neox"):
            module = trained(small(kind), tuning(virtual_tokens=5, text=TEXT)).module
            with torch.no_grad():
                found = module(ids, mask.long())[0] * mask[..., None]
                assert torch.equal(found, outputs(module, ids, mask))
                assert not torch.equal(found, module(ids)[0] * mask[..., None])
            with pytest.raises(TypeError, match="multiple values for input_ids"):
                module(ids, input_ids=ids)


def test_a_tuple_is_returned_to_whoever_asks_for_one(ids):
    for tuning in (lk.PrefixTuning, lk.PromptTuning):
        for kind in ("llama", "bert", "falcon"):
            module = trained(small(kind), tuning(virtual_tokens=5, text=TEXT)).module
            with torch.no_grad():
                named = module(input_ids=ids, use_cache=False, output_hidden_states=True)
                plain = module(input_ids=ids, use_cache=False, output_hidden_states=True, return_dict=False)
                assert type(plain) is tuple
                assert torch.equal(plain[0], named[0])
                assert {state.shape for state in named.hidden_states} == {(3, 13, 32)}
                assert len(plain) == len(named)


# Refusals leave the model as it was


def planted(model):
    """Methods that refuse ``model``, with what is done to it first and undone afterwards."""
    last = list(lk.LoRA().find(model).values())[-1].weight
    spoiled, kept = lambda: last.data[0, 0].fill_(math.nan), last.detach().clone()
    mend = lambda: last.data.copy_(kept)  # noqa: E731
    nothing = lambda: None  # noqa: E731
    rank = {"rank": 1000}
    yield lk.LoRA(**rank), nothing, nothing
    yield lk.LoRA(target_modules=["nope"]), nothing, nothing
    yield lk.LoRA(variant="pissa"), spoiled, mend
    yield lk.QLoRA(block_size=32, **rank), nothing, nothing
    yield lk.QLoRA(block_size=32, target_modules=["nope"]), nothing, nothing
    yield lk.QLoRA(block_size=32), spoiled, mend
    yield lk.BottleneckAdapters(target_modules=["nope"]), nothing, nothing
    yield lk.PrefixTuning(virtual_tokens=1000), nothing, nothing
    yield lk.PromptTuning(virtual_tokens=1000), nothing, nothing
    kind, model_type = model.kind, model.module.config.model_type
    unknown = lambda: setattr(model.module.config, "model_type", "unknown")  # noqa: E731
    known = lambda: setattr(model.module.config, "model_type", model_type)  # noqa: E731
    yield lk.IA3(), unknown, known
    yield lk.BottleneckAdapters(), unknown, known
    if kind == "causal":
        yield lk.HeadOnly(), nothing, nothing


def test_a_refused_call_leaves_the_model_as_it_was(ids):
    for kind in ("llama", "gpt2", "bert"):
        model = small(kind)
        module, layers, expected = model.module, list(model.module.modules()), outputs(model.module, ids)
        module.train()
        refused = set()
        for method, before, after in planted(model):
            before()
            with pytest.raises(lk.LabkitError):
                method.apply(model, inplace=True)
            after()
            refused.add(method.name)
            assert model.module is module
            assert list(map(id, module.modules())) == list(map(id, layers)), method
            assert all(p.requires_grad for p in module.parameters()), method
            assert all(layer.training for layer in layers), method
            assert (model.quantization, model.origin, model.head) == (None, "", None)
        assert torch.equal(outputs(module, ids), expected)
        assert refused >= set(METHODS) - {"full", "head"}
    stored = lk.quantize_model(small("llama"), lk.Quantization(block_size=32, backend="labkit"))
    frozen = repr(stored.module)
    with pytest.raises(lk.LabkitError, match="cannot be trained"):
        lk.FullFineTuning().apply(stored, inplace=True)
    assert repr(stored.module) == frozen
    assert not any(p.requires_grad for p in stored.parameters())


def test_a_saved_pissa_is_loaded_without_decomposing_a_weight(ids, tmp_path, monkeypatch):
    model, method = small("llama"), lk.LoRA(rank=4, variant="pissa")
    tuned = trained(model, method)
    method.save(tuned, tmp_path)
    monkeypatch.setattr(torch.linalg, "svd", None)
    loaded = method.load(model, tmp_path)
    assert torch.equal(outputs(loaded.module, ids), outputs(tuned.module, ids))
    assert shapes(loaded) == shapes(tuned)


def shapes(model):
    return {name: p.shape for name, p in model.trainable().items()}
