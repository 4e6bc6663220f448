import copy
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from torch import nn
from torch.nn import functional as F

import labkit as lk
from labkit.evaluation import label_probabilities, wilson

PROMPTS = ["The colour is", "In the old house by the river, the colour of the door is", "It is", "Say, what is this?"]
# The first two differ in their second word, "red" is where "red wine" begins, and "white" stands alone.
LABELS = (" blue sky", " blue cheese", " red", " red wine", " red wine glass", " white")


@torch.no_grad()
def brute_force(model, prompts, labels):
    """Write each label after each prompt, and at every token share its probability among the tree's branches."""
    ids = [(*model.tokenizer(label)["input_ids"], model.tokenizer.eos_token_id) for label in labels]
    rows = []
    for prompt in prompts:
        start = model.tokenizer(prompt)["input_ids"]
        row = []
        for label in ids:
            shares = model.module(torch.tensor([[*start, *label]])).logits[0].softmax(dim=-1)
            probability = 1.0
            for n, token in enumerate(label):
                rivals = {other[n] for other in ids if other[:n] == label[:n]}
                here = shares[len(start) + n - 1]
                probability *= (here[token] / sum(here[rival] for rival in rivals)).item()
            row.append(probability)
        rows.append(row)
    return torch.tensor(rows)


def test_labels_share_probability_along_their_tokens(tiny):
    with torch.no_grad():
        tiny.module.lm_head.weight *= 20  # random weights give nearly equal shares, which would hide mistakes
    expected = brute_force(tiny, PROMPTS, LABELS)
    assert expected.std() > 0.1
    torch.testing.assert_close(label_probabilities(tiny, PROMPTS, LABELS), expected, atol=1e-5, rtol=1e-4)


def test_labels_of_conversations_are_replies_in_the_chat_template(tiny):
    with torch.no_grad():
        tiny.module.lm_head.weight *= 20
    talks = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    written = [tiny.tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) for talk in talks]
    expected = brute_force(tiny, written, [label.strip() for label in LABELS])
    assert expected.std() > 0.1
    torch.testing.assert_close(label_probabilities(tiny, talks, LABELS), expected, atol=1e-5, rtol=1e-4)
    best = [LABELS[i] for i in expected.argmax(dim=1)]
    rows = Dataset.from_list(
        [
            {"prompt": "?", "completion": label, "messages": [*talk, {"role": "assistant", "content": label.strip()}]}
            for talk, label in zip(talks, best, strict=True)
        ]
    )
    assert lk.evaluate(tiny, lk.Task("chat", rows, rows, LABELS, "made here")).correct == len(talks)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:2], LABELS[2:5], (" one", " two")])
def test_rows_sum_to_1(tiny, labels):
    scores = label_probabilities(tiny, PROMPTS, labels)
    assert scores.shape == (len(PROMPTS), len(labels))
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(len(PROMPTS)), atol=1e-5, rtol=0)
    assert (scores > 0).all()


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_the_batch_size_changes_nothing(request, kind, batch_size):
    model = request.getfixturevalue("tiny" if kind == "causal" else "tiny_encoder")
    prompts = [PROMPTS[i] + word for i in (1, 0, 3, 2) for word in ("", " a", " very much so")]
    whole = label_probabilities(model, prompts, LABELS, batch_size=100)
    parts = label_probabilities(model, prompts, LABELS, batch_size=batch_size)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


def test_labels_that_differ_at_once_take_one_pass(tiny):
    calls = []
    tiny.module.register_forward_hook(lambda module, args, output: calls.append(output.logits.shape[1]))
    label_probabilities(tiny, ["Is it"] * 3, [" yes, it is", " no", " perhaps so"])
    assert calls == [1]  # and computes logits at one place only


@torch.no_grad()
def vector(model, text):
    mean = model.module(**model.tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
    return mean / mean.norm()


def test_an_encoder_compares_vectors_before_it_is_trained(tiny_encoder):
    expected = [
        F.softmax(torch.tensor([20 * torch.dot(vector(tiny_encoder, p), vector(tiny_encoder, x)) for x in LABELS]), 0)
        for p in PROMPTS
    ]
    scores = label_probabilities(tiny_encoder, PROMPTS, LABELS)
    torch.testing.assert_close(scores, torch.stack(expected), atol=1e-5, rtol=1e-4)
    assert tiny_encoder.head is None


def test_an_encoder_uses_its_head_once_it_has_one(tiny_encoder):
    torch.manual_seed(3)
    tiny_encoder.head = nn.Linear(32, 3)
    expected = torch.stack([F.softmax(tiny_encoder.head(vector(tiny_encoder, prompt)), dim=0) for prompt in PROMPTS])
    scores = label_probabilities(tiny_encoder, PROMPTS, (" a", " b", " c"))
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)


def answer_with(model, token):
    """Make a causal model that prefers one token everywhere."""

    def prefer(module, args, output):
        output.logits[..., token] += 1000
        return output

    model.module.register_forward_hook(prefer)


