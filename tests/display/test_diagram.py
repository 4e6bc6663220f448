import math
from itertools import combinations

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, Rectangle

import labkit as lk
from labkit.display.alt import alt_text
from labkit.display.plots import Bar, Box, Cells, Matrix, diagram
from labkit.display.states import INK, STATES

matplotlib.use("Agg")

BOX = Box("model", "134.5 million\nweights", "trained")
DRAW = {
    "LoRA": lambda: diagram(
        [Matrix("W", 576, 576), "+", Matrix("B", 576, 8, "trained"), "×", Matrix("A", 8, 576, "trained")],
        title="LoRA",
        caption="A caption that is long enough to be broken into several lines, since the drawing is narrower than it.",
    ),
    "memory": lambda: diagram(
        ["full", Bar({"weights": (500, "trained"), "gradients": (500, "trained"), "AdamW": (1000, "trained")})],
        ["LoRA", Bar({"weights": (500, "frozen"), "gradients": (9, "trained"), "AdamW": (18, "trained")})],
        ["QLoRA", Bar({"weights": (70, "quantized"), "gradients": (0.1, "trained"), "AdamW": (0.2, "trained")})],
    ),
    "loop": lambda: diagram(
        [Box("text"), "→", Box("tokens"), "→", BOX, "→ compare", Box("loss"), "↩ model: AdamW moves every weight"]
    ),
    "quantization": lambda: diagram(
        ["before", Cells("weights", torch.tensor([-0.125, 0.25, 0.5]), 32)],
        "↓ the nearest of 16 levels",
        ["after", Cells("codes", torch.tensor([3, 10, 15]), 4, "quantized"), "and", Cells("largest", [0.5], 32)],
    ),
    "places": lambda: diagram(
        ["behind", Matrix("W", 576, 576), "→", Matrix("down", 16, 576, "trained")],
        ["inside", Matrix("V", 192, 576, "quantized"), "×", Matrix("l", 192, 1, "trained", "one each")],
        [
            "before",
            [Matrix("tokens", 16, 576, "trained"), Matrix("text", 60, 576, "data"), Box("a")],
            "→",
            Box("model"),
        ],
    ),
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def extents(ax, kind):
    """Of each patch of a kind: its width and height in pixels, as drawn."""
    boxes = [patch.get_window_extent() for patch in ax.patches if type(patch) is kind]
    return [(box.width, box.height) for box in boxes]


def drawn(ax):
    """The drawing's pixels, as an image viewer shows them: height × width × 3, from 0 to 255."""
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())[..., :3].astype(int)


def contrast(one, other):
    def luminance(color):
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_matrices_are_to_scale():
    ax = DRAW["LoRA"]()
    shapes = [(576, 576), (8, 576), (576, 8)]  # width and height
    unit = extents(ax, Rectangle)[0][0] / 576
    for (width, height), (columns, rows) in zip(extents(ax, Rectangle), shapes, strict=True):
        assert (width, height) == pytest.approx((columns * unit, rows * unit), rel=1e-6)


def test_pixels_are_to_scale():
    ax = diagram([Matrix("W", 60, 40), Matrix("B", 60, 8, "trained")])
    ax.figure.set_dpi(300)
    pixels = drawn(ax)
    trained = (abs(pixels - [0xD5, 0x5E, 0x00]).max(axis=-1) < 8).nonzero()
    frozen = (abs(pixels - [0xDC, 0xE4, 0xEE]).max(axis=-1) < 4).nonzero()
    sides = [np.ptp(side) + 1 for side in (*frozen, *trained)]  # heights and widths
    unit = sides[0] / 60
    edge = 300 / 72 * 2  # black edges cover a part of them, at most 2 points
    assert sides == pytest.approx([60 * unit, 40 * unit, 60 * unit, 8 * unit], abs=edge)


def test_what_is_too_thin_is_drawn_thicker_and_says_so():
    ax = DRAW["places"]()
    (rows, columns), (thin, high) = (extents(ax, Rectangle)[0], extents(ax, Rectangle)[3])
    assert rows == pytest.approx(columns)
    assert high == pytest.approx(192 / 576 * rows)
    assert thin > 2 / 576 * columns
    texts = [text.get_text() for text in ax.texts]
    assert any(text.startswith("192 × 1 *") for text in texts)
    assert "* drawn thicker than to scale: l" in texts
    assert "drawn thicker than to scale: l" in alt_text(ax.figure)
    assert "*" not in "".join(text.get_text() for text in DRAW["LoRA"]().texts)


def test_bars_are_to_scale_and_amounts_too_small_are_marked():
    ax = DRAW["memory"]()
    widths = [width for width, _ in extents(ax, Rectangle)]
    unit = widths[0] / 500
    assert widths[:7] == pytest.approx([size * unit for size in (500, 500, 1000, 500, 9, 18, 70)])
    assert widths[7] == widths[8] > 0.2 * unit
    assert "weights 70 MB\ngradients 0.1 MB *\nAdamW 0.2 MB *" in [text.get_text() for text in ax.texts]


def test_cells_are_as_high_as_they_have_bits():
    sizes = extents(DRAW["quantization"](), Rectangle)
    assert len({round(width, 6) for width, _ in sizes}) == 1
    assert [height / sizes[3][1] for _, height in sizes] == pytest.approx([8, 8, 8, 1, 1, 1, 8])


