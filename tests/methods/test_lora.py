import copy
import itertools
import math

import peft
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import labkit as lk
from labkit.methods import LoRA, LoRALinear
from labkit.methods.adapter import adapters_of


@torch.no_grad()
def outputs(module, ids):
    return module(input_ids=ids)[0]


def adapted(model, **settings):
    """A model whose adapters do something: B, which starts at zero, gets random numbers."""
    torch.manual_seed(1)
    tuned = LoRA(**settings).apply(model)
    with torch.no_grad():
        for layer in adapters_of(tuned).values():
            layer.lora_B.normal_(std=0.1)
    tuned.module.eval()
    return tuned


def peft_twin(model, tuned, rank=8, alpha=16, dropout=0.0, target_modules="all-linear", rslora=False):
    """PEFT's model of the same settings with the same factors, and its layers by our paths."""
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules,
        use_rslora=rslora,
        task_type="CAUSAL_LM" if model.kind == "causal" else "FEATURE_EXTRACTION",
    )
    twin = peft.get_peft_model(copy.deepcopy(model.module), config).eval()
    layers = {path: twin.base_model.model.get_submodule(path) for path in adapters_of(tuned)}
    with torch.no_grad():
        for path, layer in adapters_of(tuned).items():
            layers[path].lora_A["default"].weight.copy_(layer.lora_A)
            layers[path].lora_B["default"].weight.copy_(layer.lora_B)
    return twin, layers


def backward(module, ids):
    """The gradient of some loss that every position of the output takes part in."""
    torch.manual_seed(2)  # dropout
    output = module(input_ids=ids)[0]
    F.cross_entropy(output.flatten(0, 1), ids.flatten() % output.shape[-1], reduction="sum").backward()


SETTINGS = [
    {},
    {"rank": 4, "alpha": 6.0, "target_modules": ("q_proj", "v_proj")},
    {"rank": 4, "alpha": 6.0, "rslora": True, "target_modules": ["self_attn.o_proj", "model.layers.1.mlp.up_proj"]},
    {"rank": 2, "dropout": 0.3, "target_modules": "down_proj"},
]


def test_outputs_and_gradients_are_those_of_peft_with_the_same_factors(tiny, ids):
    for training, settings in itertools.product([False, True], SETTINGS):
        tuned = adapted(tiny, **settings)
        targets = settings.get("target_modules", "all-linear")
        targets = [targets] if targets == "down_proj" else targets
        twin, theirs = peft_twin(tiny, tuned, **{**settings, "target_modules": targets})
        assert sum(p.requires_grad for p in twin.parameters()) == len(tuned.trainable())

        torch.testing.assert_close(outputs(tuned.module, ids), outputs(twin, ids), atol=1e-6, rtol=0)
        for module in (tuned.module, twin):
            backward(module.train(training), ids)

        for path, layer in adapters_of(tuned).items():
            for ours, name in ((layer.lora_A, "lora_A"), (layer.lora_B, "lora_B")):
                expected = getattr(theirs[path], name)["default"].weight.grad
                assert expected.abs().max() > 1e-3
                torch.testing.assert_close(ours.grad, expected, atol=1e-6, rtol=1e-5)


def test_an_encoder_with_biases_equals_that_of_peft(tiny_encoder, ids):
    for settings in [{}, {"rank": 3, "rslora": True, "target_modules": ["query", "output.dense"]}]:
        tuned = adapted(tiny_encoder, **settings)
        twin, theirs = peft_twin(tiny_encoder, tuned, **settings)
        torch.testing.assert_close(outputs(tuned.module, ids), outputs(twin, ids), atol=1e-6, rtol=0)
        assert (outputs(tuned.module, ids) - outputs(tiny_encoder.module, ids)).abs().max() > 1e-2

        backward(tuned.module, ids)
        backward(twin, ids)
        used = {path: layer for path, layer in adapters_of(tuned).items() if "pooler" not in path}
        for path, layer in used.items():
            torch.testing.assert_close(
                layer.lora_B.grad, theirs[path].lora_B["default"].weight.grad, atol=1e-6, rtol=1e-5
            )


