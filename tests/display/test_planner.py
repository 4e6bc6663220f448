import matplotlib
import pytest
from matplotlib import pyplot as plt

import labkit as lk
from labkit.display import planner as module
from labkit.display.planner import MemoryPlanner

matplotlib.use("Agg")

MODELS = ("smollm2-135m", "llama-65b")


@pytest.fixture(scope="module")
def planner():
    return MemoryPlanner(MODELS)


def choose(planner, **choice):
    for name, value in choice.items():
        getattr(planner, name).value = value


def test_the_plan_follows_the_controls(planner):
    choose(planner, model="smollm2-135m", method="lora", precision="bfloat16", batch_size=2, length=64)
    same = lk.plan("smollm2-135m", "lora", batch_size=2, length=64)
    assert planner.plan.report == same.report
    assert planner.plan.total == same.total
    choose(planner, checkpointing=True)
    assert planner.plan.peak < same.peak
    choose(planner, checkpointing=False, precision="float32")
    assert planner.plan.peak > same.peak


def test_the_verdict_gives_both_sizes(planner):
    choose(planner, model="smollm2-135m", method="lora", precision="bfloat16", batch_size=2, length=64)
    verdict = planner.children[-2].value
    assert f"{planner.plan.peak / 1e6:.0f} MB" in verdict
    assert f"{planner.plan.total / 1e6:.0f} MB" in verdict or f"{planner.plan.total / 1e9:.1f} GB" in verdict


def test_the_picture_changes_and_leaves_no_figure_behind(planner):
    choose(planner, model="smollm2-135m", method="full", batch_size=1, length=32)
    before = bytes(planner.children[-1].value)
    choose(planner, model="llama-65b")
    after = bytes(planner.children[-1].value)
    assert before[:4] == after[:4] == b"\x89PNG"
    assert before != after
    assert not plt.get_fignums()


def test_a_choice_made_before_is_not_planned_again(planner, monkeypatch):
    choose(planner, model="smollm2-135m", method="lora", batch_size=2, length=64)
    choose(planner, batch_size=4)
    monkeypatch.setattr(module, "plan", lambda *args, **settings: pytest.fail("planned again"))
    choose(planner, batch_size=2)


def test_all_published_sizes_are_on_offer(monkeypatch):
    plans = {}
    monkeypatch.setattr(module, "_planned", lambda model, *rest: plans.setdefault(model, lk.plan("smollm2-135m")))
    assert set(MemoryPlanner().model.options) == set(lk.BLUEPRINTS)
