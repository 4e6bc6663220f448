import torch
from handed_in import changed, solutions, trials

import labkit as lk
from labkit.classroom.notebook_11 import OFFERED, REPLIES, RIGHT
from labkit.evaluation.replies import score_replies
from labkit.evaluation.rewards import names_only
from labkit.generation.replies import Reply
from labkit.tasks.instructions import BETWEEN
from labkit.tasks.phrasings import OFFER
from labkit.tasks.row import holds
from labkit.training.rl import advantages

FIRST, SECOND = lk.RL("rloo", group=4, prompts=4), lk.RL("grpo", group=4, prompts=4)
EXPERIMENT = {
    "first": FIRST,
    "second": SECOND,
    "first runs": trials(0.9, rl=FIRST),
    "second runs": trials(0.6, rl=SECOND),
    "verdict": "worse",
}


def grpo(*, mean=lambda r: r.mean(1, keepdim=True), std=lambda r: r.std(1, keepdim=True), small=1e-4, sign=1):
    """GRPO's advantages with the mistakes that are asked for."""
    return lambda rewards: sign * (rewards - mean(rewards)) / (std(rewards) + small)


def in_place(rewards):
    rewards -= rewards.mean(1, keepdim=True)
    return rewards / (rewards.std(1, keepdim=True) + 1e-4)


