import json
import math
from dataclasses import fields

import pytest
import torch
from datasets import Dataset
from tiny_sweep import LORA, run_all

import labkit as lk
from labkit.comparisons import chat_measures, choices, point, reward_measures
from labkit.comparisons.chat_measures import losses
from labkit.comparisons.choices import answers, with_choices
from labkit.comparisons.point import Point
from labkit.comparisons.reward_measures import from_pairs, reward_measured
from labkit.generation.replies import Reply

SETTINGS = {"steps": 2, "batch_size": 4, "learning_rate": 1e-2, "seed": 0}
MOST = 6  # tokens of a reply, to be quick
SKIN = ("Sore skin", "Dry eye", "Mole")


def row(number, offer="\nChoose one: Sore skin; Dry eye; Mole"):
    question = {"role": "user", "content": f"What is finding {number}?{offer}"}
    messages = [question, {"role": "assistant", "content": f"Finding: {SKIN[number % 3]}"}]
    accepted = [messages[-1]["content"]]
    return {"messages": messages, "accepted": accepted, "form": "Finding: …", "kind": "name", "prompt": "not asked"}


def vowels(rows, replies):
    """A reward that differs among the replies of a model with random weights."""
    return [sum(reply.text.lower().count(each) for each in "aeiou") for reply in replies]


def task_of(*rows):
    return lk.Task("clinic", Dataset.from_list(list(rows)), Dataset.from_list(list(rows)), (), "made here")


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(chat_measures, "general_english", lambda: ["Once upon a time there was a king."])
    monkeypatch.setattr(chat_measures, "general_chat", lambda split="test": [row(9)["messages"]])
    for module in (reward_measures, point):
        monkeypatch.setattr(module, "MOST", MOST)
    monkeypatch.setitem(reward_measures.REWARDS, "vowels", {vowels: 1.0})
    monkeypatch.setattr(reward_measures, "OF_TEXTS", ("vowels",))
    return task_of(*map(row, range(8)))


def measured(tiny, task, algorithm, **changed):
    data = {"algorithm": algorithm, "reward": "vowels"} | changed
    return reward_measured(tiny, task, lk.LoRA(), SETTINGS, losses(tiny), answers(tiny, task, MOST), **data)


@pytest.mark.parametrize("algorithm", ["rloo", "ppo"])
def test_a_run_is_that_of_reinforce_and_its_course_is_told(task, tiny, algorithm, monkeypatch):
    def watching(model, *rest):
        asked.append(model)
        return answers(model, *rest)

    asked = []
    monkeypatch.setattr(reward_measures, "answers", watching)
    found = measured(tiny, task, algorithm, beta=0.1)
    rl = lk.RL(algorithm, group=4, prompts=4, max_new_tokens=MOST, beta=0.1)
    run = lk.reinforce(tiny, task, vowels, lk.LoRA(), rl=rl, progress=False, **SETTINGS)
    assert found["course"]["reward"] == pytest.approx([record["reward"] for record in run.history], rel=1e-3)
    watched = {"reward", "reward_std", "kl", "entropy", "length", "ended", "clipped", "flat", "mismatch"}
    assert found["course"].keys() == watched
    assert {len(column) for column in found["course"].values()} == {2}
    (answering,) = asked
    theirs = answering.trainable()
    assert all(torch.equal(theirs[name], weights) for name, weights in run.model.trainable().items())
    assert found["total"] == found["untrained"]["total"] == 8
    assert found["english_rise"] != 0
    assert found["kl"] > 1e-6
    assert (found["drawn"], found["pairs"], found["skipped"]) == (32, None, 0)


