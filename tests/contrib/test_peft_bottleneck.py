import copy
import math
import warnings

import peft
import pytest
import torch
from architectures import KNOWN, UNKNOWN, backward, outputs, small
from moved import trained
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import labkit as lk
from labkit.contrib.peft_bottleneck import BottleneckConfig, BottleneckModel, BottleneckTunerLayer
from labkit.methods import BottleneckAdapters
from labkit.methods.adapter import adapters_of

pytestmark = pytest.mark.usefixtures("one_thread")

PLACEMENTS = ["houlsby", "pfeiffer", "parallel"]
BACKENDS = ["labkit", "bitsandbytes"]
EACH = 2 * 4 * 32 + 32 + 4  # numbers of an adapter of size 4


def config(model, **settings):
    kind = "CAUSAL_LM" if model.kind == "causal" else "FEATURE_EXTRACTION"
    return BottleneckConfig(**{"task_type": kind, "bottleneck_size": 4, **settings})


def plain(model):
    return copy.deepcopy(model.module)


def of_adapter(module, name="default"):
    """The parameters of the adapter of a name."""
    return {path: p for path, p in module.named_parameters() if name in path.split(".")}


@torch.no_grad()
def move(module, name="default", seed=0):
    """Let an adapter do something: its numbers, most of which start at zero, become random, the same for a seed."""
    torch.manual_seed(seed)
    for parameter in of_adapter(module, name).values():
        parameter.normal_(std=0.2)


def wrapped(model, **settings):
    """PEFT's model around a copy, with an adapter that does something."""
    made = peft.get_peft_model(plain(model), config(model, **settings)).eval()
    move(made)
    return made


@pytest.fixture
def two(model):
    """PEFT's model with two adapters at different places, of which the first is active."""
    made = wrapped(model)
    made.add_adapter("other", config(model, bottleneck_size=6, placement="pfeiffer", activation="gelu", scale=2.0))
    move(made, "other", seed=1)
    return made.eval()


def by_role(layer, name="default"):
    """An adapter's four tensors in one layer by what they are, wherever the layer keeps them."""
    found = of_adapter(layer, name)
    return {("down" in path, path.rsplit(".", 1)[-1]): p for path, p in found.items()}


def same_weights(twin, tuned):
    """Pairs of our parameters and PEFT's."""
    for path, layer in adapters_of(tuned).items():
        theirs, f = by_role(twin.base_model.model.get_submodule(path)), layer.bottleneck
        for down, linear in ((True, f.down), (False, f.up)):
            yield linear.weight, theirs[down, "weight"]
            yield linear.bias, theirs[down, "bias"]


def test_outputs_and_gradients_are_those_of_labkit_with_the_same_weights(model, ids):
    for settings in [
        {"placement": "houlsby"},
        {"placement": "pfeiffer", "activation": "gelu"},
        {"placement": "parallel", "activation": "silu", "scale": 0.5},
    ]:
        tuned = trained(model, BottleneckAdapters(size=4, **settings))
        twin = peft.get_peft_model(plain(model), config(model, **settings))
        assert torch.equal(outputs(twin, ids), outputs(model.module, ids))  # before anything has moved
        assert sum(p.requires_grad for p in twin.parameters()) == len(tuned.trainable())

        with torch.no_grad():
            for ours, theirs in same_weights(twin, tuned):
                theirs.copy_(ours)

        assert torch.equal(outputs(twin, ids), outputs(tuned.module, ids))
        backward(twin, ids)
        backward(tuned.module, ids)
        for ours, theirs in same_weights(twin, tuned):
            assert ours.grad.any()
            torch.testing.assert_close(theirs.grad, ours.grad, atol=1e-6, rtol=1e-5)


def test_every_known_architecture_can_be_wrapped(ids):
    for name in KNOWN:
        model = small(name)
        made = wrapped(model)
        assert sum(p.numel() for p in of_adapter(made).values()) == 4 * EACH
        assert (outputs(made, ids) - outputs(model.module, ids)).abs().max() > 1e-2


