import copy
import itertools

import peft
import pytest
import torch
from architectures import KNOWN, UNKNOWN, backward, outputs, small
from moved import trained
from tiny import tiny_model
from torch import nn

import labkit as lk
from labkit.methods import IA3, BottleneckAdapters, IA3Linear, LoRA
from labkit.methods.adapter import adapters_of

pytestmark = pytest.mark.usefixtures("one_thread")

BACKENDS = ["labkit", "bitsandbytes"]
QUICK = {"steps": 2, "batch_size": 4, "progress": False}
# By default, PEFT also takes BERT's attention.output.dense for the end of an MLP.
PEFT_NAMES = {
    "llama": ({"k_proj", "v_proj", "down_proj"}, {"down_proj"}),
    "bert": (r".*\.(self\.key|self\.value|\d\.output\.dense)", r".*\.\d\.output\.dense"),
}


def gradients(module, ids):
    backward(module, ids)
    return {name: p.grad.flatten() for name, p in module.named_parameters() if p.requires_grad}


def in_peft(model):
    """PEFT's own IA3 around a copy of a model."""
    targets, feedforward = PEFT_NAMES[model.name]
    config = peft.IA3Config(target_modules=targets, feedforward_modules=feedforward)
    return peft.get_peft_model(copy.deepcopy(model.module), config).eval()


def peft_layers(twin, tuned):
    return {path: twin.base_model.model.get_submodule(path) for path in adapters_of(tuned)}


def random_layer(of_input, bias=True, dtype=torch.float32):
    torch.manual_seed(0)
    layer = IA3Linear(nn.Linear(24, 10, bias=bias).to(dtype), of_input)
    nn.init.normal_(layer.ia3_l)
    return layer


def test_training_starts_at_the_unchanged_model(model, ids):
    tuned = IA3().apply(model)
    assert torch.equal(outputs(tuned.module, ids), outputs(model.module, ids))
    assert all((layer.ia3_l == 1).all() for layer in adapters_of(tuned).values())


def test_outputs_and_gradients_are_those_of_peft_with_the_same_factors(model, ids):
    tuned, twin = trained(model, IA3()), in_peft(model)
    theirs = peft_layers(twin, tuned)
    with torch.no_grad():
        for path, layer in adapters_of(tuned).items():
            theirs[path].ia3_l["default"].copy_(layer.ia3_l.view_as(theirs[path].ia3_l["default"]))
    assert sum(p.requires_grad for p in twin.parameters()) == len(tuned.trainable()) == 6

    torch.testing.assert_close(outputs(tuned.module, ids), outputs(twin, ids), atol=1e-6, rtol=0)
    assert (outputs(tuned.module, ids) - outputs(model.module, ids)).abs().max() > 1e-2

    ours, expected = gradients(tuned.module, ids), gradients(twin, ids)
    for path in adapters_of(tuned):
        gradient = expected[f"base_model.model.{path}.ia3_l.default"]
        assert gradient.abs().max() > 1e-3
        torch.testing.assert_close(ours[f"{path}.ia3_l"], gradient, atol=1e-5, rtol=1e-4)


def test_a_layer_computes_the_equation_of_the_paper():
    for bias, of_input in itertools.product([True, False], [True, False]):
        layer = random_layer(of_input, bias)
        x = torch.randn(2, 5, 24)
        W, diagonal = layer.base.weight.detach().double(), torch.diag(layer.ia3_l.detach().double())
        b = layer.base.bias.detach().double() if bias else torch.zeros(10).double()
        expected = x.double() @ (W @ diagonal).T + b if of_input else (x.double() @ W.T + b) @ diagonal
        torch.testing.assert_close(layer(x).double(), expected, atol=1e-5, rtol=1e-5)


# What is trained


def test_it_trains_a_factor_for_each_key_value_and_inner_number_of_a_block():
    for name, keys in [("llama", 16), ("bert", 32)]:
        tuned = IA3().apply(small(name))
        assert sum(p.numel() for p in tuned.trainable().values()) == 2 * (keys + keys + 64)


def test_every_known_architecture_has_its_three_places(ids):
    for name in KNOWN:
        model = small(name)
        config = model.module.config
        heads = config.num_kv_heads if name == "falcon" else config.num_key_value_heads
        keys = 32 * heads // 4
        fused = ("falcon", "gpt2", "gpt_neox", "modernbert", "phi3")
        queries = 32 if name in fused else 0  # they come out of the same matrix
        tuned = trained(model, IA3())
        assert sum(p.numel() for p in tuned.trainable().values()) == 2 * (queries + 2 * keys + 64)
        assert not torch.equal(outputs(tuned.module, ids), outputs(model.module, ids))


