"""A drawing of one transformer block: what a method trains in it, as found in the model itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch, Polygon
from torch import nn

from labkit.display.alt import describe
from labkit.display.states import INK, STATES
from labkit.errors import LabkitError
from labkit.methods.adapter import adapters_of
from labkit.methods.bottleneck import BottleneckLayer
from labkit.methods.ia3 import IA3Linear
from labkit.methods.prefix import Prefix
from labkit.methods.virtual_tokens import VirtualTokens
from labkit.models.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labkit.models.model import Model

# Shapes are small here, and so is the edge of what is trained; it is still thicker than that of what is frozen.
LOOK: dict[bool, dict[str, Any]] = {True: {**STATES["trained"], "linewidth": 1.2}, False: dict(STATES["frozen"])}
ATTENTION = (4.6, 4.9)
CENTRES = {
    **{"q": (2.6, 2.9), "k": (4.6, 2.9), "v": (6.6, 2.9), "o": (4.6, 6.7)},
    **{"gate": (3.6, 10.9), "up": (5.6, 10.9), "down": (4.6, 13.0), "beside": (8.2, 12.1)},
}
UNGATED = {"up": (4.6, 10.9)}
STREAM, TOP = 0.6, 15.9


def block(model: Model, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw the first block of a model: light parts are frozen, vermillion ones with a thick edge are trained.

    Each trained part bears the count of its numbers (that of a prefix is for all blocks). A bar beside a layer is a
    pair of LoRA's matrices, two trapezoids are a bottleneck, × is a factor for each number that passes, and three
    squares in a row are virtual tokens: their keys and values in a prefix, their word vectors in a prompt.

    Args:
        model: as a method's ``apply`` returned it.
        title: above the drawing; the count of all trained numbers is added.
        ax: where to draw.

    Raises:
        LabkitError: the parts of this architecture's blocks are not known.
    """
    first, parts, layers = _first_block(model)
    adapters = []
    for path, adapter in adapters_of(model).items():
        inside = path.removeprefix(f"{first}.")
        if not adapter.of_layer:
            adapters.append(("", adapter))
        elif inside in parts:
            adapters.append((parts[inside], adapter))
        elif inside != path:
            raise LabkitError(f"There is no place for {path} in the drawing.", "Draw the base model instead.")
    ax = ax or plt.subplots(figsize=(3.2, 5), layout="constrained")[1]
    ax.set(xlim=(-2.2, 9.6), ylim=(-0.7, 17), aspect="equal")
    ax.axis("off")
    # Where the MLP has no gate, `up` stands in the middle.
    centres = CENTRES if "gate" in layers else {part: at for part, at in CENTRES.items() if part != "gate"} | UNGATED
    _stream(ax, centres)
    for part, layer in layers.items():
        _box(ax, centres[part], part, any(p.requires_grad for p in layer.parameters(recurse=False)))
    _box(ax, ATTENTION, "attention", False, width=5.2)
    for part, adapter in adapters:
        if isinstance(adapter, VirtualTokens):
            _tokens(ax, adapter)
        else:
            _adapter(ax, adapter, centres[part])
    if model.kind == "encoder" and model.head is not None:
        _box(ax, (STREAM, TOP + 0.5), "head", any(p.requires_grad for p in model.head.parameters()))
    trained = sum(parameter.numel() for parameter in model.trainable().values())
    ax.set_title(f"{title}\n{trained:,} trained".strip(), fontsize=10)
    describe(ax, _said(layers, adapters))
    return ax


def _said(layers: Mapping[str, nn.Module], adapters: Sequence[tuple[str, nn.Module]]) -> str:
    """Return what the drawing shows, in words."""
    trained = [part for part, layer in layers.items() if any(p.requires_grad for p in layer.parameters(recurse=False))]
    added = [f"{type(one).__name__}{f' at {part}' if part else ''} ({_count(one)} numbers)" for part, one in adapters]
    return (
        f"Drawing of the first block, with the layers {', '.join(layers)}. Trained layers: "
        f"{', '.join(trained) or 'none'}. Added and trained: {', '.join(added) or 'nothing'}."
    )


def _first_block(model: Model) -> tuple[str, dict[str, str], dict[str, nn.Module]]:
    """Return the first block's path, the parts of the drawing by their path in it, and its linear layers by part."""
    stack = next((path for path, part in model.module.named_modules() if isinstance(part, nn.ModuleList)), None)
    known = ARCHITECTURES.get(getattr(getattr(model.module, "config", None), "model_type", ""))
    if stack is not None and known is not None:
        parts = {getattr(known.block, part): part for part in ("q", "k", "v", "o", "gate", "up", "down")}
        parts[known.block.mlp] = "beside"
        inside = model.module.get_submodule(f"{stack}.0").named_modules()
        # A layer in an adapter is drawn at the adapter's place.
        named = {re.sub(r"\.base\b", "", path): layer for path, layer in inside if hasattr(layer, "in_features")}
        layers = {parts[path]: layer for path, layer in named.items() if path in parts}
        if {"q", "k", "v", "o", "up", "down"} <= layers.keys():  # not where one layer makes q, k and v
            return f"{stack}.0", parts, layers
    raise LabkitError(
        f"The parts of a block of {model.name} are not known by their names.", "Models like Llama or BERT can be drawn."
    )


