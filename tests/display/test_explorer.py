import re
from base64 import b64decode

import matplotlib
import numpy as np
import pytest
import torch
from legible import faults
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import labkit as lk
from labkit.display import explorer as module
from labkit.display.explorer import QuantizationExplorer
from labkit.quant.codebooks import levels

matplotlib.use("Agg")

QUERY = {"tiny": "model.layers.1.self_attn.q_proj", "tiny_encoder": "encoder.layer.1.attention.self.query"}
MLP = {"tiny": "model.layers.0.mlp.down_proj", "tiny_encoder": "encoder.layer.0.output.dense"}
CHOICES = [
    ("nf4", 64, False),
    ("nf4", 64, True),
    ("fp4", 32, False),
    ("fp4", 128, True),
    ("int4", 1024, False),
    ("int4", 32, True),
    ("nf4", 4096, False),  # more than there are weights
]


@pytest.fixture(params=["tiny", "tiny_encoder"])
def either(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def drawn(monkeypatch):
    """Return the list of the figures whose pictures were made."""
    figures, savefig = [], Figure.savefig

    def spy(figure, *args, **settings):
        figures.append(figure)
        return savefig(figure, *args, **settings)

    monkeypatch.setattr(Figure, "savefig", spy)
    return figures


def choose(explorer, **choice):
    for name, value in choice.items():
        getattr(explorer, name).value = value


def verdict(explorer):
    return explorer.children[-2].value


def picture(explorer):
    """Return the words and the bytes of the picture."""
    (words, data) = re.fullmatch(
        r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)">', explorer.children[-1].value
    ).groups()
    return words, b64decode(data)


def expected(model, layer, format, size, double):
    """Error and bits, in double precision and by way of the layer's path."""
    weight = model.module.get_submodule(layer).weight.detach()
    quantized = lk.quantize(weight, format, size, double)
    difference = quantized.dequantize().double() - weight.double()
    return float(difference.square().sum().sqrt() / weight.double().square().sum().sqrt()), quantized.bits_per_parameter


def test_it_begins_with_the_first_layer_in_nf4_and_blocks_of_64(tiny):
    explorer = QuantizationExplorer(tiny)
    choice = [getattr(explorer, name).value for name in ("layer", "format", "block_size", "double")]
    assert choice == ["model.layers.0.self_attn.q_proj", "nf4", 64, False]
    assert explorer.error == pytest.approx(expected(tiny, *choice)[0])
    assert explorer.bits == 4.5


def test_the_layers_to_choose_from_are_the_linear_ones_but_the_head(either):
    found = {name for name, layer in either.module.named_modules() if isinstance(layer, torch.nn.Linear)}
    assert set(QuantizationExplorer(either).layer.options) == found - {"lm_head"}


@pytest.mark.parametrize("paths", [QUERY, MLP], ids=["query", "mlp"])
def test_error_and_bits_are_those_of_quantize(either, paths, monkeypatch):
    monkeypatch.setattr(module, "_draw", lambda *what: "")  # drawing takes most of the time
    explorer = QuantizationExplorer(either)
    layer = paths[either.name.replace("-", "_")]
    for format, size, double in CHOICES:
        choose(explorer, layer=layer, format=format, block_size=size, double=double)
        error, bits = expected(either, layer, format, size, double)
        assert explorer.error == pytest.approx(error, rel=1e-5)
        assert explorer.bits == bits
        for said in (f"{explorer.error:.2%}", f"{bits:.3f} bits"):
            assert said in verdict(explorer)


def test_setting_a_control_draws_another_picture(tiny):
    explorer = QuantizationExplorer(tiny)
    for name, value in [("layer", "model.layers.0.mlp.up_proj"), ("format", "int4"), ("block_size", 32)]:
        before = picture(explorer), verdict(explorer), explorer.error
        choose(explorer, **{name: value})
        after = picture(explorer), verdict(explorer), explorer.error
        assert all(data.startswith(b"\x89PNG\r\n\x1a\n") for (_, data), *_ in (before, after))
        assert all(one != other for one, other in zip(before, after, strict=True))


def test_double_quantization_changes_the_numbers_and_not_the_picture(tiny):
    explorer = QuantizationExplorer(tiny)
    before = picture(explorer), verdict(explorer), explorer.error, explorer.bits
    choose(explorer, double=True)
    assert picture(explorer) == before[0]  # blocks and levels are the same, only the scales are rounded
    assert verdict(explorer) != before[1]
    assert explorer.error != before[2]
    assert explorer.bits < before[3]


def test_choosing_what_was_chosen_before_shows_what_was_shown(either):
    explorer = QuantizationExplorer(either)
    before = picture(explorer), verdict(explorer)
    choose(explorer, format="fp4", block_size=32, double=True)
    choose(explorer, format="nf4", block_size=64, double=False)
    assert (picture(explorer), verdict(explorer)) == before


def test_the_picture_shows_the_weights_and_the_levels_of_the_format(tiny, drawn):
    explorer = QuantizationExplorer(tiny)
    choose(explorer, layer=QUERY["tiny"], block_size=32)
    for name in ["int4", "fp4", "nf4"]:
        choose(explorer, format=name)
        (ax,) = drawn[-1].axes
        (lines,), (histogram,) = ax.collections, ax.patches
        places = np.array(lines.get_segments())[:, 0, 0]
        assert places.tolist() == sorted(set(levels(name).tolist()))
        assert name in ax.get_xlabel()
        assert ax.get_ylabel() == "weights"
        assert f"levels of {name}" in picture(explorer)[0]
        assert faults(drawn[-1]) == []

        weight = tiny.module.get_submodule(QUERY["tiny"]).weight.detach().double().numpy().reshape(-1, 32)
        counts, _ = np.histogram(weight / np.abs(weight).max(axis=1, keepdims=True), 121, (-1, 1))
        assert sorted({y for _, y in histogram.get_xy()}) == sorted({0, *counts})


def test_a_short_last_block_adds_no_weights_to_the_picture(tiny, drawn):
    choose(QuantizationExplorer(tiny), block_size=4096)  # of 1024 weights
    weight = tiny.module.model.layers[0].self_attn.q_proj.weight.detach().double().numpy()
    counts, _ = np.histogram(weight / np.abs(weight).max(), 121, (-1, 1))
    assert drawn[-1].axes[0].patches[0].get_xy()[:, 1].max() == counts.max()


def test_of_a_large_layer_the_first_weights_are_looked_at(tiny, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 500)
    explorer = QuantizationExplorer(tiny)
    weight = tiny.module.model.layers[0].self_attn.q_proj.weight.detach().flatten()[:500]
    quantized = lk.quantize(weight)
    assert explorer.error == pytest.approx(((quantized.dequantize() - weight).norm() / weight.norm()).item())
    assert explorer.bits == quantized.bits_per_parameter == 8 * (500 / 2 + 8 * 4) / 500
    assert "(500 weights" in verdict(explorer)


def test_no_figure_stays_open(either):
    plt.close("all")
    choose(QuantizationExplorer(either), format="fp4", block_size=128, double=True)
    assert plt.get_fignums() == []


def test_the_model_stays_as_it_was(either):
    before = {name: p.detach().clone() for name, p in either.module.named_parameters()}
    choose(QuantizationExplorer(either), format="int4", block_size=32, double=True)
    assert all(torch.equal(p, before[name]) and p.requires_grad for name, p in either.module.named_parameters())
