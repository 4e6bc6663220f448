from labkit.comparisons.reinforcement_learning import BETAS
from labkit.comparisons.reward_measures import GROUP, PROMPTS
from labkit.comparisons.sweeps import points
from labkit.training.rl import ALGORITHMS

NAMES = ("rl-algorithms", "rl-hacking", "rl-against-dpo")


def test_every_algorithm_has_a_run_and_no_beta_is_run_twice():
    assert {run.data["algorithm"] for run in points("rl-algorithms")} == set(ALGORITHMS)
    assert {run.data["beta"] for run in points("rl-algorithms")}.isdisjoint(BETAS)


def test_no_question_is_asked_twice():
    for name in NAMES:
        for run in points(name):
            assert run.steps * PROMPTS <= run.train - run.held_out


def test_dpo_has_a_run_of_the_same_budget_to_be_compared_with():
    rloo = [run for run in points("rl-algorithms") if run.data["algorithm"] == "rloo"]
    for ours, theirs in zip(points("rl-against-dpo"), rloo, strict=True):
        assert (ours.seed, ours.steps, ours.train) == (theirs.seed, theirs.steps, theirs.train)
        assert 2 * ours.batch_size == PROMPTS * GROUP  # replies of an update
