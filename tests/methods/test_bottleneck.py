import itertools
import math

import pytest
import torch
from architectures import KNOWN, UNKNOWN, backward, outputs, small
from moved import trained
from tiny import tiny_model
from torch.nn import functional as F

import labkit as lk
from labkit.methods import IA3, Bottleneck, BottleneckAdapters, LoRA, get_method
from labkit.methods.adapter import adapters_of

pytestmark = pytest.mark.usefixtures("one_thread")

PLACEMENTS = ["houlsby", "pfeiffer", "parallel"]
BACKENDS = ["labkit", "bitsandbytes"]
PER_BLOCK = {"houlsby": 2, "pfeiffer": 1, "parallel": 1}
FUNCTIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}
QUICK = {"steps": 2, "batch_size": 4, "progress": False}


def blocks(model):
    """The module that ends each block's attention, the one that begins its MLP, and the one that ends it."""
    if model.kind == "causal":
        return [(block.self_attn.o_proj, block.mlp, block.mlp.down_proj) for block in model.module.model.layers]
    return [(b.attention.output.dense, b.intermediate, b.output.dense) for b in model.module.encoder.layer]


def by_hooks(model, tuned, placement, activation="relu", scale=1.0):
    """A plain copy whose hooks add what adapters of the same weights would, and these weights by adapter."""
    plain = model.copy(share_weights=False)
    weights = [
        [p.detach().clone().requires_grad_() for p in (f.down.weight, f.down.bias, f.up.weight, f.up.bias)]
        for f in (layer.bottleneck for layer in adapters_of(tuned).values())
    ]
    unused = iter(weights)

    def f(x, D, d, U, u):
        return scale * (FUNCTIONS[activation](x @ D.T + d) @ U.T + u)

    def behind(module, own):
        module.register_forward_hook(lambda module, inputs, h: h + f(h, *own))

    def beside(begin, end, own):
        seen = {}
        begin.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
        end.register_forward_hook(lambda module, inputs, h: h + f(seen["x"], *own))

    for attention, begin, end in blocks(plain):
        if placement == "houlsby":
            behind(attention, next(unused))
        if placement == "parallel":
            beside(begin, end, next(unused))
        else:
            behind(end, next(unused))
    assert next(unused, None) is None
    return plain, weights


SETTINGS = [{"placement": placement} for placement in PLACEMENTS] + [
    {"placement": "houlsby", "activation": "gelu", "scale": 0.5},
    {"placement": "parallel", "activation": "silu", "scale": 4.0},
]


def test_outputs_and_gradients_are_those_of_hooks_that_add_the_formula(model, ids):
    for settings in SETTINGS:
        tuned = trained(model, BottleneckAdapters(size=5, **settings))
        plain, weights = by_hooks(model, tuned, **settings)

        torch.testing.assert_close(outputs(tuned.module, ids), outputs(plain.module, ids), atol=1e-5, rtol=1e-5)
        assert (outputs(tuned.module, ids) - outputs(model.module, ids)).abs().max() > 1e-2

        backward(tuned.module, ids)
        backward(plain.module, ids)
        for layer, expected in zip(adapters_of(tuned).values(), weights, strict=True):
            f = layer.bottleneck
            for parameter, other in zip((f.down.weight, f.down.bias, f.up.weight, f.up.bias), expected, strict=True):
                assert other.grad.abs().max() > 1e-3
                torch.testing.assert_close(parameter.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_a_bottleneck_computes_the_formula_of_the_paper():
    for scale, (activation, function) in itertools.product([1.0, 0.25], FUNCTIONS.items()):
        torch.manual_seed(0)
        f = Bottleneck(24, 6, activation, scale)
        x = torch.randn(2, 5, 24)
        with torch.no_grad():
            for parameter in f.parameters():
                parameter.normal_()
        D, d, U, u = (p.detach().double() for p in (f.down.weight, f.down.bias, f.up.weight, f.up.bias))
        inner = function(torch.einsum("mi,bti->btm", D, x.double()) + d)
        expected = scale * (torch.einsum("im,btm->bti", U, inner) + u)
        torch.testing.assert_close(f(x).double(), expected, atol=1e-4, rtol=1e-5)


# The start


def test_training_starts_at_the_unchanged_model(model, ids):
    for placement in PLACEMENTS:
        tuned = BottleneckAdapters(placement=placement).apply(model)
        assert torch.equal(outputs(tuned.module, ids), outputs(model.module, ids))


def test_the_first_matrix_starts_random_and_the_rest_at_zero():
    f = Bottleneck(400, 50, "relu")
    limit = 400**-0.5  # uniform between ± this
    assert f.down.weight.abs().max() <= limit
    assert f.down.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)
    assert not any(parameter.any() for parameter in (f.down.bias, f.up.weight, f.up.bias))


