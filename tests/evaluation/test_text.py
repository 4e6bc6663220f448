import math

import pytest
import torch
from datasets import Dataset

import labkit as lk
from labkit.tasks.english import general_knowledge

TEXTS = ["The cat sat on the mat.", "Rivers run into the sea, and the sea is never full.", "Yes."]


@torch.no_grad()
def reference_loss(model, text):
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    return model.module(ids, labels=ids).loss.item(), ids.shape[1] - 1


def test_the_loss_of_a_text_is_that_of_transformers(tiny):
    for text in TEXTS:
        assert lk.text_loss(tiny, [text]) == pytest.approx(reference_loss(tiny, text)[0], rel=1e-5)


def test_each_token_counts_the_same_whichever_text_it_is_in(tiny):
    losses = [reference_loss(tiny, text) for text in TEXTS]
    expected = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert lk.text_loss(tiny, TEXTS) == pytest.approx(expected, rel=1e-5)
    assert lk.text_loss(tiny, TEXTS, batch_size=1) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_the_loss_of_a_task_is_that_of_its_completions(tiny, colours):
    total, count = 0.0, 0
    for prompt, completion in zip(colours.test["prompt"], colours.test["completion"], strict=True):
        start = tiny.tokenizer(prompt)["input_ids"]
        rest = [*tiny.tokenizer(completion)["input_ids"], tiny.tokenizer.eos_token_id]
        labels = torch.tensor([[-100] * len(start) + rest])
        total += tiny.module(torch.tensor([start + rest]), labels=labels).loss.item() * len(rest)
        count += len(rest)
    assert lk.text_loss(tiny, colours) == pytest.approx(total / count, rel=1e-5)


def test_the_loss_of_a_task_of_conversations_is_that_of_its_replies_in_the_chat_template(tiny):
    talk = [{"role": "user", "content": "Which colour?"}, {"role": "assistant", "content": "Red."}]
    rows = Dataset.from_list([{"prompt": "User: Which colour?\nAssistant:", "completion": " Red.", "messages": talk}])
    assert lk.text_loss(tiny, lk.Task("chat", rows, rows, (), "made here")) == lk.text_loss(tiny, [talk])


def test_the_whole_of_a_long_text_counts(tiny):
    words = "word " * 20 + "Rivers run into the sea. " * 8
    assert lk.perplexity(tiny, [words], max_length=32) != lk.perplexity(tiny, [words + "Zebra"], max_length=32)
    assert lk.text_loss(tiny, [words], max_length=10_000) == pytest.approx(reference_loss(tiny, words)[0], rel=1e-5)


@torch.no_grad()
def test_a_long_completion_is_measured_whole(tiny):
    prompt, answer = "Say where rivers run:", " into the sea, and the sea is never full" * 5
    rows = Dataset.from_list([{"prompt": prompt, "completion": answer}])
    start = tiny.tokenizer(prompt)["input_ids"]
    ids = [*start, *tiny.tokenizer(answer)["input_ids"], tiny.tokenizer.eos_token_id]
    losses, done = [], len(start)
    while done < len(ids):  # windows of 16 tokens, 8 of them new
        end = min(len(ids), max(16, done + 8))
        window = ids[max(0, end - 16) : end]
        scores = tiny.module(torch.tensor([window])).logits[0].log_softmax(-1)
        losses += [-scores[place - end + len(window) - 1, ids[place]] for place in range(done, end)]
        done = end
    assert len(losses) == len(ids) - len(start)
    expected = torch.stack(losses).mean().item()
    task = lk.Task("free", rows, rows, (), "")
    assert lk.text_loss(tiny, task, max_length=16) == pytest.approx(expected, rel=1e-5)
    long = lk.Task("long", rows, Dataset.from_list([{"prompt": prompt * 9, "completion": " yes"}]), (), "")
    with pytest.warns(lk.TruncationWarning, match="The example was longer than 16 tokens and lost its beginning"):
        lk.text_loss(tiny, long, max_length=16)


def test_perplexity_is_e_to_the_loss(tiny):
    assert lk.perplexity(tiny, TEXTS) == pytest.approx(math.exp(lk.text_loss(tiny, TEXTS)))


def test_a_model_that_guesses_evenly_has_the_perplexity_of_its_vocabulary(tiny):
    with torch.no_grad():
        tiny.module.lm_head.weight.zero_()
    assert lk.perplexity(tiny, TEXTS) == pytest.approx(len(tiny.tokenizer), rel=1e-4)


def test_no_text_has_no_loss(tiny):
    with pytest.raises(lk.LabkitError, match="no text"):
        lk.text_loss(tiny, ["a"])


@pytest.mark.parametrize("measure", [lambda m: lk.text_loss(m, TEXTS), lambda m: lk.perplexity(m, TEXTS), lk.knowledge])
def test_an_encoder_has_no_loss_on_text(tiny_encoder, measure):
    with pytest.raises(lk.LabkitError, match="tiny-encoder is an encoder, which predicts no tokens"):
        measure(tiny_encoder)


def test_an_unchanged_model_has_forgotten_exactly_nothing(tiny, monkeypatch):
    texts = lk.general_english(3)
    monkeypatch.setattr("labkit.evaluation.text.general_english", lambda: texts)
    result = lk.forgetting(tiny, lk.FullFineTuning().apply(tiny))
    assert result.rise == 0
    assert result.before == lk.text_loss(tiny, texts)


def test_forgetting_is_the_rise_of_the_loss(tiny):
    blank = tiny.copy(share_weights=False)
    with torch.no_grad():
        blank.module.lm_head.weight.zero_()
    result = lk.forgetting(tiny, blank, TEXTS)
    assert result.before == pytest.approx(lk.text_loss(tiny, TEXTS))
    assert result.after == pytest.approx(math.log(len(tiny.tokenizer)), rel=1e-5)
    assert result.rise == result.after - result.before


@torch.no_grad()
def test_knowledge_asks_60_questions_and_takes_the_likeliest_choice(tiny):
    questions = general_knowledge()
    tiny.module.lm_head.weight *= 20  # strong opinions, also on where to end
    tiny.module.train()
    result = lk.knowledge(tiny)
    assert tiny.module.training
    tiny.module.eval()
    assert result.total == len(result.predictions) == len(questions) == 60
    assert sum(right for right, _ in result.per_class.values()) == result.correct
    assert {total for _, total in result.per_class.values()} == {6}
    assert result.correct == sum(p == q["answer"] for p, q in zip(result.predictions, questions, strict=True))
    rules = {"sum": lambda x: x[:-1].sum(), "mean": lambda x: x[:-1].mean(), "sum with the end": lambda x: x.sum()}
    picks = {rule: [] for rule in rules}
    for question in questions[::3]:
        scores = []
        for choice in question["choices"]:
            start = tiny.tokenizer(f"Question: {question['question']}\nAnswer:")["input_ids"]
            rest = [*tiny.tokenizer(f" {choice}")["input_ids"], tiny.tokenizer.eos_token_id]
            shares = tiny.module(torch.tensor([start + rest])).logits[0, len(start) - 1 : -1].log_softmax(dim=-1)
            scores.append(shares[range(len(rest)), rest])
        for rule, total in rules.items():
            picks[rule].append(question["choices"][torch.stack([total(x) for x in scores]).argmax()])
    assert result.predictions[::3] == picks["sum"]
    assert picks["sum"] not in (picks["mean"], picks["sum with the end"])  # so the test tells them apart
