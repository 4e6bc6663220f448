"""Every token of an example is painted by what the loss does with it."""

import re
from html import unescape

import pytest
import torch

import labkit as lk
from labkit.display.masks import LOOKS
from labkit.display.style import INK, contrast
from labkit.errors import LabkitError

MESSAGES = [
    {"role": "user", "content": "Is 1 < 2?\n<b>Say</b> so."},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Very."},
]


@pytest.fixture(scope="module")
def smol(tokenizer):
    return tokenizer("smollm2-135m")


def text(painted, state):
    return "".join(text for text, _, one in painted.tokens if one == state)


def test_a_conversation(smol):
    painted = lk.show_masks(smol, MESSAGES)
    assert text(painted, "learned").strip() == "Very.<|im_end|>"
    assert "Yes." in text(painted, "read")
    assert "Yes.<|im_end|>" in text(lk.show_masks(smol, MESSAGES, learn="all"), "learned")
    whole = "".join(text for text, *_ in painted.tokens)
    assert whole == smol.apply_chat_template(MESSAGES, tokenize=False)


def test_what_is_cut_is_shown(smol):
    whole = lk.show_masks(smol, MESSAGES)
    short = lk.show_masks(smol, MESSAGES, max_length=len(whole.tokens) - 5)
    turn = "<|im_start|>user\nIs 1 < 2?\n<b>Say</b> so.<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
    assert text(short, "cut") == turn
    assert "Very." in text(short, "learned")


def test_a_row_of_a_batch(smol):
    ids = torch.tensor([smol("What? No.")["input_ids"] + [smol.pad_token_id] * 2])
    labels = ids.clone()
    labels[0, :2] = labels[0, -2:] = -100
    painted = lk.show_masks(smol, {"input_ids": ids, "labels": labels})
    assert painted.counts == {"read": 2, "learned": ids.shape[1] - 4, "ignored": 2, "cut": 0}
    assert lk.show_masks(smol, ids, labels) == painted


def test_html_escapes_shows_white_space_and_says_what_it_shows(smol):
    html, metadata = lk.show_masks(smol, MESSAGES)._repr_html_()
    assert "<b>" not in html
    body = unescape(re.sub("<[^>]*>", "", html.partition("<hr>")[2]))
    assert "Is·1·<·2?↵<b>Say</b>·so." in body
    assert "<|im_start|>user↵" in body
    assert html.count("<wbr>") == len(lk.show_masks(smol, MESSAGES).tokens) - 1  # a long line breaks between tokens
    assert metadata["alt"] in html
    assert "learned │" in str(lk.show_masks(smol, MESSAGES))


def test_states_are_legible_and_differ_without_colour():
    assert all(contrast(INK, ground) >= 4.5 for _, ground, _ in LOOKS.values())
    lines = {re.search(r"border-bottom:(\dpx \w+ (?:transparent)?)", line)[1] for *_, line in LOOKS.values()}
    assert len(lines) == len(LOOKS)


def test_what_is_no_example_is_refused(smol):
    with pytest.raises(LabkitError, match="without labels"):
        lk.show_masks(smol, [1, 2])
    with pytest.raises(LabkitError, match="2 input_ids and 1 labels"):
        lk.show_masks(smol, [1, 2], [1])
