"""The weights that each way makes, against plain arithmetic, and how far they are from the live model."""

import pytest
import torch
from moved import trained
from tiny import STRONG, tiny_model

import labkit as lk
from labkit.comparisons.roundings import BLOCK, WAYS, beside, merged
from labkit.evaluation import logit_difference
from labkit.methods.adapter import adapters_of
from labkit.quant.blockwise import quantize
from labkit.quant.layers import dequantized, is_4bit

PROMPTS = ["The colour of the sky", "A small boat left the harbour of an old town", "Water"]
METHODS = {"lora": lk.LoRA(rank=2), "qlora": lk.QLoRA(rank=2)}
ALL = [(base, way) for base, ways in WAYS.items() for way in ways]
FLOATS = [(base, way) for base, way in ALL if "live" not in way and "nf4" not in way]


@pytest.fixture
def base(tokenizer, one_thread):
    """A tiny model in bfloat16 products whose rows are as long as a block."""
    reader = tokenizer("smollm2-135m")
    sizes = {"hidden_size": BLOCK, "intermediate_size": 2 * BLOCK, "tie_word_embeddings": True, **STRONG}
    model = tiny_model("llama", reader, "tiny", vocab_size=len(reader), **sizes)
    model.precision = torch.bfloat16
    return model


@pytest.fixture
def tuned(base):
    return {name: trained(base, method) for name, method in METHODS.items()}


def weights(model):
    """The matrices inside the blocks, by path, in float32."""
    layers = {path: layer for path, layer in model.module.named_modules() if path.endswith("_proj")}
    return {path: (dequantized(x, torch.float32) if is_4bit(x) else x).weight.float() for path, x in layers.items()}


def updates(tuned):
    return {path: 8 * each.lora_B.detach() @ each.lora_A.detach() for path, each in adapters_of(tuned).items()}


def nf4(weight):
    return quantize(weight, "nf4", BLOCK, True).dequantize()


def test_merged_weights_are_those_of_plain_arithmetic(base, tuned):
    for name, way, start in (
        ("lora", "float32", lambda weight: weight),
        ("qlora", "float32", nf4),
        ("qlora", "original-float32", lambda weight: weight),
    ):
        change, found = updates(tuned[name]), weights(WAYS[name][way](tuned[name], base))
        assert len(found) == 14
        for path, weight in weights(base).items():
            torch.testing.assert_close(found[path], start(weight) + change[path], atol=1e-5, rtol=1e-5)


def test_every_rounding_is_that_of_the_exact_sum(base, tuned):
    for name, way, exact, rounded in (
        ("lora", "bfloat16", "float32", lambda weight: weight.bfloat16().float()),
        ("qlora", "bfloat16", "float32", lambda weight: weight.bfloat16().float()),
        ("qlora", "original-bfloat16", "original-float32", lambda weight: weight.bfloat16().float()),
        ("lora", "nf4", "float32", nf4),
        ("qlora", "nf4-again", "float32", nf4),
    ):
        found, sums = (weights(WAYS[name][each](tuned[name], base)) for each in (way, exact))
        for path, weight in sums.items():
            torch.testing.assert_close(found[path], rounded(weight), atol=1e-6, rtol=1e-6)


def test_8_bits_are_off_by_half_a_step_at_most(base, tuned):
    exact = weights(merged(tuned["lora"]))
    for way, size in (("int8-blocks", BLOCK), ("int8-matrix", None)):
        found = weights(WAYS["lora"][way](tuned["lora"], base))
        for path, weight in exact.items():
            blocks, near = (each.reshape(-1, size or each.numel()) for each in (weight, found[path]))
            step = blocks.abs().amax(dim=1, keepdim=True) / 127
            codes = near / step
            torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
            assert ((blocks - near).abs() <= 0.501 * step).all()
            assert len(codes.round().unique()) > 100


