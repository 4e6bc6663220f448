import copy
import math

import peft
import pytest
import torch
from torch import nn

import labkit as lk
from labkit.methods import LoRA


@pytest.fixture
def ids():
    return torch.arange(1, 40).view(3, 13)


@torch.no_grad()
def logits(module, ids):
    return module(input_ids=ids).logits


def adapted(tiny, **settings):
    """A model whose adapters do something: B, which starts at zero, gets random numbers."""
    torch.manual_seed(0)
    tuned = LoRA(**settings).apply(tiny)
    fill(tuned.module.eval())
    return tuned


def fill(module):
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            if "lora_B" in name:
                parameter.normal_(std=0.1)


SETTINGS = [
    {},
    {"rank": 4, "alpha": 6.0, "target_modules": ("q_proj", "v_proj")},
    {"rank": 2, "dropout": 0.3, "target_modules": ["down_proj"]},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_is_what_peft_does_with_the_same_seed(tiny, ids, settings):
    tuned = adapted(tiny, **settings)

    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=settings.get("rank", 8),
        lora_alpha=settings.get("alpha", 16),
        lora_dropout=settings.get("dropout", 0.0),
        target_modules=settings.get("target_modules", "all-linear"),
        task_type="CAUSAL_LM",
    )
    theirs = peft.get_peft_model(copy.deepcopy(tiny.module), config).eval()
    fill(theirs)

    expected = theirs.state_dict()
    assert tuned.module.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tuned.module.state_dict().items())
    assert torch.equal(logits(tuned.module, ids), logits(theirs, ids))


@pytest.mark.parametrize(("rank", "alpha"), [(4, 8), (8, 2), (3, 7.5)])
def test_it_computes_the_equation_of_the_paper(tiny, ids, rank, alpha):
    tuned = adapted(tiny, rank=rank, alpha=alpha)
    merged = copy.deepcopy(tiny.module)
    with torch.no_grad():
        for name, layer in merged.model.named_modules():
            if isinstance(layer, nn.Linear):
                lora = tuned.module.get_submodule(f"base_model.model.model.{name}")
                A, B = lora.lora_A["default"].weight, lora.lora_B["default"].weight
                layer.weight += alpha / rank * (B @ A)

    torch.testing.assert_close(logits(tuned.module, ids), logits(merged, ids), atol=1e-5, rtol=1e-5)
    assert (logits(tuned.module, ids) - logits(tiny.module, ids)).abs().max() > 1e-3


def test_it_starts_at_the_unchanged_model(tiny, ids):
    assert torch.equal(logits(LoRA().apply(tiny).module, ids), logits(tiny.module, ids))


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_it_trains_rank_times_in_plus_out_numbers_a_layer(tiny, rank):
    layers = [layer for layer in tiny.module.model.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) == 14  # 7 in each of the two blocks; the head is not adapted

    tuned = LoRA(rank=rank).apply(tiny)

    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert trained == sum(rank * (layer.in_features + layer.out_features) for layer in layers)


def test_only_adapters_are_trainable_and_the_base_keeps_its_layers(tiny):
    names = [name for name, _ in tiny.module.named_modules()]

    tuned = LoRA().apply(tiny)

    assert all(p.requires_grad == ("lora_" in name) for name, p in tuned.module.named_parameters())
    assert [name for name, _ in tiny.module.named_modules()] == names
    assert all(p.requires_grad for p in tiny.module.parameters())


def test_base_weights_are_shared_memory(tiny):
    tuned = LoRA().apply(tiny)
    theirs = {p.data_ptr() for name, p in tuned.module.named_parameters() if "lora_" not in name}
    assert theirs == {p.data_ptr() for p in tiny.module.parameters()}


def test_a_lone_name_means_that_layer(tiny):
    lone = LoRA(target_modules="q_proj").apply(tiny).module
    listed = LoRA(target_modules=["q_proj"]).apply(tiny).module
    assert [name for name, _ in lone.named_parameters()] == [name for name, _ in listed.named_parameters()]
    assert sum("lora_A" in name for name, _ in lone.named_parameters()) == 2


def test_dropout_acts_in_training_only(tiny, ids):
    module = adapted(tiny, dropout=0.5).module
    assert torch.equal(logits(module.eval(), ids), logits(module, ids))
    assert not torch.equal(logits(module.train(), ids), logits(module, ids))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 0),
        ("rank", -8),
        ("rank", 2.5),
        ("alpha", 0),
        ("alpha", math.nan),
        ("alpha", math.inf),
        ("dropout", 1),
        ("dropout", -0.1),
        ("dropout", math.nan),
    ],
)
def test_an_impossible_setting_is_named(name, value):
    with pytest.raises(lk.LabkitError, match=f"{name} must .*not {value}"):
        LoRA(**{name: value})


@pytest.mark.parametrize("targets", [["qproj"], "qproj", ["norm"], []])
def test_bad_targets_list_the_layers_there_are(tiny, targets):
    layers = "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    with pytest.raises(lk.LabkitError, match=f"LoRA cannot be put on .*\n.*layers {layers}"):
        LoRA(target_modules=targets).apply(tiny)


def test_a_loaded_adapter_is_as_trainable_as_a_new_one(tiny, ids, tmp_path):
    method = LoRA(rank=4, dropout=0.3)
    tuned = adapted(tiny, rank=4, dropout=0.3)
    method.save(tuned, tmp_path)

    loaded = method.load(tiny, tmp_path)

    flags = {name: p.requires_grad for name, p in tuned.module.named_parameters()}
    assert {name: p.requires_grad for name, p in loaded.module.named_parameters()} == flags
    assert torch.equal(logits(loaded.module, ids), logits(tuned.module, ids))  # its dropout sleeps
