import re
from itertools import pairwise

import pandas as pd
import pytest
from matplotlib.colors import to_rgb

import labkit as lk
from labkit.comparisons.showdown import SHOWDOWN
from labkit.display.looks import HATCHES, LINES, MARKERS, look_of, looks
from labkit.display.style import PALETTE, contrast, darkened
from labkit.methods.method import METHODS

TITLES = {
    "full": ["full fine-tuning", "Full"],
    "lora": ["LoRA", "LoRA, r = 8", "LoRA r=16", "α/r"],
    "qlora": ["QLoRA", "QLoRA r=16"],
    "bottleneck": ["adapters, Houlsby", "Houlsby"],
    "ia3": ["IA3", "IA³"],
    "prefix": ["prefix tuning"],
    "prompt": ["prompt tuning"],
    "head": ["head only"],
}


def pairs(found):
    return [(look.color, look.marker) for look in found]


def test_every_method_has_a_colour_and_a_marker_of_its_own():
    found = [look_of(name) for name in METHODS]
    assert len({look.color for look in found}) == len(METHODS) == len(PALETTE)
    assert len({look.marker for look in found}) == len(METHODS)
    assert {look.color for look in found} == set(PALETTE.values())


def test_a_method_looks_the_same_by_all_its_names_and_in_all_company():
    assert TITLES.keys() == METHODS.keys()
    for name, titles in TITLES.items():
        for title in titles:
            assert look_of(title, 3) == look_of(name) == looks(["before", "other", title, "one more"])[title]


def test_settings_of_a_method_share_its_colour_and_differ_by_their_markers():
    shown = looks(SHOWDOWN)
    assert len(set(pairs(shown.values()))) == len(SHOWDOWN)
    for label, settings in SHOWDOWN.items():
        assert shown[label] == look_of(label)
        assert shown[label].color == look_of(settings["name"]).color
    same = looks(["LoRA", "LoRA, merged", "LoRA again", "rsLoRA", "PiSSA", "DoRA"])
    assert {look.color for look in same.values()} == {look_of("lora").color}
    assert len({look.marker for look in same.values()}) == len(same)


def test_other_names_can_be_told_apart_with_and_without_colour():
    for known in ([], ["full", "LoRA"], [*METHODS]):
        found = looks([*known, *"abcdefghijkl"])
        assert len(set(pairs(found.values()))) == len(found)
        others = [found[name] for name in "abcdefgh"]
        assert len({look.marker for look in others}) == 8
        assert not known or len(known) == 8 or not {look.color for look in others} & {found["full"].color}
    assert all(one != two for kind in (LINES, MARKERS, HATCHES) for one, two in pairwise(kind))


def test_lines_and_texts_stand_out_from_white():
    for look in [look_of(name) for name in METHODS] + list(looks("abcdefgh").values()):
        assert contrast(look.ink) >= 3
        assert contrast(look.text) >= 4.5
        assert contrast("black", look.tint) >= 7  # what is written on an area
    assert darkened(PALETTE["blue"], 3) == PALETTE["blue"].lower()  # dark enough as it is


@pytest.mark.parametrize(
    ("color", "ground", "expected"),  # by WebAIM's contrast checker
    [("black", "white", 21), ("white", "white", 1), ("#0072B2", "white", 5.19), ("#767676", "white", 4.54)],
)
def test_contrast_is_that_of_wcag(color, ground, expected):
    assert contrast(color, ground) == contrast(ground, color) == pytest.approx(expected, abs=0.01)


def test_the_palette_is_okabes_and_itos():
    # From their page, https://jfly.uni-koeln.de/color/, in whole numbers of red, green and blue.
    published = "0 0 0, 230 159 0, 86 180 233, 0 158 115, 240 228 66, 0 114 178, 213 94 0, 204 121 167"
    expected = [tuple(map(int, re.findall(r"\d+", each))) for each in published.split(",")]
    assert [tuple(round(255 * part) for part in to_rgb(color)) for color in PALETTE.values()] == expected


def test_one_method_has_its_look_in_every_figure():
    rows = pd.DataFrame({"name": ["full", "lora"] * 2, "cost": [9.0, 1, 8, 2], "accuracy": [0.9, 0.8, 0.85, 0.7]})
    swept = lk.plots.sweep(rows, "cost", "name", xlabel="cost (s)")
    curves = lk.plots.curves({"lora": ([1, 2], [3, 4])}, "step", "loss")
    spread = lk.plots.pareto(rows, "cost", "name", xlabel="cost (s)")
    colors = [swept.lines[1].get_color(), curves.lines[0].get_color(), spread.containers[1].lines[0].get_color()]
    assert colors == [look_of("lora").ink] * 3
    markers = [curves.lines[0].get_marker(), spread.containers[1].lines[0].get_marker()]
    assert markers == [look_of("lora").marker] * 2
