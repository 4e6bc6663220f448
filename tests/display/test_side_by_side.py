"""Without a browser; tests/browser asks as a person does."""

import re
from html import unescape

import pytest
from tiny import STRONG, disturb, tiny_model

import labkit as lk
from labkit.generation.replies import Reply

NAMES = ["tiny", "hospital", "law <2>"]
PROMPTS = ["Finding: a <b>fever</b>\nDepartment:", "License: none\nCategory:"]


@pytest.fixture
def specialists(tokenizer, one_thread):
    reader = tokenizer("smollm2-135m")
    base = tiny_model("llama", reader, "tiny", vocab_size=len(reader), max_position_embeddings=64, **STRONG)
    adapters = {}
    for seed, name in enumerate(NAMES[1:]):
        adapters[name] = lk.LoRA(rank=2).apply(base)
        disturb(adapters[name], seed, 0.2)
    return lk.Specialists(base, adapters)


@pytest.fixture
def batches(specialists, monkeypatch):
    """What was generated, batch by batch."""
    seen, generate = [], specialists.generate

    def spy(prompts, names, *count, **settings):
        seen.append((prompts, names))
        return generate(prompts, names, *count, **settings)

    monkeypatch.setattr(specialists, "generate", spy)
    return seen


def asked(widget, text):
    widget.prompt.value = text
    widget.ask.click()
    return widget


def columns(widget):
    return [unescape(re.sub("<[^>]*>", "", column.value)) for column in widget.children[-1].children]


def state(widget):
    return unescape(re.sub("<[^>]*>", " ", widget.children[-3].value)).strip()


def test_all_continue_one_prompt_in_one_batch(specialists, batches):
    widget = lk.SideBySide(specialists, PROMPTS, max_new_tokens=5)
    assert widget.prompt.value == PROMPTS[0]
    assert columns(widget) == [f"{name}No reply yet." for name in NAMES]
    widget.ask.click()
    assert batches == [([PROMPTS[0]] * 3, NAMES)]
    alone = {name: specialists.generate([PROMPTS[0]], name, 5)[0] for name in NAMES}
    assert len({reply.text for reply in alone.values()}) == 3
    assert widget.replies == alone
    assert widget.asked == PROMPTS[0]
    for name, column in zip(NAMES, columns(widget), strict=True):
        assert column == f"{name}{alone[name].text.strip()} …5 tokens, and no end"
    assert re.fullmatch(r"3 replies in one batch, 15 tokens: \d+\.\d\d s\.", state(widget))
    above = widget.children[-2].value
    assert "<b>" not in above
    assert PROMPTS[0] in unescape(above)


def test_an_example_fills_the_field_and_an_edit_leaves_it(specialists, batches):
    widget = lk.SideBySide(specialists, PROMPTS)
    assert [label for label, _ in widget.example.options] == [
        "Finding: a <b>fever</b> ⏎ Department:",
        "License: none ⏎ Category:",
        "(your own)",
    ]
    widget.example.value = PROMPTS[1]
    assert widget.prompt.value == PROMPTS[1]
    widget.prompt.value += " mine"
    assert (widget.example.value, widget.prompt.value) == ("", PROMPTS[1] + " mine")
    widget.example.value = PROMPTS[1]  # chosen again
    assert widget.prompt.value == PROMPTS[1]
    widget.example.value = ""
    assert widget.prompt.value == PROMPTS[1]
    assert not batches  # nothing is asked before the button is pressed
    bare = lk.SideBySide(specialists)
    assert bare.example not in bare.children
    assert bare.prompt.value == ""


def test_controls_rest_while_it_works_and_reply_ends_are_told(specialists, monkeypatch):
    widget = lk.SideBySide(specialists, PROMPTS, max_new_tokens=5)
    controls, seen, generate = (widget.example, widget.prompt, widget.ask), [], specialists.generate

    def spy(*args, **settings):
        seen.append([control.disabled for control in controls])
        return generate(*args, **settings)

    monkeypatch.setattr(specialists, "generate", spy)
    first = generate(PROMPTS[:1], "tiny", 1)[0].ids[0]
    specialists.model.module.generation_config.eos_token_id = [first]
    widget.ask.click()
    assert seen == [[True] * 3]
    assert not any(control.disabled for control in controls)
    assert columns(widget)[0] == "tiny1 token, with the one that ends it"


def test_what_goes_wrong_is_said_and_the_replies_stay(specialists, monkeypatch):
    widget = asked(lk.SideBySide(specialists, max_new_tokens=5), "The sky")
    before = columns(widget)
    asked(widget, " \n")
    assert state(widget) == "Write a prompt first."

    def refuse(*args, **settings):
        raise lk.LabkitError("This is <wrong>.", "Do that.")

    with monkeypatch.context() as patch:
        patch.setattr(specialists, "generate", refuse)
        asked(widget, "The sea")
        assert state(widget) == "Nothing was written. This is <wrong>. → Do that."
    with monkeypatch.context() as patch:  # the stop button
        patch.setattr(specialists, "generate", lambda *args, **settings: (_ for _ in ()).throw(KeyboardInterrupt))
        widget.ask.click()
        assert state(widget) == "Nothing was written. KeyboardInterrupt"
    assert (widget.prompt.value, widget.asked, columns(widget)) == ("The sea", "The sky", before)
    assert not widget.ask.disabled
    asked(widget, "word " * 70)  # more than the model can read
    assert "tokens: " in state(widget)
    assert "lost" in state(widget)


def test_it_reads_as_text(specialists):
    widget = lk.SideBySide(specialists, max_new_tokens=3)
    assert repr(widget) == str(widget) == "SideBySide(tiny, hospital, law <2>)"
    asked(widget, "The sky")
    widget.replies["hospital"] = Reply(" two\nlines", 3, True, (1, 2, 3))
    texts = [widget.replies[name].text.strip() for name in NAMES]
    assert str(widget).splitlines() == [
        "SideBySide(tiny, hospital, law <2>)",
        "The sky",
        f"    tiny │ {texts[0]} …",
        "hospital │ two",
        "         │ lines",
        f" law <2> │ {texts[2]} …",
    ]
    assert repr(widget) == "SideBySide(tiny, hospital, law <2>)"


def test_only_specialists_and_texts_are_taken(specialists, tiny):
    for given in (tiny, None, ["law"]):
        with pytest.raises(lk.LabkitError, match="These are no specialists"):
            lk.SideBySide(given)
    for prompts in ("text", 3, None, [3], [""], [["text"]]):
        with pytest.raises(lk.LabkitError, match="Prompts are a list of texts"):
            lk.SideBySide(specialists, prompts)
