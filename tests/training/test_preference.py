"""The losses of preference learning equal TRL's: the loss, its gradients and the rewards, on the same batch."""

import copy

import pytest
import torch
from datasets import Dataset
from tiny import STRONG, Letters, tiny_model
from torch.nn import functional as F

import labkit as lk
from labkit.training.batching import Example
from labkit.training.config import TrainingConfig
from labkit.training.pair_objective import PairObjective
from labkit.training.preference import LOSSES, LogProbs, Preference, preference_loss
from labkit.training.processes import Processes
from labkit.training.schedule import Schedule

pytestmark = pytest.mark.usefixtures("one_thread")
COUNT = 4
# TRL's trainer and settings for each loss.
TRL = {
    "dpo": ("dpo", {"loss_type": ["sigmoid"]}),
    "dpo_norm": ("dpo", {"loss_type": ["sigmoid_norm"]}),
    "ipo": ("dpo", {"loss_type": ["ipo"]}),
    "kto": ("kto", {}),
    "orpo": ("orpo", {}),
    "simpo": ("cpo", {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 0.3}),
}


@pytest.fixture
def pairs():
    """Pairs of prompts of 3 to 6 tokens, with completions of several lengths."""
    torch.manual_seed(5)
    made = []
    for i in range(COUNT):
        prompt = torch.randint(3, 128, (3 + i,)).tolist()
        for length in (2 + 3 * i, 9 - 2 * i):
            said = torch.randint(3, 128, (length,)).tolist()
            made.append(Example(prompt + said, length, mask=(False,) * len(prompt) + (True,) * length))
    return made


class Ours:
    """A model in training, whose reference is what it was before its weights moved, and a batch of all pairs."""

    def __init__(self, pairs, preference, **settings):
        self.base = tiny_model("llama", Letters(), **STRONG)
        self.model = lk.FullFineTuning().apply(self.base)
        config = TrainingConfig(**{"steps": 1, "batch_size": COUNT, "preference": preference} | settings)
        self.objective = PairObjective(self.model, Schedule(pairs, (), config), config, Processes())
        self.objective.prepare(1)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
        self.theirs = copy.deepcopy(self.model.module).train()
        self.rows = [row for batch in self.objective.schedule.batches(0) for row in (*batch[::2], *batch[1::2])]

    def step(self):
        """The loss, its gradients and what the record says."""
        batches, share = self.objective.batches(0)
        loss = sum(self.objective(self.model, batch)[0] for batch in batches) * share
        return loss.item(), gradients(self.model.module, loss), self.objective.found()


def gradients(module, loss):
    module.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad for name, p in module.named_parameters()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert max(gradient.abs().max() for gradient in theirs.values()) > 1e-3
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def trl_of(kind, ours, tokenizer, folder, **settings):
    """One of TRL's trainers, of a copy of the model and of its reference."""
    pytest.importorskip("trl")
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    config, trainer = {
        "dpo": (DPOConfig, DPOTrainer),
        "kto": (KTOConfig, KTOTrainer),
        "cpo": (CPOConfig, CPOTrainer),
        "orpo": (ORPOConfig, ORPOTrainer),
    }[kind]
    said = [{"prompt": "a b", "chosen": " c d", "rejected": " e f"}] * 2  # only the batch that is made below counts
    if kind == "kto":
        said = [{"prompt": "a b", "completion": " c d", "label": label} for label in (True, False)]
    common = {"report_to": "none", "use_cpu": True, "bf16": False, "gradient_checkpointing": False}
    return trainer(
        ours.theirs,
        args=config(str(folder), per_device_train_batch_size=2, **common, **settings),
        train_dataset=Dataset.from_list(said),
        processing_class=tokenizer,
        **({"ref_model": ours.base.module} if kind in ("dpo", "kto") else {}),
    )


def parted(row):
    start = row.is_learned.index(True)
    return row.tokens[:start], row.tokens[start:]


def trl_step(kind, trainer, rows):
    """TRL's loss of a batch, and what it logs."""
    half = len(rows) // 2
    if kind == "dpo":
        batch = trainer.data_collator(
            [
                {"prompt_ids": parted(good)[0], "chosen_ids": parted(good)[1], "rejected_ids": parted(bad)[1]}
                for good, bad in zip(rows[:half], rows[half:], strict=True)
            ]
        )
    elif kind == "kto":
        said = [parted(row)[1] for row in rows]
        batch = trainer.data_collator(
            [
                {"prompt_ids": parted(row)[0], "completion_ids": said[i], "KL_completion_ids": said[i - 1]}
                | {"label": i < half}
                for i, row in enumerate(rows)
            ]
        )
    else:
        batch = {}
        for name, part in (("chosen", rows[:half]), ("rejected", rows[half:])):
            width = max(len(row.tokens) for row in part)
            fill = [width - len(row.tokens) for row in part]
            columns = {
                "input_ids": [row.tokens + [0] * n for row, n in zip(part, fill, strict=True)],
                "attention_mask": [[1] * (width - n) + [0] * n for n in fill],
                "labels": [
                    [-100] * len(parted(row)[0]) + parted(row)[1] + [-100] * n
                    for row, n in zip(part, fill, strict=True)
                ],
            }
            batch |= {f"{name}_{key}": torch.tensor(value) for key, value in columns.items()}
        return trainer.get_batch_loss_metrics(trainer.model, batch)
    loss = trainer._compute_loss(trainer.model, batch, False)
    return loss, {key: values[-1] for key, values in trainer._metrics["train"].items()}