def test_the_ways_differ_from_the_live_model_in_the_order_of_their_rounding(base, tuned):
    apart = {(n, way): logit_difference(tuned[n], WAYS[n][way](tuned[n], base), PROMPTS) for n, way in ALL}
    kl = {key: each.kl for key, each in apart.items()}
    for name in WAYS:
        assert apart[name, "live"].largest == 0
        assert 0 < apart[name, "float32"].largest < 1e-4
        assert kl[name, "float32"] < kl[name, "bfloat16"] / 100
    assert kl["lora", "bfloat16"] < kl["lora", "int8-blocks"] < kl["lora", "int8-matrix"] < kl["lora", "nf4"] / 10
    assert kl["lora", "live-on-nf4"] > 100 * kl["lora", "bfloat16"]
    # Another base is another model, however the sum is rounded, and also where nothing is merged.
    originals = [kl["qlora", way] for way in ("live-on-original", "original-float32", "original-bfloat16")]
    assert originals == pytest.approx([originals[0]] * 3, rel=0.1)
    assert min(*originals, kl["qlora", "nf4-again"]) > 100 * kl["qlora", "bfloat16"]


def test_a_fine_update_is_lost_where_the_weights_sit_on_the_levels_and_elsewhere_kept_on_average(base, tuned):
    for name, way, low, high in (("lora", "nf4", 0.5, 1.5), ("qlora", "nf4-again", -0.1, 0.1)):
        with torch.no_grad():
            for each in adapters_of(tuned[name]).values():
                each.lora_B *= 0.01
        start, found = weights(base), weights(WAYS[name][way](tuned[name], base))
        change = updates(tuned[name])
        moved = {path: found[path] - nf4(start[path]) for path in change}
        kept = sum((moved[path] * change[path]).sum() for path in change)
        assert low < kept / sum(each.square().sum() for each in change.values()) < high


def test_the_adapter_beside_another_base_is_what_its_sum_is(base, tuned):
    for name in METHODS:
        moved = beside(tuned[name], base)
        assert len(adapters_of(moved)) == 14
        assert logit_difference(moved, merged(moved), PROMPTS).largest < 1e-4
    assert logit_difference(tuned["lora"], beside(tuned["lora"], base), PROMPTS).largest == 0
    again = beside(tuned["qlora"], lk.quantize_model(base))
    assert logit_difference(tuned["qlora"], again, PROMPTS).largest == 0
    few = trained(base, lk.LoRA(rank=2, target_modules=["q_proj", "lm_head"]))
    assert logit_difference(few, beside(few, base), PROMPTS).largest == 0


def test_both_models_stay_as_they_were(base, tuned):
    before = {name: {key: t.clone() for key, t in model.module.state_dict().items()} for name, model in tuned.items()}
    known = {key: tensor.clone() for key, tensor in base.module.state_dict().items()}
    for name, way in ALL:
        made = WAYS[name][way](tuned[name], base)
        assert made.kind == "causal"
        for model, state in ((tuned[name], before[name]), (base, known)):
            now = model.module.state_dict()
            assert now.keys() == state.keys()
            assert all(torch.equal(tensor, state[key]) for key, tensor in now.items())
            assert model.precision == torch.bfloat16
        assert not adapters_of(base)


def test_each_is_computed_in_the_precision_that_its_weights_are_stored_in(base, tuned):
    for name, way in ALL:
        made = WAYS[name][way](tuned[name], base)
        assert made.precision == (torch.float32 if way.endswith("float32") else torch.bfloat16)
    base.precision = torch.float32
    lora = trained(base, METHODS["lora"])
    made = WAYS["lora"]["bfloat16"](lora, base)
    assert (made.precision, WAYS["lora"]["nf4"](lora, base).precision) == (torch.bfloat16, torch.float32)


def test_what_has_no_adapter_or_another_base_is_refused(base, tuned, tiny):
    for pair, cause in (
        ((base, base), "has no adapter"),
        ((tuned["lora"], tuned["lora"]), "has an adapter already"),
        ((tuned["lora"], tiny), "tiny has no layer model.layers.0.self_attn.q_proj of the size"),
    ):
        with pytest.raises(lk.LabkitError, match=cause):
            beside(*pair)
    with pytest.raises(lk.LabkitError, match="no adapter to merge"):
        merged(base)
