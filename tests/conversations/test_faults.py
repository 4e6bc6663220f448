"""Each fault is planted where it arises in practice (a template, a tokenizer, a collator), and found by its name."""

import re

import pytest
from template_families import FAMILIES
from transformers import DataCollatorForLanguageModeling

import labkit as lk
from labkit.conversations.faults import REMEDIES
from labkit.conversations.masks import masked
from labkit.errors import LabkitError

# TRL's training templates of these two let the model learn the header of its own answer.
LEARN_HEADERS = {"deepseekv3", "gptoss"}
CLEAN = sorted(set(FAMILIES) - LEARN_HEADERS)
STOPS = {name: FAMILIES[name].ends[0] for name in ("llama3", "qwen2_5", "gemma3", "phi3", "cohere", "lfm2")}


def conversation(family, system=True):
    said = [
        *([("system", "Answer in one word.")] if system and family.system else []),
        ("user", "What colour is the sky?"),
        ("assistant", "The sky is blue."),
        ("user", "Which animal barks?"),
        ("assistant", "A dog barks."),
    ]
    wrap = (lambda text: [{"type": "text", "text": text}]) if family.blocks else str
    return [{"role": role, "content": wrap(text)} for role, text in said]


def as_transformers(tokenizer, messages, template=None, learn="all"):
    """The ids and labels as transformers makes them of a template's {% generation %} markers."""
    made = tokenizer.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True, chat_template=template
    )
    ids, learned = made["input_ids"], list(made["assistant_masks"])
    if learn == "last":  # all but the last run of ones
        end = max(at for at, one in enumerate(learned) if one)
        start = max((at for at in range(end) if not learned[at]), default=-1)
        learned = [int(one and at > start) for at, one in enumerate(learned)]
    return ids, [token if one else -100 for token, one in zip(ids, learned, strict=True)]


def names(*given, **settings):
    return [fault.name for fault in lk.check_masks(*given, **settings)]


@pytest.mark.parametrize("learn", ["last", "all"])
@pytest.mark.parametrize("name", CLEAN)
def test_no_false_alarm_on_masks_of_transformers(name, learn):
    family = FAMILIES[name]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    ids, labels = as_transformers(tokenizer, messages, learn=learn)
    assert names(tokenizer, messages, ids, labels, learn=learn) == []


@pytest.mark.parametrize("learn", ["last", "all"])
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"smolvlm", "gptoss"}))
def test_no_false_alarm_on_masks_of_labkit(name, learn):
    family = FAMILIES[name]
    # Of these two, masked() refuses the models' own templates: earlier answers lose their thoughts, or have no end.
    tokenizer, messages = family.tokenizer(training=name in ("qwen3", "glm4moe")), conversation(family)
    made = masked(tokenizer, messages, learn)
    labels = [token if learned else -100 for token, learned in zip(made.ids, made.learned, strict=True)]
    assert names(tokenizer, messages, made.ids, labels, learn=learn) == []


@pytest.mark.parametrize("name", sorted(LEARN_HEADERS))
def test_trls_own_templates_that_learn_the_header_are_found(name):
    family = FAMILIES[name]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    assert names(tokenizer, messages, *as_transformers(tokenizer, messages), learn="all") == ["header learned"]


@pytest.mark.parametrize("name", STOPS)
def test_a_stop_token_that_is_never_learned(name):
    family = FAMILIES[name]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    ids, labels = as_transformers(tokenizer, messages)
    stop = tokenizer.convert_tokens_to_ids(STOPS[name])
    labels = [-100 if token == stop else label for token, label in zip(ids, labels, strict=True)]
    assert names(tokenizer, messages, ids, labels, learn="all") == ["stop never learned"]


@pytest.mark.parametrize("name", ["llama3", "phi3", "gemma", "lfm2"])
def test_a_template_that_gives_the_stop_to_the_next_message(name):
    """As TRL's pull request 5988 describes it: the marker closes before the token that ends the turn."""
    family = FAMILIES[name]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    stop = re.escape(family.ends[0])
    right = rf"\+ (['\"]{stop}(?:\\n)?['\"]) -?\}}\}}\s*\{{%-? endgeneration -?%\}}"
    template, count = re.subn(right, r"}}{%- endgeneration %}{{- \1 -}}", tokenizer.chat_template)
    assert count == 1
    ids, labels = as_transformers(tokenizer, messages, template)
    assert names(tokenizer, messages, ids, labels, learn="all") == ["stop never learned"]


