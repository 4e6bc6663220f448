import torch
from handed_in import changed, solutions, trials
from torch.nn import functional as F

MANY, FEW = {"steps": 60, "batch_size": 8}, {"steps": 15, "batch_size": 32}
UPDATES = {"many": trials(0.9, **MANY), "few": trials(0.6, **FEW), "verdict": "better"}


def flat(logits, tokens, **options):
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), **options)


def hidden(tokens, mask):
    return tokens.masked_fill(mask == 0, -100)


def one_by_one(logits, tokens, mask):
    """The mean over the tokens that follow another one and are no padding."""
    chances, losses = logits.log_softmax(-1), []
    for row in range(len(tokens)):
        losses += [-chances[row, i - 1, tokens[row, i]] for i in range(1, len(tokens[row])) if mask[row, i]]
    return sum(losses) / len(losses)


def given(logits, tokens, mask):
    return flat(logits, tokens)


def test_the_checks_are_fair(require_fair):
    require_fair({**solutions("01"), "updates_or_examples": UPDATES})


def test_the_loss_as_it_is_given_is_not_attempted_yet(said):
    assert "not attempted yet" in said("fixed_loss", given)


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("completion_targets", lambda p, c: p + c, "write the prompts"),
            ("completion_targets", lambda p, c: [-100] * (len(p) - 1) + c + [-100], "No shift"),
            ("completion_targets", lambda p, c: [-100] * 3 + c, "lengths"),
            ("completion_targets", lambda p, c: c, "5 targets"),
            ("adamw_bytes", lambda n: 4 * n, "weights alone"),
            ("adamw_bytes", lambda n: 12 * n, "two numbers"),
            ("adamw_bytes", lambda n: 16, "Multiply"),
            ("fixed_loss", lambda x, t, m: flat(x, hidden(t, m)), "has just read"),
            ("fixed_loss", lambda x, t, m: flat(x[:, :-1], t[:, 1:]), "learns to write it"),
            ("fixed_loss", lambda x, t, m: flat(x[:, 1:], hidden(t, m)[:, :-1]), "the other way"),
            ("fixed_loss", lambda x, t, m: flat(x[:, :-1], hidden(t[:, 1:], m[:, :-1])), "shifted by one"),
            ("fixed_loss", lambda x, t, m: flat(x[:, :-1], hidden(t, m)[:, 1:], reduction="sum"), "That is the sum"),
            (
                "fixed_loss",
                lambda x, t, m: flat(x[:, :-1], hidden(t, m)[:, 1:], reduction="none").mean(),
                "all positions",
            ),
            ("fixed_loss", lambda x, t, m: x.mean(), "the loss is"),
            ("updates_or_examples", changed(UPDATES, few=None), "missing from your dictionary: few"),
            ("updates_or_examples", changed(UPDATES, many=[0.8, 0.9, 0.7]), "is a pair"),
            ("updates_or_examples", changed(UPDATES, many=[(c, 0.8) for c, _ in UPDATES["many"]]), "not a float"),
            ("updates_or_examples", changed(UPDATES, many=trials(seeds=[0], **MANY)), "only one seed"),
            ("updates_or_examples", changed(UPDATES, many=trials(seeds=[0, 1], **MANY)), "2 seeds say little"),
            ("updates_or_examples", changed(UPDATES, many=trials(seeds=[0, 1, 1], **MANY)), "a seed occurs twice"),
            ("updates_or_examples", changed(UPDATES, many=trials(seeds=[3, 4, 5], **MANY)), "different seeds"),
            (
                "updates_or_examples",
                changed(UPDATES, many=trials(learning_rate=1e-4, **MANY)),
                "differ in learning_rate",
            ),
            ("updates_or_examples", changed(UPDATES, many=trials(steps=60, batch_size=32)), "budgets differ"),
            ("updates_or_examples", changed(UPDATES, many=trials(steps=30, batch_size=16)), "too much alike"),
            ("updates_or_examples", changed(UPDATES, many=trials(total=300, **MANY)), "200 and 300 cases"),
            ("updates_or_examples", changed(UPDATES, verdict="undecided"), "one side of 0"),
            ("updates_or_examples", changed(UPDATES, many=trials(0.6, **MANY)), "may be chance"),
        ]
    )


def test_an_answer_may_be_right_in_another_way(said):
    light = {key: [(run.config, found) for run, found in UPDATES[key]] for key in ("many", "few")}
    accumulated = trials(0.6, steps=15, batch_size=8, accumulation=4)
    for name, answer in [
        ("completion_targets", lambda p, c: torch.tensor([-100 for _ in p] + list(c))),
        ("fixed_loss", one_by_one),
        ("fixed_loss", lambda *batch: one_by_one(*batch).item()),
        ("fixed_loss", lambda x, t, m: F.cross_entropy(x[:, :-1].transpose(1, 2), hidden(t, m)[:, 1:])),
        ("updates_or_examples", changed(UPDATES, **light)),
        ("updates_or_examples", changed(UPDATES, few=accumulated)),
        ("updates_or_examples", changed(UPDATES, many=trials(0.6, **MANY), verdict="undecided")),
    ]:
        assert said(name, answer).startswith("✓")
