import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

import labkit as lk
from labkit.quant.codebooks import levels

matplotlib.use("Agg")

BINS = np.linspace(-1, 1, 122)
TWELFTHS = np.array([0, 0.0625, 2, 3, 4, 6, 8, 12]) / 12
GRIDS = {
    "by hand": (torch.tensor([0.5, -1, 0.25, 0.5, 1, -0.0, 0.0]), [-1, 0, 0.25, 0.5, 1]),
    "int4": (levels("int4"), np.arange(-7, 8) / 7),  # 15 levels: the last is there twice
    "fp4": (levels("fp4"), np.concatenate([-TWELFTHS[:0:-1], TWELFTHS])),  # 15: zero has two signs
}


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def counts(weight, size):
    """Weights in each bin, block by block."""
    flat = weight.detach().double().numpy().ravel()
    blocks = [flat[start : start + size] for start in range(0, flat.size, size)]
    return np.histogram(np.concatenate([block / (np.abs(block).max() or 1) for block in blocks]), BINS)[0]


def heights(ax):
    """Return the height of each bin of the outline."""
    (outline,) = ax.patches
    points = outline.get_xy()
    bins = np.digitize((points[1:, 0] + points[:-1, 0]) / 2, BINS) - 1
    level = (points[1:, 1] == points[:-1, 1]) & (points[1:, 0] > points[:-1, 0])
    found = np.zeros(121)
    found[bins[level]] = points[1:, 1][level]
    return found.tolist()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_each_level_is_drawn_once_and_at_its_place():
    for name, (grid, places) in GRIDS.items():
        (ax,) = lk.plots.grids(random(8, 64), {name: grid})
        (lines,) = ax.collections
        segments = np.array(lines.get_segments())
        np.testing.assert_allclose(segments[:, 0, 0], places, rtol=1e-6)
        assert np.array_equal(segments[:, 0, 0], segments[:, 1, 0])
        assert (segments[:, :, 1] == [0, 1]).all()  # from the bottom of the axes to the top, whatever the counts
        assert lines.get_transform() == ax.get_xaxis_transform()


def test_nf4_has_its_sixteen_levels_drawn():
    (ax,) = lk.plots.grids(random(8, 64), {"nf4": levels("nf4")})
    places = np.array(ax.collections[0].get_segments())[:, 0, 0]
    assert len(places) == 16
    assert (places[0], places[7], places[-1]) == (-1, 0, 1)
    assert places[1] == pytest.approx(-0.6962, abs=1e-4)  # Dettmers et al., 2023, appendix E


def test_the_histogram_counts_every_weight_over_its_blocks_absmax():
    for shape, size in [((16, 48), 32), ((16, 64), 64), ((3, 7, 5), 105), ((4, 1024), 4096)]:
        weight = random(*shape)
        (ax,) = lk.plots.grids(weight, {"int4": levels("int4")}, size)
        assert heights(ax) == counts(weight, size).tolist()
        assert sum(heights(ax)) == weight.numel()


def test_a_block_is_the_usual_64_or_the_whole_tensor():
    weight = random(10, 64)
    for sizes, size in (((), 64), ((None,), 640)):
        (ax,) = lk.plots.grids(weight, {"int4": levels("int4")}, *sizes)
        assert heights(ax) == counts(weight, size).tolist()


def test_a_short_last_block_adds_no_weights():
    weight = random(100)
    (ax,) = lk.plots.grids(weight, {"int4": levels("int4")}, 64)
    assert heights(ax) == counts(weight, 64).tolist()


def test_a_block_of_zeros_is_drawn_at_zero():
    for zeros in [1, 4]:
        weight = random(4, 64)
        weight[:zeros] = 0
        (ax,) = lk.plots.grids(weight, {"nf4": levels("nf4")})
        assert heights(ax) == counts(weight, 64).tolist()
        assert heights(ax)[60] >= 64 * zeros  # the bin in the middle


def test_a_parameter_in_16_bits_is_drawn_and_left_alone():
    weight = torch.nn.Parameter(random(8, 64).bfloat16())
    before = weight.detach().clone()
    (ax,) = lk.plots.grids(weight, {"nf4": levels("nf4")})
    assert sum(heights(ax)) == 512
    assert torch.equal(weight, before)
    assert weight.requires_grad


def test_grids_stand_one_below_the_other_over_the_same_histogram():
    axes = lk.plots.grids(random(8, 64), {name: grid for name, (grid, _) in GRIDS.items()})
    assert [ax.get_ylabel() for ax in axes] == [f"{name}\nweights" for name in GRIDS]
    assert [ax.get_xlabel() for ax in axes] == ["", "", "weight / largest absolute weight of its block"]
    assert len({tuple(heights(ax)) for ax in axes}) == len({ax.get_xlim() for ax in axes}) == 1
    assert [len(ax.collections[0].get_segments()) for ax in axes] == [5, 15, 15]
    assert axes[0].figure.axes == axes
    assert not any(len(ax.get_yticks()) for ax in axes)
