"""Rows that come as tokens, and conversations to rehearse on. The masks have tests of their own."""

import pytest
import torch
from datasets import Dataset

import labkit as lk
from labkit.conversations.broken import broken
from labkit.training.sft import encode_conversations, encode_tokens

TALKS = [
    [{"role": "user", "content": f"Which animal says {sound}?"}, {"role": "assistant", "content": f"A {animal}."}]
    for sound, animal in (("woof", "dog"), ("miaow", "cat"), ("moo", "cow"), ("quack", "duck"))
]


def tokens(model, talks):
    examples = encode_conversations(model, talks, 64)
    labels = [[t if on else -100 for t, on in zip(e.tokens, e.is_learned, strict=True)] for e in examples]
    return {"input_ids": [e.tokens for e in examples], "labels": labels}


def task_of(**columns):
    data = Dataset.from_dict(columns)
    return lk.Task("animals", data, data, (), "made here")


def test_tokens_with_labels_train_as_the_conversations_do(tiny):
    settings = {"steps": 3, "batch_size": 2, "progress": False, "learning_rate": 1e-2}
    said = lk.finetune(tiny, task_of(messages=TALKS), "lora", **settings)
    given = lk.finetune(tiny, task_of(**tokens(tiny, TALKS)), "lora", **settings)
    assert [step["loss"] for step in given.history] == [step["loss"] for step in said.history]


def test_a_fault_in_the_labels_reaches_the_loss(tiny):
    made = broken("prompt learned", tiny.tokenizer, TALKS[0])
    labels = [t if on else -100 for t, on in zip(made.ids, made.learned, strict=True)]
    (example,) = encode_tokens(tiny, [{"input_ids": made.ids, "labels": labels}], 64)
    assert example.learned == len(made.ids) - 1


def test_bad_tokens_and_labels_are_named_by_their_row(tiny):
    good = {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}
    for bad, message in (
        ({"input_ids": [1, 2, 3], "labels": [2, 3, -100]}, "Row 2 has labels that are not its tokens"),
        ({"input_ids": [1, 2, 3], "labels": [-100, 2]}, "Row 2 has labels that are not its tokens"),
        ({"input_ids": [1, 10**6], "labels": [-100, -100]}, "Row 2 has 2 tokens, and .* takes 1 to 8"),
        ({"input_ids": [1] * 9, "labels": [-100] * 9}, "Row 2 has 9 tokens"),
        ({"input_ids": [], "labels": []}, "Row 2 has 0 tokens"),
    ):
        with pytest.raises(lk.LabkitError, match=message):
            encode_tokens(tiny, [good, bad], 8)
    with pytest.raises(lk.LabkitError, match="No row has a label"):
        encode_tokens(tiny, [good | {"labels": [-100] * 3}], 8)


def test_conversations_can_be_rehearsed(tiny):
    settings = {"steps": 4, "batch_size": 2, "progress": False, "learning_rate": 1e-2, "replay_every": 2}
    task = task_of(messages=TALKS[:2])
    alone = lk.finetune(tiny, task, "lora", **settings)
    rehearsed = lk.finetune(tiny, task, "lora", replay=TALKS[2:], **settings)
    assert lk.text_loss(rehearsed.model, TALKS[2:]) < lk.text_loss(alone.model, TALKS[2:])
    with pytest.raises(lk.LabkitError, match="texts and conversations"):
        lk.finetune(tiny, task, "lora", replay=["Once upon a time", TALKS[0]], **settings)


def test_the_loss_of_conversations_is_that_of_their_last_replies(tiny):
    rows, expected = tokens(tiny, TALKS), []
    for row, labels in zip(rows["input_ids"], rows["labels"], strict=True):
        with torch.no_grad():
            logits = tiny.module(input_ids=torch.tensor([row])).logits[0].float().log_softmax(-1)
        expected += [-logits[i - 1, t].item() for i, t in enumerate(labels) if t != -100]
    assert lk.text_loss(tiny, TALKS) == pytest.approx(sum(expected) / len(expected), rel=1e-5)