def test_a_layer_computes_the_equation_of_the_paper():
    for bias, (rank, scale) in itertools.product([True, False], [(4, 2.0), (1, 0.25), (3, 2.5)]):
        torch.manual_seed(0)
        layer = LoRALinear(nn.Linear(24, 10, bias=bias), rank, scale)
        nn.init.normal_(layer.lora_B)
        x = torch.randn(2, 5, 24)

        W, A, B = (tensor.detach().double() for tensor in (layer.base.weight, layer.lora_A, layer.lora_B))
        b = layer.base.bias.detach().double() if bias else 0.0
        expected = torch.einsum("oi,bti->bto", W + scale * torch.einsum("or,ri->oi", B, A), x.double()) + b
        torch.testing.assert_close(layer(x).double(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(layer.delta().double(), scale * B @ A, atol=1e-6, rtol=1e-6)


def test_a_model_computes_with_the_sum_of_weight_and_update(tiny, ids):
    tuned = adapted(tiny, rank=3, alpha=7.5)
    plain = copy.deepcopy(tiny.module)
    with torch.no_grad():
        for path, layer in adapters_of(tuned).items():
            plain.get_submodule(path).weight += 7.5 / 3 * layer.lora_B @ layer.lora_A
    torch.testing.assert_close(outputs(tuned.module, ids), outputs(plain, ids), atol=1e-5, rtol=1e-5)
    assert (outputs(tuned.module, ids) - outputs(tiny.module, ids)).abs().max() > 1e-3


def test_the_scale_is_alpha_over_rank_or_over_its_root(tiny):
    for rank, alpha, plain, stabilized in [(4, 8, 2, 4), (16, 8, 0.5, 2), (1, 3.5, 3.5, 3.5)]:
        for rslora, scale in ((False, plain), (True, stabilized)):
            method = LoRA(rank=rank, alpha=alpha, rslora=rslora)
            assert method.scale == scale
            assert {layer.scale for layer in adapters_of(method.apply(tiny)).values()} == {scale}


def test_it_starts_at_the_unchanged_model(tiny, ids):
    tuned = LoRA().apply(tiny)
    assert torch.equal(outputs(tuned.module, ids), outputs(tiny.module, ids))
    assert all(layer.lora_A.abs().min() > 0 and not layer.lora_B.any() for layer in adapters_of(tuned).values())


def test_a_starts_with_the_spread_that_peft_gives_it(tiny):
    tuned = LoRA().apply(tiny)
    _, theirs = peft_twin(tiny, tuned)
    for path, layer in adapters_of(tuned).items():
        theirs[path].reset_lora_parameters("default", True)
        drawn = theirs[path].lora_A["default"].weight
        limit = layer.base.in_features**-0.5  # uniform between ± this
        for A in (layer.lora_A, drawn):
            assert A.abs().max() <= limit
            assert A.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.2)


def test_it_trains_rank_times_in_plus_out_numbers_a_layer(tiny):
    for rank in [1, 4, 8]:
        layers = [layer for layer in tiny.module.model.modules() if isinstance(layer, nn.Linear)]
        assert len(layers) == 14  # 7 in each of the two blocks; the head is not adapted
        trained = sum(p.numel() for p in LoRA(rank=rank).apply(tiny).trainable().values())
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


def test_inplace_adapts_the_model_itself(tiny, ids):
    expected = outputs(adapted(tiny, rank=2).module, ids)
    torch.manual_seed(1)
    tuned = LoRA(rank=2).apply(tiny, inplace=True)
    assert tuned is tiny
    with torch.no_grad():
        for layer in adapters_of(tiny).values():
            layer.lora_B.normal_(std=0.1)
    assert torch.equal(outputs(tiny.module, ids), expected)


def test_factors_stay_in_float32_and_products_run_in_the_type_of_autocast():
    for dtype in [torch.float32, torch.bfloat16]:
        layer = LoRALinear(nn.Linear(32, 16).to(dtype), 4, 1.0)
        assert layer.lora_A.dtype == layer.lora_B.dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = layer(torch.randn(3, 32))
        assert result.dtype == torch.bfloat16
        result.sum().backward()
        assert layer.lora_B.grad.dtype == torch.float32


# Dropout


def test_dropout_acts_in_training_only(tiny, ids):
    module = adapted(tiny, dropout=0.5).module
    assert torch.equal(outputs(module.eval(), ids), outputs(module, ids))
    assert not torch.equal(outputs(module.train(), ids), outputs(module, ids))


def test_dropout_drops_inputs_of_the_update_alone():
    layer = LoRALinear(nn.Linear(200, 3), 2, 1.0, dropout=0.25)
    nn.init.ones_(layer.lora_A)
    nn.init.ones_(layer.lora_B)
    layer.train()
    torch.manual_seed(0)
    x = torch.ones(500, 200)
    update = (layer(x) - layer.base(x)).detach()[:, 0] / 2  # what is left of 200 ones, times 4/3
    kept = update * 0.75
    torch.testing.assert_close(kept, kept.round(), atol=1e-2, rtol=0)
    assert 145 < kept.mean() < 155
    assert len(kept.round().unique()) > 10


@pytest.mark.parametrize("train", [True, False])
def test_new_layers_are_in_the_mode_of_the_model(tiny, train):
    tiny.module.train(train)
    assert {module.training for module in LoRA(dropout=0.5).apply(tiny).module.modules()} == {train}


# Merging a layer


def random_layer(dtype=torch.float32):
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(32, 16).to(dtype), 4, 0.5)
    nn.init.normal_(layer.lora_B)
    return layer