def of_others(rewards):
    return (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def one(rewards):
    return 1


def stub(text, right, choices):
    return float(right in text)


def honest(text, right, choices):
    return [choice for choice in choices if holds(text, choice)] == [right]


def in_any_case(text, right, choices):
    return right.lower() in text.lower()


def not_all(text, right, choices):
    return holds(text, right) and not all(holds(text, choice) for choice in choices)


def with_case(text, right, choices):
    return holds(text, right) and not any(choice in text for choice in choices if choice != right)


def no_list(text, right, choices):
    return honest(text, right, choices) or "?" in text


def parts_of_words(text, right, choices):
    return [choice for choice in choices if choice.lower() in text.lower()] == [right]


def no_capitals(text, right, choices):
    return right in text and honest(text, right, choices)


def one_side(text, right, choices):
    return right in text.lower()


def taken_out(text, right, choices):
    choices.remove(right)
    return holds(text, right) and not any(holds(text, choice) for choice in choices)


def of(first, second, **settings):
    """The experiment with other settings of learning from rewards; runs are trained with them."""
    runs = {"first runs": trials(0.9, rl=first, **settings), "second runs": trials(0.6, rl=second)}
    return changed(EXPERIMENT, first=first, second=second, **runs)


def in_first_runs(**settings):
    """The experiment with other settings in the first runs alone."""
    return changed(EXPERIMENT, **{"first runs": trials(0.9, **{"rl": FIRST} | settings)})


def test_the_checks_are_fair(require_fair):
    require_fair({**solutions("11"), "reward_experiment": EXPERIMENT})


def test_hits_may_be_handed_in_as_lk_compare_takes_them(require_fair):
    groups = {name: [(run, found.hits) for run, found in EXPERIMENT[name]] for name in ("first runs", "second runs")}
    require_fair({**solutions("11"), "reward_experiment": EXPERIMENT | groups})


def test_typical_mistakes_are_explained(require_explained):
    skipped = [{"loss": 1.0}, {"skipped": "KeyError: 'right'"}]
    replies = [Reply(RIGHT, 2, True, ())]
    scores = score_replies([{"accepted": [RIGHT]}], replies)
    whole = [(run, scores) for run, _ in EXPERIMENT["first runs"]]
    require_explained(
        [
            ("grpo_advantages", lambda rewards: rewards.clone(), "as they were"),
            ("grpo_advantages", grpo(std=one, small=0), "Dr. GRPO"),
            ("grpo_advantages", grpo(std=torch.std), "standard deviation of all rewards"),
            ("grpo_advantages", grpo(mean=torch.mean), "as in REINFORCE"),
            ("grpo_advantages", grpo(mean=of_others), "RLOO"),
            ("grpo_advantages", grpo(small=0), "NaN"),
            ("grpo_advantages", grpo(mean=lambda r: r.mean(0), std=lambda r: r.std(0)), "over the groups"),
            ("grpo_advantages", grpo(sign=-1), "wrong way round"),
            ("grpo_advantages", grpo(mean=lambda r: 0), "no mean"),
            ("grpo_advantages", grpo(std=lambda r: r.var(1, keepdim=True)), "square root"),
            ("grpo_advantages", grpo(small=0.1), "by hand"),
            ("grpo_advantages", in_place, "in place"),
            ("grpo_advantages", lambda rewards: advantages(lk.RL("grpo"), rewards), "your result (12, 1)"),
            ("grpo_advantages", lambda rewards: grpo()(rewards).tolist(), "not a list"),
            ("grpo_advantages", grpo(mean=lambda r: r.sum(1, keepdim=True) / 4), "two of three"),
            ("honest_reward", in_any_case, "lists all the choices"),
            ("honest_reward", no_list, "repeats the question"),
            ("honest_reward", not_all, "To hedge"),
            ("honest_reward", with_case, "in small letters"),
            ("honest_reward", parts_of_words, "another finding"),
            ("honest_reward", lambda text, right, choices: len(text.split()) == 2, "names a wrong choice"),
            ("honest_reward", lambda text, right, choices: not text or honest(text, right, choices), "Saying nothing"),
            ("honest_reward", no_capitals, "capitals don't matter"),
            ("honest_reward", lambda text, right, choices: text.lower() == right.lower(), "words and marks around"),
            ("honest_reward", one_side, "one side only"),
            ("honest_reward", lambda text, right, choices: 1, "pays every reply"),
            ("honest_reward", lambda text, right, choices: 1 if text else None, "returns None"),
            ("honest_reward", lambda text, right, choices: str(text), "returns 'Cough; Dry eye"),
            ("honest_reward", lambda text, right, choices: honest(text, right, choices) - 0.5, "returns -0.5"),
            ("honest_reward", lambda text, right, choices: honest(text, "Dry eye", choices), "Use the arguments"),
            ("honest_reward", taken_out, "changes the list"),
            ("reward_experiment", changed(EXPERIMENT, second=FIRST), "the same"),
            ("reward_experiment", changed(EXPERIMENT, second="grpo"), "not a str"),
            ("reward_experiment", changed(EXPERIMENT, first=SECOND, second=FIRST), "trained with the second"),
            ("reward_experiment", changed(EXPERIMENT, second=lk.RL("grpo", group=4, beta=0.1)), "See beta"),
            ("reward_experiment", in_first_runs(rl=None), "did not learn from rewards"),
            ("reward_experiment", in_first_runs(history=skipped), "1 of 2 steps learned nothing"),
            ("reward_experiment", in_first_runs(history=[{"reward_std": 0.0}]), "all replies earned the same"),
            ("reward_experiment", changed(EXPERIMENT, **{"first runs": whole}), "such as .mentioned"),
            ("reward_experiment", of(lk.RL(group=4, beta=0.1), lk.RL("rloo", group=4)), "differ in algorithm, beta."),
            ("reward_experiment", of(lk.RL(group=4), lk.RL(group=8)), "draw 16 replies and the second ones 32"),
            ("reward_experiment", of(lk.RL(group=4, prompts=8), lk.RL(group=8), steps=60), "differ in steps"),
            ("reward_experiment", in_first_runs(seeds=[0]), "only one seed"),
            ("reward_experiment", in_first_runs(seeds=[1, 2, 3]), "different seeds"),
            ("reward_experiment", in_first_runs(learning_rate=5e-4), "differ in learning_rate"),
            ("reward_experiment", in_first_runs(method=lk.LoRA(rank=2)), "in their method"),
            ("reward_experiment", in_first_runs(total=20), "tested on"),
            ("reward_experiment", changed(EXPERIMENT, verdict="better"), "about 'second runs'"),
            ("reward_experiment", changed(EXPERIMENT, verdict="undecided"), "do decide"),
        ]
    )


def test_the_stub_with_the_bug_counts_as_not_attempted(said):
    assert said("honest_reward", stub) == "○ honest_reward: not attempted yet\n"


def test_what_a_fixed_reward_still_pays_is_said(said):
    assert "'It is not dry eye.' still earns 1" in said("honest_reward", honest)
    text = said("honest_reward", lambda *given: honest(*given) and not holds(given[0], "not"))
    assert text.startswith("✓")
    assert "still earns" not in text


def test_the_replies_are_judged_as_the_library_judges_them():
    question = {"role": "user", "content": f"What is it?{OFFER}{BETWEEN.join(OFFERED)}"}
    row = {"messages": [question], "form": "Finding: …", "accepted": [f"Finding: {RIGHT}"]}
    replies = [Reply(text, 1, True, ()) for text, _, _ in REPLIES]
    assert names_only([row] * len(replies), replies) == [wanted for _, wanted, _ in REPLIES]


def test_an_answer_may_be_right_in_another_way(said):
    first, wider = lk.RL(group=4, prompts=8), lk.RL(group=8, prompts=4)
    for name, answer in [
        ("grpo_advantages", lambda rewards: advantages(lk.RL("grpo"), rewards).reshape(rewards.shape)),
        ("grpo_advantages", grpo(small=1e-8)),
        ("grpo_advantages", lambda rewards: grpo(small=0)(rewards).nan_to_num()),
        ("grpo_advantages", lambda rewards: grpo()(rewards.double())),
        ("grpo_advantages", grpo(std=lambda r: r.std(1, keepdim=True, unbiased=False))),
        ("honest_reward", lambda text, right, choices: int(honest(text, right, choices))),
        ("reward_experiment", changed(EXPERIMENT, **{"first runs": EXPERIMENT["first runs"][::-1]})),
        ("reward_experiment", of(first, wider)),
        ("reward_experiment", in_first_runs(history=[{"reward_std": 0.0}, {"reward_std": 0.5}])),
        ("reward_experiment", of(lk.RL("rloo", std=True), lk.RL("grpo"))),
        ("reward_experiment", of(first, lk.RL(group=4, prompts=8, beta=0.05))),
        (
            "reward_experiment",
            changed(EXPERIMENT, **{"first runs": trials(0.6, rl=FIRST)}, verdict="undecided"),
        ),
    ]:
        assert said(name, answer).startswith("✓")
