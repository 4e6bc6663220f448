import copy
import importlib
import itertools
import warnings

import bitsandbytes as bnb
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import labkit as lk
from labkit.quant.blockwise import quantize
from labkit.quant.bnb import LostGradientWarning, bnb_layers, bnb_linear, guard, is_bnb, quantized_tensors
from labkit.quant.linear import Linear4bit

pytestmark = pytest.mark.usefixtures("one_thread")
FORMATS = ["nf4", "fp4"]
DOUBLE = [True, False]


def linear(*, bias=True, inputs=64, outputs=32):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias)


def inputs(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()


def foreign(*, fast=True, bias=False):
    """A layer as others make it, in the way bitsandbytes documents, as on a CPU with or without AVX512-BF16."""
    layer = linear(bias=bias)
    made = bnb.nn.Linear4bit(64, 32, bias, compute_dtype=torch.float32, quant_type="nf4")
    made.load_state_dict(layer.state_dict())
    made = made.to("cpu").requires_grad_(False)
    made.support_avx512bf16_for_cpu = fast
    return made


def gradient(layer):
    x = inputs(5, 64)
    layer.train()(x).square().sum().backward()
    return x.grad


def evaluate(layer):
    with torch.no_grad():
        layer.eval()(inputs(5, 64).detach())


def test_it_computes_what_our_own_layer_does():
    for format, double, bias, size in itertools.product(FORMATS, DOUBLE, [True, False], [32, 64]):
        layer = linear(bias=bias)
        ours, theirs = Linear4bit(layer, format, size, double), bnb_linear(layer, format, size, double, torch.float32)
        x, y = inputs(2, 3, 64), inputs(2, 3, 64)

        torch.testing.assert_close(theirs(x), ours(y), rtol=1e-6, atol=1e-6)
        theirs(x).square().sum().backward()
        ours(y).square().sum().backward()

        torch.testing.assert_close(x.grad, y.grad, rtol=1e-6, atol=1e-6)


def test_it_is_the_layer_that_bitsandbytes_makes_itself():
    for double in DOUBLE:
        layer = linear()
        theirs = bnb.nn.Linear4bit(64, 32, compute_dtype=torch.float32, compress_statistics=double, quant_type="nf4")
        theirs.load_state_dict(layer.state_dict())
        theirs = theirs.to("cpu")

        ours = bnb_linear(layer, "nf4", 64, double, torch.float32)

        assert type(ours) is type(theirs)
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())
        assert torch.equal(gradient(ours), gradient(theirs))


def test_products_are_computed_in_the_type_that_is_asked_for():
    for dtype in [torch.float32, torch.bfloat16, torch.float16]:
        layer, x = linear(bias=False), inputs(5, 64).detach()
        output = bnb_linear(layer, "nf4", 64, True, dtype)(x)
        weight = quantize(layer.weight, double=True).dequantize(dtype)
        assert output.dtype == torch.float32
        assert torch.equal(output, F.linear(x.to(dtype), weight).float())


def test_it_is_frozen_and_its_layer_stays_as_it_was():
    layer = linear()
    before = copy.deepcopy(layer.state_dict())
    made = bnb_linear(layer, "nf4", 64, True, torch.float32)
    made(inputs(5, 64)).sum().backward()
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in layer.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_a_deep_copy_computes_the_same_and_stays_guarded():
    made = bnb_linear(linear(), "nf4", 64, True, torch.float32)
    twin = copy.deepcopy(made)
    assert torch.equal(gradient(twin), gradient(made))
    assert twin.weight.data_ptr() != made.weight.data_ptr()
    assert not twin.support_avx512bf16_for_cpu


def test_gradients_are_the_same_after_an_evaluation():
    made = bnb_linear(linear(bias=False), "nf4", 64, True, torch.float32)
    before = gradient(made)
    evaluate(made)
    assert torch.equal(gradient(made), before)


def test_unguarded_layers_are_guarded_with_a_warning():
    model = nn.Sequential(foreign(), nn.ReLU(), nn.ModuleDict({"inner": foreign()}), foreign(fast=False))
    with pytest.warns(LostGradientWarning, match=r"bitsandbytes \(2 here\) would have stopped passing grad"):
        guard(model)
    assert [layer.support_avx512bf16_for_cpu for layer in bnb_layers(model)] == [False] * 3


def test_the_guard_is_silent_where_there_is_nothing_to_mend():
    for module in [
        bnb_linear(linear(), "nf4", 64, True, torch.float32),
        foreign(fast=False),
        Linear4bit(linear()),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
    ]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            guard(module)


