"""Draw what ways of merging make of a few numbers of each adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from labkit.display.alt import describe, listed, number
from labkit.display.labels import wrapped
from labkit.display.looks import Look, looks
from labkit.display.style import GREY, INK, SMALL, figure
from labkit.errors import LabkitError, require_number, require_seed, shown
from labkit.methods.combinations import WAYS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What each way is called, and what it does.
TITLES = {
    "linear": "linear: the weighted sum",
    "ties": "TIES: trim to {kept}, elect a sign, average those that have it",
    "dare": "DARE: drop {dropped} at random, multiply the others by {scale}",
}
SHORT = 12  # letters of a name that leave room for others beside it
WIDTH = 0.8  # of the bars at one place together
DROPPED: dict[str, Any] = {"facecolor": "white", "linestyle": "--"}
OUTVOTED: dict[str, Any] = {"facecolor": "white", "hatch": "xxxx"}


def merging(
    updates: Mapping[str, Sequence[float]],
    *,
    weights: Sequence[float] | None = None,
    density: float = 0.5,
    seed: int = 0,
) -> list[Axes]:
    """Draw, for each way of merging, what it uses of several updates as bars, and its result as black diamonds.

    What a way leaves out is an empty bar of the size that it had. All numbers are what ``labkit.methods.combinations``
    computes, on the updates as they are given: ``lk.combine`` applies it to the factors A and B.

    Args:
        updates: numbers of each update by its name, equally many.
        weights: of each update; 1 by default.
        density: the share that TIES keeps, and the probability with which DARE keeps a number.
        seed: of what DARE drops.

    Returns:
        The axes, one for each way.

    Raises:
        LabkitError: the updates are not equally many numbers, or a setting is wrong.
    """
    names, stack = list(updates), _stack(updates)
    shares = [1.0] * len(names) if weights is None else weights
    if not isinstance(shares, Sequence) or len(shares) != len(names):
        raise LabkitError(f"{len(names)} updates have the weights {shown(weights)}.", "Pass one for each, or none.")
    factors = torch.tensor([float(require_number("a weight", weight)) for weight in shares])[:, None]
    density, seed = require_number("density", density, above=0), require_seed(seed)
    if density > 1:
        raise LabkitError(f"density is a share, not {density}.", "Try 0.5; 1 keeps all numbers.")
    drawing, axes = figure(6.8, 7, rows=len(TITLES), sharex=True, sharey=True)
    words = {"kept": f"{density:.0%}", "dropped": f"{1 - density:.0%}", "scale": f"{1 / density:.3g}"}
    for ax, (way, title) in zip(axes, TITLES.items(), strict=True):
        kept, used, merged = _made(way, stack, factors, density, seed)
        _draw(ax, names, stack, kept, used, merged)
        ax.set_title(title.format_map(words))
        parts = [f"{name} {', '.join(map(number, row))}" for name, row in zip(names, used.tolist(), strict=True)]
        describe(
            ax, f"Bars of each value that it uses: {listed(parts)} Diamonds: merged: {', '.join(map(number, merged))}."
        )
    axes[-1].set(xlabel="place in the updates", xticks=range(stack.shape[1]))
    axes[-1].set_xticks(range(stack.shape[1]), range(1, stack.shape[1] + 1))
    _legend(drawing, looks(names))
    return list(axes)


def _draw(
    ax: Axes, names: Sequence[str], stack: torch.Tensor, kept: torch.Tensor, used: torch.Tensor, merged: Sequence[float]
) -> None:
    """Draw a bar for each number of each update; an empty one is left out."""
    wide, places = WIDTH / len(names), range(len(merged))
    for at, look in enumerate(looks(names).values()):
        for place in places:
            x = place + wide * (at - (len(names) - 1) / 2)
            before, now = stack[at, place].item(), used[at, place].item()
            style = {"facecolor": look.tint, "hatch": look.hatch} if now else OUTVOTED if kept[at, place] else DROPPED
            ax.bar(x, now or before, wide, edgecolor=look.ink, **style)
    ax.plot(places, merged, "D", color=INK, markersize=7, zorder=4)
    ax.axhline(0, color=GREY, linewidth=1)
    ax.set(ylabel="value")
    ax.grid(visible=False, axis="x")


def _legend(drawing: Figure, styles: Mapping[str, Look]) -> None:
    keys: list[Artist] = [
        Patch(facecolor=look.tint, edgecolor=look.ink, hatch=look.hatch, label=wrapped(name))
        for name, look in styles.items()
    ]
    keys += [
        Patch(edgecolor=INK, label="trimmed or dropped", **DROPPED),
        Patch(edgecolor=INK, label="outvoted", **OUTVOTED),
    ]
    keys.append(Line2D([], [], color=INK, marker="D", linestyle="none", markersize=7, label="merged"))
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": 5 if max(map(len, styles)) <= SHORT else 2}
    drawing.legend(handles=keys, frameon=False, fontsize=SMALL, labelcolor=INK, **place)


def _made(
    way: str, stack: torch.Tensor, weights: torch.Tensor, density: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Return what a way keeps of each update and what it uses, shapes (updates, numbers), and what it makes of them."""

    def merge(rows: torch.Tensor, shares: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        return WAYS[way](rows, shares, density, random)

    merged = merge(stack, weights, torch.Generator().manual_seed(seed))
    # An update by itself is trimmed or dropped as among others: the random numbers come in the same order.
    random = torch.Generator().manual_seed(seed)
    kept = torch.stack([merge(row[None], torch.ones(1, 1), random) for row in stack])
    elected = torch.where(kept.sum(0) >= 0, 1, -1)
    used = kept * (kept.sign() == elected) if way == "ties" else kept
    return kept, used, merged.tolist()


def _stack(updates: Mapping[str, Sequence[float]]) -> torch.Tensor:
    if not isinstance(updates, Mapping) or not updates:
        raise LabkitError(f"Updates are needed by name, not {shown(updates)}.", 'Pass {"hospital": [0.2, …], …}.')
    given = [row.tolist() if hasattr(row, "tolist") else row for row in updates.values()]
    if not all(isinstance(row, Sequence) for row in given):
        raise LabkitError(f"An update is a list of numbers, not {shown(given)}.", "Pass one by each name.")
    rows = [
        [float(require_number(f"a number of {name}", value)) for value in row]
        for name, row in zip(updates, given, strict=True)
    ]
    if len({*map(len, rows)}) > 1 or not rows[0]:
        raise LabkitError(f"The updates have {', '.join(map(str, map(len, rows)))} numbers.", "Pass equally many.")
    return torch.tensor(rows)