def test_evaluate_counts_right_answers_in_all_and_by_class(tiny, colours):
    answer_with(tiny, tiny.tokenizer(" green")["input_ids"][0])
    truth = [c.strip() for c in colours.test["completion"]]
    result = lk.evaluate(tiny, colours)

    assert (result.correct, result.total) == (truth.count("green"), len(truth))
    assert result.accuracy == result.correct / result.total
    assert result.predictions == ["green"] * len(truth)
    assert result.interval == wilson(result.correct, result.total)
    assert result.per_class == {
        label: (truth.count(label) if label == "green" else 0, truth.count(label)) for label in set(truth)
    }


def test_predictions_come_in_the_order_of_the_test_set(tiny, colours):
    # Trained, so that it does not give the same answer to every prompt.
    model = lk.finetune(tiny, colours, "full", steps=40, batch_size=8, learning_rate=1e-2, progress=False).model
    scores = brute_force(model, colours.test["prompt"], colours.labels)
    expected = [colours.labels[i].strip() for i in scores.argmax(dim=1).tolist()]
    assert len(set(expected)) > 2
    assert lk.evaluate(model, colours, batch_size=5).predictions == expected


def free_text():
    pages = [f"{letter * 3} {letter * 4} {letter * 5}" for letter in "abcdefghijklmnopqrst"]
    rows = [{"prompt": f"{page}:", "completion": f"{page} again"} for page in pages]
    return lk.load_task(Dataset.from_list(rows), train=8, test=4)


def test_free_text_cannot_be_scored_by_label(tiny):
    task = free_text()
    assert task.labels == ()
    with pytest.raises(lk.LabkitError, match=r"no labels.*\n.*perplexity"):
        lk.evaluate(tiny, task)
    assert lk.perplexity(tiny, task) > 1  # the remedy works


def test_labels_that_cannot_be_told_apart_are_said(tiny, tiny_encoder):
    no_end = copy.deepcopy(tiny.tokenizer)
    no_end.eos_token = None
    assert label_probabilities(tiny, PROMPTS, (" red", " red wine")).sum(dim=1) == pytest.approx([1] * len(PROMPTS))
    for model, labels, word in (
        (tiny, (" no", " yes", " yes"), "' yes' and ' yes' alike"),
        (tiny_encoder, ("Yes", "no", " yes"), "'Yes' and ' yes' alike"),
        (replace(tiny, tokenizer=no_end), (" red", " white", " red wine"), "' red' is the beginning of ' red wine'"),
        (tiny, (" yes", ""), "A label is empty: ''"),
        (tiny_encoder, ("yes", " \n"), r"A label is empty: ' \\n'"),
        (tiny, (), "4 prompts and 0 labels"),
    ):
        with pytest.raises(lk.LabkitError, match=word):
            label_probabilities(model, PROMPTS, labels)
    with pytest.raises(lk.LabkitError, match="0 prompts"):
        label_probabilities(tiny, [], (" a", " b"))
    for size in (0, -1, 1.5, True):
        with pytest.raises(lk.LabkitError, match="batch_size must be a whole number"):
            label_probabilities(tiny, PROMPTS, (" a", " b"), batch_size=size)


def test_labels_that_differ_by_white_space_or_case_count_apart(tiny):
    answers = [" yes", "yes", "\nyes", " Yes"]
    rows = Dataset.from_list([{"prompt": "Is it?", "completion": answer} for answer in answers])
    answer_with(tiny, tiny.tokenizer(" yes")["input_ids"][0])
    result = lk.evaluate(tiny, lk.Task("spaces", rows, rows, tuple(answers), ""))
    assert result.per_class == {" yes": (1, 1), "yes": (0, 1), "\nyes": (0, 1), " Yes": (0, 1)}
    assert result.predictions == [" yes"] * 4
    with pytest.raises(lk.LabkitError, match="empty has no test examples"):
        lk.evaluate(tiny, lk.Task("empty", rows, rows.select([]), tuple(answers), ""))


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_prompts_are_cut_to_what_the_model_can_read(tiny, tiny_encoder, kind):
    model = tiny if kind == "causal" else tiny_encoder
    long = [f"{'grass and ' * n} the colour of the {word} is" for n, word in ((300, "sky"), (2, "sea"), (300, "sea"))]
    with pytest.warns(lk.TruncationWarning, match=r"^2 of 3 prompts were longer than \d+ tokens and lost") as said:
        scores = label_probabilities(model, long, LABELS)
    assert [warning.filename for warning in said] == [__file__]
    if kind == "causal":  # as the same cut by hand
        room = 512 - max(len(tiny.tokenizer(label)["input_ids"]) + 1 for label in LABELS)
        cut = [tiny.tokenizer.decode(tiny.tokenizer(text)["input_ids"][-room:]) for text in long]
    else:
        cut = [tiny_encoder.tokenizer.decode(tiny_encoder.tokenizer(text)["input_ids"][1:-1][:510]) for text in long]
    assert torch.equal(label_probabilities(model, cut, LABELS), scores)


def test_the_real_encoder_beats_guessing_before_any_training(minilm, triage):
    small = replace(triage, test=triage.test.select(range(60)))
    result = lk.evaluate(minilm, small)
    assert result.interval[0] > 1 / len(triage.labels)
