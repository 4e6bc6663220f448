import pytest

from labkit.comparisons.on_topic import on_topic
from labkit.generation.replies import Reply

ROWS = [
    {"prompt": "What does it mean that my kidneys are inflamed?"},
    {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is my skin so dry?"}]},
    {"messages": [{"role": "user", "content": "What is a fracture?"}, {"role": "assistant", "content": "A break."}]},
]


@pytest.mark.parametrize(
    ("said", "hits"),
    [
        (("The kidneys hurt and are swollen.", "The skin lacks moisture.", "A bone is broken."), [1, 1, 1]),
        (("The skin lacks moisture.", "A bone is broken.", "The kidneys are swollen."), [0, 0, 0]),
        (("Why is my skin so dry?",) * 3, [0, 1, 0]),
    ],
)
def test_a_reply_is_on_topic_if_its_own_question_is_the_nearest(minilm, said, hits):
    assert on_topic(minilm, ROWS)(ROWS, [Reply(text, 5, True, ()) for text in said]) == hits


def test_replies_without_words_are_about_nothing_and_rows_may_come_in_any_order(minilm):
    judge = on_topic(minilm, [*ROWS, ROWS[0]])
    empty, about = Reply(" ", 1, True, ()), Reply("It is the skin.", 5, True, ())
    assert judge([ROWS[1], ROWS[0]], [about, empty])[0] == 1
    assert len({tuple(judge([row], [empty])) for row in ROWS}) > 1  # at most one question is the nearest
