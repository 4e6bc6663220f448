import copy
import itertools

import numpy as np
import peft
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import labkit as lk
from labkit.methods import DoRALinear, LoRA, LoRALinear, PiSSALinear
from labkit.methods.adapter import adapters_of

LAYERS = {"lora": LoRALinear, "dora": DoRALinear, "pissa": PiSSALinear}


@torch.no_grad()
def outputs(module, ids):
    return module(input_ids=ids)[0]


def backward(module, ids):
    output = module(input_ids=ids)[0]
    F.cross_entropy(output.flatten(0, 1), ids.flatten() % output.shape[-1], reduction="sum").backward()


def with_peft(model, rank=8, alpha=16, target_modules="all-linear", **settings):
    """PEFT's model of a variant, and its layers by our paths."""
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_modules, **settings)
    twin = peft.get_peft_model(copy.deepcopy(model.module), config).eval()
    return twin, {
        name: layer
        for name, layer in twin.base_model.model.named_modules()
        if isinstance(layer, peft.tuners.lora.Linear)
    }


def trained(model, seed=1, **settings):
    """A model as training might leave it: every number that is trained has moved."""
    tuned = LoRA(**settings).apply(model)
    tuned.module.eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in tuned.trainable().values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return tuned


def random_layer(variant, bias=True, dtype=torch.float32):
    torch.manual_seed(0)
    layer = LAYERS[variant](nn.Linear(32, 16, bias=bias).to(dtype), 4, 0.5)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return layer


def test_training_starts_at_the_unchanged_model(request, ids):
    for variant, fixture in itertools.product(LAYERS, ["tiny", "tiny_encoder"]):
        model = request.getfixturevalue(fixture)
        tuned = LoRA(variant=variant).apply(model)
        tuned.module.eval()
        assert {type(layer) for layer in adapters_of(tuned).values()} == {LAYERS[variant]}
        torch.testing.assert_close(outputs(tuned.module, ids), outputs(model.module, ids), atol=1e-5, rtol=1e-5)


def test_base_weights_are_shared_and_frozen(tiny, ids):
    for variant in LAYERS:
        before = outputs(tiny.module, ids)
        tuned = trained(tiny, variant=variant)
        kinds = {name.rsplit(".", 1)[-1] for name in tuned.trainable()}
        assert kinds == {"lora_A", "lora_B"} | ({"magnitude"} if variant == "dora" else set())
        assert {p.data_ptr() for p in tiny.parameters()} <= {p.data_ptr() for p in tuned.parameters()}
        assert not torch.equal(outputs(tuned.module, ids), before)
        assert torch.equal(outputs(tiny.module, ids), before)


def test_delta_is_what_merging_adds_to_the_weight():
    for variant, bias in itertools.product(LAYERS, [True, False]):
        layer, x = random_layer(variant, bias), torch.randn(7, 32)
        weight, expected, delta = layer.base.weight.detach().clone(), layer(x), layer.delta()
        assert delta.abs().max() > 0.05

        layer.merge()

        torch.testing.assert_close(layer.base.weight - weight, delta, atol=1e-6, rtol=0)
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(F.linear(x, weight + delta, layer.base.bias), expected, atol=1e-5, rtol=1e-5)

        layer.unmerge()
        assert torch.equal(layer.base.weight, weight)
        assert torch.equal(layer(x), expected)


def test_delta_is_the_same_after_merging():
    for variant in LAYERS:
        layer = random_layer(variant)
        delta = layer.delta()
        layer.merge()
        torch.testing.assert_close(layer.delta(), delta)


def test_the_weight_may_be_in_16_bits():
    for variant in LAYERS:
        layer, x = random_layer(variant, dtype=torch.bfloat16), torch.randn(7, 32)
        assert {p.dtype for p in layer.parameters() if p.requires_grad} == {torch.float32}
        expected = F.linear(x, layer.base.weight.float() + layer.delta(), layer.base.bias.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = layer(x)
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.float(), expected, atol=0.05, rtol=0.05)
        result.sum().backward()
        assert all(p.grad is not None for p in layer.parameters() if p.requires_grad)


def test_variants_need_weights_in_floats(tiny):
    for variant, backend in itertools.product(["dora", "pissa"], ["labkit", "bitsandbytes"]):
        quantized = lk.quantize_model(tiny, lk.Quantization(block_size=32, backend=backend))
        with pytest.raises(lk.LabkitError, match=r"needs weights in floats, and .* is stored in 4 bits"):
            LoRA(variant=variant).apply(quantized)
        assert not adapters_of(quantized)


# DoRA


def test_dora_equals_that_of_peft_with_the_same_factors_and_lengths(tiny, ids):
    for settings, rslora in [
        ({}, False),
        ({"rank": 4, "alpha": 6.0, "target_modules": ["q_proj", "up_proj"]}, False),
        ({"rank": 3}, True),
    ]:
        tuned = trained(tiny, variant="dora", rslora=rslora, **settings)
        twin, theirs = with_peft(tiny, use_dora=True, use_rslora=rslora, **settings)
        ours = adapters_of(tuned)
        assert ours.keys() == theirs.keys()
        with torch.no_grad():
            for path, layer in ours.items():
                theirs[path].lora_A["default"].weight.copy_(layer.lora_A)
                theirs[path].lora_B["default"].weight.copy_(layer.lora_B)
                theirs[path].lora_magnitude_vector["default"].weight.copy_(layer.magnitude)

        torch.testing.assert_close(outputs(tuned.module, ids), outputs(twin, ids), atol=1e-5, rtol=0)
        backward(tuned.module, ids)
        backward(twin, ids)
        for path, layer in ours.items():
            for parameter, name in (
                (layer.lora_A, "lora_A"),
                (layer.lora_B, "lora_B"),
                (layer.magnitude, "lora_magnitude_vector"),
            ):
                expected = getattr(theirs[path], name)["default"].weight.grad
                assert expected.abs().max() > 1e-3
                torch.testing.assert_close(parameter.grad, expected, atol=1e-5, rtol=1e-4)


