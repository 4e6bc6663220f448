"""Each fault that is made on purpose is the one that the checker finds."""

import pytest
from template_families import FAMILIES

import labkit as lk
from labkit.conversations.broken import FAULTS, broken
from labkit.conversations.masks import masked
from labkit.errors import LabkitError

TALK = [
    {"role": "system", "content": "Answer in one sentence of at least four words."},
    {"role": "user", "content": "What colour is the sky?"},
    {"role": "assistant", "content": "The sky is blue."},
    {"role": "user", "content": "Which animal barks?"},
    {"role": "assistant", "content": "A dog is an animal that barks."},
]


def labels(made):
    return [token if learned else -100 for token, learned in zip(made.ids, made.learned, strict=True)]


@pytest.mark.parametrize("name", ["llama3", "qwen2_5", "phi3", "cohere"])
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "wrong template"])
def test_the_checker_names_the_fault_that_was_made(fault, name):
    tokenizer = FAMILIES[name].tokenizer(training=True)
    if fault == "begin token doubled" and tokenizer.bos_token_id is None:
        with pytest.raises(LabkitError, match="no begin token"):
            broken(fault, tokenizer, TALK)
        return
    made = broken(fault, tokenizer, TALK)
    found = [each.name for each in lk.check_masks(tokenizer, TALK, made.ids, labels(made))]
    assert found == {"prompt learned": ["header learned", "prompt learned"]}.get(fault, [fault])


@pytest.mark.parametrize("name", ["llama3", "qwen2_5", "phi3", "cohere"])
def test_a_wrong_template_has_other_tokens_around_the_same_reply(name):
    tokenizer = FAMILIES[name].tokenizer(training=True)
    wrong, right = broken("wrong template", tokenizer, TALK), masked(tokenizer, TALK)
    assert "### Response:" in tokenizer.decode(wrong.ids)
    reply = tokenizer.decode([token for token, learned in zip(wrong.ids, wrong.learned, strict=True) if learned])
    assert reply.startswith(TALK[-1]["content"])
    assert "### Response:" not in tokenizer.decode(right.ids)  # the tokenizer keeps its own template


def test_an_unknown_fault_is_answered_with_the_nearest():
    with pytest.raises(LabkitError, match="stop never learned"):
        broken("stop never learnt", FAMILIES["llama3"].tokenizer(training=True), TALK)
