import pytest
from matplotlib import pyplot as plt

import labkit as lk

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


def test_questions_go_down_and_each_advice_is_beside_its_question(drawn):
    heights = [height(drawn, question) for question, _ in QUESTIONS]
    assert heights == sorted(heights, reverse=True)
    assert [height(drawn, advice) for _, advice in QUESTIONS] == heights
    assert height(drawn, "Just go.") < min(heights)


def test_each_question_has_a_yes_and_a_no(drawn):
    assert texts(drawn).count("yes") == texts(drawn).count("no") == len(QUESTIONS)


def test_boxes_do_not_lie_over_one_another_nor_outside(drawn):
    drawn.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in drawn.texts if text.get_bbox_patch()]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    outer = drawn.get_window_extent()
    assert all(outer.x0 <= box.x0 and box.x1 <= outer.x1 for box in boxes)


def test_an_axes_of_ones_own_is_drawn_on():
    figure, ax = plt.subplots()
    assert lk.plots.decisions(QUESTIONS, "Just go.", ax) is ax
    plt.close(figure)
