"""Questions and replies side by side, as HTML and as text."""

import re

import pytest

import labkit as lk
from labkit.generation.replies import Reply

TALKS = [
    [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Is 1 < 2?\nSay so."}],
    [{"role": "user", "content": "Sure?"}],
]


def replies(*texts, stopped=True):
    return [Reply(text, 3, stopped, ()) for text in texts]


SHOWN = lk.show_replies(TALKS, {"before": replies("<b>Yes", "Hm", stopped=False), "after": replies("Yes.", "Very.")})


def test_the_text_has_every_turn_and_marks_replies_that_did_not_end():
    assert str(SHOWN).splitlines() == [
        "   system │ Be short.",
        "     user │ Is 1 < 2?",
        "          │ Say so.",
        "   before │ <b>Yes …",
        "    after │ Yes.",
        "",
        "     user │ Sure?",
        "   before │ Hm …",
        "    after │ Very.",
    ]


def test_the_html_shows_what_was_said_and_nothing_of_it_acts():
    html, words = SHOWN._repr_html_()
    assert "&lt;b&gt;Yes …" in html
    assert "<b>Yes" not in html
    assert html.count("<tr>") == 1 + len(TALKS)
    assert html.count('scope="col"') == 3
    # Each cell has its own ground and ink: JupyterLab's dark theme paints every other row dark.
    cells = [*re.findall(r"<t[hd] [^>]*>", html)]
    assert len(cells) == 3 * (1 + len(TALKS))
    assert all("background:" in cell and ";color:" in cell for cell in cells)
    assert words == {"alt": "2 questions and the replies of before, after."}


def test_replies_that_are_not_one_for_each_conversation_are_refused():
    with pytest.raises(lk.LabkitError, match="before has 1 replies to 2 conversations"):
        lk.show_replies(TALKS, {"before": replies("Yes.")})
    with pytest.raises(lk.LabkitError, match="no replies to show"):
        lk.show_replies(TALKS, {})
