import copy
import itertools
import math
import warnings
import weakref

import bitsandbytes as bnb
import pytest
import torch
from tiny import tiny_model
from torch import nn
from torch.nn import functional as F

import labkit as lk
from labkit.methods import LoRA, QLoRA, quantize_model
from labkit.methods.adapter import adapters_of
from labkit.models.model import Model
from labkit.quant.bnb import LostGradientWarning, bnb_layers
from labkit.quant.layers import Quantization, is_4bit

BACKENDS = ["labkit", "bitsandbytes"]
LINEAR = 2 * (32 * 32 + 2 * 16 * 32 + 32 * 32 + 3 * 64 * 32)  # numbers in the linear layers of tiny's two blocks
QUICK = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "progress": False}


@torch.no_grad()
def outputs(model, ids):
    return model.module.eval()(input_ids=ids)[0]


def quantized(model, backend, **settings):
    return quantize_model(model, Quantization(**{"block_size": 32, "backend": backend, **settings}))


def fill(model):
    """Give the factors B, which start at zero, random numbers."""
    torch.manual_seed(2)
    with torch.no_grad():
        for layer in adapters_of(model).values():
            layer.lora_B.normal_(std=0.1)
    return model


def adapted(model, seed=0, **settings):
    torch.manual_seed(seed)
    return fill(LoRA(rank=4, **settings).apply(model))


def gradients(model, ids):
    """The loss of a batch in training mode, and the gradient of every factor."""
    logits = model.module.train()(input_ids=ids)[0]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
    model.module.zero_grad()
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.trainable().items()}


def state(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@torch.no_grad()
def rounded(model, format="nf4", double=True):
    """A float model with the numbers that bitsandbytes makes of the weights; even steps are rounded by hand."""
    twin = model.copy(share_weights=False)
    for name, layer in twin.module.named_modules():
        if isinstance(layer, nn.Linear) and name != "lm_head":
            if format == "int4":
                blocks = layer.weight.view(-1, 32)
                step = blocks.abs().amax(dim=1, keepdim=True) / 7
                layer.weight.copy_(((blocks / step).round() * step).view_as(layer.weight))
            else:
                codes, scales = bnb.functional.quantize_4bit(
                    layer.weight, blocksize=32, compress_statistics=double, quant_type=format
                )
                layer.weight.copy_(bnb.functional.dequantize_4bit(codes, scales))
    return twin


def test_loss_and_gradients_are_those_of_the_dequantized_weights(tiny, ids):
    settings = [*itertools.product(BACKENDS, ["nf4", "fp4"], [True, False]), ("labkit", "int4", False)]
    for backend, format, double in settings:
        ours = adapted(quantized(tiny, backend, format=format, double=double))
        reference = adapted(rounded(tiny, format, double))

        loss, found = gradients(ours, ids)
        expected_loss, expected = gradients(reference, ids)

        assert loss == pytest.approx(expected_loss, rel=1e-6)
        assert loss != pytest.approx(gradients(adapted(tiny), ids)[0], rel=1e-5)  # rounding was at work
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            assert expected[name].abs().max() > 1e-3
            torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-5)


def test_both_backends_agree(tiny, ids):
    one, two = (adapted(quantized(tiny, backend)) for backend in BACKENDS)
    torch.testing.assert_close(outputs(one, ids), outputs(two, ids), atol=1e-6, rtol=0)
    (loss, found), (other_loss, others) = gradients(one, ids), gradients(two, ids)
    assert loss == pytest.approx(other_loss, rel=1e-6)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, others[name], atol=1e-5, rtol=1e-5)


def test_both_backends_agree_in_16_bits(tiny, ids):
    tiny.precision = torch.bfloat16
    results = []
    for backend in BACKENDS:
        model = adapted(quantized(tiny, backend))
        with model.autocast():
            results.append((outputs(model, ids), gradients(model, ids)))
    (one, (loss, found)), (two, (other_loss, others)) = results
    torch.testing.assert_close(one.float(), two.float(), atol=0.02, rtol=0.02)
    assert loss == pytest.approx(other_loss, rel=1e-3)
    for name, gradient in found.items():
        assert F.cosine_similarity(gradient.flatten(), others[name].flatten(), dim=0) > 0.99


