from dataclasses import fields, replace

import pytest
from datasets import Dataset
from tiny_sweep import run_all, setting

import labkit as lk
from labkit.comparisons import merge_measures, point
from labkit.comparisons.merge_measures import APART, Scores, Team, merge_measured
from labkit.comparisons.merges import WAYS
from labkit.comparisons.point import Point
from labkit.comparisons.two_jobs import PARTS, Jobs, as_texts, hospital_job, prefers_plain
from labkit.methods.factors import factors_of

SETTINGS = {"steps": 3, "batch_size": 4, "learning_rate": 0.1, "seed": 0}
TEXTS = ["Once upon a time there was a king.", "He had three sons."]


def task_of(name, labels):
    rows = [
        {"id": f"{name} {n}", "prompt": f"{name} {n}\nWhat is it?", "completion": f" {labels[n % 2]}"} for n in range(8)
    ]
    data = Dataset.from_list(rows)
    return lk.Task(name, data, data.select(range(5)), tuple(f" {label}" for label in sorted(labels)), "made here")


def pair(number):
    prompt = [{"role": "user", "content": f"What is finding {number}?"}]
    chosen, rejected = ([{"role": "assistant", "content": f"In short: {name}."}] for name in ("Sore skin", "Derma"))
    return {"id": f"pair {number}", "prompt": prompt, "chosen": chosen, "rejected": rejected}


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.setattr(merge_measures, "general_english", lambda count: TEXTS[:count])
    rows = Dataset.from_list([pair(number) for number in range(9)])
    pairs = as_texts(lk.Task("words", rows, rows.select(range(6, 9)), (), "made here"))
    law = task_of("law", ("free", "paid"))
    law = replace(law, train=law.train.select_columns(PARTS))
    return Jobs(hospital_job(task_of("Finding", ("heart", "skin")), pairs), law, pairs)


@pytest.fixture
def team(jobs, tiny):
    return Team(tiny, jobs, lk.LoRA(rank=2), SETTINGS)


@pytest.fixture
def trained(monkeypatch):
    """The names of the tasks that were learned, in order."""

    def finetune(base, task, *rest, **settings):
        seen.append(task.name)
        return original(base, task, *rest, **settings)

    seen, original = [], merge_measures.finetune
    monkeypatch.setattr(merge_measures, "finetune", finetune)
    return seen


def test_a_model_is_measured_as_evaluate_measures_it(team, jobs, tiny):
    before = Scores.of(tiny, jobs)
    found = merge_measured(team, before, way="cat", weight=0.5)
    runs = {
        name: lk.finetune(tiny, jobs.learned(name), lk.LoRA(rank=2), progress=False, **SETTINGS | {"seed": seed})
        for name, seed in {"hospital": 0, "law": APART}.items()
    }
    model = lk.combine(runs, [0.5, 0.5], how="cat")
    triage, licenses = lk.evaluate(model, jobs.hospital), lk.evaluate(model, jobs.law)
    assert found["triage_hits"] == triage.hits
    assert found["licenses_hits"] == licenses.hits
    assert found["hits"] == triage.hits + licenses.hits
    assert (found["correct"], found["total"]) == (triage.correct + licenses.correct, 10)
    assert found["plain_hits"] == prefers_plain(model, jobs.pairs).hits
    rise = lk.text_loss(model, TEXTS) - lk.text_loss(tiny, TEXTS)
    assert found["english_rise"] == pytest.approx(rise, abs=1e-4)
    assert abs(rise) > 1e-3
    assert found["trained_parameters"] == sum(run.trained_parameters for run in runs.values())
    assert not found.keys() & {each.name for each in fields(Point)}  # they would take the place of settings


def test_each_adapter_is_trained_once_for_all_ways(team, jobs, tiny, trained):
    before = Scores.of(tiny, jobs)
    assert merge_measured(team, before, way="base")["seconds"] == 0
    assert trained == []
    rows = [merge_measured(team, before, **way) for way in WAYS]
    assert trained == ["hospital", "law"]
    base, hospital, law, *merged = rows
    assert base["trained_parameters"] == base["english_rise"] == 0
    assert hospital["seconds"] + law["seconds"] == pytest.approx(merged[0]["seconds"], abs=0.02)
    assert {row["trained_parameters"] for row in merged} == {2 * law["trained_parameters"]}
    assert len({(row["english_rise"], row["hits"], row["plain_hits"]) for row in rows}) == len(rows), (
        rows
    )  # no way is another one


def test_one_adapter_may_learn_both_jobs(team, jobs, tiny, trained):
    found = merge_measured(team, Scores.of(tiny, jobs), way="both")
    assert len(trained) == 1
    both = jobs.learned("both").train
    assert both["prompt"][:] == jobs.hospital.train["prompt"][:] + jobs.law.train["prompt"][:]
    model = team.runs["both"][0].model
    assert found["trained_parameters"] == sum(f.A.numel() + f.B.numel() for f in factors_of(model, "it").values())


@pytest.fixture
def forgetful():
    """What points keep for the next ones is forgotten, before and after."""

    def forget():
        for kept in (point._model, point._team, point._scores):
            kept.cache_clear()

    forget()
    yield
    forget()


def test_stored_rows_are_compared_on_either_task(forgetful, sweep, folder, jobs, tiny, monkeypatch):
    monkeypatch.setattr(point, "load_model", lambda name: tiny)
    monkeypatch.setattr(point, "_jobs", lambda *sizes: jobs)
    chosen = [setting(seed) | {"data": way} for seed in (0, 1) for way in (WAYS[1], WAYS[5])]
    sweep(*chosen)
    run_all()
    rows = lk.results("tiny")
    groups = {way: part for way, part in rows.groupby("data.way")}
    assert list(groups) == ["cat", "hospital"]
    for column in ("triage_hits", "licenses_hits"):
        table = lk.compare({way: list(part[column]) for way, part in groups.items()}, against="hospital")
        right = {way: "".join(part[column]).count("1") for way, part in groups.items()}
        assert table["points"].item() == pytest.approx(100 * (right["cat"] - right["hospital"]) / 10, abs=0.1)
    assert rows["made"].notna().all()
    assert lk.repeat(rows.iloc[1])["hits"] == rows["hits"].iloc[1]
