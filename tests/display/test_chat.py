"""Without a browser; tests/browser sends a message as a person does."""

from itertools import pairwise

import pytest
from tiny import STRONG, tiny_model

import labkit as lk

HIDDEN = "<script>alert(1)</script>  & more\nlines"


@pytest.fixture
def one(tokenizer, one_thread):
    """A model that is never at a loss for words."""
    reader = tokenizer("smollm2-135m")
    return tiny_model("llama", reader, vocab_size=len(reader), **STRONG)


@pytest.fixture
def pair(one, tokenizer):
    reader = tokenizer("smollm2-135m")
    other = tiny_model("gpt2", reader, vocab_size=len(reader), max_position_embeddings=64, **STRONG)
    return {"before": one, "after <1>": other}


def sent(widget, text):
    widget.message.value = text
    widget.send.click()
    return widget


def shown(widget):
    return [log.value for log in widget.children[0].children]


def test_each_model_answers_what_it_was_asked_and_said_itself(pair):
    widget = lk.ChatWidget(pair, system="Be brief.", max_new_tokens=5)
    sent(sent(widget, "First"), " Second ")
    assert (widget.message.value, widget.message.disabled, widget.send.disabled) == ("", False, False)
    for name, model in pair.items():
        turns = [{"role": "system", "content": "Be brief."}]
        for text in ("First", "Second"):
            turns.append({"role": "user", "content": text})
            turns.append({"role": "assistant", "content": lk.chat(model, turns, max_new_tokens=5)})
        assert widget.conversations[name] == turns
    widget.reset.click()
    assert widget.conversations == {name: [{"role": "system", "content": "Be brief."}] for name in pair}
    assert "First" not in "".join(shown(widget))


def test_replies_are_shown_as_they_are_written(one):
    widget, seen = lk.ChatWidget(one, max_new_tokens=5), []
    widget.children[0].children[0].observe(lambda change: seen.append((change.new, widget.send.disabled)), "value")
    sent(widget, HIDDEN)
    assert len(seen) >= 5
    assert all(blocked for _, blocked in seen)
    assert all(longer.startswith(shorter.removesuffix("</div></div>")) for (shorter, _), (longer, _) in pairwise(seen))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;  &amp; more\nlines" in seen[-1][0]


def test_what_goes_wrong_is_said_and_the_message_kept(pair):
    widget = lk.ChatWidget(pair, max_new_tokens=8)
    state = widget.children[-1]
    sent(widget, "  ")
    assert state.value == "Write a message first."
    sent(widget, "word " * 70)  # more than the second model can read
    assert state.value.startswith("Nothing was sent. The last turn of the conversation takes")
    assert widget.message.value == ("word " * 70).strip()
    assert widget.conversations == {"before": [], "after <1>": []}
    for _ in range(4):
        sent(widget, "word " * 10)
    assert (
        "Ready.<br>after &lt;1&gt;: The conversation was longer than 56 tokens and lost its oldest turns."
        in state.value
    )
    assert len(widget.conversations["after <1>"]) == 8  # what is shown stays


def test_a_message_that_was_stopped_can_be_sent_again(one, monkeypatch):
    def stopped(*message, **settings):
        yield "some"
        raise KeyboardInterrupt

    widget = lk.ChatWidget(one, max_new_tokens=5)
    with monkeypatch.context() as patch:
        patch.setattr("labkit.display.chat.chat", stopped)
        sent(widget, "First")
    assert widget.children[-1].value == "Nothing was sent. KeyboardInterrupt"
    assert (widget.message.value, widget.conversations) == ("First", {one.name: []})
    widget.send.click()
    assert [turn["role"] for turn in widget.conversations[one.name]] == ["user", "assistant"]


def test_a_model_that_writes_nothing_can_be_asked_again(tiny):
    end = tiny.tokenizer.eos_token_id
    handle = tiny.module.register_forward_hook(lambda m, a, output: output.logits[..., end].add_(1000) and None)
    widget = sent(lk.ChatWidget(tiny), "Are you there?")
    assert widget.conversations == {"tiny": []}
    assert "wrote nothing" in widget.children[-1].value
    handle.remove()
    assert [turn["role"] for turn in sent(widget, "And now?").conversations["tiny"]] == ["user", "assistant"]


def test_only_one_or_two_models_are_talked_to(tiny):
    for models in ({}, dict.fromkeys("abc", tiny), "tiny", {"a": "tiny"}, None):
        with pytest.raises(lk.LabkitError, match="one model or 2"):
            lk.ChatWidget(models)
