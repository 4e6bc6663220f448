from itertools import groupby

import labkit as lk
from labkit.combining import WAYS as COMBINING
from labkit.comparisons import point
from labkit.comparisons.bench import bench
from labkit.comparisons.merge_measures import ONE
from labkit.comparisons.merges import RATE, SETTING
from labkit.comparisons.point import Point
from labkit.comparisons.sweeps import points


def test_every_way_to_combine_is_compared_with_every_rival():
    assert {run.data["way"] for run in points("merges")} == {"base", *ONE, *COMBINING, "cat"}


def test_the_rival_that_learned_both_jobs_has_as_many_steps_as_both_adapters():
    steps = {run.data["way"]: run.steps for run in points("merges")}
    assert steps.pop("both") == steps["hospital"] + steps["law"]
    assert {*steps.values()} == {SETTING["steps"]}


def test_the_rate_is_the_best_of_the_search_at_ranks_on_either_side():
    search = lk.results("method-rates-smollm2")
    found = {}
    for label in ("LoRA r=4", "LoRA r=16"):
        found[label] = search[search["label"] == label].set_index("learning_rate")["correct"]
    both = (found["LoRA r=4"] + found["LoRA r=16"]).dropna()  # rates that were tried at both
    assert both.idxmax() == RATE
    assert len(both) > 1
    assert {run.learning_rate for run in points("merges")} == {RATE}


def test_a_part_trains_the_adapters_of_its_seeds_and_another_part_those_of_others(monkeypatch, tmp_path):
    ran = {1: [], 2: []}
    for number, seen in ran.items():
        monkeypatch.setattr(Point, "run", lambda self, seen=seen: seen.append(self) or {"correct": 1, "total": 2})
        list(bench("merges", tmp_path / str(number), (number, 2)))
    groups = [[run for run, _ in groupby(seen, Point.training)] for seen in ran.values()]
    assert not [run for run in groups[0] if run in groups[1]]
    assert sum(map(len, ran.values())) == len(points("merges"))
    for seen, mine in zip(ran.values(), groups, strict=True):
        assert all(mine.count(run) == 1 for run in mine)  # runs with the same training follow each other
        assert abs(sum(run.steps for run in mine) - sum(run.steps for run in groups[0])) <= SETTING["steps"]
        assert len(seen) > len(mine)


def test_a_point_measures_what_its_row_says(monkeypatch):
    asked = []
    monkeypatch.setattr(point, "_model", {"smollm2-135m": "the model"}.__getitem__)
    monkeypatch.setattr(point, "_jobs", lambda *sizes: ("jobs", *sizes))
    monkeypatch.setattr(point, "_scores", lambda *given: ("scores", *given))
    monkeypatch.setattr(point, "merge_measured", lambda team, before, **data: asked.append((team, before, data)) or {})
    runs = points("merges")
    for run in (runs[0], runs[-1]):
        run._found("the model")
        team, before, data = asked.pop()
        assert data == run.data
        assert before == ("scores", "smollm2-135m", run.train, run.test)
        assert (team.base, team.jobs) == ("the model", ("jobs", run.train, run.test))
        assert (team.method, team.settings) == (lk.LoRA(rank=8, alpha=16), run.settings())
