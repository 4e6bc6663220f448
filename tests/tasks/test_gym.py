"""Tasks of Reasoning Gym: with a gym of a few lines, and with the real one where it is installed."""

import random
import sys
from types import ModuleType, SimpleNamespace

import pytest

import labkit as lk
from labkit.evaluation.rewards import gym_score
from labkit.generation.replies import Reply
from labkit.tasks.gym import gym_score_of, gym_task

NEEDED = 'needs the extra gym: pip install -e ".[gym]"'


class Sums:
    """Sums of two numbers below ``most``, drawn as the gym draws."""

    answer = str

    def __init__(self, most=10, seed=0, size=1):
        assert most > 0, "most must be positive"
        self.most, self.seed = most, seed

    def __getitem__(self, index):
        dice = random.Random(self.seed + index)
        a, b = (dice.randrange(self.most) for _ in range(2))
        return {"question": f"{a} + {b} =", "answer": self.answer(a + b), "metadata": {"terms": (a, b), "most": None}}

    def score_answer(self, answer, entry):
        assert entry["metadata"]["terms"].__class__ is tuple
        return 1.0 if int(answer) == sum(entry["metadata"]["terms"]) else 0.1


class Unanswered(Sums):
    answer = staticmethod(lambda value: None)


class Odd(Sums):
    def __getitem__(self, index):
        return super().__getitem__(index) | {"metadata": object()}


class Careless(Sums):
    def score_answer(self, answer, entry):
        return float(eval(answer) == 3)


@pytest.fixture
def gym(monkeypatch):
    """A package of the same name that has these tasks."""
    known = {"sums": Sums, "unanswered": Unanswered, "odd": Odd, "careless": Careless}
    module = ModuleType("reasoning_gym")
    module.create_dataset = lambda name, **given: known[name](**given)
    module.factory = ModuleType("reasoning_gym.factory")
    module.factory.DATASETS = {name: (made, SimpleNamespace(__name__="SumsConfig")) for name, made in known.items()}
    module.utils = ModuleType("reasoning_gym.utils")
    module.utils.extract_answer = lambda text: text.split("<answer>")[1].split("</")[0] if "<answer>" in text else None
    for name in ("", ".factory", ".utils"):
        monkeypatch.setitem(sys.modules, f"reasoning_gym{name}", getattr(module, name[1:]) if name else module)
    from labkit.tasks import gym

    gym._dataset.cache_clear()
    yield module
    gym._dataset.cache_clear()


def said(*texts):
    return [Reply(text, 1, True, (1,)) for text in texts]


def test_no_question_occurs_twice_and_more_training_leaves_the_test_alone(gym):
    task = lk.load_task("reasoning-gym:sums", train=40, test=20, seed=3)
    asked = [row["prompt"] for row in [*task.train, *task.test]]
    assert len({*asked}) == len(asked) == 60
    row = task.train[0]
    a, b = (int(word) for word in row["prompt"].split() if word.isdigit())
    assert row["completion"] == f" {a + b}"
    assert [turn["content"] for turn in row["messages"]] == [row["prompt"], str(a + b)]
    assert lk.load_task("reasoning-gym:sums", train=5, test=20, seed=3).test[:] == task.test[:]
    assert lk.load_task("reasoning-gym:sums", train=5, test=20, seed=4).test[:] != task.test[:]
    assert task.name == "reasoning-gym:sums"
    assert "2505.24760" in task.source


def test_replies_are_scored_by_the_gym(gym):
    (row,) = gym_task("sums", 1, 1, most=2).train
    right = row["completion"].strip()
    texts = (right, f" {right}\n", f"I think <answer>{right}</answer>!", "7", "zero", "")
    assert gym_score([row] * 6, said(*texts)) == [1, 1, 1, 0.1, 0, 0]
    with pytest.raises(lk.LabkitError, match="is not of Reasoning Gym"):
        gym_score_of({"prompt": "0 + 0 ="}, "0")


def test_too_few_questions_are_said(gym):
    with pytest.warns(lk.tasks.task.DataWarning, match="got 6 and 3 that differ"):
        task = gym_task("sums", 50, 3, most=3)
    assert (len(task.train), len(task.test)) == (6, 3)
    with (
        pytest.warns(lk.tasks.task.DataWarning),
        pytest.raises(lk.LabkitError, match="too few different questions"),
    ):
        gym_task("sums", 5, 3, most=1)


def test_what_cannot_be_used_is_refused(gym):
    for make, cause in (
        (lambda: lk.load_task("reasoning-gym:sum"), "no task of Reasoning Gym called 'sum'"),
        (lambda: lk.load_task("reasoning-gym:sums", columns={"prompt": "a"}), "with a test set and columns of its own"),
        (lambda: gym_task("sums", most=0), "can't be made with {'most': 0}: most must be positive"),
        (lambda: gym_task("sums", least=0), "can't be made with {'least': 0}"),
        (lambda: gym_task("unanswered"), "has no answer"),
        (lambda: gym_task("odd"), "entries that no text holds"),
        (lambda: gym_task("careless"), "runs what a model wrote"),
    ):
        with pytest.raises(lk.LabkitError, match=cause):
            make()
    for name in ("train", "test", "seed"):
        with pytest.raises(lk.LabkitError, match=f"{name} must be"):
            gym_task("sums", **{name: -1})


def test_the_real_gym_scores_its_own_answers_and_a_model_learns_from_it(tiny):
    pytest.importorskip("reasoning_gym", reason=NEEDED)
    task = gym_task("chain_sum", 12, 4, max_terms=2, max_digits=1)
    assert all(gym_score_of(row, row["completion"]) == 1 for row in task.train)
    assert gym_score_of(task.train[0], "no number") < 1
    for name in ("word_sorting", "number_sorting"):
        other = lk.load_task(f"reasoning-gym:{name}", train=2, test=2)
        assert [gym_score_of(row, row["completion"]) for row in other.test] == [1, 1]
    rl = lk.RL(group=2, prompts=2, max_new_tokens=4)
    run = lk.reinforce(tiny, task, gym_score, rl=rl, steps=1, progress=False)
    assert "skipped" not in run.history[0]


RUNNING = [
    "binary_matrix",
    "countdown",
    "intermediate_integration",
    "n_queens",
    "polynomial_multiplication",
    "puzzle24",
]
RUNNING += ["simple_integration", "spiral_matrix", "string_insertion"]


@pytest.mark.parametrize("name", RUNNING)
def test_verifiers_of_the_real_gym_that_run_replies_are_refused(name):
    pytest.importorskip("reasoning_gym", reason=NEEDED)
    with pytest.raises(lk.LabkitError, match=f"The verifier of {name} runs what a model wrote"):
        gym_task(name, 1, 1)
