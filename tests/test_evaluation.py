import copy
import math
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from torch import nn
from torch.nn import functional as F

import labkit as lk
from labkit.evaluation import Evaluation, label_probabilities, wilson
from labkit.tasks.english import general_knowledge

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


def test_an_evaluation_prints_its_numbers():
    result = Evaluation(3, 4, wilson(3, 4), {"green": (1, 2), "blue": (2, 2)}, [])
    first, *rest = str(result).splitlines()
    assert first == "accuracy 75.0%   95% interval 30.1% to 95.4%   n = 4"
    assert [line.split() for line in rest] == [["green", "1", "of", "2", "█" * 10], ["blue", "2", "of", "2", "█" * 20]]


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


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (90, 100, 0.8256, 0.9448),
    ],
)
def test_wilson_gives_the_published_intervals(correct, total, low, high):
    assert wilson(correct, total) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("total", [1, 2, 7, 60, 300])
def test_wilson_solves_its_equation_and_holds_the_share(total):
    for correct in range(total + 1):
        low, high = wilson(correct, total)
        share = correct / total
        assert 0 <= low <= share + 1e-12
        assert share - 1e-12 <= high <= 1
        # The bounds are the shares from which the observed one lies 1.96 standard errors away.
        for bound in (low, high):
            assert (share - bound) ** 2 == pytest.approx(1.96**2 * bound * (1 - bound) / total, abs=1e-9)


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


def test_the_real_encoder_beats_guessing_before_any_training(minilm, triage):
    small = replace(triage, test=triage.test.select(range(60)))
    result = lk.evaluate(minilm, small)
    assert result.interval[0] > 1 / len(triage.labels)