def test_every_factor_matters_for_the_output(model, ids):
    found = gradients(IA3().apply(model).module, ids)
    used = {name: (gradient != 0).sum().item() for name, gradient in found.items()}
    assert used == {name: gradient.numel() for name, gradient in found.items()}


def test_the_base_stays_as_it_was_and_shares_its_weights(model, ids):
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    expected, names = outputs(model.module, ids), [name for name, _ in model.module.named_modules()]

    tuned = trained(model, IA3())

    assert torch.equal(outputs(model.module, ids), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert [name for name, _ in model.module.named_modules()] == names
    assert all(p.requires_grad for p in model.module.parameters())
    assert all(p.requires_grad == name.endswith("ia3_l") for name, p in tuned.module.named_parameters())
    assert {p.data_ptr() for p in model.parameters()} <= {p.data_ptr() for p in tuned.parameters()}


def test_inplace_adapts_the_model_itself(tiny, ids):
    expected = outputs(trained(tiny, IA3()).module, ids)
    tuned = IA3().apply(tiny, inplace=True)
    assert tuned is tiny
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in tiny.trainable().values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    assert torch.equal(outputs(tiny.module, ids), expected)


def test_a_factor_near_one_counts_in_16_bits():
    for of_input in [True, False]:
        layer = random_layer(of_input, bias=False, dtype=torch.bfloat16)
        nn.init.constant_(layer.ia3_l, 1.003)  # between 1 and the next number of bfloat16
        x = torch.randn(2000, 24, dtype=torch.bfloat16)
        scaled, plain = layer(x), layer.base(x)
        assert scaled.dtype == torch.bfloat16
        assert layer.ia3_l.dtype == torch.float32
        slope = (scaled.double() * plain.double()).sum() / plain.double().square().sum()
        assert slope.item() == pytest.approx(1.003, abs=5e-4)


# Files


def test_a_loaded_adapter_answers_bit_for_bit_alike(model, ids, tmp_path):
    tuned = trained(model, IA3())
    IA3().save(tuned, tmp_path)

    loaded = IA3().load(model, tmp_path)

    assert torch.equal(outputs(loaded.module, ids), outputs(tuned.module, ids))
    assert loaded.trainable().keys() == tuned.trainable().keys()
    assert not adapters_of(model)


def test_peft_reads_what_is_saved(model, ids, tmp_path):
    tuned = trained(model, IA3())
    IA3().save(tuned, tmp_path)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(model.module), tmp_path)
    torch.testing.assert_close(outputs(theirs, ids), outputs(tuned.module, ids), atol=1e-6, rtol=0)
    assert isinstance(theirs.base_model, peft.IA3Model)


def test_what_peft_saves_is_read(model, ids, tmp_path):
    theirs = in_peft(model)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in (p for p in theirs.parameters() if p.requires_grad):
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    theirs.save_pretrained(tmp_path)
    ours = IA3().load(model, tmp_path)
    torch.testing.assert_close(outputs(ours.module, ids), outputs(theirs, ids), atol=1e-6, rtol=0)


def test_an_adapter_of_another_model_is_refused(causal, encoder, tmp_path):
    IA3().save(IA3().apply(causal), tmp_path)
    wide = tiny_model(name="wide", intermediate_size=96)
    with pytest.raises(lk.LabkitError, match=r"does not fit: .*down_proj\.ia3_l is \(1, 64\) there and \(1, 96\) here"):
        IA3().load(wide, tmp_path)
    with pytest.raises(lk.LabkitError, match=r"does not fit: .* is missing there"):
        IA3().load(encoder, tmp_path)


def test_a_run_is_kept_and_brought_back(tiny, colours, ids, tmp_path):
    run = lk.finetune(tiny, colours, "ia3", **QUICK)
    assert run.trained_parameters == 192
    run.save(tmp_path / "run")
    assert torch.equal(outputs(lk.load_run(tmp_path / "run", tiny).model.module, ids), outputs(run.model.module, ids))


# Merging


def test_the_merged_model_answers_as_the_adapted_one(model, ids):
    tuned = trained(model, IA3())
    expected = outputs(tuned.module, ids)
    assert (expected - outputs(model.module, ids)).abs().max() > 1e-2
    merged = lk.merge(tuned)
    torch.testing.assert_close(outputs(merged.module, ids), expected, atol=1e-5, rtol=1e-5)
    assert not adapters_of(merged)
    assert [type(m) for m in merged.module.modules()] == [type(m) for m in model.module.modules()]