def test_an_unknown_architecture_gets_the_list_of_those_known():
    with pytest.raises(
        lk.LabkitError, match=r"'gpt_bigcode' .*Known architectures: bert, .*llama, .*roberta\."
    ) as caught:
        wrapped(small(UNKNOWN))
    assert "target_modules=" in caught.value.remedy


def test_the_modules_of_an_unknown_architecture_can_be_named(ids):
    for names, count in [(["mlp.c_proj"], 2), (r".*\.h\.1\.(attn|mlp)\.c_proj", 2)]:
        model = small(UNKNOWN)
        made = wrapped(model, target_modules=names)
        assert sum(p.numel() for p in of_adapter(made).values()) == count * EACH
        assert not torch.equal(outputs(made, ids), outputs(model.module, ids))


def test_any_network_of_torch_can_be_wrapped():
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(3, 6)
    expected = network(x)
    made = peft.get_peft_model(network, BottleneckConfig(bottleneck_size=4, target_modules=["0"]))
    assert torch.equal(made(x), expected)
    assert sum(p.numel() for p in made.parameters() if p.requires_grad) == 2 * 4 * 8 + 8 + 4


def test_modules_of_ones_own_and_exceptions(causal, ids):
    made = wrapped(causal, target_modules=["up_proj", "q_proj"], exclude_modules=["layers.0.mlp.up_proj"])
    layers = {path: layer for path, layer in made.named_modules() if isinstance(layer, BottleneckTunerLayer)}
    assert [path.split("layers.")[1] for path in layers] == [
        "0.self_attn.q_proj",
        "1.self_attn.q_proj",
        "1.mlp.up_proj",
    ]
    assert sum(p.numel() for p in of_adapter(made).values()) == 2 * EACH + 2 * 4 * 64 + 64 + 4


def test_a_name_that_no_module_has_is_refused(causal):
    with pytest.raises(ValueError, match=r"Target modules .*nope.* not found"):
        wrapped(causal, target_modules=["nope"])


def test_an_impossible_setting_is_named():
    for settings, message in [
        ({"bottleneck_size": 0}, "size must be a whole number from 1 up, not 0"),
        ({"bottleneck_size": True}, "size must be a whole number from 1 up, not True"),
        ({"placement": "houlsbi"}, "no placement of adapters called 'houlsbi'.*\n.*'houlsby'"),
        ({"activation": "rellu"}, "no activation called 'rellu'.*\n.*'relu'"),
        ({"scale": 0}, "scale must be above 0 and finite, not 0"),
        ({"scale": math.nan}, "scale must be above 0 and finite, not nan"),
    ]:
        with pytest.raises(lk.LabkitError, match=message):
            BottleneckConfig(**settings)


def test_parallel_needs_an_mlp_that_is_a_module():
    with pytest.raises(lk.LabkitError, match="MLP of opt is no module of its own"):
        wrapped(small("opt"), placement="parallel")


def test_peft_counts_what_is_trained(causal, capsys):
    made = wrapped(causal)
    every = sum(p.numel() for p in causal.parameters())
    assert made.get_nb_trainable_parameters() == (4 * EACH, every + 4 * EACH)
    made.print_trainable_parameters()
    assert f"trainable params: {4 * EACH:,} || all params: {every + 4 * EACH:,}" in capsys.readouterr().out


# Files


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_saved_adapter_answers_bit_for_bit_alike(model, ids, tmp_path, placement):
    made = wrapped(model, placement=placement, activation="silu", scale=0.5)
    made.save_pretrained(tmp_path)
    for settings in ({}, {"is_trainable": True}, {"low_cpu_mem_usage": True}):
        loaded = peft.PeftModel.from_pretrained(plain(model), tmp_path, **settings)
        assert torch.equal(outputs(loaded, ids), outputs(made, ids))
        assert isinstance(loaded.base_model, BottleneckModel)
        trainable = {path for path, p in loaded.named_parameters() if p.requires_grad}
        assert trainable == (set(of_adapter(loaded)) if "is_trainable" in settings else set())


