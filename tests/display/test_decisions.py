from itertools import combinations

import matplotlib
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

import labkit as lk

matplotlib.use("Agg")

QUESTIONS = [
    ("Is it raining?", "Take an umbrella."),
    ("Is it cold?", "Take a coat, and " + "a scarf, and " * 12 + "gloves."),
]


@pytest.fixture
def drawn():
    ax = lk.plots.decisions(QUESTIONS, "Just go.")
    yield ax
    plt.close(ax.figure)


def texts(ax):
    return [" ".join(text.get_text().split()) for text in ax.texts if text.get_text()]


def height(ax, words):
    return next(text.get_position()[1] for text in ax.texts if " ".join(text.get_text().split()) == words)


def test_every_question_and_every_advice_is_there(drawn):
    assert {*(part for pair in QUESTIONS for part in pair), "Just go."} <= set(texts(drawn))


def test_the_ladder_is_told_in_words_from_top_to_bottom(drawn):
    words = lk.plots.alt_text(drawn.figure)
    assert "Is it raining? If yes: Take an umbrella; Is it cold? If yes: Take a coat" in words
    assert words.endswith("Else: Just go.")


def test_questions_go_down_and_each_advice_is_beside_its_question(drawn):
    heights = [height(drawn, question) for question, _ in QUESTIONS]
    assert heights == sorted(heights, reverse=True)
    assert [height(drawn, advice) for _, advice in QUESTIONS] == heights
    assert height(drawn, "Just go.") < min(heights)


def test_each_question_has_a_yes_and_a_no(drawn):
    assert texts(drawn).count("yes") == texts(drawn).count("no") == len(QUESTIONS)


def test_boxes_do_not_lie_over_one_another_nor_outside(drawn):
    drawn.figure.canvas.draw()
    boxes = [patch.get_window_extent() for patch in drawn.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == 2 * len(QUESTIONS) + 1
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    outer = drawn.figure.bbox
    assert all(outer.x0 <= box.x0 and box.x1 <= outer.x1 for box in boxes)
    assert all(outer.y0 <= box.y0 and box.y1 <= outer.y1 for box in boxes)


def test_texts_are_readable_and_lie_within_their_boxes_and_apart(drawn):
    drawn.figure.canvas.draw()
    boxes = [patch.get_window_extent() for patch in drawn.patches if isinstance(patch, FancyBboxPatch)]
    written = [text for text in drawn.texts if text.get_text()]
    places = [text.get_window_extent() for text in written]
    assert not any(one.overlaps(other) for one, other in combinations(places, 2))
    for text, place in zip(written, places, strict=True):
        assert text.get_fontsize() >= 10
        held = [box for box in boxes if box.overlaps(place)]
        if text.get_text() in ("yes", "no"):
            assert held == []
        else:
            (box,) = held
            assert box.x0 < place.x0 < place.x1 < box.x1
            assert box.y0 < place.y0 < place.y1 < box.y1


def test_questions_and_advice_can_be_told_apart(drawn):
    looks = [patch.get_facecolor() for patch in drawn.patches if isinstance(patch, FancyBboxPatch)]
    assert len(set(looks[0:4:2])) == len(set(looks[1:4:2])) == 1
    assert looks[0] != looks[1] == looks[-1]


def test_an_axes_of_ones_own_is_drawn_on():
    figure, ax = plt.subplots()
    assert lk.plots.decisions(QUESTIONS, "Just go.", ax) is ax
    plt.close(figure)
