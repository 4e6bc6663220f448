import re

import matplotlib
import pytest
from legible import faults
from matplotlib import pyplot as plt
from tiny import tiny_config

import labkit as lk
from labkit.display import planner as module
from labkit.display.planner import MemoryPlanner

matplotlib.use("Agg")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders with the configurations of two models, which are quickly planned."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for folder, blocks in zip(folders, (1, 2), strict=True):
        tiny_config(num_hidden_layers=blocks).save_pretrained(folder)
    return [str(folder) for folder in folders]


@pytest.fixture(scope="module")
def planner(models):
    return MemoryPlanner(models)


def choose(planner, **choice):
    for name, value in choice.items():
        getattr(planner, name).value = value


def test_the_plan_follows_the_controls(planner, models):
    choose(planner, model=models[0], method="lora", precision="bfloat16", batch_size=2, length=64)
    same = lk.plan(models[0], "lora", batch_size=2, length=64)
    assert planner.plan.report == same.report
    assert planner.plan.total == same.total
    choose(planner, checkpointing=True)
    assert planner.plan.peak < same.peak
    choose(planner, checkpointing=False, precision="float32")
    assert planner.plan.peak > same.peak


def test_the_verdict_gives_both_sizes(planner, models):
    choose(planner, model=models[0], method="lora", precision="bfloat16", batch_size=2, length=64)
    verdict = planner.children[-2].value
    assert f"{planner.plan.peak / 1e6:.0f} MB" in verdict
    assert f"{planner.plan.total / 1e6:.0f} MB" in verdict or f"{planner.plan.total / 1e9:.1f} GB" in verdict


def test_the_picture_changes_and_leaves_no_figure_behind(planner, models):
    choose(planner, model=models[0], method="full", batch_size=1, length=32)
    before = planner.children[-1].value
    choose(planner, model=models[1])
    after = planner.children[-1].value
    assert before != after
    for picture in (before, after):
        assert picture.startswith('<img alt="Stacked bars: memory at the peak of a step (GB). full ')
    assert not plt.get_fignums()


@pytest.mark.parametrize(("model", "cards"), [("smollm2-135m", ""), ("llama-65b", "16, 24, 48, 80")])
def test_the_picture_can_be_read(model, cards, monkeypatch):
    figures = []
    monkeypatch.setattr(module, "as_html", lambda figure, words: figures.append(figure) or words)
    words = module._draw(lk.plan(model, "qlora"))
    assert faults(figures[0]) == []
    assert re.findall(r"Lines mark GPUs of ([\d, ]+) GB\.$", words) == ([cards] if cards else [])


def test_a_choice_made_before_is_not_planned_again(planner, models, monkeypatch):
    choose(planner, model=models[0], method="lora", batch_size=2, length=64)
    choose(planner, batch_size=4)
    monkeypatch.setattr(module, "plan", lambda *args, **settings: pytest.fail("planned again"))
    choose(planner, batch_size=2)


def test_a_method_that_the_model_does_not_take_is_refused_in_words(planner, models):
    choose(planner, model=models[0], method="lora", batch_size=2, length=64)
    before = planner.plan
    choose(planner, method="head")  # of an encoder
    assert "has no classifier" in planner.children[-2].value
    assert planner.children[-1].layout.display == "none"
    assert planner.plan is before
    choose(planner, method="lora")
    assert "at the peak" in planner.children[-2].value
    assert planner.children[-1].layout.display is None


def test_all_published_sizes_are_on_offer(monkeypatch):
    plans = {}
    monkeypatch.setattr(module, "_planned", lambda model, *rest: plans.setdefault(model, lk.plan("smollm2-135m")))
    assert set(MemoryPlanner().model.options) == set(lk.BLUEPRINTS)