@pytest.mark.parametrize("train", [True, False])
def test_new_layers_are_in_the_mode_of_the_model(tiny, train):
    tiny.module.train(train)
    assert {module.training for module in BottleneckAdapters().apply(tiny).module.modules()} == {train}


# What is trained


def test_it_trains_as_many_numbers_as_the_paper_counts(model):
    for size, placement in itertools.product([1, 7], PLACEMENTS):
        tuned = BottleneckAdapters(size=size, placement=placement).apply(model)
        each = 2 * size * 32 + 32 + size
        assert sum(p.numel() for p in tuned.trainable().values()) == 2 * PER_BLOCK[placement] * each


def test_gradients_reach_the_adapters_and_nothing_else(model, ids):
    for placement in PLACEMENTS:
        tuned = trained(model, BottleneckAdapters(placement=placement))
        backward(tuned.module, ids)
        for name, parameter in tuned.module.named_parameters():
            assert (parameter.grad is not None and bool(parameter.grad.any())) == (".bottleneck." in name), name
        assert all(p.grad is None for p in model.module.parameters())


def test_the_base_stays_as_it_was_and_shares_its_weights(model, ids):
    for placement in PLACEMENTS:
        before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
        expected, names = outputs(model.module, ids), [name for name, _ in model.module.named_modules()]

        tuned = trained(model, BottleneckAdapters(placement=placement))

        assert torch.equal(outputs(model.module, ids), expected)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
        assert [name for name, _ in model.module.named_modules()] == names
        assert all(p.requires_grad for p in model.module.parameters())
        assert {p.data_ptr() for p in model.parameters()} <= {p.data_ptr() for p in tuned.parameters()}


def test_inplace_adapts_the_model_itself(tiny):
    tuned = BottleneckAdapters().apply(tiny, inplace=True)
    assert tuned is tiny
    assert len(adapters_of(tiny)) == 4