def _stream(ax: Axes, centres: dict[str, tuple[float, float]]) -> None:
    line: dict[str, Any] = {"color": "0.45", "linewidth": 1, "zorder": 0}
    ax.annotate("", (STREAM, TOP), (STREAM, 0.2), arrowprops={"arrowstyle": "->", "color": "0.3", "linewidth": 2})
    ax.text(STREAM, -0.5, "words", ha="center", va="bottom", fontsize=8)
    for leaves, returns, fork, merge, inner in (
        (1.5, 8.7, 1.9, ATTENTION[1], ("q", "k", "v")),
        (9.5, 15.0, 9.9, 12.0, ("gate", "up") if "gate" in centres else ("up",)),
    ):
        ax.plot([STREAM, 4.6, 4.6], [leaves, leaves, fork], **line)
        ax.plot([4.6, 4.6, STREAM], [merge, returns, returns], **line)
        for x in [centres[part][0] for part in inner]:
            ax.plot([4.6, x, x, 4.6], [fork, fork, merge, merge], **line)
        ax.plot(STREAM, returns, "o", color="white", markeredgecolor="0.3", markersize=9)
        ax.text(STREAM, returns - 0.05, "+", ha="center", va="center", fontsize=8)


def _box(ax: Axes, centre: tuple[float, float], text: str, trained: bool, width: float = 1.4) -> None:
    _patch(ax, centre, (width, 0.9), trained, "round,pad=0,rounding_size=0.12")
    ax.text(centre[0], centre[1] - 0.03, text, ha="center", va="center", fontsize=8, color=INK, zorder=3)


def _patch(ax: Axes, centre: tuple[float, float], size: tuple[float, float], trained: bool, shape: str) -> None:
    corner = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
    ax.add_patch(FancyBboxPatch(corner, *size, **LOOK[trained], boxstyle=shape, zorder=2))


def _adapter(ax: Axes, adapter: nn.Module, centre: tuple[float, float]) -> None:
    x, y = centre
    count = _count(adapter)
    if isinstance(adapter, BottleneckLayer):
        if adapter.parallel:
            ax.plot([4.6, x, x, 4.6], [9.5, 9.5, 15.0, 15.0], color="0.45", linewidth=1, zorder=0)
        else:
            y += 1.15
        for sign in (-1, 1):  # squeezed, then widened
            corners = [(x - 0.9, y + 0.55 * sign), (x + 0.9, y + 0.55 * sign), (x + 0.3, y), (x - 0.3, y)]
            ax.add_patch(Polygon(corners, **LOOK[True], joinstyle="round", zorder=2))
        ax.text(*((x, y - 1.0) if adapter.parallel else (x + 2.1, y)), count, fontsize=8, ha="center", va="center")
    elif isinstance(adapter, IA3Linear):
        y += -0.8 if adapter.of_input else 0.95
        edge = {"markeredgecolor": LOOK[True]["edgecolor"], "markeredgewidth": LOOK[True]["linewidth"]}
        ax.plot(x, y, "o", color=LOOK[True]["facecolor"], markersize=11, zorder=4, **edge)
        ax.text(x, y - 0.04, "×", ha="center", va="center", fontsize=10, color=INK, zorder=5)
        ax.text(x + 0.45, y, count, ha="left", va="center", fontsize=8)
    else:
        _patch(ax, (x + 0.92, y), (0.42, 0.9), True, "square,pad=0")
        ax.text(x + 0.3, y - 0.8, count, ha="center", va="center", fontsize=7, zorder=5).set_bbox(
            {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        )


def _tokens(ax: Axes, tokens: VirtualTokens) -> None:
    places = [(x, y + 0.95) for x, y in (CENTRES["k"], CENTRES["v"])]
    for x, y in places if isinstance(tokens, Prefix) else [(STREAM - 1.4, -0.1)]:
        for row in (-1, 0, 1):
            _patch(ax, (x + 0.42 * row, y), (0.36, 0.45), True, "square,pad=0")
    at = (7.5, places[0][1]) if isinstance(tokens, Prefix) else (STREAM - 1.4, 0.75)
    ax.text(*at, _count(tokens), fontsize=8, ha="left" if isinstance(tokens, Prefix) else "center", va="center")


def _count(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad):,}"
