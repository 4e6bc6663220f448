import itertools

import pytest
import torch
from moved import trained
from torch import nn

import labkit as lk
from labkit.methods import LoRA, LoRALinear, QLoRA
from labkit.methods.adapter import adapters_of
from labkit.quant.layers import is_4bit

BACKENDS = ["labkit", "bitsandbytes"]


@torch.no_grad()
def outputs(model, ids):
    with model.autocast():
        return model.module.eval()(input_ids=ids)[0].float()


def kinds(model):
    return {name: type(layer) for name, layer in model.module.named_modules()}


def test_the_merged_model_answers_as_the_adapted_one(request, ids):
    for settings, fixture in itertools.product(
        [
            {},
            {"rank": 4, "alpha": 6.0, "dropout": 0.3, "target_modules": ["q_proj", "up_proj"]},
            {"rslora": True},
            {"variant": "dora"},
            {"variant": "pissa"},
        ],
        ["tiny", "tiny_encoder"],
    ):
        model = request.getfixturevalue(fixture)
        own = {"target_modules": ["query", "output.dense"]} if fixture == "tiny_encoder" and "rank" in settings else {}
        tuned = trained(model, LoRA(**(settings | own)))
        expected = outputs(tuned, ids)

        merged = lk.merge(tuned)

        torch.testing.assert_close(outputs(merged, ids), expected, atol=1e-5, rtol=1e-5)
        assert (expected - outputs(model, ids)).abs().max() > 1e-2
        assert kinds(merged) == kinds(model)
        assert not merged.trainable()


def test_the_model_it_comes_from_stays_as_it_was(tiny, ids):
    tuned = trained(tiny, LoRA())
    before = {name: tensor.clone() for name, tensor in tuned.module.state_dict().items()}
    expected, layers, base = outputs(tuned, ids), kinds(tuned), outputs(tiny, ids)

    merged = lk.merge(tuned)
    with torch.no_grad():
        for layer in merged.module.model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.zero_()

    assert kinds(tuned) == layers
    assert all(torch.equal(tensor, before[name]) for name, tensor in tuned.module.state_dict().items())
    assert torch.equal(outputs(tuned, ids), expected)
    assert torch.equal(outputs(tiny, ids), base)


def test_layers_without_an_adapter_share_their_weights(tiny):
    merged = lk.merge(trained(tiny, LoRA(target_modules="q_proj")))
    theirs = dict(tiny.module.named_parameters())
    for name, parameter in merged.module.named_parameters():
        assert (parameter.data_ptr() == theirs[name].data_ptr()) == ("q_proj" not in name)


def test_a_model_with_merged_layers_merges_to_the_same(tiny):
    tuned = trained(tiny, LoRA())
    expected = lk.merge(tuned).module.state_dict()
    for layer in adapters_of(tuned).values():
        layer.merge()
    assert all(torch.equal(t, expected[name]) for name, t in lk.merge(tuned).module.state_dict().items())


def test_an_encoder_keeps_its_head(tiny_encoder, colours):
    run = lk.finetune(tiny_encoder, colours, "lora", steps=2, batch_size=4, learning_rate=1e-2, progress=False)
    merged = lk.merge(run.model)
    prompts = colours.test["prompt"]
    one, two = (lk.evaluation.label_probabilities(model, prompts, colours.labels) for model in (run.model, merged))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_a_model_without_adapters_is_refused(tiny):
    for dequantize in [False, True]:
        quantized = lk.quantize_model(tiny, lk.Quantization(block_size=32))
        for model in (tiny, quantized, lk.merge(trained(tiny, LoRA()))):
            with pytest.raises(lk.LabkitError, match="tiny has no adapter to merge"):
                lk.merge(model, dequantize=dequantize)


# Weights in 4 bits


def test_merging_into_4_bits_is_refused(tiny, ids):
    for backend in BACKENDS:
        tuned = trained(tiny, QLoRA(block_size=32, backend=backend))
        expected = outputs(tuned, ids)
        with pytest.raises(lk.LabkitError, match="in 4 bits") as caught:
            lk.merge(tuned)
        assert "lk.merge(model, dequantize=True)" in caught.value.remedy
        with pytest.raises(lk.LabkitError, match="in 4 bits"):
            next(iter(adapters_of(tuned).values())).merge()
        assert torch.equal(outputs(tuned, ids), expected)


def test_dequantized_and_merged_it_answers_as_in_4_bits(request, ids):
    cases = [
        ("tiny", "all-linear"),
        ("tiny", ["q_proj", "down_proj"]),
        ("tiny_encoder", "all-linear"),
        ("tiny_encoder", ["query", "attention.output.dense"]),
    ]
    for backend, double, (fixture, targets) in itertools.product(BACKENDS, [False, True], cases):
        model = request.getfixturevalue(fixture)
        tuned = trained(model, QLoRA(block_size=32, double=double, backend=backend, target_modules=targets))
        expected, layers = outputs(tuned, ids), kinds(tuned)

        merged = lk.merge(tuned, dequantize=True)

        torch.testing.assert_close(outputs(merged, ids), expected, atol=1e-5, rtol=1e-5)
        assert kinds(merged) == kinds(model)  # plain linear layers everywhere, adapted or not
        assert merged.quantization is None
        assert merged.fingerprint() != tuned.fingerprint()
        assert kinds(tuned) == layers
        assert torch.equal(outputs(tuned, ids), expected)


def test_dequantize_makes_no_difference_to_floats(tiny, ids):
    tuned = trained(tiny, LoRA())
    assert torch.equal(outputs(lk.merge(tuned, dequantize=True), ids), outputs(lk.merge(tuned), ids))


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_16_bits_the_merged_weights_are_16_bits(tiny, ids, backend):
    tiny.precision = torch.bfloat16
    tuned = trained(tiny, QLoRA(block_size=32, backend=backend))
    merged = lk.merge(tuned, dequantize=True)
    weights = {name: p.dtype for name, p in merged.module.named_parameters()}
    assert {dtype for name, dtype in weights.items() if "_proj" in name} == {torch.bfloat16}
    torch.testing.assert_close(outputs(merged, ids), outputs(tuned, ids), atol=0.05, rtol=0.05)


def test_the_merged_model_can_be_fully_fine_tuned(tiny, colours):
    for backend in BACKENDS:
        merged = lk.merge(trained(tiny, QLoRA(block_size=32, backend=backend)), dequantize=True)
        run = lk.finetune(merged, colours, "full", steps=2, batch_size=4, progress=False)
        assert run.trained_parameters == sum(p.numel() for p in tiny.parameters())
        assert not any(is_4bit(layer) or isinstance(layer, LoRALinear) for layer in run.model.module.modules())


def test_an_adapted_head_is_merged_too(tiny, ids):
    for method in [LoRA, QLoRA]:
        # The head stays in floats, also where the model is in 4 bits.
        settings = {"block_size": 32} if method is QLoRA else {}
        tuned = trained(tiny, method(target_modules=["q_proj", "lm_head"], **settings))
        merged = lk.merge(tuned, dequantize=True)
        torch.testing.assert_close(outputs(merged, ids), outputs(tuned, ids), atol=1e-5, rtol=1e-5)
        assert kinds(merged) == kinds(tiny)
