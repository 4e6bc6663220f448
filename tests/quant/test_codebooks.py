import math
from statistics import NormalDist

import bitsandbytes.functional as bnb
import numpy as np
import pytest
import torch

import labkit as lk
from labkit.quant.blockwise import quantize
from labkit.quant.codebooks import LEVELS, dynamic_levels, fp4_levels, int4_levels, levels, nf4_levels

pytestmark = pytest.mark.usefixtures("one_thread")

# As published: appendix E of the QLoRA paper and get_4bit_type in bitsandbytes/functional.py.
PUBLISHED = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
]


def test_the_derived_nf4_levels_are_the_published_ones():
    assert nf4_levels().tolist() == pytest.approx(PUBLISHED, abs=1e-6)
    assert nf4_levels()[7] == 0


def test_levels_are_bit_for_bit_those_of_bitsandbytes():
    for name in ["nf4", "fp4"]:
        assert levels(name).dtype == torch.float32
        assert torch.equal(levels(name), bnb.get_4bit_type(name, "cpu"))


def test_nf4_levels_cut_the_normal_distribution_into_equal_slices():
    normal = NormalDist()
    outermost = normal.inv_cdf((1 - 1 / 32 + 1 - 1 / 30) / 2)

    below_zero = np.diff([normal.cdf(outermost * level) for level in nf4_levels()[:8].tolist()])
    above_zero = np.diff([normal.cdf(outermost * level) for level in nf4_levels()[7:].tolist()])

    half = (1 - 1 / 32 + 1 - 1 / 30) / 2 - 0.5
    assert below_zero == pytest.approx(half / 7, abs=1e-6)
    assert above_zero == pytest.approx(half / 8, abs=1e-6)


def test_normal_numbers_use_the_nf4_levels_more_evenly_than_other_levels():
    numbers = torch.randn(64 * 2000, generator=torch.Generator().manual_seed(0))

    def entropy(name):
        packed = quantize(numbers, name).codes.numpy()
        share = np.bincount(np.concatenate([packed >> 4, packed & 15]), minlength=16) / numbers.numel()
        return -sum(p * math.log2(p) for p in share if p)

    assert entropy("nf4") > 3.85  # 4 would be perfectly even
    assert entropy("nf4") > entropy("fp4") > entropy("int4")


def test_fp4_levels_are_by_code_with_the_sign_in_the_highest_bit():
    assert torch.equal(fp4_levels()[8:], -fp4_levels()[:8])
    assert sorted((12 * fp4_levels()[:8]).tolist()) == [0, 0.0625, 2, 3, 4, 6, 8, 12]


def test_int4_levels_are_even():
    np.testing.assert_allclose(int4_levels()[:15], np.linspace(-1, 1, 15), atol=1e-7)
    assert int4_levels()[14] == int4_levels()[15] == 1


def test_dynamic_levels_are_bit_for_bit_those_of_bitsandbytes():
    assert torch.equal(dynamic_levels(), bnb.create_dynamic_map())


def test_each_decade_of_the_dynamic_levels_has_twice_the_levels_of_the_one_below():
    positive = dynamic_levels()[dynamic_levels() > 0][:-1]  # without 1 itself
    decades = np.floor(np.log10(positive.double().numpy())).astype(int)
    assert dict(zip(*np.unique(decades, return_counts=True), strict=True)) == {d: 2 ** (d + 7) for d in range(-7, 0)}


def test_sixteen_levels_from_minus_one_to_one_with_zero():
    for name in LEVELS:
        assert levels(name).shape == (16,)
        assert (levels(name).min(), levels(name).max()) == (-1, 1)
        assert (levels(name) == 0).any()


def test_an_unknown_format_lists_the_formats():
    with pytest.raises(
        lk.LabkitError, match=r"no 4-bit format called 'nf5'\.\n.*mean 'nf4'\? Valid names: fp4, int4, nf4"
    ):
        levels("nf5")