def test_dpo_learns_from_pairs_that_the_same_reward_ranks(task, tiny):
    found = measured(tiny, task, "dpo", beta=0.1)
    assert (found["drawn"], found["pairs"]) == (32, 8)
    assert found["course"]["margin"][0] == 0 < found["course"]["margin"][1]
    assert "reward" not in found["course"]
    made = lk.sample_pairs(
        tiny, task.train, lambda text, row: vowels([row], [Reply(text, 0, True, ())])[0],
        size=4, max_new_tokens=MOST, keep_unfinished=True,
    )  # fmt: skip
    learned, pairs = from_pairs(tiny, task, lk.LoRA(), SETTINGS, "vowels", 0.1)
    again = lk.finetune(
        tiny, task_of(*made.pairs), lk.LoRA(), progress=False, preference=lk.Preference("dpo", 0.1), **SETTINGS
    )
    assert pairs == len(made.pairs)
    assert [record["loss"] for record in learned.history] == [record["loss"] for record in again.history]


def test_pairs_need_a_reward_that_looks_at_the_text_alone(task, tiny):
    with pytest.raises(lk.LabkitError, match="by their texts alone, not by 'mentioned, ended, short'"):
        measured(tiny, task, "dpo", reward="mentioned, ended, short")
    with pytest.raises(lk.LabkitError, match="fluent"):
        measured(tiny, task, "rloo", reward="fluent")


def test_a_step_whose_reward_failed_is_counted_and_leaves_a_gap(task, tiny, monkeypatch):
    def failing(rows, replies):
        calls.append(0)
        return [math.nan] * len(replies) if len(calls) == 1 else vowels(rows, replies)

    calls = []
    monkeypatch.setitem(reward_measures.REWARDS, "vowels", {failing: 1.0})
    found = measured(tiny, task, "rloo")
    assert found["skipped"] == 1
    assert [value is None for value in found["course"]["reward"]] == [True, False]
    assert None not in found["course"]["length"]


def test_replies_are_worth_what_they_name(monkeypatch):
    said = ["Dry eye", "Finding: Dry eye", "Sore skin; Dry eye; Mole", "No idea"]
    lengths = ((3, True), (5, True), (24, False), (4, True))
    replies = [Reply(text, *length, ()) for text, length in zip(said, lengths, strict=True)]
    monkeypatch.setattr(choices, "generate", lambda model, prompts, most: replies)
    assert answers(None, task_of(*[row(1)] * 4), 24) == {
        "correct": 2,
        "total": 4,
        "hits": "1100",
        "mentioned": "1110",
        "exact": "0100",
        "finished": "1101",
        "listed": 1.25,
        "reply_tokens": 9.0,
        "quoted": said,
    }


def test_questions_without_choices_are_left_out_of_the_real_task():
    whole = lk.load_task("instructions", train=48, test=24)
    found = with_choices(whole, 24, 12)
    for part, old in ((found.train, whole.train), (found.test, whole.test)):
        assert part.to_list() == [each for each in old if each["kind"] in ("name", "plain")]
    with pytest.raises(lk.LabkitError, match="12 of the 24 questions to test offer choices, not 13"):
        with_choices(whole, 24, 13)


def test_a_stored_row_has_everything_and_takes_no_settings_place(task, tiny, sweep, folder, monkeypatch):
    def load_task(name, *, train, test):
        asked.append((name, train, test))
        return task_of(*map(row, range(train // 2)), *[row(0, offer="")] * (train // 2))

    asked = []
    caches = (point._model, point._task, point._losses, point._choices, point._untrained)
    for kept in caches:
        kept.cache_clear()
    monkeypatch.setattr(point, "load_model", lambda name: tiny)
    monkeypatch.setattr(point, "load_task", load_task)
    setting = {"model": "tiny", "task": "clinic", "method": LORA, "train": 12, "test": 8, "held_out": 4} | SETTINGS
    sweep(setting | {"data": {"algorithm": "rloo", "reward": "vowels", "beta": 0.0}})
    ((_, _, stored),) = run_all()
    for kept in caches:
        kept.cache_clear()
    assert asked == [("clinic", 24, 16)]
    assert (stored["test"], stored["held_out"], stored["total"]) == (8, 4, 4)
    assert stored["made"]["precision"] == "float32"
    assert json.loads(json.dumps(stored)) == stored
    assert {each.name for each in fields(Point)} < stored.keys()
