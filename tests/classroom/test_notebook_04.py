from types import SimpleNamespace

import torch
from handed_in import cells, changed, solutions, trials
from torch import nn

import labkit as lk

FOUR, WHOLE = lk.QLoRA(rank=8), lk.LoRA(rank=8)
PRICE = {"qlora": trials(0.6, FOUR), "lora": trials(0.9, WHOLE), "verdict": "worse"}


def adapter(**changes):
    """A right LoRA layer with some of its parts changed."""

    class Layer(nn.Module):
        def __init__(self, base, inputs, outputs, rank, alpha):
            super().__init__()
            start = changes.get("start", torch.zeros)
            self.base, self.scale = base, changes.get("scale", lambda alpha, rank: alpha / rank)(alpha, rank)
            self.A = nn.Parameter(changes.get("first", torch.randn)(rank, inputs), changes.get("train_A", True))
            self.B = nn.Parameter(start(outputs, rank), changes.get("train_B", True))
            if changes.get("train_base"):
                base.requires_grad_(True)

        def forward(self, x):
            return self.base(x) + self.scale * nn.functional.linear(nn.functional.linear(x, self.A), self.B)

    return Layer


def twice(alpha, rank):
    return (alpha / rank) ** 2


def test_the_adapter_as_it_is_given_is_not_attempted_yet(said):
    (stub,) = (cell["source"] for cell in cells("04_qlora") if "check.fixed_adapter" in cell["source"])
    names = {"nn": nn, "torch": torch, "check": SimpleNamespace(fixed_adapter=lambda layer: None)}
    exec(stub, names)
    assert said("fixed_adapter", names["FixedAdapter"]) == "○ fixed_adapter: not attempted yet\n"


def test_the_checks_are_fair(require_fair):
    require_fair({**solutions("04"), "price_of_4_bits": PRICE})


def test_typical_mistakes_are_explained(require_explained):
    require_explained(
        [
            ("relative_difference", lambda a, b: (a - b).norm(), "Compare it"),
            ("relative_difference", lambda a, b: (a - b).norm() / a.norm(), "reference is b"),
            ("relative_difference", lambda a, b: a.norm() / b.norm(), "different direction"),
            ("relative_difference", lambda a, b: a.norm() / b.norm() - 1, "point in different directions"),
            ("qlora_bytes", lambda n, m: 4.127 * n + 16 * m, "should be in bytes"),
            ("qlora_bytes", lambda n, m: 4.127 / 8 * n, "adapter is trained"),
            ("qlora_bytes", lambda n, m: 4.127 / 8 * n + 4 * m, "Its gradients"),
            ("qlora_bytes", lambda n, m: 16 * (n + m), "full fine-tuning"),
            ("fixed_adapter", adapter(start=torch.randn), "already differs from the base's"),
            ("fixed_adapter", adapter(first=torch.zeros), "neither gets a gradient"),
            ("fixed_adapter", adapter(train_A=False), "A gets no gradient"),
            ("fixed_adapter", adapter(train_B=False), "B gets no gradient"),
            ("fixed_adapter", adapter(train_base=True), "has to stay frozen"),
            ("fixed_adapter", adapter(scale=twice), "applied twice"),
            ("fixed_adapter", adapter(scale=lambda alpha, rank: 1), "scale is gone"),
            ("fixed_adapter", adapter(scale=lambda alpha, rank: alpha), "does not add"),
            ("price_of_4_bits", changed(PRICE, qlora=PRICE["lora"]), "qlora: the runs' methods are lora"),
            ("price_of_4_bits", changed(PRICE, lora=trials(0.9)), "lora: the runs' methods are no run"),
            ("price_of_4_bits", changed(PRICE, lora=trials(0.9, lk.LoRA(rank=16))), "rank or alpha"),
            ("price_of_4_bits", changed(PRICE, qlora=trials(0.6, FOUR, [0])), "only one seed"),
            ("price_of_4_bits", changed(PRICE, qlora=trials(0.6, FOUR, steps=60)), "differ in steps"),
            ("price_of_4_bits", changed(PRICE, qlora=trials(0.6, FOUR, learning_rate=3e-3)), "differ in learning_rate"),
            ("price_of_4_bits", changed(PRICE, verdict="undecided"), "one side of 0"),
            ("price_of_4_bits", changed(PRICE, qlora=trials(0.9, FOUR)), "may be chance"),
        ]
    )


def test_an_answer_may_be_right_in_another_way(said):
    for name, answer in [
        ("relative_difference", lambda a, b: float(((a - b) ** 2).sum().sqrt() / (b**2).sum().sqrt())),
        ("qlora_bytes", lambda frozen, adapter: (4 + 1 / 8 + 0.002) * frozen / 8 + (4 + 4 + 8) * adapter),
        ("fixed_adapter", adapter()),
        ("fixed_adapter", adapter(first=lambda *shape: torch.rand(shape) - 0.5)),
        ("price_of_4_bits", changed(PRICE, qlora=trials(0.9, FOUR), verdict="undecided")),
        ("price_of_4_bits", changed(PRICE, qlora=trials(0.6, lk.QLoRA(rank=8, backend="labkit")))),
    ]:
        assert said(name, answer).startswith("✓")