def test_weights_stay_in_float32_and_products_run_in_the_type_of_autocast(causal, ids):
    tuned = trained(causal, BottleneckAdapters())
    expected = outputs(tuned.module, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = outputs(tuned.module, ids)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.05, rtol=0.05)
    assert {p.dtype for p in tuned.trainable().values()} == {torch.float32}
    assert Bottleneck(8, 2, "relu")(torch.ones(1, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


# Other architectures


@pytest.mark.parametrize("name", KNOWN)
def test_adapters_stand_where_all_that_a_block_adds_passes(name, ids):
    """With nothing coming out of the adapted layers, a block returns what it got, once more normalized at most."""
    tuned = BottleneckAdapters(placement="houlsby").apply(small(name))
    assert len(adapters_of(tuned)) == 4
    for layer in adapters_of(tuned).values():
        layer.base.register_forward_hook(lambda module, inputs, h: torch.zeros_like(h))
    with torch.no_grad():
        states = tuned.module(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    torch.testing.assert_close(states[1], states[0], atol=1e-4, rtol=1e-4)


def test_every_known_architecture_starts_unchanged_and_learns(ids):
    for name, placement in [
        (name, placement) for name in KNOWN for placement in PLACEMENTS if (name, placement) != ("opt", "parallel")
    ]:
        model, method = small(name), BottleneckAdapters(size=3, placement=placement)
        base = outputs(model.module, ids)
        assert torch.equal(outputs(method.apply(model).module, ids), base)
        tuned = trained(model, method)
        assert len(adapters_of(tuned)) == 2 * PER_BLOCK[placement]
        assert (outputs(tuned.module, ids) - base).abs().max() > 1e-2


def test_parallel_needs_an_mlp_that_is_a_module():
    with pytest.raises(lk.LabkitError, match="MLP of opt is no module of its own") as caught:
        BottleneckAdapters(placement="parallel").apply(small("opt"))
    assert '"houlsby" or "pfeiffer"' in caught.value.remedy


def test_an_unknown_architecture_gets_the_list_of_those_known():
    message = r"'gpt_bigcode' .*Known architectures: bert, .*llama, .*roberta\."
    for placement in PLACEMENTS:
        with pytest.raises(lk.LabkitError, match=message) as caught:
            BottleneckAdapters(placement=placement).apply(small(UNKNOWN))
        assert "target_modules=" in caught.value.remedy


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"target_modules": "mlp.c_proj"}, 2),
        ({"target_modules": ["attn.c_proj", "mlp.c_proj"]}, 4),
        ({"target_modules": "mlp", "placement": "parallel"}, 2),
    ],
)
def test_the_modules_of_an_unknown_architecture_can_be_named(ids, tmp_path, settings, count):
    model, method = small(UNKNOWN), BottleneckAdapters(size=3, **settings)
    assert torch.equal(outputs(method.apply(model).module, ids), outputs(model.module, ids))
    tuned = trained(model, method)
    assert sum(p.numel() for p in tuned.trainable().values()) == count * (2 * 3 * 32 + 32 + 3)
    method.save(tuned, tmp_path)
    assert torch.equal(outputs(method.load(model, tmp_path).module, ids), outputs(tuned.module, ids))


# Modules of one's own


def test_an_adapter_is_as_wide_as_what_comes_out_of_its_module(causal, ids):
    tuned = trained(causal, BottleneckAdapters(size=3, target_modules=["model.layers.1.mlp.up_proj", "k_proj"]))
    widths = {path: layer.bottleneck.up.out_features for path, layer in adapters_of(tuned).items()}
    assert widths == {
        "model.layers.0.self_attn.k_proj": 16,
        "model.layers.1.self_attn.k_proj": 16,
        "model.layers.1.mlp.up_proj": 64,
    }
    assert not torch.equal(outputs(tuned.module, ids), outputs(causal.module, ids))


def test_naming_the_modules_of_a_placement_gives_the_placement(model, ids):
    names = ["o_proj", "down_proj"] if model.kind == "causal" else "output.dense"
    named, placed = (trained(model, BottleneckAdapters(target_modules=targets)) for targets in (names, "auto"))
    assert adapters_of(named).keys() == adapters_of(placed).keys()
    assert torch.equal(outputs(named.module, ids), outputs(placed.module, ids))


def test_a_name_that_no_module_has_gets_the_nearest(causal):
    for name, near in [("down_prj", "down_proj"), ("MLP.down_proj", "down_proj")]:
        with pytest.raises(lk.LabkitError, match=f"No part of this model is called '{name}'; near to it: .*{near}"):
            BottleneckAdapters(target_modules=["q_proj", name]).apply(causal)
        assert not adapters_of(causal)


def test_an_empty_list_of_modules_is_refused(causal):
    with pytest.raises(lk.LabkitError, match="target_modules is empty") as caught:
        BottleneckAdapters(target_modules=[]).apply(causal)
    assert "down_proj" in caught.value.remedy


def test_modules_inside_one_another_are_refused(causal):
    with pytest.raises(lk.LabkitError, match=r"model\.layers\.0\.mlp\.down_proj"):
        BottleneckAdapters(target_modules=["mlp", "down_proj"]).apply(causal)


def test_nothing_stands_beside_a_module_whose_input_and_output_differ_in_width(causal):
    for name in ["up_proj", "down_proj"]:
        with pytest.raises(lk.LabkitError, match=name):
            BottleneckAdapters(placement="parallel", target_modules=name).apply(causal)


