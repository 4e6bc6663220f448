"""Which reply of a pair a model prefers, and calibration from margins whose right answers are known."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset

import labkit as lk
from labkit.evaluation.pairs import PairScores
from labkit.evaluation.proportions import wilson
from labkit.evaluation.results import score


def scores(margins):
    hits = [margin > 0 for margin in margins]
    return PairScores(score(hits, ["pairs"] * len(hits), ["pairs"], []), list(margins))


def test_bins_hold_every_pair_once():
    rng = np.random.default_rng(0)
    margins = rng.normal(0.5, 2, 300)
    found = scores(margins).bins(4)
    assert found.pairs.sum() == 300
    certainty = 1 / (1 + np.exp(-np.abs(margins)))
    for row in found.itertuples():
        here = (certainty >= row.low) & (certainty < row.high)
        assert row.pairs == here.sum()
        assert row.share == pytest.approx((margins[here] > 0).mean())
        assert row.certainty == pytest.approx(certainty[here].mean())
        assert (row.share_low, row.share_high) == wilson((margins[here] > 0).sum(), here.sum())


def test_pairs_won_as_often_as_promised_are_calibrated():
    rng = np.random.default_rng(1)
    differences = rng.normal(0, 2, 40_000)
    won = rng.random(40_000) < 1 / (1 + np.exp(-differences))
    margins = np.where(won, differences, -differences)  # the winner is the chosen one
    assert scores(margins).calibration_error() < 0.01
    assert scores(3 * margins).calibration_error() > 0.05  # too sure
    assert scores(0.1 * margins).calibration_error() > 0.05  # too modest


def test_the_ends_of_certainty_and_ties():
    found = scores([0.0, 100.0, -100.0])
    assert found.accuracy.correct == 1  # a tie is not won
    assert found.bins(2).values.tolist() == [
        pytest.approx([0.5, 0.75, 1, 0.5, 0, *wilson(0, 1)]),
        pytest.approx([0.75, 1.0, 2, 1.0, 0.5, *wilson(1, 2)]),
    ]
    assert found.calibration_error(2) == pytest.approx((0.5 + 2 * 0.5) / 3)
    assert not math.isnan(scores([0.3]).calibration_error())


def pairs_of(*replies):
    """A task whose pairs answer the same question, each with a chosen and a rejected reply."""
    prompt = [{"role": "user", "content": "Which animal says woof?"}]
    said = [[{"role": "assistant", "content": text}] for pair in replies for text in pair]
    rows = [{"prompt": prompt, "chosen": a, "rejected": b} for a, b in zip(said[::2], said[1::2], strict=True)]
    data = Dataset.from_list(rows)
    return lk.Task("animals", data, data, (), "made here")


def log_probability(model, row, side):
    """The same by transformers' own loss."""
    text = model.tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    ids = model.tokenizer(text + row[side][0]["content"] + "<|im_end|>\n", return_tensors="pt")["input_ids"]
    labels = ids.clone()
    labels[:, : len(model.tokenizer(text)["input_ids"])] = -100
    with torch.no_grad():
        return -model.module(ids, labels=labels).loss.item() * (labels != -100).sum().item()


def test_a_causal_model_is_right_where_the_chosen_reply_is_the_likelier_one(tiny):
    dog, cat, long = "A dog.", "A cat.", "Let me think about it for a while, and then again."
    task = pairs_of((dog, cat), (cat, dog), (long, dog), (dog, long))
    found = lk.score_pairs(tiny, task, batch_size=3)
    expected = [log_probability(tiny, row, "chosen") - log_probability(tiny, row, "rejected") for row in task.test]
    assert found.margins == pytest.approx(expected, rel=1e-4, abs=1e-3)
    assert found.accuracy.hits == "".join("01"[margin > 0] for margin in expected)
    assert found.accuracy.hits[2:] == "01"  # of replies to a model that learned nothing, the longer one is less likely


def test_a_causal_model_learns_what_is_preferred(tiny):
    task = pairs_of(("A dog.", "A cat."), ("It is a dog.", "It is a cat."))
    flipped = pairs_of(("A cat.", "A dog."), ("It is a cat.", "It is a dog."))
    for pairs, other in ((task, flipped), (flipped, task)):
        settings = {"steps": 12, "batch_size": 2, "learning_rate": 1e-2, "progress": False, "force": True}
        run = lk.finetune(tiny, pairs, lk.LoRA(rank=4), preference="dpo", **settings)
        assert lk.score_pairs(run.model, pairs).accuracy.accuracy == 1
        assert lk.score_pairs(run.model, other).accuracy.accuracy == 0


def test_what_cannot_be_compared_is_refused(tiny, tiny_encoder, colours):
    task = pairs_of(("A dog.", "A cat."), ("A cow.", "A cow."))
    with pytest.raises(lk.LabkitError, match=r"Row 2: Its chosen and its rejected completion are the same"):
        lk.score_pairs(tiny, task)
    with pytest.raises(lk.LabkitError, match="is no reward model"):
        lk.score_pairs(tiny_encoder, task)
    with pytest.raises(lk.LabkitError, match="has no test pairs"):
        lk.score_pairs(tiny, colours)