def test_an_encoder_with_biases_computes_with_the_dequantized_weights(tiny_encoder, ids):
    for backend in BACKENDS:
        ours, reference = (adapted(model) for model in (quantized(tiny_encoder, backend), rounded(tiny_encoder)))
        torch.testing.assert_close(outputs(ours, ids), outputs(reference, ids), atol=1e-5, rtol=0)


# What quantizing a model does


def test_the_original_is_left_as_it_was_and_shares_the_rest(tiny, ids):
    for backend in BACKENDS:
        before, logits, layers = state(tiny), outputs(tiny, ids), [type(m) for m in tiny.module.modules()]

        made = quantized(tiny, backend)

        assert equal(state(tiny), before)
        assert torch.equal(outputs(tiny, ids), logits)
        assert [type(m) for m in tiny.module.modules()] == layers
        assert tiny.quantization is None
        assert all(p.requires_grad for p in tiny.parameters())
        assert not made.trainable()
        assert sum(is_4bit(layer) for layer in made.module.modules()) == 14
        assert not torch.equal(outputs(made, ids), logits)
        theirs = {name: p.data_ptr() for name, p in tiny.module.named_parameters()}
        shared = {name: p.data_ptr() for name, p in made.module.named_parameters() if "_proj" not in name}
        assert shared.items() <= theirs.items()
        assert len(shared) == 6  # an embedding, tied to the head, and five norms


def test_biases_are_shared(tiny_encoder):
    for backend in BACKENDS:
        theirs = {name: p.data_ptr() for name, p in tiny_encoder.module.named_parameters() if name.endswith("bias")}
        made = dict(quantized(tiny_encoder, backend).module.named_parameters())
        assert {name: made[name].data_ptr() for name in theirs} == theirs
        assert len(theirs) == 18


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("inplace", [False, True])
def test_inplace_frees_the_larger_weights(tiny, ids, backend, inplace):
    expected = outputs(quantized(tiny, backend), ids)
    weight = weakref.ref(tiny.module.model.layers[0].mlp.up_proj.weight)
    method = QLoRA(block_size=32, backend=backend)
    tuned = method.apply(tiny, inplace=inplace)
    assert (tuned is tiny) == inplace
    assert (weight() is None) == inplace
    assert torch.equal(outputs(tuned, ids), expected)


def test_bytes_fall_to_those_of_codes_and_scales(tiny):
    for format, double in [("nf4", True), ("nf4", False), ("fp4", True), ("int4", False)]:
        shapes = [(32, 32), (16, 32), (16, 32), (32, 32), (64, 32), (64, 32), (32, 64)] * 2
        assert sum(math.prod(shape) for shape in shapes) == LINEAR
        codes = LINEAR // 2
        # A scale in 4 bytes for each block of 32; or one in 1 byte, and for each layer a scale and a mean in 4 bytes.
        scales = LINEAR // 32 + 8 * len(shapes) if double else 4 * LINEAR // 32

        made = quantized(tiny, "labkit", format=format, double=double)

        assert tiny.nbytes - made.nbytes == 4 * LINEAR - codes - scales


def test_bytes_of_bitsandbytes_are_those_plus_its_tables(tiny):
    for double in [True, False]:
        ours, theirs = (quantized(tiny, backend, double=double).nbytes for backend in BACKENDS)
        tables = 16 * 4 + 256 * 4  # the levels in 4 and in 8 bits; how many layers share them is its own business
        assert ours <= theirs <= ours + 14 * tables