def test_a_module_that_returns_several_things_is_refused(ids):
    for name, part in [("llama", "self_attn"), ("bert", "attention")]:
        method = BottleneckAdapters(target_modules=part)
        with pytest.raises(lk.LabkitError):
            outputs(method.apply(small(name)).module, ids)


def test_an_adapter_can_stand_behind_a_whole_block(ids):
    for name, block in [("llama", "model.layers.1"), ("bert", "encoder.layer.1")]:
        model = small(name)
        tuned = trained(model, BottleneckAdapters(target_modules=block))
        assert (outputs(tuned.module, ids) - outputs(model.module, ids)).abs().max() > 1e-2


# Files


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_loaded_adapter_answers_bit_for_bit_alike(model, ids, tmp_path, settings):
    method = BottleneckAdapters(size=5, **settings)
    tuned = trained(model, method)
    method.save(tuned, tmp_path)
    torch.manual_seed(9)  # loading draws new weights first, which must all be overwritten

    loaded = method.load(model, tmp_path)

    assert torch.equal(outputs(loaded.module, ids), outputs(tuned.module, ids))
    assert {name: p.requires_grad for name, p in loaded.module.named_parameters()} == {
        name: p.requires_grad for name, p in tuned.module.named_parameters()
    }
    assert not adapters_of(model)


@pytest.mark.parametrize(
    ("saved", "loaded", "message"),
    [
        ({"size": 3}, {"size": 4}, r"\(3, 32\) there and \(4, 32\) here"),
        ({"placement": "pfeiffer"}, {"placement": "houlsby"}, r"layers\.0\.self_attn\.o_proj\..* is missing there"),
        ({"placement": "houlsby"}, {"placement": "pfeiffer"}, r"self_attn\.o_proj\..* is not in the model"),
        ({"placement": "pfeiffer"}, {"placement": "parallel"}, r"layers\.0\.mlp\..* is missing there"),
    ],
)
def test_an_adapter_of_other_settings_is_refused(causal, tmp_path, saved, loaded, message):
    BottleneckAdapters(**saved).save(BottleneckAdapters(**saved).apply(causal), tmp_path)
    with pytest.raises(lk.LabkitError, match=f"does not fit: .*{message}") as caught:
        BottleneckAdapters(**loaded).load(causal, tmp_path)
    assert "settings" in caught.value.remedy


def test_an_adapter_of_another_model_is_refused(causal, encoder, tmp_path):
    BottleneckAdapters().save(BottleneckAdapters().apply(encoder), tmp_path)
    with pytest.raises(lk.LabkitError, match=r"does not fit: .* is missing there"):
        BottleneckAdapters().load(causal, tmp_path)


@pytest.fixture
def run(tiny, colours, tmp_path):
    run = lk.finetune(tiny, colours, BottleneckAdapters(size=3, activation="gelu", scale=2.0), **QUICK)
    run.save(tmp_path / "run")
    return run


def test_a_run_is_kept_and_brought_back(run, tiny, ids, tmp_path):
    assert run.trained_parameters == 4 * (2 * 3 * 32 + 32 + 3)
    loaded = lk.load_run(tmp_path / "run", tiny)
    assert loaded.method == run.method
    assert torch.equal(outputs(loaded.model.module, ids), outputs(run.model.module, ids))


def test_a_run_does_not_go_on_another_base(run, tiny, tmp_path):
    wide = tiny_model("llama", tiny.tokenizer, "wide", hidden_size=64)
    with pytest.raises(lk.LabkitError, match="was trained on tiny, and wide is not that model"):
        lk.load_run(tmp_path / "run", wide)
    with pytest.raises(lk.LabkitError, match=r"does not fit: .*\(3, 32\) there and \(3, 64\) here"):
        lk.load_run(tmp_path / "run", wide, force=True)


