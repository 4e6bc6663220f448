import pytest
from tiny_sweep import setting

import labkit as lk
from labkit.comparisons import point, sweeps
from labkit.storage import cache


@pytest.fixture
def sweep(monkeypatch):
    """Return a function that makes the sweep ``tiny`` consist of these settings."""

    def make(*settings):
        monkeypatch.setitem(sweeps.SWEEPS, "tiny", lambda: iter(settings))

    make(*map(setting, range(4)))
    return make


@pytest.fixture
def ran(monkeypatch):
    """Return the list of the seeds that were run: nothing is trained, and seeds in ``ran.bad`` fail."""

    class Seeds(list):
        bad = ()
        failure = KeyboardInterrupt()

    def run(self):
        if self.seed in seeds.bad:
            raise seeds.failure
        seeds.append(self.seed)
        return {"correct": 6 + self.seed, "total": 12, "loss_rise": None, "made": {"place": "Zürich"}}

    seeds = Seeds()
    monkeypatch.setattr(point.Point, "run", run)
    return seeds


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of results, in a course of the test's own."""
    monkeypatch.setattr(cache, "course_data", lambda: tmp_path)
    return tmp_path / "results"


@pytest.fixture
def asked(monkeypatch, colours):
    """The tasks that were asked for; every one is the task of colours, and models are those given to ``use``."""
    seen = []

    def load_task(name, *, train, test):
        seen.append((name, train, test))
        return colours

    def use(model):
        monkeypatch.setattr(point, "load_model", {"tiny": model}.__getitem__)
        return seen

    def forget():
        for kept in (point._model, point._task, point._english):
            kept.cache_clear()

    forget()
    monkeypatch.setattr(point, "load_task", load_task)
    texts = lk.general_english(3)  # instead of 32, to be quick
    for module in ("comparisons.point", "comparisons.measures", "evaluation.vectors"):
        monkeypatch.setattr(f"labkit.{module}.general_english", lambda: texts)
    monkeypatch.setattr(
        "labkit.comparisons.measures.latency_ratio", lambda *args: lk.evaluation.latency_ratio(*args, repeats=1)
    )
    yield use
    forget()