def test_unmerging_restores_every_bit(model, ids):
    tuned = trained(model, IA3())
    expected, base = outputs(tuned.module, ids), outputs(model.module, ids)
    for _ in range(2):  # a second time changes nothing
        for layer in adapters_of(tuned).values():
            layer.merge()
    torch.testing.assert_close(outputs(tuned.module, ids), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(outputs(model.module, ids), base)

    for layer in adapters_of(tuned).values():
        layer.unmerge()
    assert torch.equal(outputs(tuned.module, ids), expected)
    assert {p.data_ptr() for p in model.parameters()} <= {p.data_ptr() for p in tuned.parameters()}


def test_a_merged_layer_computes_the_same():
    for bias, of_input, (dtype, tolerance) in itertools.product(
        [True, False], [True, False], [(torch.float32, 1e-5), (torch.bfloat16, 0.05)]
    ):
        layer = random_layer(of_input, bias, dtype)
        x = torch.randn(7, 24).to(dtype)
        expected = layer(x)
        layer.merge()
        torch.testing.assert_close(layer(x), expected, atol=tolerance, rtol=tolerance)
        assert torch.equal(layer(x), layer.base(x))
        assert layer.base.weight.dtype == dtype


def test_a_merged_layer_still_knows_what_it_is_merged_of():
    for of_input in [True, False]:
        layer = random_layer(of_input)
        before = layer.combined()
        layer.merge()
        assert all(torch.equal(tensor, before[name]) for name, tensor in layer.combined().items())


# Weights in 4 bits


def test_over_4_bits_it_computes_with_the_dequantized_weights(model, ids):
    for backend in BACKENDS:
        quantized = lk.quantize_model(model, lk.Quantization(block_size=32, backend=backend))
        assert torch.equal(outputs(IA3().apply(quantized).module, ids), outputs(quantized.module, ids))

        floats = lk.merge(LoRA().apply(quantized), dequantize=True)  # an update of zero
        tuned, reference = trained(quantized, IA3()), trained(floats, IA3())

        torch.testing.assert_close(outputs(tuned.module, ids), outputs(reference.module, ids), atol=1e-5, rtol=1e-5)
        found, expected = gradients(tuned.module, ids), gradients(reference.module, ids)
        for name, gradient in found.items():
            assert gradient.abs().max() > 1e-3
            torch.testing.assert_close(gradient, expected[name], atol=1e-4, rtol=1e-4)


def test_merging_needs_floats(model, ids):
    for backend in BACKENDS:
        tuned = trained(lk.quantize_model(model, lk.Quantization(block_size=32, backend=backend)), IA3())
        with pytest.raises(lk.LabkitError, match="in 4 bits") as caught:
            lk.merge(tuned)
        assert "dequantize=True" in caught.value.remedy
        merged = lk.merge(tuned, dequantize=True)
        torch.testing.assert_close(outputs(merged.module, ids), outputs(tuned.module, ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_adapter_over_4_bits_is_saved_and_loaded(causal, ids, tmp_path, backend):
    quantized = lk.quantize_model(causal, lk.Quantization(block_size=32, backend=backend))
    tuned = trained(quantized, IA3())
    IA3().save(tuned, tmp_path)
    assert torch.equal(outputs(IA3().load(quantized, tmp_path).module, ids), outputs(tuned.module, ids))


# What is refused


def test_an_unknown_architecture_gets_the_list_of_those_known():
    with pytest.raises(
        lk.LabkitError, match=r"'gpt_bigcode' .*Known architectures: bert, .*llama, .*roberta\."
    ) as caught:
        IA3().apply(small(UNKNOWN))
    assert caught.value.remedy


def test_the_remedy_for_an_unknown_architecture_names_a_setting_that_exists():
    with pytest.raises(lk.LabkitError) as caught:
        IA3().apply(small(UNKNOWN))
    assert "target_modules" not in caught.value.remedy or hasattr(IA3(), "target_modules")


def test_an_adapter_on_an_adapter_is_refused(causal):
    for first in [IA3(), LoRA(), BottleneckAdapters()]:
        with pytest.raises(lk.LabkitError, match="llama has an adapter already"):
            IA3().apply(first.apply(causal))


def test_no_other_adapter_goes_on_top(causal):
    for second in [LoRA(), BottleneckAdapters()]:
        with pytest.raises(lk.LabkitError, match="llama has an adapter already"):
            second.apply(IA3().apply(causal))


def test_a_merged_model_takes_a_new_adapter(causal, ids):
    merged = lk.merge(trained(causal, IA3()))
    assert torch.equal(outputs(IA3().apply(merged).module, ids), outputs(merged.module, ids))