def test_a_saved_config_is_read_back(causal, tmp_path):
    wrapped(causal, placement="parallel", scale=0.5).save_pretrained(tmp_path)
    read = peft.PeftConfig.from_pretrained(tmp_path)
    assert isinstance(read, BottleneckConfig)
    assert (read.peft_type, read.bottleneck_size, read.placement, read.scale) == ("BOTTLENECK", 4, "parallel", 0.5)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_peft_reads_what_labkit_saves(model, ids, tmp_path, placement):
    method = BottleneckAdapters(size=4, placement=placement, activation="gelu", scale=0.5)
    tuned = trained(model, method)
    method.save(tuned, tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        loaded = peft.PeftModel.from_pretrained(plain(model), tmp_path)
    assert torch.equal(outputs(loaded, ids), outputs(tuned.module, ids))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_labkit_reads_what_peft_saves(model, ids, tmp_path, placement):
    made = wrapped(model, placement=placement, activation="gelu", scale=0.5)
    made.save_pretrained(tmp_path)
    loaded = BottleneckAdapters(size=4, placement=placement, activation="gelu", scale=0.5).load(model, tmp_path)
    assert torch.equal(outputs(loaded.module, ids), outputs(made, ids))


def test_an_adapter_may_be_loaded_under_another_name(causal, ids, tmp_path):
    made = wrapped(causal)
    made.save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "adapter_model.safetensors") if "default" in name]
    loaded = peft.PeftModel.from_pretrained(plain(causal), tmp_path, adapter_name="mine")
    loaded.load_adapter(tmp_path, "again")
    for name in ("mine", "again"):
        loaded.set_adapter(name)
        assert torch.equal(outputs(loaded, ids), outputs(made, ids))


def test_other_modules_can_be_trained_and_saved_whole(encoder, ids, tmp_path):
    made = wrapped(encoder, modules_to_save=["pooler.dense"])
    assert sum(p.numel() for p in made.parameters() if p.requires_grad) == 4 * EACH + 32 * 32 + 32
    made.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(plain(encoder), tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).pooler_output, made(input_ids=ids).pooler_output)


# Several adapters


def alone(two, ids):
    """What a model with two adapters answers with the first, with the second, and with none."""
    answers = {}
    for name in ("default", "other"):
        two.set_adapter(name)
        answers[name] = outputs(two, ids)
    with two.disable_adapter():
        answers["__base__"] = outputs(two, ids)
    return answers


def test_adapters_are_switched(two, model, ids):
    answers = alone(two, ids)
    own = wrapped(model, bottleneck_size=6, placement="pfeiffer", activation="gelu", scale=2.0)
    move(own, seed=1)
    assert torch.equal(answers["default"], outputs(wrapped(model), ids))
    assert torch.equal(answers["other"], outputs(own, ids))
    assert not torch.equal(answers["default"], answers["other"])


def test_a_disabled_adapter_leaves_the_base(two, model, ids):
    for name in ("default", "other"):
        two.set_adapter(name)
        active = outputs(two, ids)
        with two.disable_adapter():
            assert torch.equal(outputs(two, ids), outputs(model.module, ids))
        assert torch.equal(outputs(two, ids), active)


def test_only_the_active_adapter_has_gradients(two, ids):
    for name in ("default", "other"):
        two.set_adapter(name)
        two.zero_grad()
        backward(two, ids)
        reached = {path for path, p in two.named_parameters() if p.grad is not None and p.grad.any()}
        assert reached == set(of_adapter(two, name)) == {path for path, p in two.named_parameters() if p.requires_grad}


def test_a_new_adapter_waits_frozen_and_changes_nothing(causal, ids):
    made = wrapped(causal)
    expected = outputs(made, ids)
    made.add_adapter("other", config(causal, bottleneck_size=6))
    move(made, "other", seed=1)
    assert torch.equal(outputs(made, ids), expected)
    assert not any(p.requires_grad for p in of_adapter(made, "other").values())
    assert all(p.requires_grad for p in of_adapter(made).values())