def mean_losses(module, rows, whole):
    """The mean cross-entropy of chosen rows, of their completions or of whole texts, by torch alone."""
    logits, targets = [], []
    for row in rows[: len(rows) // 2]:
        start = 1 if whole else row.is_learned.index(True)
        logits.append(module(torch.tensor([row.tokens])).logits[0, start - 1 : -1])
        targets += row.tokens[start:]
    return F.cross_entropy(torch.cat(logits), torch.tensor(targets))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_gradients_and_rewards_equal_trls(loss, pairs, tokenizer, tmp_path):
    kind, settings = TRL[loss]
    beta = 0.7
    given = Preference(loss, beta=beta, **({"gamma": 0.3} if loss == "simpo" else {}))
    ours = Ours(pairs, given)
    trainer = trl_of(kind, ours, tokenizer("smollm2-135m"), tmp_path, beta=beta, **settings)
    theirs, logged = trl_step(kind, trainer, ours.rows)
    if loss == "orpo":  # TRL's first term is of prompt and completion; the paper's equation 6 is of the completion
        module = trainer.model
        theirs = theirs - mean_losses(module, ours.rows, whole=True) + mean_losses(module, ours.rows, whole=False)
    value, found, record = ours.step()
    assert value == pytest.approx(theirs.item(), rel=1e-5)
    assert_same(found, gradients(trainer.model, theirs))
    for side in ("chosen", "rejected"):
        assert record[f"{side}_reward"] == pytest.approx(logged[f"rewards/{side}"], rel=1e-5)
    assert record["margin"] == pytest.approx(logged["rewards/margins"], abs=1e-5)
    if kind != "kto":
        assert record["pair_accuracy"] == pytest.approx(logged["rewards/accuracies"])
    if loss in ("dpo", "kto"):  # TRL's other trainers log means a token
        assert record["chosen_logp"] == pytest.approx(logged["logps/chosen"], rel=1e-5)
        assert record["rejected_logp"] == pytest.approx(logged["logps/rejected"], rel=1e-5)
    if loss == "kto":
        assert logged["kl"] > 0.1  # else the baseline would not be tried


@pytest.mark.parametrize("loss", ["dpo", "simpo"])
def test_the_sft_term_equals_trls(loss, pairs, tokenizer, tmp_path):
    ours = Ours(pairs, Preference(loss, beta=0.7, sft=0.4))
    kind = {"dpo": "dpo", "simpo": "cpo"}[loss]
    settings = {
        "dpo": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.4]},
        "simpo": {"loss_type": "simpo", "cpo_alpha": 0.4, "simpo_gamma": 0.35},
    }[loss]
    trainer = trl_of(kind, ours, tokenizer("smollm2-135m"), tmp_path, beta=0.7, **settings)
    theirs, _ = trl_step(kind, trainer, ours.rows)
    value, found, _ = ours.step()
    assert value == pytest.approx(theirs.item(), rel=1e-5)
    assert_same(found, gradients(trainer.model, theirs))


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "kto"])  # its baseline is a batch's, as in TRL
def test_it_makes_no_difference_how_a_step_is_divided(loss, pairs):
    whole, parts = (
        Ours(pairs, Preference(loss, sft=0.5), batch_size=COUNT // n, accumulation=n).step() for n in (1, 2)
    )
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert_same(parts[1], whole[1])
    assert parts[2] == pytest.approx(whole[2], rel=1e-4)


def test_a_certain_completion_has_finite_gradients():
    certain = torch.zeros(1, requires_grad=True)
    one = torch.ones(1)
    loss = preference_loss(Preference("orpo"), LogProbs(certain, torch.full((1,), -3.0), one, one)).losses
    loss.sum().backward()
    assert loss.isfinite().all()
    assert certain.grad.isfinite().all()


def test_settings_are_checked_and_each_loss_has_its_own_beta():
    assert {loss: Preference(loss).beta for loss in LOSSES} == LOSSES
    assert Preference("simpo", beta=3.0).gamma == 1.5
    for beta in (0, -1.0):
        with pytest.raises(lk.LabkitError, match=f"beta must be above 0 and finite, not {beta}"):
            Preference("dpo", beta=beta)
    for wrong, message in (
        ({"loss": "dop"}, "no preference loss called 'dop'"),
        ({"sft": -0.1}, "sft must be"),
        ({"gamma": 0.5}, "gamma is SimPO's margin, and dpo has none"),
        ({"loss": "simpo", "gamma": -1}, "gamma must be"),
    ):
        with pytest.raises(lk.LabkitError, match=message):
            Preference(**wrong)
    assert TrainingConfig(preference="ipo").preference == Preference("ipo")
    for wrong, message in (
        ({"preference": 3}, "must be a Preference, not 3"),
        ({"preference": "kto", "batch_size": 1}, "batch_size is 1"),
        ({"preference": "dpo", "packing": True}, "can't be packed"),
    ):
        with pytest.raises(lk.LabkitError, match=message):
            TrainingConfig(**wrong)
    ones = torch.ones(2)
    with pytest.raises(lk.LabkitError, match="ipo compares the model with what it was"):
        preference_loss(Preference("ipo"), LogProbs(-ones, -ones, ones, ones))