def test_the_second_call_of_the_guard_is_silent():
    layer = foreign()
    with pytest.warns(LostGradientWarning):
        guard(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard(layer)


def test_a_layer_that_was_repacked_cannot_be_trained():
    model = nn.Sequential(foreign(fast=False), foreign())
    model[0].weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(lk.LabkitError, match=r"repacked for inference .*\n→ Load the model again.*guard"):
        guard(model)


needs_the_kernel = pytest.mark.skipif(
    not bnb.functional.has_avx512bf16(), reason="the kernel that drops gradients needs a CPU with AVX512-BF16"
)


@needs_the_kernel
@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered")
def test_without_the_guard_an_evaluation_takes_the_gradient_away():
    layer = foreign()
    assert layer.weight.quant_state.nested
    assert gradient(layer) is not None

    evaluate(layer)

    assert gradient(layer) is None
    with pytest.raises(lk.LabkitError, match="repacked"):
        guard(layer)


@needs_the_kernel
def test_with_the_guard_the_gradient_is_that_of_a_fresh_layer():
    expected = gradient(foreign())
    layer = foreign()
    with pytest.warns(LostGradientWarning):
        guard(layer)

    evaluate(layer)

    assert torch.equal(gradient(layer), expected)
    guard(layer)  # raises nothing


@pytest.mark.parametrize("format", ["int4", "nf8"])
def test_a_format_that_bitsandbytes_lacks_is_named(format):
    with pytest.raises(lk.LabkitError, match=rf"bitsandbytes has no format '{format}'\.\n→ .*nf4.*backend=\"labkit\""):
        bnb_linear(linear(), format, 64, True, torch.float32)


def test_a_bad_block_size_is_named():
    for size in [0, 48, 8192]:
        with pytest.raises(lk.LabkitError, match=f"block_size must be a power of two from 32 to 4096, not {size}"):
            bnb_linear(linear(), "nf4", size, True, torch.float32)


def test_a_weight_that_is_not_finite_is_refused():
    layer = linear()
    layer.weight.data[3, 5] = float("nan")
    with pytest.raises(lk.LabkitError, match="1 of the tensor's 2048 numbers"):
        bnb_linear(layer, "nf4", 64, True, torch.float32)


@pytest.mark.parametrize("problem", [ImportError("no module"), OSError("no library"), RuntimeError("no CUDA")])
def test_a_missing_bitsandbytes_is_said_with_the_way_round(monkeypatch, problem):
    def fail(name):
        raise problem

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(lk.LabkitError, match=rf'cannot be used here: {problem}\.\n→ .*pip install.*backend="labkit"'):
        bnb_linear(linear(), "nf4", 64, True, torch.float32)


def test_rows_that_are_no_multiple_of_the_block_size_are_right_or_refused():
    for format, (inputs, size) in itertools.product(FORMATS, [(96, 64), (100, 64), (576, 128), (64, 1024)]):
        # Which it is depends on the processor: some kernels of bitsandbytes restart the blocks with each row.
        layer = linear(inputs=inputs)
        expected = quantize(layer.weight, format, size, True).dequantize()
        try:
            made = bnb_linear(layer, format, size, True, torch.float32)
        except lk.LabkitError as error:
            codes, state = bnb.functional.quantize_4bit(
                layer.weight.detach(), blocksize=size, quant_type=format, compress_statistics=True
            )
            assert not torch.equal(bnb.functional.dequantize_4bit(codes, state), expected)
            assert f"rows of {inputs} wrongly" in str(error)  # noqa: PT017
        else:
            x = torch.eye(inputs)
            torch.testing.assert_close(made(x), expected.T + layer.bias, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("wrong", [True, False])
def test_the_check_of_short_rows_looks_at_the_numbers_themselves(monkeypatch, wrong):
    def dequantize(codes, state):
        return quantize(layer.weight, "nf4", 128, True).dequantize() + 0.01 * wrong

    layer = linear()
    monkeypatch.setattr(bnb.functional, "dequantize_4bit", dequantize)
    if wrong:
        with pytest.raises(lk.LabkitError, match=r"rows of 64 wrongly .* is 128\.\n→ .*divides the rows.*\"labkit\""):
            bnb_linear(layer, "nf4", 128, True, torch.float32)
    else:
        assert is_bnb(bnb_linear(layer, "nf4", 128, True, torch.float32))
    bnb_linear(layer, "nf4", 64, True, torch.float32)  # where the rows are multiples, nobody looks


def test_quantized_tensors_are_the_scales_and_the_tables_of_levels():
    for format, double in itertools.product(FORMATS, DOUBLE):
        layer = bnb_linear(linear(outputs=256), format, 64, double, torch.float32)
        found = quantized_tensors(nn.Sequential(layer, Linear4bit(linear()), nn.Linear(8, 8)))

        blocks = 64 * 256 // 64
        scales = blocks + 4 + 4 * blocks // 256 + 4 * 256 if double else 4 * blocks
        assert sum(tensor.numel() * tensor.element_size() for tensor in found) == scales + 4 * 16
        assert len(quantized_tensors(nn.Sequential(layer, copy.deepcopy(layer)))) == 2 * len(found)


def test_both_backends_count_the_same_bytes_but_for_the_tables_of_levels():
    for double in DOUBLE:
        layer = linear(outputs=256)
        theirs = bnb_linear(layer, "nf4", 64, double, torch.float32)
        tables = 16 * 4 + (256 * 4 if double else 0)
        held = itertools.chain([theirs.weight], quantized_tensors(theirs))
        counted = sum(tensor.numel() * tensor.element_size() for tensor in held)
        assert counted - tables == quantize(layer.weight, "nf4", 64, double).nbytes


def test_only_layers_of_bitsandbytes_are_found():
    theirs = bnb_linear(linear(), "nf4", 64, True, torch.float32)
    model = nn.Sequential(theirs, Linear4bit(linear()), nn.Linear(8, 8), nn.Sequential(theirs))
    assert bnb_layers(model) == [theirs]
    assert [is_bnb(layer) for layer in model] == [True, False, False, False]
    assert quantized_tensors(nn.Linear(8, 8)) == []