def test_texts_are_readable_apart_and_inside():
    for draw in DRAW.values():
        ax = draw()
        ax.figure.canvas.draw()
        frame = ax.figure.bbox
        texts = [text for text in ax.texts if text.get_text()]
        boxes = {text: text.get_window_extent() for text in texts}
        for text, box in boxes.items():
            assert text.get_fontsize() >= 12
            assert frame.x0 <= box.x0 < box.x1 <= frame.x1, text
            assert frame.y0 <= box.y0 < box.y1 <= frame.y1, text
        for one, other in combinations(texts, 2):
            assert not boxes[one].overlaps(boxes[other]), (one, other)
        shapes = [patch.get_window_extent() for patch in ax.patches if type(patch) in (Rectangle, FancyBboxPatch)]
        for text, box in boxes.items():  # in a shape, or beside it, but not over its edge
            for shape in shapes:
                inside = shape.x0 <= box.x0 < box.x1 <= shape.x1 and shape.y0 <= box.y0 < box.y1 <= shape.y1
                assert inside or not shape.overlaps(box), text


def test_trained_and_frozen_differ_in_colour_edge_and_grey():
    trained, frozen, quantized = (STATES[state] for state in ("trained", "frozen", "quantized"))
    assert contrast(trained["facecolor"], frozen["facecolor"]) >= 3  # as a greyscale print shows them
    assert trained["linewidth"] > 1.5 * frozen["linewidth"]
    assert trained["edgecolor"] != frozen["edgecolor"]
    assert quantized["hatch"]
    assert not frozen.get("hatch")
    for look in STATES.values():
        assert contrast(look["facecolor"], INK) >= 4.5
    pixels = drawn(DRAW["LoRA"]())
    grey = pixels @ [0.299, 0.587, 0.114]
    warm = pixels[..., 0] - pixels[..., 2] > 150  # of the trained parts
    assert grey[warm].mean() + 80 < grey[(pixels == [0xDC, 0xE4, 0xEE]).all(axis=-1)].mean()


def test_the_background_is_white_and_opaque():
    ax = DRAW["LoRA"]()
    ax.figure.canvas.draw()
    assert (np.asarray(ax.figure.canvas.buffer_rgba())[[0, -1]] == 255).all()


def test_an_arrow_leads_back_to_the_part_that_it_names():
    ax = DRAW["loop"]()
    ax.figure.canvas.draw()
    xs, ys = ax.lines[0].get_data()
    model, loss = (patch.get_extents().transformed(ax.transData.inverted()) for patch in _boxes(ax)[2:4])
    assert xs[0] == pytest.approx((loss.x0 + loss.x1) / 2, abs=1)
    assert xs[-1] == pytest.approx((model.x0 + model.x1) / 2, abs=1)
    assert min(ys) < min(model.y0, loss.y0)


def _boxes(ax):
    return [patch for patch in ax.patches if type(patch) is FancyBboxPatch]


def test_the_description_names_every_part_with_its_shape_and_state():
    said = {name: alt_text(draw().figure) for name, draw in DRAW.items()}
    assert said["LoRA"].startswith(
        "Diagram. LoRA. W (576 × 576, frozen) + B (576 × 8, trained) × A (8 × 576, trained). A caption"
    )
    assert "LoRA: weights 500 MB (frozen), gradients 9.0 MB (trained), AdamW 18 MB (trained)." in said["memory"]
    assert "QLoRA: weights 70 MB (frozen, quantized)" in said["memory"]
    assert "model (134.5 million weights, trained) → compare loss ↩ model: AdamW moves every weight." in said["loop"]
    assert "weights (frozen, 32 bits each): −0.125, 0.250, 0.500." in said["quantization"]
    assert "codes (frozen, quantized, 4 bits each): 3, 10, 15" in said["quantization"]
    assert "l (192 × 1, trained, one each)." in said["places"]
    assert "before: [tokens (16 × 576, trained); text (60 × 576); a] → model." in said["places"]


BAD = {
    "rows must be a whole number": lambda: Matrix("W", 0, 3),
    "columns must be a whole number": lambda: Matrix("W", 3, 2.5),
    "no state called 'trainable'.*\n.*'trained'": lambda: Matrix("W", 3, 3, "trainable"),
    "no state called 'cold'": lambda: Box("a", state="cold"),
    "name must be a text, not ' '": lambda: Box(" "),
    "name must be a text, not 3": lambda: Cells(3, [1]),
    "bits must be a whole number from 1 to 64": lambda: Cells("a", [1], 65),
    "Cells without values": lambda: Cells("a", []),
    "the size of w must be above 0": lambda: Bar({"w": (0, "frozen")}),
    "the size of v must be above 0 and finite": lambda: Bar({"v": (math.nan, "frozen")}),
    "no state called 'warm'": lambda: Bar({"w": (1, "warm")}),
    "w has 3 for its size and state": lambda: Bar({"w": 3}),
    "A bar without amounts": lambda: Bar({}),
    "nothing to draw": diagram,
    "a row is empty": lambda: diagram([Box("a")], []),
    "3 can't be drawn": lambda: diagram([Box("a"), 3]),
    r"\[\] can't be drawn": lambda: diagram([Box("a"), []]),
    "No earlier part of the row is called 'b'": lambda: diagram([Box("a"), "→", Box("b"), "↩ b"]),
    "No earlier part of the row is called ''": lambda: diagram(["↩"]),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_drawn_is_refused(message):
    with pytest.raises(lk.LabkitError, match=message):
        BAD[message]()
    assert plt.get_fignums() == []
