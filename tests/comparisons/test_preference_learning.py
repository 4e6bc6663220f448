import pandas as pd

from labkit.comparisons.preference_learning import best_rates
from labkit.comparisons.sweeps import points
from labkit.training.preference import LOSSES


def test_the_best_rate_prefers_most_among_those_that_break_nothing():
    rows = [("dpo", 1e-4, 60, 0.0), ("dpo", 3e-4, 64, 0.4), ("dpo", 1e-3, 72, 1.9)]
    rows += [("ipo", 3e-4, 50, 0.1), ("ipo", 1e-3, 50, 0.1), ("kto", 3e-4, 70, 0.6)]
    table = pd.DataFrame(rows, columns=["data.loss", "learning_rate", "correct", "chat_rise"])
    assert best_rates(table) == {"dpo": 3e-4, "ipo": 3e-4}


def test_the_sweep_has_every_loss_and_no_run_twice():
    runs = points("preferences")
    assert {run.data["loss"] for run in runs} == {"sft", *LOSSES}
    assert len({str(run) for run in runs}) == len(runs)


def test_the_search_tests_on_pairs_that_are_not_the_test_set():
    assert all(run.held_out for run in points("preference-rates"))
    assert not any(run.held_out for run in points("preferences"))
