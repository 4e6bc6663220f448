import torch
from handed_in import changed, solutions, trials
from torch.nn import functional as F

import labkit as lk
from labkit.evaluation import PairScores
from labkit.methods.adapter import adapters_of

FIRST, SECOND = lk.Preference("dpo"), lk.Preference("dpo", sft=1.0)
EXPERIMENT = {
    "first": FIRST,
    "second": SECOND,
    "first runs": trials(0.9, preference=FIRST),
    "second runs": trials(0.6, preference=SECOND),
    "verdict": "worse",
}


def ipo(*, reference=True, own=True, mean=True, swapped=False, target=lambda beta: 1 / (2 * beta), end=torch.square):
    """IPO's loss with the mistakes that are asked for."""

    def loss(policy, before, beta):
        chosen, rejected = policy.chosen - reference * before.chosen, policy.rejected - reference * before.rejected
        if mean:
            lengths = policy.chosen_tokens, policy.rejected_tokens if own else policy.chosen_tokens
            chosen, rejected = chosen / lengths[0], rejected / lengths[1]
        gap = rejected - chosen if swapped else chosen - rejected
        return end(gap - target(beta))

    return loss


def dpo(policy, before, beta):
    return -F.logsigmoid(beta * (policy.chosen - before.chosen - policy.rejected + before.rejected))


def switched_off(model, batch, logps):
    for adapter in adapters_of(model).values():
        adapter.disabled = True
    return logps(model, batch)


def emptied(model, batch, logps):
    with torch.no_grad():
        for adapter in adapters_of(model).values():
            adapter.lora_B.zero_()
        return logps(model, batch)


def in_every_run(**settings):
    """The experiment with other settings in the first runs alone."""
    return changed(EXPERIMENT, **{"first runs": trials(0.9, preference=FIRST, **settings)})


def test_the_checks_are_fair(require_fair):
    require_fair({**solutions("10"), "preference_experiment": EXPERIMENT})


def test_typical_mistakes_are_explained(require_explained):
    right = ipo()
    pairs = [(run, PairScores(found, [0.0])) for run, found in EXPERIMENT["first runs"]]
    require_explained(
        [
            ("ipo_loss", ipo(reference=False), "forgot the reference"),
            ("ipo_loss", ipo(mean=False), "averaged a token"),
            ("ipo_loss", ipo(target=lambda beta: beta), "not beta itself"),
            ("ipo_loss", ipo(target=lambda beta: 1 / 2 * beta), "Set brackets"),
            ("ipo_loss", ipo(target=lambda beta: 1 / beta), "twice"),
            ("ipo_loss", ipo(target=lambda beta: 5), "use the argument"),
            ("ipo_loss", ipo(end=lambda distance: distance), "Not squared"),
            ("ipo_loss", ipo(end=torch.abs), "IPO squares it"),
            ("ipo_loss", lambda *given: right(*given).mean(), "the mean over the pairs"),
            ("ipo_loss", lambda *given: right(*given).sum(), "a single number"),
            ("ipo_loss", lambda *given: right(*given)[:, None], "shape (4, 1)"),
            ("ipo_loss", lambda *given: right(*given).tolist(), "not a list"),
            ("ipo_loss", lambda *given: right(*given).detach(), "no gradient"),
            ("ipo_loss", lambda *given: right(*given) + 1, "by hand"),
            ("ipo_loss", ipo(swapped=True), "swapped"),
            ("ipo_loss", ipo(own=False), "chosen reply's length"),
            ("ipo_loss", dpo, "DPO's loss"),
            ("frozen_reference", lambda model, batch, logps: logps(model, batch), "gradient passes"),
            ("frozen_reference", lambda model, batch, logps: logps(model, batch).detach(), "policy's own"),
            ("frozen_reference", lambda model, batch, logps: torch.zeros(len(batch)), "With zeros"),
            ("frozen_reference", lambda model, batch, logps: torch.ones(len(batch)), "Which weights"),
            ("frozen_reference", lambda model, batch, logps: torch.zeros(1), "each row of the batch"),
            ("frozen_reference", switched_off, "still off"),
            ("frozen_reference", emptied, "lost what it learned"),
            ("preference_experiment", changed(EXPERIMENT, second=FIRST), "the same"),
            ("preference_experiment", changed(EXPERIMENT, second="ipo"), "not a str"),
            ("preference_experiment", changed(EXPERIMENT, second=lk.Preference("ipo", sft=1)), "one thing at a time"),
            ("preference_experiment", changed(EXPERIMENT, first=SECOND, second=FIRST), "trained with the second"),
            ("preference_experiment", changed(EXPERIMENT, second=lk.Preference("ipo")), "second runs: one was"),
            ("preference_experiment", changed(EXPERIMENT, **{"first runs": trials(0.9)}), "no preference"),
            ("preference_experiment", changed(EXPERIMENT, **{"first runs": pairs}), "hand in .accuracy"),
            ("preference_experiment", in_every_run(seeds=[0]), "only one seed"),
            ("preference_experiment", in_every_run(seeds=[1, 2, 3]), "different seeds"),
            ("preference_experiment", in_every_run(steps=8), "differ in steps"),
            ("preference_experiment", in_every_run(learning_rate=5e-4), "differ in learning_rate"),
            ("preference_experiment", in_every_run(schedule="cosine"), "differ in schedule"),
            ("preference_experiment", in_every_run(method=lk.LoRA(rank=2)), "in their method"),
            ("preference_experiment", in_every_run(total=20), "tested on"),
            ("preference_experiment", changed(EXPERIMENT, verdict="better"), "about 'second runs'"),
            ("preference_experiment", changed(EXPERIMENT, verdict="undecided"), "do decide"),
        ]
    )


def test_the_stub_with_the_bug_counts_as_not_attempted(said):
    def stub(model, batch, logps):
        with torch.no_grad():
            return logps(model, batch)

    assert said("frozen_reference", stub) == "○ frozen_reference: not attempted yet\n"


def test_a_check_with_a_model_leaves_the_random_numbers_alone(said):
    before = torch.get_rng_state()
    said("frozen_reference", solutions("10")["frozen_reference"])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_answer_may_be_right_in_another_way(said):
    def without_no_grad(model, batch, logps):  # nothing in the base model requires a gradient
        with lk.disable_adapter(model):
            return logps(model, batch)

    def by_hand(model, batch, logps):
        try:
            return switched_off(model, batch, logps)
        finally:
            for adapter in adapters_of(model).values():
                adapter.disabled = False

    for name, answer in [
        (
            "ipo_loss",
            lambda *given: lk.training.preference.preference_loss(lk.Preference("ipo", given[2]), *given[:2])[0],
        ),
        ("ipo_loss", lambda *given: ipo()(*given).double()),
        ("frozen_reference", without_no_grad),
        ("frozen_reference", by_hand),
        ("preference_experiment", changed(EXPERIMENT, **{"first runs": EXPERIMENT["first runs"][::-1]})),
        (
            "preference_experiment",
            changed(EXPERIMENT, **{"first runs": trials(0.6, preference=FIRST)}, verdict="undecided"),
        ),
    ]:
        assert said(name, answer).startswith("✓")
