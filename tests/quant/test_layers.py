import itertools
import re

import pytest
import torch
from torch import nn

import labkit as lk
from labkit.quant.blockwise import quantize
from labkit.quant.layers import Quantization, dequantized, is_4bit

pytestmark = pytest.mark.usefixtures("one_thread")
BACKENDS = ["bitsandbytes", "labkit"]
BIAS = [True, False]


def linear(bias=True):
    torch.manual_seed(0)
    return nn.Linear(128, 32, bias)


def test_a_bad_setting_is_named():
    for settings, message in [
        ({"format": "nf5"}, "no 4-bit format called 'nf5'.\n→ Did you mean 'nf4'? Valid names: fp4, int4, nf4."),
        ({"format": None}, "no 4-bit format called 'None'"),
        ({"backend": "bitsandbyte"}, "no backend called 'bitsandbyte'.\n→ Did you mean 'bitsandbytes'? Valid names:"),
        ({"backend": "torch"}, "no backend called 'torch'.\n→ Valid names: bitsandbytes, labkit."),
        ({"block_size": 0}, "block_size must be a power of two from 32 to 4096, not 0."),
        ({"block_size": 100}, "block_size must be a power of two from 32 to 4096, not 100."),
        ({"block_size": 64.0}, "block_size must be a power of two from 32 to 4096, not 64.0."),
        ({"block_size": "64"}, "block_size must be a power of two from 32 to 4096, not '64'."),
    ]:
        with pytest.raises(lk.LabkitError, match=re.escape(message)):
            Quantization(**settings)


def test_good_settings_make_a_layer_with_these_numbers():
    for backend, format, block_size, double in itertools.product(
        BACKENDS, ["nf4", "fp4"], [32, 64, 128], [True, False]
    ):
        layer = Quantization(format, block_size, double, backend).layer(linear(), torch.float32)
        expected = quantize(linear().weight, format, block_size, double).dequantize()
        assert torch.equal(dequantized(layer, torch.float32).weight, expected)


def test_int4_is_for_our_own_backend_only():
    layer = Quantization("int4", backend="labkit").layer(linear(), torch.float32)
    expected = quantize(linear().weight, "int4", 64, True).dequantize()
    assert torch.equal(dequantized(layer, torch.float32).weight, expected)
    with pytest.raises(lk.LabkitError, match="bitsandbytes has no format 'int4'"):
        Quantization("int4").layer(linear(), torch.float32)


def test_the_default_is_that_of_the_qlora_paper():
    assert Quantization() == Quantization(format="nf4", block_size=64, double=True, backend="bitsandbytes")


def test_4bit_layers_are_told_from_others():
    for backend in BACKENDS:
        layer = Quantization(backend=backend).layer(linear(), torch.float32)
        assert is_4bit(layer)
        assert not any(
            is_4bit(other)
            for other in (linear(), nn.Sequential(layer), nn.LayerNorm(4), dequantized(layer, torch.float32))
        )


def test_the_dequantized_layer_computes_the_same():
    for backend, bias in itertools.product(BACKENDS, BIAS):
        layer = Quantization(backend=backend).layer(linear(bias), torch.float32)
        x = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))

        plain = dequantized(layer, torch.float32)

        assert type(plain) is nn.Linear
        assert not any(parameter.requires_grad for parameter in plain.parameters())
        torch.testing.assert_close(plain(x), layer(x), rtol=1e-6, atol=1e-6)


def test_the_dequantized_weight_has_the_type_that_is_asked_for():
    for backend, dtype in itertools.product(BACKENDS, [torch.bfloat16, torch.float16]):
        layer = Quantization(backend=backend).layer(linear(), torch.float32)
        expected = quantize(linear().weight, double=True).dequantize().to(dtype)
        assert torch.equal(dequantized(layer, dtype).weight, expected)


def test_the_dequantized_bias_is_a_copy():
    for backend in BACKENDS:
        layer = Quantization(backend=backend).layer(linear(), torch.float32)
        plain = dequantized(layer, torch.float32)
        assert torch.equal(plain.bias, layer.bias)
        assert plain.bias.data_ptr() != layer.bias.data_ptr()
