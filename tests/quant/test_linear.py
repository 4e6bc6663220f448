import copy
import io
import itertools
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labkit.quant.blockwise import quantize
from labkit.quant.bnb import bnb_linear
from labkit.quant.linear import Linear4bit
from labkit.quant.quantized import Quantized

pytestmark = pytest.mark.usefixtures("one_thread")
FORMATS = ["nf4", "fp4", "int4"]
BIAS = [True, False]


def linear(*, bias=True, inputs=64, outputs=32, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs, bias)


def inputs(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()


def plain(layer, **settings):
    """An ordinary layer with the weight as 4 bits leave it, which learns."""
    made = copy.deepcopy(layer)
    made.weight.data = quantize(layer.weight, **settings).dequantize()
    return made


def results(layer, x):
    """What a layer makes of x, and the gradient that x gets."""
    output = layer(x)
    (gradient,) = torch.autograd.grad(output.float().square().sum(), x)
    return output.detach(), gradient


def test_it_computes_what_a_plain_layer_does_with_the_dequantized_weight():
    for bias, format, double, shape in itertools.product(BIAS, FORMATS, [True, False], [(64,), (5, 64), (2, 3, 64)]):
        layer = linear(bias=bias)
        ours = results(Linear4bit(layer, format, 64, double), inputs(*shape))
        theirs = results(plain(layer, format=format, block_size=64, double=double), inputs(*shape))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_rows_need_not_be_multiples_of_the_block_size():
    for size, width in [(32, 33), (128, 100), (4096, 64)]:
        layer = linear(inputs=width)
        ours = results(Linear4bit(layer, "nf4", size), inputs(5, width))
        theirs = results(plain(layer, format="nf4", block_size=size, double=True), inputs(5, width))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    for bias in BIAS:
        layer = Linear4bit(linear(bias=bias, inputs=6, outputs=4), block_size=32)
        x = inputs(3, 6, dtype=torch.float64)
        assert torch.autograd.gradcheck(layer, x)
        assert torch.autograd.gradgradcheck(layer, x)


def test_autocast_sets_the_type_of_the_product():
    for bias, dtype in itertools.product(BIAS, [torch.bfloat16, torch.float16]):
        layer = linear(bias=bias)
        with torch.autocast("cpu", dtype=dtype):
            ours = results(Linear4bit(layer), inputs(5, 64))
            theirs = results(plain(layer, double=True), inputs(5, 64))
        assert [tensor.dtype for tensor in ours] == [dtype, torch.float32]
        # The bias is added in 16 bits, after the product was rounded: one more rounding than in the plain layer.
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


def test_without_autocast_the_type_is_that_of_the_input():
    for dtype in [torch.float32, torch.bfloat16, torch.float16]:
        layer = linear(bias=False)
        output = Linear4bit(layer)(inputs(5, 64, dtype=dtype))
        assert output.dtype == dtype
        weight = quantize(layer.weight, double=True).dequantize().to(dtype)
        assert torch.equal(output, F.linear(inputs(5, 64, dtype=dtype), weight))


def test_it_computes_what_bitsandbytes_does():
    for bias, format, double in itertools.product(BIAS, ["nf4", "fp4"], [True, False]):
        layer = linear(bias=bias)
        ours = results(Linear4bit(layer, format, 64, double), inputs(2, 3, 64))
        theirs = results(bnb_linear(layer, format, 64, double, torch.float32), inputs(2, 3, 64))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_no_dequantized_matrix_is_kept_for_the_backward_pass(monkeypatch):
    layer = Linear4bit(linear())
    made, saved, original = [], [], Quantized.dequantize

    def spy(self, dtype=None):
        result = original(self, dtype)
        made.append(weakref.ref(result.untyped_storage()))
        return result

    def alive():
        return [reference() is not None for reference in made]

    monkeypatch.setattr(Quantized, "dequantize", spy)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.shape) or tensor, lambda t: t):
        output = layer(inputs(5, 64))
        assert alive() == [False]
        assert saved == []
        output.sum().backward()
        assert alive() == [False, False]  # dequantized once in each direction

    made.clear()
    kept = F.linear(inputs(5, 64), layer.quantized.dequantize())
    assert alive() == [True]  # so this test would have noticed
    assert kept.requires_grad


def test_only_the_input_gets_a_gradient():
    layer = Linear4bit(linear())
    assert not any(parameter.requires_grad for parameter in layer.parameters())

    x = inputs(5, 64)
    layer(x).sum().backward()

    assert x.grad is not None
    assert all(tensor.grad is None for tensor in itertools.chain(layer.parameters(), layer.buffers()))
    assert not layer(x.detach()).requires_grad


def test_a_state_dict_brings_the_whole_layer():
    for bias, double in itertools.product(BIAS, [True, False]):
        layer = Linear4bit(linear(bias=bias), double=double)
        file = io.BytesIO()
        torch.save(layer.state_dict(), file)
        other = Linear4bit(linear(bias=bias, seed=7), double=double)
        assert not torch.equal(other(inputs(5, 64)), layer(inputs(5, 64)))

        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))

        assert torch.equal(other(inputs(5, 64)), layer(inputs(5, 64)))
        assert layer.state_dict().keys() == (
            {"weight", "absmax"} | ({"offset", "scales"} if double else set()) | ({"bias"} if bias else set())
        )


def test_its_buffers_are_what_quantize_stores():
    for double in [True, False]:
        layer = linear()
        stored = quantize(layer.weight, "fp4", 32, double)
        made = Linear4bit(layer, "fp4", 32, double).quantized
        assert made.tensors().keys() == stored.tensors().keys()
        assert all(torch.equal(tensor, stored.tensors()[name]) for name, tensor in made.tensors().items())
        assert (made.format, made.block_size, made.shape, made.dtype) == ("fp4", 32, (32, 64), torch.float32)


def test_a_deep_copy_computes_the_same_and_shares_nothing():
    layer = Linear4bit(linear())
    twin = copy.deepcopy(layer)
    expected = results(layer, inputs(5, 64))
    layer.weight.zero_()
    layer.absmax.zero_()
    layer.bias.zero_()
    torch.testing.assert_close(results(twin, inputs(5, 64)), expected, rtol=0, atol=0)


def test_the_layer_it_is_made_of_stays_as_it_was():
    layer = linear()
    before = copy.deepcopy(layer.state_dict())
    Linear4bit(layer)(inputs(5, 64)).sum().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    assert all(parameter.requires_grad for parameter in layer.parameters())


def test_it_says_its_settings_when_printed():
    assert repr(Linear4bit(linear(), "fp4", 128)) == "Linear4bit(64, 32, fp4, block 128)"
