import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch
from tiny import tiny_model
from torch import nn

import labkit as lk
from labkit.display.states import STATES
from labkit.models.model import Model

matplotlib.use("Agg")

LLAMA, BERT = ["q", "k", "v", "o", "gate", "up", "down"], ["q", "k", "v", "o", "up", "down"]
LAYERS = {"tiny": LLAMA, "tiny_encoder": BERT}
WIDTH, INNER, KEYS = 32, 64, 16  # 2 of the 4 heads of the Llama share keys and values
BOTTLENECK = 2 * 3 * WIDTH + 3 + WIDTH
LORA = {
    "tiny": [2 * (WIDTH + out) for out in (WIDTH, KEYS, KEYS, WIDTH, INNER, INNER, INNER)],
    "tiny_encoder": [2 * (WIDTH + out) for out in (WIDTH, WIDTH, WIDTH, WIDTH, INNER, INNER)],
}
# Of each method: the counts in the drawing by model, and how many trained parts there are beside them.
METHODS = {
    "LoRA": (lk.LoRA(rank=2), LORA, {"tiny": 7, "tiny_encoder": 6}),
    "QLoRA": (lk.QLoRA(rank=2, block_size=32), LORA, {"tiny": 7, "tiny_encoder": 6}),
    "Houlsby": (lk.BottleneckAdapters(size=3), [BOTTLENECK] * 2, 4),
    "Pfeiffer": (lk.BottleneckAdapters(size=3, placement="pfeiffer"), [BOTTLENECK], 2),
    "parallel": (lk.BottleneckAdapters(size=3, placement="parallel"), [BOTTLENECK], 2),
    "IA3": (lk.IA3(), {"tiny": [KEYS, KEYS, INNER], "tiny_encoder": [WIDTH, WIDTH, INNER]}, 3),
    "prefix": (
        lk.PrefixTuning(virtual_tokens=5),
        {"tiny": [5 * 2 * 2 * KEYS], "tiny_encoder": [5 * 2 * 2 * WIDTH]},
        6,
    ),
    "prompt": (lk.PromptTuning(virtual_tokens=5), [5 * WIDTH], 3),
}
CASES = [(fixture, name) for fixture in LAYERS for name in METHODS]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def frozen(model):
    model.module.requires_grad_(False)
    return model


def counts(ax):
    return [int(text.get_text().replace(",", "")) for text in ax.texts if text.get_text()[:1].isdecimal()]


def is_trained(color):
    return matplotlib.colors.to_hex(color).upper() == STATES["trained"]["facecolor"]


def trained_parts(ax):
    """The shapes that look trained: patches, and the dots of factors."""
    patches = [patch for patch in ax.patches if is_trained(patch.get_facecolor())]
    return patches + [line for line in ax.lines if line.get_marker() == "o" and is_trained(line.get_color())]


def boxes(ax):
    """Whether each named box looks trained, in the order of the drawing."""
    names = {text.get_text(): text.get_position() for text in ax.texts}
    found = {}
    for name in (*LLAMA, "attention", "head"):
        if name in names:
            (box,) = [patch for patch in ax.patches if patch.get_path().contains_point(names[name])]
            found[name] = is_trained(box.get_facecolor())
    return found


def of(model, values):
    return values[model] if isinstance(values, dict) else values


def test_the_counts_and_trained_parts_are_those_of_the_first_blocks_adapters(request):
    for fixture, name in CASES:
        method, numbers, shapes = METHODS[name]
        ax = lk.plots.block(method.apply(request.getfixturevalue(fixture)))
        assert counts(ax) == of(fixture, numbers)
        assert len(trained_parts(ax)) == of(fixture, shapes)
        assert boxes(ax) == dict.fromkeys([*LAYERS[fixture], "attention"], False)


@pytest.mark.parametrize("fixture", LAYERS)
def test_nothing_of_a_frozen_model_looks_trained(request, fixture):
    ax = lk.plots.block(frozen(request.getfixturevalue(fixture)), "base")
    assert boxes(ax) == dict.fromkeys([*LAYERS[fixture], "attention"], False)
    assert trained_parts(ax) == counts(ax) == []
    assert ax.get_title() == "base\n0 trained"


def test_every_layer_of_full_fine_tuning_looks_trained(request):
    for fixture, layers in LAYERS.items():
        ax = lk.plots.block(lk.FullFineTuning().apply(request.getfixturevalue(fixture)))
        assert boxes(ax) == dict.fromkeys(layers, True) | {"attention": False}


def test_adapted_layers_alone_have_a_trained_part_beside_them(tiny):
    ax = lk.plots.block(lk.LoRA(rank=2, target_modules=("q_proj", "down_proj")).apply(tiny))
    assert counts(ax) == [2 * (WIDTH + WIDTH), 2 * (INNER + WIDTH)]
    at = {text.get_text(): text.get_position() for text in ax.texts}
    for name, bar in zip(("q", "down"), trained_parts(ax), strict=True):
        (left, bottom), (right, top) = bar.get_extents().transformed(ax.transData.inverted()).get_points()
        assert at[name][0] < left < right < at[name][0] + 1.5
        assert bottom < at[name][1] < top


def test_keys_and_values_are_scaled_behind_their_layers_and_the_mlp_before_its_last(tiny):
    ax = lk.plots.block(lk.IA3().apply(tiny))
    at = {text.get_text(): text.get_position() for text in ax.texts}
    heights = [
        dot.get_ydata()[0] - at[name][1] for name, dot in zip(("k", "v", "down"), trained_parts(ax), strict=True)
    ]
    assert [height > 0 for height in heights] == [True, True, False]
    assert [dot.get_xdata()[0] for dot in trained_parts(ax)] == [at[name][0] for name in ("k", "v", "down")]


