"""A reward model: its loss, its texts, and whether it learns."""

import pytest
import torch
from datasets import Dataset
from quick_runs import QUICK
from torch import nn
from torch.nn import functional as F

import labkit as lk
from labkit.training.judged import encode_replies
from labkit.training.reward_model import bradley_terry, learned_reward, score

GOOD, BAD = ("thanks", "of course", "here it is"), ("no", "go away", "ask somebody else")


def task(train=40, test=20):
    """Pairs in which kind words are preferred; questions of the test set are new."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Question {i} please"}] if i % 2 else f"Question {i} please",
            "chosen": [{"role": "assistant", "content": f"{GOOD[i % 3]} {i}"}],
            "rejected": f"{BAD[i % 3]} {i}",
            "kind": "ab"[i % 4 == 0],
        }
        for i in range(train + test)
    ]
    rows = [row | {"prompt": str(row["prompt"]), "chosen": row["chosen"][0]["content"]} for row in rows]
    return lk.Task("kind words", Dataset.from_list(rows[:train]), Dataset.from_list(rows[train:]), (), "made up")


def test_the_loss_and_its_gradient_are_trls(tokenizer, tmp_path, one_thread):
    trl = pytest.importorskip("trl")
    from tiny import tiny_config
    from transformers import AutoModelForSequenceClassification

    reader = tokenizer("minilm")
    torch.manual_seed(0)
    module = AutoModelForSequenceClassification.from_config(tiny_config("bert", vocab_size=len(reader), num_labels=1))
    module.eval()
    config = trl.RewardConfig(tmp_path, use_cpu=True, bf16=False, report_to="none")
    data = Dataset.from_list([{"chosen_ids": [1, 2], "rejected_ids": [3]}] * 2)
    trainer = trl.RewardTrainer(module, config, train_dataset=data, processing_class=reader)
    batch = dict(reader(["thanks a lot", "of course", "no", "go away now"], padding=True, return_tensors="pt"))
    losses = [
        trainer.compute_loss(module, dict(batch)),
        bradley_terry(*module(**batch).logits[:, 0].chunk(2)),
    ]
    torch.testing.assert_close(losses[1], losses[0], atol=1e-6, rtol=1e-6)
    theirs, ours = (torch.autograd.grad(loss, list(module.parameters()), allow_unused=True) for loss in losses)
    for a, b in zip(theirs, ours, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_replies_are_read_as_the_second_text_of_a_pair(tiny_encoder):
    asked, said = ["What is it?", "Where?"], ["A bone.", "In the left hand."]
    assert encode_replies(tiny_encoder, asked, said) == tiny_encoder.tokenizer(asked, said)["input_ids"]
    talk = [{"role": "user", "content": "What is it?"}]
    assert encode_replies(tiny_encoder, [talk], said[:1]) == encode_replies(tiny_encoder, asked[:1], said[:1])


def test_a_long_question_loses_its_beginning_and_its_reply_stays(tiny_encoder):
    asked = "word " * 600 + "and the end?"
    with pytest.warns(lk.TruncationWarning, match="lost its beginning"):
        (ids,) = encode_replies(tiny_encoder, [asked], ["A bone."])
    assert len(ids) == tiny_encoder.max_length
    text = tiny_encoder.tokenizer.decode(ids)
    assert text.endswith("and the end? [SEP] a bone. [SEP]")
    with pytest.warns(lk.TruncationWarning):
        (ids,) = encode_replies(tiny_encoder, ["Why?"], ["word " * 600])
    assert len(ids) == tiny_encoder.max_length


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_learns_what_is_preferred_also_of_new_questions(tiny_encoder, tmp_path, method):
    pairs = task()
    run = lk.reward_model(tiny_encoder, pairs, method, **QUICK | {"steps": 40, "batch_size": 8})
    assert tiny_encoder.head is None
    found = lk.score_pairs(run.model, pairs)
    assert found.accuracy.accuracy > 0.9
    assert found.accuracy.interval[0] > 0.6
    assert set(found.accuracy.per_class) == {"a", "b"}
    assert run.history[-1]["pair_accuracy"] > 0.8
    assert run.history[-1]["margin"] > run.history[0]["margin"] + 0.5
    asked, said = pairs.test["prompt"], pairs.test["chosen"]
    rewards = score(run.model, asked, said)
    assert found.margins == pytest.approx(
        (rewards - score(run.model, asked, pairs.test["rejected"])).tolist(), abs=1e-5
    )
    run.save(tmp_path / "run")
    torch.testing.assert_close(score(lk.load_run(tmp_path / "run", tiny_encoder).model, asked, said), rewards)
    reply = lk.generation.replies.Reply(said[0], 3, True, (1, 2, 3))
    assert learned_reward(run.model)([{"prompt": asked[0]}], [reply]) == pytest.approx([rewards[0].item()], abs=1e-5)


def test_the_first_step_is_the_loss_on_the_pairs(tiny_encoder):
    pairs = task(train=6)
    for layer in tiny_encoder.module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    run = lk.reward_model(tiny_encoder, pairs, **QUICK | {"steps": 1, "batch_size": 6, "learning_rate": 1e-12})
    chosen, rejected = (score(run.model, pairs.train["prompt"], pairs.train[name]) for name in ("chosen", "rejected"))
    assert run.history[0]["loss"] == pytest.approx(-F.logsigmoid(chosen - rejected).mean().item(), abs=1e-5)
    assert run.history[0]["margin"] == pytest.approx((chosen - rejected).mean().item(), abs=1e-5)


def test_what_cannot_be_learned_is_refused(tiny, tiny_encoder, colours):
    def learn(change, model=tiny_encoder):
        rows = [{"prompt": "a?", "chosen": "yes", "rejected": "no"} | change]
        data = lk.Task("own", Dataset.from_list(rows), Dataset.from_list(rows), (), "made up")
        return lk.reward_model(model, data, **QUICK)

    with pytest.raises(lk.LabkitError, match="Row 1 prefers ' no' to itself"):
        learn({"chosen": " no"})
    for change in ({"rejected": " "}, {"chosen": None}, {"chosen": [{"role": "assistant", "content": ""}]}):
        with pytest.raises(lk.LabkitError, match=r"Row 1 has as (chosen|rejected) no reply"):
            learn(change)
    with pytest.raises(lk.LabkitError, match="tiny is no encoder"):
        learn({}, tiny)
    with pytest.raises(lk.LabkitError, match="has no pairs to learn"):
        lk.reward_model(tiny_encoder, colours, **QUICK)
    for call in (lambda: score(tiny_encoder, ["a"], ["b"]), lambda: learned_reward(tiny_encoder)):
        with pytest.raises(lk.LabkitError, match="is no reward model"):
            call()
    with pytest.raises(lk.LabkitError, match="has no test pairs"):
        lk.score_pairs(tiny_encoder, colours)
