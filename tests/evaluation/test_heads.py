"""A trained head knows which labels its rows stand for."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset

import labkit as lk
from labkit.evaluation import head_for, label_probabilities

QUICK = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "progress": False}
TURNED = [1, 0]


def task(labels):
    rows = [{"prompt": f"{a * 3} {b}:", "completion": labels[a > "k"]} for a in "abcdefghlmnopqrst" for b in "xyz"]
    return lk.load_task(Dataset.from_list(rows), train=12, test=8)


@pytest.fixture
def animals():
    return task(("cat", "dog"))


@pytest.fixture
def run(tiny_encoder, animals):
    return lk.finetune(tiny_encoder, animals, "head", **QUICK)


def test_a_head_of_as_many_other_labels_is_refused(run, tiny_encoder, tmp_path):
    colours = task(("red", "blue"))
    for model in (run.model, lk.load_run(run.save(tmp_path / "run"), tiny_encoder).model):
        assert model.labels == (" cat", " dog")
        for use in (
            lambda model=model: lk.evaluate(model, colours),
            lambda model=model: lk.finetune(model, colours, "lora", **QUICK),
            lambda model=model: label_probabilities(model, ["x"], colours.labels),
        ):
            with pytest.raises(lk.LabkitError, match=r"tell cat, dog apart; here the labels are .*red"):
                use()


def test_the_same_labels_in_another_order_are_told_apart_alike(run, animals):
    prompts = animals.test["prompt"]
    first, second = (
        label_probabilities(run.model, prompts, labels) for labels in (animals.labels, animals.labels[::-1])
    )
    assert torch.equal(first[:, TURNED], second)
    assert (first[:, 0] - first[:, 1]).abs().max() > 1e-3


def test_white_space_around_labels_tells_them_apart_only_where_nothing_else_does(run):
    model, head = run.model, run.model.head
    assert head_for(model, ("cat", "dog\n")).weight.equal(head.weight)
    assert head_for(model, ("dog", "cat")).weight.equal(head.weight[TURNED])
    model.labels = ("cat", " cat")
    assert head_for(model, (" cat", "cat")).weight.equal(head.weight[TURNED])
    with pytest.raises(lk.LabkitError, match="tell cat, cat apart"):
        head_for(model, ("cat", "cat\n"))


def test_training_goes_on_from_a_head_in_another_order(run, animals):
    turned = replace(animals, labels=animals.labels[::-1])
    more = lk.finetune(run.model, turned, "lora", **(QUICK | {"steps": 1, "learning_rate": 1e-12})).model
    assert more.labels == (" dog", " cat")
    torch.testing.assert_close(more.head.weight, run.model.head.weight[TURNED], atol=1e-6, rtol=1e-6)
    assert more.head.weight.data_ptr() != run.model.head.weight.data_ptr()


def test_a_head_of_ones_own_may_have_no_labels(tiny_encoder, run, animals, tmp_path):
    run.model.labels = ()
    assert lk.evaluate(run.model, task(("red", "blue"))).total == 8
    tiny_encoder.head = torch.nn.Linear(32, 2)
    assert tiny_encoder.labels == ()
    assert lk.evaluate(tiny_encoder, animals).total == 8
