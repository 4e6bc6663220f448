"""Episodes as HTML and as text: rewards, and tokens by their advantages, also without colour."""

import re
from html import unescape

import pytest

import labkit as lk
from labkit.display.advantages import LOOKS, painted
from labkit.display.style import INK, contrast
from labkit.generation.replies import Reply
from labkit.training.episodes import Episode

ASKED = [{"role": "user", "content": "Is 1 < 2?\n<script>alert(1)</script>"}]


def episode(tokens, advantages, prompt=1, rewards=None, stopped=True, asked=ASKED):
    rewards = rewards or {"right": 1.0}
    reply = Reply("".join(tokens), len(tokens), stopped, tuple(range(len(tokens))))
    return Episode(prompt, asked, reply, tuple(tokens), tuple(advantages), sum(rewards.values()), rewards)


GROUP = [
    episode(["<b>", "Yes\n", "."], [0.5, 0.5, 0.5], rewards={"right": 1.0, "short": 0.25}),
    episode(["N", "o"], [-1.25, -1.25], rewards={"right": 0.0, "short": 0.25}, stopped=False),
]
PPO = [episode([" a", "b", "c", "d"], [0.25, 1.0, -0.5, 0.001], prompt=2, asked="Go on:")]


def test_the_text_has_every_number_and_sign():
    lines = str(lk.show_episodes([*GROUP, *PPO])).splitlines()
    assert lines[0] == ("Rewards of 3 replies to 2 prompts, and their tokens by advantage: -1.25 to +1.")
    assert [line.split(" │ ")[0].strip() for line in lines[1:4]] == ["▲", "▼", "○"]
    assert lines[5:] == [
        "prompt 1",
        "                    user │ Is 1 < 2?",
        "                         │ <script>alert(1)</script>",
        "reply 1: reward 1.25, right 1, short 0.25, advantage ▲ +0.5, tokens 3, ended yes",
        "                  ▲ +0.5 │ <b>Yes↵",
        "                  ▲ +0.5 │ .",
        "reply 2: reward 0.25, right 0, short 0.25, advantage ▼ -1.25, tokens 2, ended no",
        "                 ▼ -1.25 │ No",
        "",
        "prompt 2",
        "                   asked │ Go on:",
        "reply 1: reward 1, advantage -0.5 to +1, tokens 4, ended yes",
        "           ▲ +0.25 to +1 │  ab",
        "                  ▼ -0.5 │ c",
        "                ○ +0.001 │ d",
    ]


def test_the_html_shows_the_same_and_nothing_of_it_acts():
    html, words = lk.show_episodes([*GROUP, *PPO])._repr_html_()
    assert words["alt"] in unescape(html)
    assert "<script" not in html
    assert html.count("<b>") == html.count("</b>") == len(["user:", "asked:"]) + len("▲▼▲▼○")
    said = [unescape(re.sub("<[^>]*>", "", row)) for row in re.findall("<tr>(.*?)</tr>", html)]
    assert said == [
        "rewardrightshortadvantagetokensendedreply",
        "1.2510.25▲ +0.53yes▲<b>Yes↵.",
        "0.2500.25▼ -1.252no▼No",
        "rewardadvantagetokensendedreply",
        "1-0.5 to +14yes▲ ab▼c○d",
    ]
    assert re.findall(r'title="([^"]*)"', html)[5:] == [
        f"token {place}: advantage {number}" for place, number in enumerate(("+0.25", "+1", "-0.5", "+0.001"))
    ]
    cells = re.findall(r'<(?:t[hd]|table|div) [^>]*style="([^"]*)"', html)
    assert all(style.startswith("background:white") for style in cells)  # in the dark theme, too


def test_characters_that_mislead_are_escaped_in_both():
    hostile = episode(["\x1b[31m", "\u202etxet", "\x00", '"><img src=x>', "أهلا"], [1.0] * 5, asked="\u202eevil\x07")
    shown = lk.show_episodes([hostile, episode(["a"], [-1.0])])
    for text in (str(shown), unescape(shown._repr_html_()[0])):
        assert not re.search("[\x00-\x08\x1b\u202e]", text)
        assert "\\x1b[31m" in text
        assert "\\u202etxet" in text
        assert "أهلا" in text
    html, _ = shown._repr_html_()
    assert "<img" not in html
    assert html.count("<bdi>") == html.count("</bdi>") == 3  # what is written right to left stays in its place


def test_signs_differ_without_colour_and_all_is_legible():
    assert len({line.split(" #")[0] for _, line in LOOKS.values()}) == len(LOOKS)
    grounds = [
        re.search("background:(#......)", painted("a", sign, share))[1] for sign in LOOKS for share in (0, 0.5, 1)
    ]
    assert all(contrast(INK, ground) >= 4.5 for ground in grounds)
    assert len({*grounds}) == 7  # the more, the stronger, but for neither
    for _, line in list(LOOKS.values())[:2]:
        assert contrast(line.split()[-1]) >= 3


def test_replies_of_a_flat_group_have_no_sign():
    flat = lk.show_episodes([episode(["a"], [0.0]), episode(["b"], [-2e-6])])
    assert "▲" not in str(flat).partition("prompt 1")[2]
    assert str(flat).splitlines()[-1].strip() == "○ -2e-06 │ b"


def test_what_is_no_episode_is_refused():
    for given in ([], [3], None, "text"):
        with pytest.raises(lk.LabkitError, match="These are no episodes"):
            lk.show_episodes(given)
    assert lk.show_episodes(GROUP[0]).episodes == (GROUP[0],)