@pytest.mark.parametrize("trained", [True, False])
def test_an_encoders_head_looks_trained_where_it_is(tiny_encoder, trained):
    frozen(tiny_encoder).head = nn.Linear(WIDTH, 3).requires_grad_(trained)
    ax = lk.plots.block(tiny_encoder)
    assert boxes(ax)["head"] is trained
    assert len(trained_parts(ax)) == trained


def test_a_finished_run_can_be_drawn(tiny_encoder, colours):
    run = lk.finetune(tiny_encoder, colours, "head", steps=1, batch_size=4, progress=False)
    ax = lk.plots.block(run.model, "head only")
    assert [name for name, is_trained in boxes(ax).items() if is_trained] == ["head"]
    assert ax.get_title() == f"head only\n{4 * WIDTH + 4} trained"


def test_the_title_counts_what_is_trained_in_all_blocks(tiny_encoder):
    for name, (method, numbers, _) in METHODS.items():
        blocks = 1 if name in ("prefix", "prompt") else 2
        total = sum(of("tiny_encoder", numbers)) * blocks
        if "LoRA" in name:
            total += 2 * (WIDTH + WIDTH)  # BERT's pooler, which is in no block
        assert lk.plots.block(method.apply(tiny_encoder)).get_title() == f"{total:,} trained"
        assert lk.plots.block(method.apply(tiny_encoder), name).get_title() == f"{name}\n{total:,} trained"


def test_a_merged_model_is_drawn_as_the_base(tiny):
    ax = lk.plots.block(lk.merge(lk.LoRA(rank=2).apply(tiny)))
    assert trained_parts(ax) == counts(ax) == []


def test_a_drawing_leaves_the_model_as_it_was(tiny):
    tuned = lk.BottleneckAdapters(size=3).apply(tiny)
    before = [(name, id(parameter), parameter.requires_grad) for name, parameter in tuned.module.named_parameters()]
    lk.plots.block(tuned)
    after = [(name, id(parameter), parameter.requires_grad) for name, parameter in tuned.module.named_parameters()]
    assert after == before


def test_a_drawing_lies_within_its_axes(tiny_encoder):
    tiny_encoder.head = nn.Linear(WIDTH, 3)
    for method, _, _ in METHODS.values():
        ax = lk.plots.block(method.apply(tiny_encoder))
        ax.figure.canvas.draw()
        frame = ax.get_window_extent()
        for part in (*ax.patches, *ax.texts):
            box = part.get_window_extent()
            if not box.width:
                continue  # the arrow's empty text
            assert frame.x0 <= box.x0 < box.x1 <= frame.x1, part
            assert frame.y0 <= box.y0 < box.y1 <= frame.y1, part


def test_what_is_trained_is_told_in_words(tiny):
    said = lk.plots.alt_text(lk.plots.block(lk.IA3().apply(tiny)))
    added = ", ".join(f"IA3Linear at {part} ({n:,} numbers)" for part, n in (("k", KEYS), ("v", KEYS), ("down", INNER)))
    assert said.endswith(f"Trained layers: none. Added and trained: {added}.")
    full = lk.plots.alt_text(lk.plots.block(lk.FullFineTuning().apply(tiny)))
    assert full.endswith("Trained layers: q, k, v, o, gate, up, down. Added and trained: nothing.")


def test_a_block_can_be_drawn_where_one_likes(tiny):
    figure, axes = plt.subplots(1, 2)
    assert lk.plots.block(tiny, ax=axes[1]) is axes[1]
    assert axes[1].has_data()
    assert not axes[0].has_data()
    assert plt.get_fignums() == [figure.number]


def test_trained_parts_differ_from_frozen_ones_in_colour_edge_and_grey(tiny):
    for method, _, _ in METHODS.values():
        ax = lk.plots.block(method.apply(tiny))
        trained = [part for part in trained_parts(ax) if part in ax.patches]
        dots = [part for part in trained_parts(ax) if part not in ax.patches]
        others = [patch for patch in ax.patches if patch.get_window_extent().width and patch not in trained]
        edges = [part.get_linewidth() for part in trained] + [dot.get_markeredgewidth() for dot in dots]
        assert min(edges) > max(part.get_linewidth() for part in others if isinstance(part, FancyBboxPatch))
        greys = [
            {np.dot(matplotlib.colors.to_rgb(color), [0.299, 0.587, 0.114]) for color in colors}
            for colors in (
                [part.get_facecolor() for part in trained] + [dot.get_color() for dot in dots],
                [part.get_facecolor() for part in others if isinstance(part, FancyBboxPatch)],
            )
        ]
        assert max(greys[0]) + 0.3 < min(greys[1])


def test_an_architecture_of_other_names_is_refused():
    for kind in ["gpt2", "gpt_neox"]:
        with pytest.raises(lk.LabkitError, match=rf"a block of {kind} are not known.*\n.*Llama or BERT"):
            lk.plots.block(tiny_model(kind))
        assert plt.get_fignums() == []


def test_a_model_without_blocks_is_refused():
    with pytest.raises(lk.LabkitError, match="a block of flat are not known"):
        lk.plots.block(Model("flat", nn.Sequential(nn.Linear(2, 2)), None, "encoder", torch.float32))


def test_an_adapter_at_a_place_that_is_not_drawn_is_refused(tiny):
    tuned = lk.BottleneckAdapters(size=3, target_modules=("post_attention_layernorm",)).apply(tiny)
    with pytest.raises(lk.LabkitError, match=r"no place for .*post_attention_layernorm"):
        lk.plots.block(tuned)
