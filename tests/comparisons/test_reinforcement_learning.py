import pandas as pd

from labkit.comparisons.reinforcement_learning import BEST, best_rates
from labkit.comparisons.reward_measures import GROUP, PROMPTS, REWARDS
from labkit.comparisons.sweeps import points
from labkit.training.rl import ALGORITHMS

NAMES = ("rl-rates", "rl-algorithms", "rl-hacking", "rl-against-dpo")


def test_the_best_rate_is_paid_most_among_those_that_break_nothing():
    rows = [("rloo", 3e-5, "0001", 0.0), ("rloo", 1e-4, "0111", 0.4), ("rloo", 3e-4, "1111", 1.9)]
    rows += [("grpo", 3e-4, "1100", 0.1), ("grpo", 1e-4, "0011", 0.1), ("ppo", 3e-4, "1111", 0.6)]
    table = pd.DataFrame(rows, columns=["data.algorithm", "learning_rate", "mentioned", "chat_rise"])
    assert best_rates(table) == {"rloo": 1e-4, "reinforce": 1e-4, "grpo": 1e-4, "dr_grpo": 1e-4}


def test_every_algorithm_has_a_rate_and_a_run():
    assert {run.data["algorithm"] for run in points("rl-algorithms")} == set(BEST) == set(ALGORITHMS)
    assert {run.data["reward"] for name in NAMES for run in points(name)} == set(REWARDS)


def test_every_question_is_asked_once():
    for name in NAMES:
        for run in points(name):
            assert run.train - run.held_out == run.steps * PROMPTS


def test_pairs_come_from_as_many_replies_as_the_others_learn_from_and_updates_are_as_large():
    for run in points("rl-against-dpo"):
        if run.data["algorithm"] == "dpo":
            assert 2 * run.batch_size == PROMPTS * GROUP
