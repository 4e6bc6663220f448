import pandas as pd

from labkit.comparisons.reinforcement_learning import BEST, best_rates
from labkit.comparisons.reward_measures import GROUP, PROMPTS
from labkit.comparisons.sweeps import points
from labkit.training.rl import ALGORITHMS

NAMES = ("rl-rates", "rl-algorithms", "rl-hacking", "rl-against-dpo")


def test_the_best_rate_is_the_one_that_earns_most_and_the_lower_of_equals():
    rows = [("rloo", 3e-4, 2.0), ("rloo", 1e-3, 3.0), ("grpo", 1e-3, 2.0), ("grpo", 3e-4, 2.0)]
    table = pd.DataFrame(rows, columns=["data.algorithm", "learning_rate", "reward"])
    assert best_rates(table) == {"rloo": 1e-3, "reinforce": 1e-3, "grpo": 3e-4, "dr_grpo": 3e-4}


def test_every_algorithm_has_a_rate_and_a_run():
    assert {run.data["algorithm"] for run in points("rl-algorithms")} == set(BEST) == set(ALGORITHMS)


def test_no_question_is_asked_twice():
    for name in NAMES:
        for run in points(name):
            assert run.steps * PROMPTS <= run.train - run.held_out


def test_dpo_has_a_run_of_the_same_budget_to_be_compared_with():
    rloo = [run for run in points("rl-algorithms") if run.data["algorithm"] == "rloo"]
    for ours, theirs in zip(points("rl-against-dpo"), rloo, strict=True):
        assert (ours.seed, ours.steps, ours.train) == (theirs.seed, theirs.steps, theirs.train)
        assert 2 * ours.batch_size == PROMPTS * GROUP  # replies of an update
