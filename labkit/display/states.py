"""How trained and frozen parts look in every drawing: told apart by colour, by edge or hatch, and in greyscale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Okabe and Ito's vermillion, which the colour-blind tell from blue. Black on it has a contrast of 5.4, white only 3.9.
TRAINED, FROZEN = "#D55E00", "#DCE4EE"
EDGE = "#6B7B8F"
INK = "black"  # of text, on all of them
# How matplotlib draws a patch of each state.
STATES: Mapping[str, Mapping[str, Any]] = {
    "trained": {"facecolor": TRAINED, "edgecolor": "black", "linewidth": 1.6},
    "frozen": {"facecolor": FROZEN, "edgecolor": EDGE, "linewidth": 0.8},
    "quantized": {"facecolor": FROZEN, "edgecolor": EDGE, "linewidth": 0.8, "hatch": "////"},
    "data": {"facecolor": "white", "edgecolor": "0.35", "linewidth": 0.8},
    "outline": {"facecolor": "white", "edgecolor": EDGE, "linewidth": 1.2, "linestyle": "--"},
}
# What a state is called beside a matrix, and in the text that describes a drawing.
WORDS = {
    "trained": "trained",
    "frozen": "frozen",
    "quantized": "frozen, quantized",
    "data": "",
    "outline": "",
}
