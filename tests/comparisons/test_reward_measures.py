import json
import math
from dataclasses import fields, replace

import pytest
import torch
from datasets import Dataset
from tiny_sweep import LORA, run_all

import labkit as lk
from labkit.comparisons import chat_measures, point, reward_measures
from labkit.comparisons.chat_measures import losses
from labkit.comparisons.point import Point
from labkit.comparisons.reward_measures import COURSE, Judges, answered, from_pairs, reward_measured
from labkit.evaluation.pairs import score_pairs
from labkit.generation.replies import Reply
from labkit.tasks.questions import question_of

SETTINGS = {"steps": 2, "batch_size": 4, "learning_rate": 1e-2, "seed": 0}
MOST = 6  # tokens of a reply, to be quick


def row(number):
    question = {"role": "user", "content": f"What is finding {number}?"}
    sides = {"chosen": f"A sore on limb {number}.", "rejected": f"An ulceration of extremity {number}."}
    return (
        {"prompt": [question]}
        | {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
        | {"completion": "plain"}
    )


def vowels(rows, replies):
    """A reward that differs among the replies of a model with random weights."""
    return [sum(reply.text.lower().count(each) for each in "aeiou") for reply in replies]


def even(rows, replies):
    return [float(len(reply.text) % 2 == 0) for reply in replies]


def task_of(*rows):
    return lk.Task("clinic", Dataset.from_list(list(rows)), Dataset.from_list(list(rows)), (), "made here")


@pytest.fixture
def task(monkeypatch, tiny_encoder):
    messages = [*row(9)["prompt"], *row(9)["chosen"]]
    monkeypatch.setattr(chat_measures, "general_english", lambda: ["Once upon a time there was a king."])
    monkeypatch.setattr(chat_measures, "general_chat", lambda split="test": [messages])
    monkeypatch.setattr(reward_measures, "MOST", MOST)
    monkeypatch.setattr(reward_measures, "load_model", lambda name: tiny_encoder)
    monkeypatch.setattr(reward_measures, "TEACHING", {"steps": 2, "batch_size": 4})
    return task_of(*map(row, range(8)))


def measured(tiny, task, algorithm, reward=vowels):
    rows, replies = answered(tiny, task)
    judges = Judges(reward, even, vowels(rows, replies), "1" * 8, 0.75)
    return reward_measured(tiny, task, lk.LoRA(), SETTINGS, losses(tiny), judges, algorithm=algorithm, beta=0.1)


@pytest.mark.parametrize("algorithm", ["rloo", "ppo"])
def test_a_run_is_that_of_reinforce_and_its_course_and_replies_are_told(task, tiny, algorithm):
    found = measured(tiny, task, algorithm)
    rl = lk.RL(algorithm, group=4, prompts=4, max_new_tokens=MOST, beta=0.1)
    run = lk.reinforce(tiny, task, {vowels: 1.0, even: 0.0}, lk.LoRA(), rl=rl, progress=False, **SETTINGS)
    assert found["course"].keys() == {*COURSE} - {"reward_on_topic"}  # here, the judge has another name
    for name, column in found["course"].items():
        assert column == pytest.approx([record[name] for record in run.history], rel=1e-3)
    rows = list(task.test)
    before, replies = (lk.generate(model, [question_of(each) for each in rows], MOST) for model in (tiny, run.model))
    assert found["hits"] == "".join(str(int(hit)) for hit in even(rows, replies))
    won = [now > then for now, then in zip(vowels(rows, replies), vowels(rows, before), strict=True)]
    assert found["won"] == "".join("01"[hit] for hit in won)
    assert found["reward"] == pytest.approx(sum(vowels(rows, replies)) / 8, abs=1e-4)
    assert found["reward_before"] == pytest.approx(sum(vowels(rows, before)) / 8, abs=1e-4)
    assert found["distinct"] == len({reply.text for reply in replies})
    assert found["quoted"] == [reply.text for reply in replies[:6]]
    assert found["english_rise"] != 0
    assert found["kl"] > 1e-6
    assert (found["drawn"], found["pairs"], found["skipped"], found["rm_accuracy"]) == (32, None, 0, 0.75)


def test_dpo_learns_from_pairs_that_the_same_reward_ranks(task, tiny):
    found = measured(tiny, task, "dpo")
    assert (found["drawn"], found["pairs"]) == (32, 8)
    assert found["course"]["margin"][0] == 0 != found["course"]["margin"][1]
    assert "reward" not in found["course"]
    made = lk.sample_pairs(
        tiny, task.train, lambda text, row: vowels([row], [Reply(text, 0, True, ())])[0],
        size=4, max_new_tokens=MOST, keep_unfinished=True,
    )  # fmt: skip
    learned, pairs = from_pairs(tiny, task, lk.LoRA(), SETTINGS, vowels, 0.1)
    again = lk.finetune(
        tiny, task_of(*made.pairs), lk.LoRA(), progress=False, preference=lk.Preference("dpo", 0.1), **SETTINGS
    )
    assert pairs == len(made.pairs)
    assert [record["loss"] for record in learned.history] == [record["loss"] for record in again.history]


def test_a_step_whose_reward_failed_is_counted_and_leaves_a_gap(task, tiny):
    def failing(rows, replies):
        calls.append(0)
        return [math.nan] * len(replies) if len(calls) == 1 else vowels(rows, replies)

    calls = []
    found = measured(tiny, task, "rloo", failing)
    assert found["skipped"] == 1
    assert [value is None for value in found["course"]["reward"]] == [True, False]
    assert None not in found["course"]["length"]


def test_the_judges_are_a_reward_model_of_the_tasks_pairs_and_the_encoder_as_it_came(task, tiny, tiny_encoder):
    judges = Judges.of(tiny, task)
    taught = lk.reward_model(tiny_encoder, task, "full", progress=False, **reward_measures.TEACHING).model
    rows, replies = answered(tiny, task)
    texts = [reply.text for reply in replies]
    theirs = lk.training.reward_model.score(taught, [each["prompt"] for each in rows], texts)
    torch.testing.assert_close(torch.tensor(judges.said), theirs)
    assert judges.pairs == score_pairs(taught, task).accuracy.correct / 8
    assert len(judges.about) == 8


def test_a_stored_row_has_everything_and_takes_no_settings_place(task, tiny, sweep, folder, monkeypatch):
    caches = (point._model, point._task, point._losses, point._judges)
    for kept in caches:
        kept.cache_clear()
    monkeypatch.setattr(point, "load_model", lambda name: tiny)
    monkeypatch.setattr(point, "load_task", lambda name, *, train, test: replace(task, train=task.train))
    setting = {"model": "tiny", "task": "clinic", "method": LORA, "train": 8, "test": 8, "held_out": 4} | SETTINGS
    sweep(setting | {"data": {"algorithm": "rloo", "beta": 0.0}})
    ((_, _, stored),) = run_all()
    for kept in caches:
        kept.cache_clear()
    assert (stored["test"], stored["held_out"], stored["total"]) == (8, 4, 4)
    assert stored["course"].keys() == {*COURSE}
    assert stored["made"]["precision"] == "float32"
    assert json.loads(json.dumps(stored)) == stored
    assert {each.name for each in fields(Point)} < stored.keys()