def test_settings_survive_json():
    method = BottleneckAdapters(size=3, placement="parallel", activation="silu", scale=0.5, target_modules=["mlp"])
    assert get_method(method.to_dict()) == method
    assert get_method("bottleneck") == BottleneckAdapters()


# Weights in 4 bits


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_over_4_bits_it_computes_with_the_dequantized_weights(model, ids, tmp_path, placement, backend):
    method = BottleneckAdapters(size=5, placement=placement)
    quantized = lk.quantize_model(model, lk.Quantization(block_size=32, backend=backend))
    assert torch.equal(outputs(method.apply(quantized).module, ids), outputs(quantized.module, ids))

    floats = lk.merge(LoRA().apply(quantized), dequantize=True)  # an update of zero
    tuned, reference = trained(quantized, method), trained(floats, method)

    torch.testing.assert_close(outputs(tuned.module, ids), outputs(reference.module, ids), atol=1e-5, rtol=1e-5)
    backward(tuned.module, ids)
    backward(reference.module, ids)
    for parameter, expected in zip(tuned.trainable().values(), reference.trainable().values(), strict=True):
        assert expected.grad.abs().max() > 1e-3
        torch.testing.assert_close(parameter.grad, expected.grad, atol=1e-4, rtol=1e-4)

    method.save(tuned, tmp_path)
    assert torch.equal(outputs(method.load(quantized, tmp_path).module, ids), outputs(tuned.module, ids))


# What is refused


def test_merging_is_refused(causal, ids):
    for dequantize, placement in itertools.product([False, True], PLACEMENTS):
        tuned = trained(causal, BottleneckAdapters(placement=placement))
        expected = outputs(tuned.module, ids)
        with pytest.raises(
            lk.LabkitError, match="cannot be merged: no weight of a linear layer does what it does"
        ) as caught:
            lk.merge(tuned, dequantize=dequantize)
        assert "beside the model" in caught.value.remedy
        assert torch.equal(outputs(tuned.module, ids), expected)


def test_an_adapter_on_an_adapter_is_refused(causal):
    for first in [BottleneckAdapters(), LoRA(), IA3()]:
        with pytest.raises(lk.LabkitError, match="llama has an adapter already"):
            BottleneckAdapters().apply(first.apply(causal))


def test_the_remedy_for_an_adapter_on_a_bottleneck_is_not_to_merge_it(causal):
    with pytest.raises(lk.LabkitError) as caught:
        LoRA().apply(BottleneckAdapters().apply(causal))
    assert "lk.merge" not in caught.value.remedy


def test_a_size_that_is_no_whole_number_from_1_up_is_named():
    for size in [0, -4, True, 2.5, "8", None]:
        with pytest.raises(lk.LabkitError, match=f"size must be a whole number from 1 up, not {size!r}"):
            BottleneckAdapters(size=size)


def test_a_scale_that_is_not_positive_is_named():
    for scale in [0, -1.0, math.nan, math.inf]:
        with pytest.raises(lk.LabkitError, match=f"scale must be above 0 and finite, not {scale}"):
            BottleneckAdapters(scale=scale)


def test_an_unknown_name_gets_the_nearest_and_the_list():
    for settings, message in [
        ({"placement": "houlsbi"}, r"no placement of adapters called 'houlsbi'.*\n.*'houlsby'.*houlsby, paral.*pfeif"),
        ({"placement": None}, r"no placement of adapters called 'None'.*\n.*houlsby, parallel, pfeiffer"),
        ({"activation": "rellu"}, r"no activation called 'rellu'.*\n.*'relu'.*gelu, relu, silu"),
        ({"activation": "sigmoid"}, r"no activation called 'sigmoid'.*\n.*gelu, relu, silu"),
    ]:
        with pytest.raises(lk.LabkitError, match=message):
            BottleneckAdapters(**settings)


def test_a_refused_model_is_left_alone(causal):
    for inplace in (False, True):
        with pytest.raises(lk.LabkitError):
            BottleneckAdapters(target_modules="nope").apply(causal, inplace=inplace)
    assert not adapters_of(causal)
    assert all(p.requires_grad for p in causal.parameters())