@pytest.mark.parametrize("placement", ["pfeiffer", "parallel"])
def test_adapters_that_are_active_together_act_in_turn(causal, placement):
    made = wrapped(causal, placement=placement)
    made.add_adapter("other", config(causal, bottleneck_size=6, placement=placement))
    move(made, "other", seed=1)
    layer = next(layer for layer in made.modules() if isinstance(layer, BottleneckTunerLayer))
    x = torch.randn(2, 5, 32 if placement == "parallel" else 64)

    def change(name, h):
        role = by_role(layer, name)
        inner = F.relu(F.linear(h, role[True, "weight"], role[True, "bias"]))
        return F.linear(inner, role[False, "weight"], role[False, "bias"])

    made.base_model.set_adapter(["default", "other"])
    start = x if placement == "parallel" else layer.base_layer(x)
    first = change("default", start)
    second = change("other", start + first)
    torch.testing.assert_close(layer(x), layer.base_layer(x) + first + second, atol=1e-5, rtol=1e-5)


def test_a_deleted_adapter_is_gone(two, model, ids):
    expected = alone(two, ids)["default"]
    two.set_adapter("default")
    two.delete_adapter("other")
    assert torch.equal(outputs(two, ids), expected)
    assert not of_adapter(two, "other")
    assert list(two.peft_config) == ["default"]
    two.add_adapter("other", config(model))  # the name is free again
    with pytest.raises(ValueError, match="nope does not exist"):
        two.delete_adapter("nope")


def test_a_taken_name_is_refused(two, model):
    with pytest.raises(ValueError, match="'other' already exists"):
        two.add_adapter("other", config(model))


def test_an_adapter_of_another_kind_is_refused(causal):
    with pytest.raises(ValueError, match=r"different peft types.*BOTTLENECK.*LORA"):
        wrapped(causal).add_adapter("second", peft.LoraConfig(target_modules=["q_proj"]))


def test_a_layer_has_adapters_of_one_placement(causal):
    made = wrapped(causal, placement="pfeiffer", target_modules=["q_proj"])
    with pytest.raises(lk.LabkitError, match="parallel"):
        made.add_adapter("other", config(causal, placement="parallel", target_modules=["q_proj"]))


# change, and what is saved cannot be loaded any more; in the second, the new adapter gets half of its bottlenecks.
def test_parallel_adapters_and_others_do_not_share_a_model(model):
    for first, second in [("houlsby", "parallel"), ("parallel", "houlsby")]:
        made = wrapped(model, placement=first)
        with pytest.raises(lk.LabkitError, match="parallel"):
            made.add_adapter("other", config(model, placement=second))


# An adapter for each row


def test_each_row_of_a_batch_has_the_adapter_that_it_names(two, ids):
    answers = alone(two, ids)
    two.set_adapter("default")
    for names in (["other", "__base__", "default"], ["default", "other", "other"], ["__base__"] * 3):
        mixed = outputs(two, ids, adapter_names=names)
        for row, name in enumerate(names):
            torch.testing.assert_close(mixed[row], answers[name][row], atol=1e-6, rtol=0)
    assert torch.equal(outputs(two, ids), answers["default"])


def test_rows_are_those_of_the_batch_where_a_layer_sees_it_flattened(ids):
    model = small("opt")
    made = wrapped(model)
    made.add_adapter("other", config(model))
    move(made, "other", seed=1)
    answers = alone(made, ids)
    mixed = outputs(made, ids, adapter_names=["other", "__base__", "default"])
    for row, name in enumerate(["other", "__base__", "default"]):
        torch.testing.assert_close(mixed[row], answers[name][row], atol=1e-6, rtol=0)


def test_as_many_names_as_rows_are_needed(two, ids):
    for names in [["default", "other"], ["default"] * 4, []]:
        with pytest.raises((lk.LabkitError, ValueError), match="adapter_names"):
            outputs(two, ids, adapter_names=names)


@pytest.mark.parametrize("beams", [1, 2])
def test_texts_are_continued_each_with_its_own_adapter(causal, ids, beams):
    made = wrapped(causal)
    made.add_adapter("other", config(causal))
    move(made, "other", seed=1)
    with torch.no_grad():
        for parameter in (*of_adapter(made).values(), *of_adapter(made, "other").values()):
            parameter.mul_(3)
    made.eval()

    def continued(**inputs):
        mask = torch.ones_like(ids)
        return made.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, num_beams=beams, **inputs)

    answers = {"default": continued()}
    made.set_adapter("other")
    answers["other"] = continued()
    assert (answers["default"] != answers["other"]).any(dim=1).all()
    names = ["default", "other", "default"]
    mixed = continued(adapter_names=names)
    for row, name in enumerate(names):
        assert torch.equal(mixed[row], answers[name][row])