def test_a_model_without_numbers_is_stored_in_as_many_bytes():
    for double in [True, False]:
        drawn = quantize_model(lk.blueprint("smollm2-135m"), Quantization("nf4", 64, double, "labkit"))
        # 30 blocks of q and o (576×576), k and v (192×576), gate, up and down (576×1536).
        each = [576 * 576, 576 * 576, 192 * 576, 192 * 576, 576 * 1536, 576 * 1536, 576 * 1536]
        scales = sum((n // 64 + 4 * math.ceil(n / 64 / 256) + 4) if double else 4 * n // 64 for n in each)
        rest = 2 * (49152 * 576 + 61 * 576)  # embedding and norms stay in the blueprint's 16 bits
        buffers = sum(b.nbytes for b in lk.blueprint("smollm2-135m").module.buffers())
        assert drawn.nbytes == 30 * (sum(each) // 2 + scales) + rest + buffers
        assert drawn.device.type == "meta"
        assert drawn.fingerprint() == drawn.origin == "no numbers"


def test_a_model_without_numbers_has_the_structure_of_the_real_one(tiny):
    with torch.device("meta"):
        module = type(tiny.module)(tiny.module.config)
    drawn = Model("drawn", module.eval(), None, "causal", torch.float32)
    made, real = (quantized(model, "labkit") for model in (drawn, tiny))
    ours, theirs = ({k: (t.shape, t.dtype) for k, t in m.module.state_dict().items()} for m in (made, real))
    assert ours == theirs
    assert made.nbytes == real.nbytes
    assert repr(made).replace("drawn", "tiny").replace("meta", "cpu") == repr(real)
    with pytest.raises(lk.LabkitError, match="in 4 bits already"):
        quantize_model(made)


def test_adapters_add_their_own_bytes(tiny):
    for backend in BACKENDS:
        made = quantized(tiny, backend)
        tuned = LoRA(rank=2).apply(made)
        assert tuned.nbytes - made.nbytes == 4 * sum(p.numel() for p in tuned.trainable().values())


def test_a_copy_shares_all_that_is_stored(tiny, ids):
    for backend in BACKENDS:
        made = quantized(tiny, backend)
        expected = outputs(made, ids)
        copy = made.copy(share_weights=True)

        assert stored(copy) == stored(made)
        assert copy.quantization == made.quantization
        assert copy.fingerprint() == made.fingerprint()
        assert torch.equal(outputs(copy, ids), expected)
        fill(LoRA().apply(copy, inplace=True))
        assert not torch.equal(outputs(copy, ids), expected)
        assert torch.equal(outputs(made, ids), expected)
        assert not adapters_of(made)


def stored(model):
    """The addresses of all weights, codes and scales."""
    tensors = [*model.module.parameters(), *model.module.buffers()]
    for layer in bnb_layers(model.module):
        scales = layer.weight.quant_state
        tensors += [scales.absmax, scales.offset, scales.state2.absmax]
    return [tensor.data_ptr() for tensor in tensors]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_quantized_model_has_the_fingerprint_of_its_original(tiny, backend):
    expected = tiny.fingerprint()
    made = quantized(tiny, backend)
    assert made.fingerprint() == expected
    with torch.no_grad():
        tiny.module.model.layers[1].mlp.down_proj.weight[0, 0] += 1
    assert quantized(tiny, backend).fingerprint() == tiny.fingerprint() != expected


@pytest.fixture
def wide(tiny):
    """A model most of whose 1.4 million numbers are in linear layers."""
    sizes = {"vocab_size": 400, "hidden_size": 256, "intermediate_size": 512, "num_key_value_heads": 4}
    return tiny_model("llama", tiny.tokenizer, "wide", tie_word_embeddings=True, **sizes)


def test_a_quantized_model_says_so_and_counts_its_parameters(wide):
    for backend, format in itertools.product(BACKENDS, ["nf4", "fp4"]):
        count = sum(p.numel() for p in wide.parameters())
        assert f"{count / 1e6:.1f}" == "1.4"
        assert repr(wide) == "Model('wide', causal, 1.4 million parameters, cpu)"
        method = QLoRA(rank=64, format=format, backend=backend)
        tuned = method.apply(wide)
        more = sum(p.numel() for p in tuned.trainable().values())
        assert (
            repr(quantize_model(wide, method.quantization))
            == f"Model('wide', causal, 1.4 million parameters, {format}, cpu)"
        )
        assert f"{(count + more) / 1e6:.1f} million parameters, {format}," in repr(tuned)
        assert more > 200_000


def test_the_default_is_nf4_with_double_quantization_in_blocks_of_64(wide):
    assert quantize_model(wide).quantization == Quantization("nf4", 64, True, "bitsandbytes") == QLoRA().quantization


# What is refused


def test_full_fine_tuning_in_4_bits_is_refused(tiny, colours):
    for backend, inplace in itertools.product(BACKENDS, [False, True]):
        made = quantized(tiny, backend)
        with pytest.raises(lk.LabkitError, match=r"tiny is stored in 4 bits \(nf4\), which cannot be") as caught:
            lk.finetune(made, colours, "full", inplace=inplace, **QUICK)
        assert "LoRA" in caught.value.remedy


def test_quantizing_twice_is_refused(tiny):
    for backend in BACKENDS:
        made = quantized(tiny, backend)
        for again in (made, LoRA().apply(made)):
            with pytest.raises(lk.LabkitError, match=r"in 4 bits already: Quantization\(format='nf4'.*\n.*twice"):
                quantize_model(again)


def test_a_method_with_other_settings_than_the_models_is_refused(tiny):
    for other in [{"format": "fp4"}, {"block_size": 64}, {"double": False}, {"backend": "bitsandbytes"}]:
        made = quantized(tiny, "labkit")
        same = {"block_size": 32, "backend": "labkit"}
        with pytest.raises(lk.LabkitError, match=r"tiny is stored as .*, and this method asks for"):
            QLoRA(**{**same, **other}).apply(made)
        tuned = QLoRA(**same).apply(made)
        assert {type(layer.base) for layer in adapters_of(tuned).values()} == {
            type(layer) for layer in made.module.modules() if is_4bit(layer)
        }


def test_a_variant_is_refused():
    for variant in ["dora", "pissa"]:
        with pytest.raises(lk.LabkitError, match=f"variant '{variant}' needs the weights in floats") as caught:
            QLoRA(variant=variant)
        assert 'variant="lora"' in caught.value.remedy


def test_an_impossible_setting_is_named():
    for settings, message in [
        ({"format": "nf5"}, "no 4-bit format called 'nf5'.*\n.*'nf4'"),
        ({"block_size": 48}, "block_size must be a power of two .*not 48"),
        ({"backend": "bitsnbytes"}, "no backend called 'bitsnbytes'.*\n.*'bitsandbytes'"),
        ({"rank": 0}, "rank must be"),
        ({"alpha": 0}, "alpha must be"),
    ]:
        with pytest.raises(lk.LabkitError, match=message):
            QLoRA(**settings)


def test_bitsandbytes_has_no_int4(tiny):
    with pytest.raises(lk.LabkitError, match=r"no format 'int4'.*\n.*backend=\"labkit\""):
        QLoRA(format="int4", block_size=32).apply(tiny)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("inplace", [False, True])
def test_weights_that_are_not_finite_are_refused_and_nothing_is_changed(tiny, ids, backend, inplace):
    with torch.no_grad():
        tiny.module.model.layers[1].mlp.up_proj.weight[3, 4] = math.inf
    kinds = [type(layer) for layer in tiny.module.modules()]
    with pytest.raises(lk.LabkitError, match="up_proj is not finite everywhere"):
        quantize_model(tiny, Quantization(block_size=32, backend=backend), inplace=inplace)
    assert [type(layer) for layer in tiny.module.modules()] == kinds
    assert all(p.requires_grad for p in tiny.parameters())


def test_a_bad_target_is_refused_before_anything_is_quantized(tiny):
    with pytest.raises(lk.LabkitError, match="No linear layer"):
        QLoRA(block_size=32, target_modules="nope").apply(tiny, inplace=True)
    assert tiny.quantization is None
    assert not any(is_4bit(layer) for layer in tiny.module.modules())


# Training


def test_gradients_after_evaluations_are_those_of_a_fresh_model(tiny, colours, ids):
    for backend in BACKENDS:
        # On a CPU with AVX512-BF16, bitsandbytes would repack the weights at the first evaluation and then
        # pass no gradient on to the layers below; see labkit.quant.bnb.guard.
        tuned, fresh = (adapted(quantized(tiny, backend)) for _ in range(2))
        expected = gradients(fresh, ids)

        for _ in range(2):
            lk.evaluate(tuned, colours)
            with torch.inference_mode():
                tuned.module.eval()(input_ids=ids)
            loss, found = gradients(tuned, ids)
            assert loss == expected[0]
            assert equal(found, expected[1])
            assert all(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluations_on_the_way_change_no_weight(tiny, colours, backend):
    method = QLoRA(block_size=32, backend=backend)
    watched = lk.Every(1, lambda model: {"accuracy": lk.evaluate(model, colours).accuracy})
    base = quantized(tiny, backend)
    lk.evaluate(base, colours)
    with_evaluations = lk.finetune(base, colours, method, callbacks=[watched], **QUICK).model
    lk.evaluate(with_evaluations, colours)
    without = lk.finetune(quantized(tiny, backend), colours, method, **QUICK).model
    assert equal(state(with_evaluations), state(without))


def test_several_adapters_live_on_one_quantized_model(tiny, colours, ids):
    for backend in BACKENDS:
        base = quantized(tiny, backend)
        before, start = state(base), outputs(base, ids)
        first = lk.finetune(base, colours, QLoRA(block_size=32, backend=backend), seed=1, **QUICK).model
        alone = outputs(first, ids)
        second = lk.finetune(base, colours, LoRA(rank=2, target_modules="q_proj"), seed=2, **QUICK).model

        assert torch.equal(outputs(first, ids), alone)
        assert torch.equal(outputs(base, ids), start)
        assert equal(state(base), before)
        assert len({outputs(model, ids).sum().item() for model in (base, first, second)}) == 3
        for model in (first, second):
            assert set(stored(base)) <= set(stored(model))


def test_only_factors_are_trained(tiny, colours):
    for backend in BACKENDS:
        run = lk.finetune(tiny, colours, QLoRA(rank=2, block_size=32, backend=backend), **QUICK)
        assert all("lora_" in name for name in run.model.trainable())
        sides = 2 * (64 + 48 + 48 + 64 + 96 + 96 + 96)
        assert run.trained_parameters == 2 * sides
        torch.manual_seed(run.config.seed)
        fresh = state(run.method.apply(tiny))
        for name, tensor in state(run.model).items():
            assert torch.equal(tensor, fresh[name]) == ("lora_" not in name), name


def test_the_loss_falls_alike_with_both_backends(tiny, colours):
    losses = []
    for backend in BACKENDS:
        method = QLoRA(rank=8, block_size=32, backend=backend)
        run = lk.finetune(tiny, colours, method, steps=12, batch_size=8, learning_rate=3e-2, progress=False)
        losses.append([row["loss"] for row in run.history])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][-1] < losses[0][0] - 0.1


def test_the_ledger_books_what_is_stored(tiny, colours):
    for backend in BACKENDS:
        run = lk.finetune(tiny, colours, QLoRA(rank=2, block_size=32, backend=backend), **QUICK)
        assert run.memory.parameters == run.model.nbytes


# The guard


def unguarded(module):
    """A copy whose linear layers are those of bitsandbytes, as someone else would make them."""
    module = copy.deepcopy(module)
    for layer in module.model.layers:
        old = layer.mlp.up_proj
        new = bnb.nn.Linear4bit(32, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
        new.weight = bnb.nn.Params4bit(old.weight.data, requires_grad=False, quant_type="nf4", blocksize=32).to("cpu")
        new.support_avx512bf16_for_cpu = True  # on every processor, for the test
        layer.mlp.up_proj = new
    return module


def test_a_model_with_unguarded_layers_warns_and_is_mended(tiny):
    module = unguarded(tiny.module)
    with pytest.warns(LostGradientWarning, match=r"bitsandbytes \(2 here\) would have stopped passing grad"):
        model = Model("theirs", module, tiny.tokenizer, "causal", torch.float32)
    assert not any(layer.support_avx512bf16_for_cpu for layer in bnb_layers(model.module))
    with warnings.catch_warnings():
        warnings.simplefilter("error", LostGradientWarning)
        model.copy(share_weights=True)
        LoRA().apply(model)


def test_a_mended_model_trains_after_an_evaluation(tiny, ids):
    with pytest.warns(LostGradientWarning):
        model = Model("theirs", unguarded(tiny.module), tiny.tokenizer, "causal", torch.float32)
    outputs(model, ids)
    _, found = gradients(adapted(model, target_modules=["q_proj", "up_proj"]), ids)
    assert all(gradient.any() for gradient in found.values())


def test_a_repacked_model_is_refused(tiny):
    module = unguarded(tiny.module)
    layer = module.model.layers[0].mlp.up_proj
    layer.weight.quant_state.packing_format_for_cpu = True  # what bitsandbytes sets when it has repacked a weight
    with pytest.raises(lk.LabkitError, match=r"repacked for inference .*\n.*Load the model again"):
        Model("theirs", module, tiny.tokenizer, "causal", torch.float32)


def test_a_quantized_model_of_ones_own_needs_no_warning(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LostGradientWarning)
        for backend in BACKENDS:
            QLoRA(block_size=32, backend=backend).apply(tiny)