def test_dora_equals_that_of_peft_in_an_encoder_with_biases(tiny_encoder, ids):
    tuned = LoRA(variant="dora").apply(tiny_encoder)
    twin, theirs = with_peft(tiny_encoder, use_dora=True)
    torch.manual_seed(0)
    with torch.no_grad():
        for path, layer in adapters_of(tuned).items():
            length = layer.magnitude * torch.empty_like(layer.magnitude).uniform_(0.5, 1.5)
            for parameter, name in ((layer.lora_A, "lora_A"), (layer.lora_B.normal_(std=0.1), "lora_B")):
                getattr(theirs[path], name)["default"].weight.copy_(parameter)
            theirs[path].lora_magnitude_vector["default"].weight.copy_(layer.magnitude.copy_(length))
    torch.testing.assert_close(outputs(tuned.module.eval(), ids), outputs(twin, ids), atol=1e-5, rtol=0)


def test_the_rows_of_a_dora_weight_have_the_lengths_that_are_trained():
    layer = random_layer("dora")
    torch.testing.assert_close((layer.base.weight + layer.delta()).norm(dim=1), layer.magnitude.detach())
    direction = F.normalize(layer.base.weight + 0.5 * layer.lora_B @ layer.lora_A, dim=1)
    torch.testing.assert_close(F.normalize(layer.base.weight + layer.delta(), dim=1), direction)


def test_dora_trains_one_more_number_a_row(tiny):
    count = {v: sum(p.numel() for p in LoRA(variant=v).apply(tiny).trainable().values()) for v in ("lora", "dora")}
    rows = sum(layer.base.out_features for layer in adapters_of(LoRA().apply(tiny)).values())
    assert count["dora"] - count["lora"] == rows


# PiSSA


def test_pissa_starts_with_the_factors_of_peft(tiny, ids):
    for rank, alpha in [(8, 16), (4, 3.0), (16, 16)]:
        tuned = LoRA(variant="pissa", rank=rank, alpha=alpha).apply(tiny)
        _, theirs = with_peft(tiny, rank=rank, alpha=alpha, init_lora_weights="pissa")
        for path, layer in adapters_of(tuned).items():
            torch.testing.assert_close(layer.lora_A, theirs[path].lora_A["default"].weight, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(layer.lora_B, theirs[path].lora_B["default"].weight, atol=1e-6, rtol=1e-5)
            assert torch.equal(layer.base.weight, tiny.module.get_submodule(path).weight)  # PEFT's has become the rest


def test_pissa_equals_that_of_peft_after_the_same_change(tiny, ids):
    for settings in [{}, {"rank": 4, "alpha": 3.0, "target_modules": ["v_proj", "down_proj"]}]:
        tuned = LoRA(variant="pissa", **settings).apply(tiny)
        tuned.module.eval()
        twin, theirs = with_peft(tiny, init_lora_weights="pissa", **settings)
        torch.testing.assert_close(outputs(tuned.module, ids), outputs(twin, ids), atol=1e-5, rtol=0)

        torch.manual_seed(1)
        with torch.no_grad():
            for path, layer in adapters_of(tuned).items():
                for parameter, name in ((layer.lora_A, "lora_A"), (layer.lora_B, "lora_B")):
                    change = 0.1 * torch.randn_like(parameter)
                    parameter.add_(change)
                    getattr(theirs[path], name)["default"].weight += change

        torch.testing.assert_close(outputs(tuned.module, ids), outputs(twin, ids), atol=1e-5, rtol=0)
        assert (outputs(tuned.module, ids) - outputs(tiny.module, ids)).abs().max() > 1e-2
        backward(tuned.module, ids)
        backward(twin, ids)
        for path, layer in adapters_of(tuned).items():
            for parameter, name in ((layer.lora_A, "lora_A"), (layer.lora_B, "lora_B")):
                expected = getattr(theirs[path], name)["default"].weight.grad
                torch.testing.assert_close(parameter.grad, expected, atol=1e-5, rtol=1e-4)


def test_the_first_factors_of_pissa_are_the_best_matrix_of_their_rank():
    torch.manual_seed(0)
    base = nn.Linear(32, 16)
    layer = PiSSALinear(base, 5, 0.7)
    layer.start()
    U, S, Vh = np.linalg.svd(base.weight.detach().numpy().astype(np.float64))
    best = torch.from_numpy((U[:, :5] * S[:5]) @ Vh[:5])
    torch.testing.assert_close(0.7 * (layer.lora_B @ layer.lora_A).double(), best, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.delta(), torch.zeros(16, 32), atol=1e-6, rtol=0)
    assert not any(buffer.requires_grad for buffer in layer.buffers())