@pytest.mark.parametrize("name", ["llama3", "gemma", "gemma3", "cohere", "lfm2"])
def test_a_doubled_begin_token(name):
    family = FAMILIES[name]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    ids, labels = as_transformers(tokenizer, messages)
    doubled = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False))["input_ids"]
    assert len(doubled) == len(ids) + 1
    assert names(tokenizer, messages, doubled, [-100, *labels], learn="all") == ["begin token doubled"]


@pytest.mark.parametrize("name", ["llama3", "qwen2_5", "gemma3", "phi3", "cohere", "lfm2", "qwen3"])
def test_a_learned_header(name):
    family = FAMILIES[name]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    ids, labels = as_transformers(tokenizer, messages, learn="last")
    before = len(tokenizer.apply_chat_template(messages[:-1])["input_ids"])
    if name == "phi3":  # which writes a last token when it isn't asked for a reply
        before -= 1
    labels = [-100] * before + ids[before:]
    assert names(tokenizer, messages, ids, labels) == ["header learned"]


@pytest.mark.parametrize("name", STOPS)
def test_padding_that_is_masked_by_its_id_hides_the_stop(name):
    family = FAMILIES[name]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    tokenizer.pad_token = STOPS[name]
    ids, labels = as_transformers(tokenizer, messages)
    collated = DataCollatorForLanguageModeling(tokenizer, mlm=False)([{"input_ids": ids}, {"input_ids": [*ids, 9, 9]}])
    aims = [
        b if a != -100 else -100 for a, b in zip([*labels, -100, -100], collated["labels"][0].tolist(), strict=True)
    ]
    attention = collated["attention_mask"][0]
    found = names(tokenizer, messages, collated["input_ids"][0], aims, learn="all", attention_mask=attention)
    assert found == ["padding hides the stop"]


@pytest.mark.parametrize("name", ["llama3", "qwen2_5", "qwen3", "phi3", "cohere", "lfm2", "gemma3"])
def test_a_dropped_system_message(name):
    family = FAMILIES[name]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    without = as_transformers(tokenizer, messages[1:])
    assert names(tokenizer, messages, *without, learn="all") == ["system message dropped"]
    tokenizer.chat_template = "{%- set messages = messages[1:] %}" + tokenizer.chat_template
    assert names(tokenizer, messages, *without, learn="all") == ["system message dropped"]


@pytest.mark.parametrize("name", CLEAN)
def test_a_cut_answer_and_a_prompt_that_leaks(name):
    family = FAMILIES[name]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    ids, labels = as_transformers(tokenizer, messages, learn="last")
    first = next(at for at, label in enumerate(labels) if label != -100)
    cut = first + 2
    assert names(tokenizer, messages, ids[:cut], labels[:cut]) == ["answer cut"]
    assert "prompt learned" in names(tokenizer, messages, ids, ids)


def test_other_faults_are_named_and_other_ids_refused():
    family = FAMILIES["qwen2_5"]
    tokenizer, messages = family.tokenizer(training=True), conversation(family)
    ids, labels = as_transformers(tokenizer, messages)
    pad = tokenizer.pad_token_id
    assert names(tokenizer, messages, [*ids, pad], [*labels, pad], learn="all") == ["padding learned"]
    shifted = [*labels[1:], -100]
    assert "labels are other tokens" in names(tokenizer, messages, ids, shifted, learn="all")
    assert names(tokenizer, messages, ids, [-100] * len(ids)) == ["answer not learned", "stop never learned"][::-1]
    for fault in lk.check_masks(tokenizer, messages, ids, ids):
        assert fault.remedy == REMEDIES[fault.name]
    with pytest.raises(LabkitError, match="not those of this conversation"):
        lk.check_masks(tokenizer, messages, [5] * 40, [5] * 40)