def test_a_merged_layer_computes_the_same():
    for dtype, tolerance in [(torch.float32, 1e-5), (torch.bfloat16, 0.05)]:
        layer, x = random_layer(dtype), torch.randn(7, 32)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            expected = layer(x)
            layer.merge()
            torch.testing.assert_close(layer(x), expected, atol=tolerance, rtol=tolerance)
            assert torch.equal(layer(x), layer.base(x))
        assert layer.base.weight.dtype == dtype


def test_unmerging_restores_every_bit():
    for dtype in [torch.float32, torch.bfloat16]:
        layer, x = random_layer(dtype), torch.randn(7, 32).to(dtype)
        weight = layer.base.weight.detach().clone()
        layer.merge()
        layer.merge()  # a second time changes nothing
        assert torch.equal(layer.base.weight, (weight.float() + layer.delta()).to(dtype))
        assert not torch.equal(layer.base.weight, weight)
        layer.unmerge()
        layer.unmerge()
        assert torch.equal(layer.base.weight, weight)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(layer(x), layer.base(x) + layer.update(x))


def test_merging_leaves_the_shared_weights_of_the_base_alone(tiny, ids):
    before, weights = outputs(tiny.module, ids), {name: p.clone() for name, p in tiny.module.named_parameters()}
    tuned = adapted(tiny)
    other = outputs(adapted(tiny, rank=2).module, ids)
    expected = outputs(tuned.module, ids)
    for layer in adapters_of(tuned).values():
        layer.merge()

    torch.testing.assert_close(outputs(tuned.module, ids), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(outputs(tiny.module, ids), before)
    assert all(torch.equal(p, weights[name]) for name, p in tiny.module.named_parameters())
    assert torch.equal(outputs(adapted(tiny, rank=2).module, ids), other)

    for layer in adapters_of(tuned).values():
        layer.unmerge()
    assert torch.equal(outputs(tuned.module, ids), expected)
    assert {p.data_ptr() for p in tiny.parameters()} <= {p.data_ptr() for p in tuned.parameters()}


# Settings


def test_an_impossible_setting_is_named():
    for name, value in [
        ("rank", 0),
        ("rank", -8),
        ("rank", 2.5),
        ("alpha", 0),
        ("alpha", -1),
        ("alpha", math.nan),
        ("alpha", math.inf),
        ("dropout", 1),
        ("dropout", -0.1),
        ("dropout", math.nan),
    ]:
        with pytest.raises(lk.LabkitError, match=f"{name} must .*not {value}"):
            LoRA(**{name: value})


def test_an_unknown_variant_gets_the_nearest_name():
    with pytest.raises(lk.LabkitError, match=r"no variant of LoRA called 'dorra'.*\n.*'dora'.*dora, lora, pissa"):
        LoRA(variant="dorra")


def test_a_rank_above_a_layers_size_names_the_layer_and_the_limit(tiny):
    for inplace in [False, True]:
        message = r"rank=17 .*model\.layers\.0\.self_attn\.k_proj .*16 × 32.*\n.*rank up to 16"
        with pytest.raises(lk.LabkitError, match=message):
            LoRA(rank=17).apply(tiny, inplace=inplace)
        assert not adapters_of(tiny)
        assert all(p.requires_grad for p in tiny.parameters())


def test_the_highest_rank_is_the_shorter_side(tiny):
    assert {layer.lora_A.shape[0] for layer in adapters_of(LoRA(rank=16).apply(tiny)).values()} == {16}
    assert adapters_of(LoRA(rank=32, target_modules=["q_proj", "up_proj"]).apply(tiny))


def test_a_loaded_adapter_is_as_trainable_as_a_new_one(tiny, ids, tmp_path):
    method = LoRA(rank=4, dropout=0.3)
    tuned = adapted(tiny, rank=4, dropout=0.3)
    method.save(tuned, tmp_path)

    loaded = method.load(tiny, tmp_path)

    flags = {name: p.requires_grad for name, p in tuned.module.named_parameters()}
    assert {name: p.requires_grad for name, p in loaded.module.named_parameters()} == flags
    assert torch.equal(outputs(loaded.module, ids), outputs(tuned.module, ids))  # its dropout sleeps
