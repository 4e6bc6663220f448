import itertools
import math

import numpy as np
import pytest
import torch

import labkit as lk
from labkit.quant.absmax import quantize_absmax, quantize_zero_point

pytestmark = pytest.mark.usefixtures("one_thread")
BOTH = [quantize_absmax, quantize_zero_point]
BITS = range(2, 9)


def random(*shape, seed=0, shift=0.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + shift


def test_absmax_is_the_formula_of_the_paper():
    for bits, shift in itertools.product(BITS, [0.0, 0.7, -5.0]):
        x = random(1001, shift=shift)
        top = 2 ** (bits - 1) - 1

        grid = quantize_absmax(x, bits)

        scale = np.abs(x.numpy()).max() / np.float32(top)
        assert grid.codes.dtype == torch.int8
        assert grid.scale.item() == scale
        assert np.array_equal(grid.codes[0], np.round(x.numpy() / scale))
        assert np.array_equal(grid.dequantize(), np.round(x.numpy() / scale) * scale)


def test_zero_point_is_the_formula_of_the_paper():
    for bits, shift in itertools.product(BITS, [0.0, 0.7, -5.0]):
        x = random(1001, shift=shift)
        low, high = min(x.min().item(), 0), max(x.max().item(), 0)

        grid = quantize_zero_point(x, bits)

        assert grid.codes.dtype == torch.uint8
        assert grid.scale.item() == pytest.approx((high - low) / (2**bits - 1), rel=1e-6)
        assert grid.zero.item() == round(-low / (high - low) * (2**bits - 1))
        codes = np.round(x.numpy() / grid.scale.item()) + grid.zero.item()
        assert np.array_equal(grid.codes[0], codes.clip(0, 2**bits - 1))
        np.testing.assert_allclose(
            grid.dequantize(), (codes.clip(0, 2**bits - 1) - grid.zero.item()) * grid.scale.item()
        )


def test_both_agree_with_torch_at_the_same_scale_and_zero_point():
    for bits, shift in itertools.product(BITS, [0.0, 0.7, -5.0]):
        x = random(5000, shift=shift)
        half = 2 ** (bits - 1)
        for grid, low, high in (
            (quantize_absmax(x, bits), 1 - half, half - 1),
            (quantize_zero_point(x, bits), 0, 2 * half - 1),
        ):
            scale = grid.scale.item()
            theirs = torch.fake_quantize_per_tensor_affine(x, scale, int(grid.zero), low, high)
            steps = ((grid.dequantize() - theirs) / scale).round().abs()
            # torch multiplies by the reciprocal of the scale: a number halfway between two codes may round otherwise.
            assert steps.max() <= 1
            assert steps.count_nonzero() <= 2


def test_numbers_on_the_grid_come_back_as_they_were():
    for quantize, lowest in [(quantize_absmax, -127), (quantize_zero_point, -128)]:
        x = torch.arange(lowest, 128).float() / 32
        assert torch.equal(quantize(x).dequantize(), x)


def test_errors_are_half_a_step_at_most():
    for quantize, bits, block_size in itertools.product(BOTH, BITS, [None, 64, 100]):
        x = random(40, 25, shift=0.4)
        grid = quantize(x, bits, block_size)
        steps = grid.scale.expand_as(grid.codes).reshape(-1)[:1000].view(40, 25)
        assert ((x - grid.dequantize()).abs() <= steps / 2 * (1 + 1e-4)).all()


def test_zeros_stay_exactly_zero():
    for quantize, bits in itertools.product(BOTH, BITS):
        x = random(300, shift=1.0)
        x[::7] = 0
        assert (quantize(x, bits).dequantize()[::7] == 0).all()
        assert torch.equal(quantize(torch.zeros(5, 9), bits, 16).dequantize(), torch.zeros(5, 9))


def test_a_constant_block_comes_back():
    for quantize, bits, value in itertools.product(BOTH, BITS, [3.7, -0.01, 1e20]):
        x = torch.full((70,), value)
        torch.testing.assert_close(quantize(x, bits, 32).dequantize(), x, rtol=1e-6, atol=0)


def test_zero_point_uses_all_levels_of_a_lopsided_tensor_and_absmax_half_of_them():
    for bits, sign in itertools.product(BITS, [1, -1]):
        x = sign * torch.linspace(0, 1, 3001)
        assert quantize_zero_point(x, bits).codes.unique().numel() == 2**bits
        assert quantize_absmax(x, bits).codes.unique().numel() == 2 ** (bits - 1)


def test_zero_point_widens_the_range_to_contain_zero():
    grid = quantize_zero_point(torch.tensor([5.0, 6.0, 10.2]))
    assert (grid.zero.item(), grid.scale.item()) == (0, pytest.approx(10.2 / 255))


def test_absmax_treats_both_signs_alike():
    x = random(500)
    assert torch.equal(quantize_absmax(-x).codes, -quantize_absmax(x).codes)


def test_each_block_is_quantized_as_if_it_were_alone():
    for quantize, length in itertools.product(BOTH, [1, 63, 64, 65, 200]):
        x = random(length, shift=0.3)
        expected = torch.cat([quantize(part).dequantize() for part in x.split(64)])
        grid = quantize(x, block_size=64)
        assert torch.equal(grid.dequantize(), expected)
        assert grid.scale.shape == grid.zero.shape == (math.ceil(length / 64), 1)


def test_an_outlier_spoils_its_own_block_only():
    for quantize in BOTH:
        x = random(128)
        spoilt = x.clone()
        spoilt[5] = 1000.0
        whole, blocks = quantize(spoilt).dequantize(), quantize(spoilt, block_size=64).dequantize()
        assert (whole[64:] - x[64:]).abs().max() > 0.5
        assert torch.equal(blocks[64:], quantize(x, block_size=64).dequantize()[64:])


def test_shape_and_type_are_kept_and_the_arithmetic_is_float32():
    for quantize, dtype, shape in itertools.product(
        BOTH, [torch.float16, torch.bfloat16, torch.float32], [(), (7,), (3, 5), (2, 3, 4)]
    ):
        x = random(*shape).to(dtype)
        restored = quantize(x).dequantize()
        assert (restored.shape, restored.dtype) == (x.shape, dtype)
        assert torch.equal(restored, quantize(x.float()).dequantize().to(dtype))


def test_what_cannot_be_quantized_is_said():
    for quantize, (tensor, bits, message) in itertools.product(
        BOTH,
        [
            (torch.arange(4), 8, "Only floating-point tensors"),
            (torch.ones(0), 8, "empty"),
            (torch.tensor([1.0, math.nan]), 8, "1 of the tensor's 2 numbers"),
            (torch.tensor([math.inf, -math.inf]), 8, "2 of the tensor's 2 numbers"),
            (torch.ones(4), 1, "bits must be .* not 1"),
            (torch.ones(4), 9, "bits must be .* not 9"),
            (torch.ones(4), 4.0, r"bits must be .* not 4\.0"),
        ],
    ):
        with pytest.raises(lk.LabkitError, match=message):
            quantize(tensor, bits)


def test_a_bad_block_size_is_named():
    for quantize, block_size in itertools.product(BOTH, [0, -3, 2.5, "64"]):
        with pytest.raises(lk.LabkitError, match="block_size"):
            quantize(torch.ones(4), block_size=block_size)


def test_zero_point_spans_the_whole_range_of_float32():
    x = torch.tensor([3e38, -3e38, 0.0])
    torch.testing.assert_close(quantize_zero_point(x).dequantize(), x, rtol=0.01, atol=0)