def test_modules_that_were_saved_whole_follow_the_row(encoder, ids):
    made = wrapped(encoder, modules_to_save=["pooler.dense"])
    made.add_adapter("other", config(encoder, modules_to_save=["pooler.dense"]))
    move(made, "other", seed=1)
    made.eval()

    @torch.no_grad()
    def pooled(**inputs):
        return made(input_ids=ids, **inputs).pooler_output

    made.set_adapter("other")
    other = pooled()
    made.set_adapter("default")
    default = pooled()
    mixed = pooled(adapter_names=["default", "other", "other"])
    torch.testing.assert_close(mixed, torch.cat([default[:1], other[1:]]), atol=1e-6, rtol=0)


def test_an_unknown_name_for_a_row_gets_the_list(two, ids):
    with pytest.raises(lk.LabkitError, match=r"no adapter called nope.*\n.*default, other"):
        outputs(two, ids, adapter_names=["default", "nope", "__base__"])


def test_rows_have_names_in_inference_only(two, ids):
    with pytest.raises(lk.LabkitError, match=r"for inference.*\n.*eval\(\)"):
        two.train()(input_ids=ids, adapter_names=["default"] * 3)


# Taking adapters off


def test_merging_is_refused(two, ids):
    for merge in ["merge_and_unload", "merge_adapter"]:
        expected = outputs(two, ids)
        with pytest.raises(
            lk.LabkitError, match="cannot be merged: no weight of a linear layer does what they do"
        ) as caught:
            getattr(two, merge)()
        assert "unload()" in caught.value.remedy
        assert torch.equal(outputs(two, ids), expected)


def test_unloading_leaves_the_base(model, ids):
    for placement in PLACEMENTS:
        base = wrapped(model, placement=placement).unload()
        assert torch.equal(outputs(base, ids), outputs(model.module, ids))
        assert [type(m) for m in base.modules()] == [type(m) for m in model.module.modules()]


# Other weights than float32 on a CPU


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_it_works_over_4_bits(model, ids, tmp_path, placement, backend):
    quantized = lk.quantize_model(model, lk.Quantization(block_size=32, backend=backend))
    base = outputs(quantized.module, ids)
    tuned = trained(quantized, BottleneckAdapters(size=4, placement=placement))
    twin = peft.get_peft_model(quantized.copy(share_weights=True).module, config(model, placement=placement))
    assert torch.equal(outputs(twin, ids), base)
    with torch.no_grad():
        for ours, theirs in same_weights(twin, tuned):
            theirs.copy_(ours)

    assert torch.equal(outputs(twin, ids), outputs(tuned.module, ids))
    backward(twin, ids)
    assert all(p.grad is not None and p.dtype == torch.float32 for p in of_adapter(twin).values())
    twin.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(quantized.copy(share_weights=True).module, tmp_path)
    assert torch.equal(outputs(loaded, ids), outputs(twin, ids))
    with twin.disable_adapter():
        assert torch.equal(outputs(twin, ids), base)


def test_over_16_bits_the_adapter_stays_in_float32(causal, ids):
    for placement in PLACEMENTS:
        made = peft.get_peft_model(plain(causal).bfloat16(), config(causal, placement=placement))
        move(made)
        assert {p.dtype for p in of_adapter(made).values()} == {torch.float32}
        assert outputs(made, ids).dtype == torch.bfloat16
        torch.testing.assert_close(
            outputs(made, ids).float(), outputs(wrapped(causal, placement=placement), ids), atol=0.2, rtol=0.05
        )


def test_an_adapter_is_made_where_the_model_is(causal):
    for placement in PLACEMENTS:
        made = peft.get_peft_model(plain(causal).to("meta"), config(causal, placement=placement))
        assert {p.device.type for p in of_adapter(made).values()} == {"meta"}


def test_mixed_models_of_peft_are_closed_to_new_methods(causal):
    with pytest.raises(ValueError, match="'BOTTLENECK' is not compatible with the `PeftMixedModel`"):
        peft.get_peft_model(plain(causal), config(causal), mixed=True)
