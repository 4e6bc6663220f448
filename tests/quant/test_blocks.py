import itertools
import math

import numpy as np
import pytest
import torch

import labkit as lk
from labkit.quant.blocks import check_block_size, check_quantizable, from_blocks, to_blocks


def test_rows_are_numpys_with_zeros_at_the_end():
    for shape, size in itertools.product([(12,), (3, 4), (5,), (2, 3, 5), (1,), ()], [1, 4, 64]):
        tensor = torch.arange(1.0, math.prod(shape) + 1).view(shape)

        flat = tensor.numpy().ravel()
        expected = np.zeros((math.ceil(flat.size / size), size), dtype=np.float32)
        expected.ravel()[: flat.size] = flat

        assert np.array_equal(to_blocks(tensor, size), expected)
        assert torch.equal(from_blocks(to_blocks(tensor, size), tensor.shape), tensor)


def test_blocks_are_float32_and_hold_no_graph():
    for dtype in [torch.float16, torch.bfloat16, torch.float64]:
        blocks = to_blocks(torch.ones(3, 5, dtype=dtype, requires_grad=True), 4)
        assert blocks.dtype == torch.float32
        assert not blocks.requires_grad


def test_without_a_size_all_is_one_block():
    assert to_blocks(torch.ones(3, 5), None).shape == (1, 15)


def test_columns_of_a_transposed_tensor_are_read_in_their_own_order():
    tensor = torch.arange(6.0).view(2, 3).T
    assert to_blocks(tensor, 2).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_powers_of_two_are_block_sizes():
    for size in [32, 64, 128, 256, 512, 1024, 2048, 4096]:
        assert check_block_size(size) == size


def test_other_block_sizes_are_named():
    for size in [0, -64, 1, 16, 48, 100, 8192, 64.0, "64", None, True]:
        with pytest.raises(lk.LabkitError, match=rf"block_size must be a power of two from 32 to 4096, not {size!r}\."):
            check_block_size(size)


def test_finite_floats_pass_unchanged():
    for bits, dtype in itertools.product(range(2, 9), [torch.float16, torch.bfloat16, torch.float32, torch.float64]):
        largest = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
        tensor = torch.tensor([0.0, -1.5, largest], dtype=dtype)
        assert check_quantizable(tensor, bits) is tensor


def test_a_number_beyond_float32_is_refused():
    with pytest.raises(lk.LabkitError, match="1 of the tensor's 2 numbers"):
        check_quantizable(torch.tensor([1e300, 1.0], dtype=torch.float64))


def test_bits_outside_two_to_eight_are_named():
    for bits in [1, 0, -8, 9, 16, 8.0, 4.5, "8", None, True]:
        with pytest.raises(lk.LabkitError, match=rf"bits must be a whole number from 2 to 8, not {bits!r}\."):
            check_quantizable(torch.ones(3), bits)


def test_what_is_not_floating_point_is_named_by_its_type():
    for dtype in [torch.uint8, torch.int64, torch.bool, torch.complex64]:
        with pytest.raises(lk.LabkitError, match=rf"Only floating-point tensors .* this one is {dtype}\."):
            check_quantizable(torch.ones(3, dtype=dtype))


def test_an_empty_tensor_is_refused():
    with pytest.raises(lk.LabkitError, match="empty"):
        check_quantizable(torch.ones(0, 4))


def test_non_finite_numbers_are_counted():
    for bad in [[math.nan], [math.inf], [-math.inf, math.nan, math.inf]]:
        with pytest.raises(
            lk.LabkitError, match=rf"{len(bad)} of the tensor's {len(bad) + 2} numbers are infinite or not"
        ):
            check_quantizable(torch.tensor([0.0, *bad, 1.0]))
