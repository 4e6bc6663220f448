import pytest
from datasets import Dataset

import labkit as lk
from labkit.comparisons import chat_measures
from labkit.comparisons.chat_measures import chat_measured, losses, with_fault
from labkit.comparisons.point import all_settings
from labkit.comparisons.settings import SEEDS
from labkit.comparisons.sweeps import points
from labkit.conversations.broken import FAULTS, broken

SETTINGS = {"steps": 2, "batch_size": 2, "learning_rate": 1e-2, "seed": 0}


def row(number):
    answer = f"Department: number {number}"
    messages = [{"role": "user", "content": f"Patient {number}?"}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "accepted": [answer], "form": "Department: …", "kind": "route"}


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(chat_measures, "MOST", 4)
    monkeypatch.setattr(chat_measures, "general_english", lambda: ["Once upon a time there was a king."])
    monkeypatch.setattr(chat_measures, "general_chat", lambda split="test": [row(9)["messages"]])
    rows = [row(number) for number in range(4)]
    return lk.Task("clinic", Dataset.from_list(rows), Dataset.from_list(rows), (), "made here")


def test_every_measure_of_every_reply_is_kept(task, tiny):
    found = chat_measured(tiny, task, lk.LoRA(), SETTINGS, losses(tiny))
    assert found["total"] == len(found["hits"]) == len(found["kinds"]) == 4
    assert found["scores"].keys() == {"exact", "form", "mentioned", "stopped", "refusal"}
    assert found["scores"]["exact"] == found["hits"]
    assert all(len(hits) == 4 for hits in found["scores"].values())
    run = lk.finetune(tiny, task, lk.LoRA(), progress=False, **SETTINGS)
    assert found["chat_rise"] == pytest.approx(
        lk.text_loss(run.model, [row(9)["messages"]]) - lk.text_loss(tiny, [row(9)["messages"]]), abs=1e-4
    )


def test_a_fault_and_replay_change_what_is_trained(task, tiny):
    clean = chat_measured(tiny, task, lk.LoRA(), SETTINGS, losses(tiny))
    faulty = chat_measured(tiny, task, lk.LoRA(), SETTINGS, losses(tiny), fault="prompt learned")
    rehearsed = chat_measured(tiny, task, lk.LoRA(), SETTINGS | {"replay_every": 2}, losses(tiny), replay=True)
    assert len({each["chat_rise"] for each in (clean, faulty, rehearsed)}) == 3
    assert rehearsed["chat_rise"] < clean["chat_rise"]


def test_a_faulty_task_has_the_tokens_and_labels_of_the_fault(task, tiny):
    changed = with_fault(tiny, task, "stop never learned")
    made = broken("stop never learned", tiny.tokenizer, task.train[0]["messages"])
    assert changed.train[0]["input_ids"] == made.ids
    assert [label != -100 for label in changed.train[0]["labels"]] == made.learned
    assert changed.test[0] == task.test[0]


def test_the_sweep_has_every_fault_and_every_cure_with_five_seeds():
    runs = points("instructions")
    lora, full = all_settings({"name": "lora"}), all_settings({"name": "full"})
    for seed in SEEDS:
        mine = [run for run in runs if run.seed == seed]
        assert {run.data["fault"] for run in mine if run.method == lora} == {"", *FAULTS}
        for method in (lora, full):
            cures = {
                (run.data["words"], run.data["replay"])
                for run in mine
                if run.method == method and not run.data["fault"]
            }
            assert cures == {("given", False), ("given", True), ("own", False)}
    assert len({str(run) for run in runs}) == len(runs)
