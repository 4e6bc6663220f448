from dataclasses import fields

import pytest
import torch
from datasets import Dataset

import labkit as lk
from labkit.comparisons import chat_measures, preference_measures
from labkit.comparisons.chat_measures import losses
from labkit.comparisons.divergence import divergence
from labkit.comparisons.point import Point
from labkit.comparisons.preference_measures import (
    chosen_alone,
    log_probabilities_of,
    name_in,
    preference_measured,
    some_pairs,
)
from labkit.comparisons.sweeps import points

SETTINGS = {"steps": 3, "batch_size": 2, "learning_rate": 3e-2, "seed": 0}


def row(number):
    prompt = [{"role": "user", "content": f"What is finding {number}?"}]
    chosen, rejected = ([{"role": "assistant", "content": f"In short: {name}."}] for name in ("Sore skin", "Derma"))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(preference_measures, "MOST", 4)
    monkeypatch.setattr(chat_measures, "general_english", lambda: ["Once upon a time there was a king."])
    talk = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good morning."}]
    monkeypatch.setattr(chat_measures, "general_chat", lambda split="test": [talk])
    rows = Dataset.from_list([row(number) for number in range(4)])
    return lk.Task("clinic", rows, rows, (), "made here")


def measured(tiny, task, loss, **changed):
    said = log_probabilities_of(tiny, task)
    return preference_measured(tiny, task, lk.LoRA(), SETTINGS, losses(tiny), said, loss=loss, **changed)


def test_what_a_run_changed_is_measured_on_the_test_pairs(task, tiny):
    found = measured(tiny, task, "dpo", beta=0.1)
    run = lk.finetune(tiny, task, lk.LoRA(), progress=False, preference=lk.Preference("dpo", 0.1), **SETTINGS)
    before, now = log_probabilities_of(tiny, task), log_probabilities_of(run.model, task)
    assert found["hits"] == "".join("01"[bool(a > b)] for a, b in now)
    assert found["rose"] == "".join("01"[bool(a > b)] for a, b in now - before)
    assert found["chosen_change"] == pytest.approx((now - before)[:, 0].mean().item(), abs=1e-3)
    assert found["course"]["margin"][0] == 0
    assert len(found["course"]["margin"]) == 3
    assert not found.keys() & {each.name for each in fields(Point)}  # they would take the place of settings
    assert found["total"] == len(found["plain"]) == len(found["jargon"]) == 4


def test_log_probabilities_are_those_of_transformers(task, tiny):
    text = tiny.tokenizer.apply_chat_template(row(0)["prompt"], tokenize=False, add_generation_prompt=True)
    whole = tiny.tokenizer(text + "In short: Sore skin.<|im_end|>\n", return_tensors="pt")["input_ids"]
    labels = whole.clone()
    labels[:, : len(tiny.tokenizer(text)["input_ids"])] = -100
    with torch.no_grad():
        loss = tiny.module(whole, labels=labels).loss.item()
    assert log_probabilities_of(tiny, task)[0, 0].item() == pytest.approx(
        -loss * (labels != -100).sum().item(), rel=1e-5
    )


def test_an_unchanged_model_has_moved_nowhere(task, tiny):
    assert divergence(tiny, tiny, task.test["prompt"], 4, seed=0) == pytest.approx(0, abs=1e-9)
    assert measured(tiny, task, "simpo")["kl"] > 1e-6


def test_supervised_fine_tuning_reads_the_chosen_replies_alone(task, tiny):
    assert chosen_alone(task).train["messages"][1] == [*row(1)["prompt"], *row(1)["chosen"]]
    assert chosen_alone(task).test == task.test
    found = measured(tiny, task, "sft")
    assert found["chosen_change"] > found["rejected_change"]
    assert set(map(len, found["course"].values())) == {0}


def test_the_name_is_what_a_reply_says():
    assert name_in([{"role": "assistant", "content": "This means: Runny nose."}]) == "Runny nose"
    pairs = lk.load_task("preferences", train=20, test=20)
    assert all(name_in(row["chosen"]) != name_in(row["rejected"]) for row in pairs.test)


def test_pairs_by_length_are_as_many_as_their_control():
    def pair(more):
        return {"prompt": [], "chosen": [{"content": "x" * (9 + more)}], "rejected": [{"content": "x" * 9}]}

    rows = Dataset.from_list([pair(more) for more in (1, -1, 0, 2, -2, 3, 4, 5)])
    task = lk.Task("lengths", rows, rows, (), "made here")
    found = {name: some_pairs(task, name).train for name in ("all", "longer chosen", "both")}
    more = {name: [len(row["chosen"][0]["content"]) - 9 for row in rows] for name, rows in found.items()}
    assert more["longer chosen"] == [1, 2, 3, 4]
    assert more["both"] == [1, -1, 2, -2]
    assert more["all"] == [1, -1, 0, 2, -2, 3, 4, 5]
    with pytest.raises(lk.LabkitError, match="longest"):
        some_pairs(task, "longest")
    assert {run.data["pairs"] for run in points("length-bias")} == {"longer chosen", "both"}
