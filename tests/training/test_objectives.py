import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labkit.methods import LoRA, get_method
from labkit.training.batching import Example, collate, encode
from labkit.training.objectives import class_logits, classification_loss, completion_loss

PROMPTS = ["The sky is", "Coal, when it is seen in the dark of a deep mine, is", "Snow is", "Say:"]
COMPLETIONS = [" blue", " black", " white as a sheet", " yes, and then no, and then yes again"]


@pytest.fixture
def examples(tiny):
    return encode(tiny, PROMPTS, COMPLETIONS, 512)


def batch_of(model, examples):
    return collate(examples, model.tokenizer.pad_token_id, model.device)


def gradients(module):
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


def test_the_loss_and_its_gradients_are_those_of_transformers(tiny, examples):
    batch = batch_of(tiny, examples)
    loss, count = completion_loss(tiny, batch)
    loss.backward()
    ours = gradients(tiny.module)

    # transformers shifts the labels itself and returns the mean over those that are not -100.
    mean = tiny.module(batch.input_ids, attention_mask=batch.attention_mask, labels=batch.targets).loss
    (mean * count).backward()
    theirs = gradients(tiny.module)

    assert count == sum(len(tiny.tokenizer(c)["input_ids"]) + 1 for c in COMPLETIONS)
    assert loss.item() == pytest.approx(mean.item() * count, rel=1e-5)
    assert ours.keys() == theirs.keys() == dict(tiny.module.named_parameters()).keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5 * theirs[name].abs().max().item())


def test_it_holds_for_plain_text_too(tiny):
    batch = batch_of(tiny, [Example([5, 6, 7, 8], 3), Example([9, 10, 11, 12, 13, 14], 5)])
    loss, count = completion_loss(tiny, batch)
    mean = tiny.module(batch.input_ids, attention_mask=batch.attention_mask, labels=batch.targets).loss
    assert count == 8
    assert loss.item() == pytest.approx(8 * mean.item(), rel=1e-5)


def test_padding_changes_nothing(tiny, examples):
    together, count = completion_loss(tiny, batch_of(tiny, examples))
    alone = [completion_loss(tiny, batch_of(tiny, [example])) for example in examples]
    assert together.item() == pytest.approx(sum(loss.item() for loss, _ in alone), rel=1e-5)
    assert count == sum(n for _, n in alone)

    wide = batch_of(tiny, examples)
    wide.input_ids, wide.attention_mask = F.pad(wide.input_ids, (0, 9), value=7), F.pad(wide.attention_mask, (0, 9))
    wide.targets = F.pad(wide.targets, (0, 9), value=-100)
    assert completion_loss(tiny, wide)[0].item() == pytest.approx(together.item(), rel=1e-5)


def test_logits_are_computed_only_where_some_row_is_learned(tiny, examples):
    widths = []
    tiny.module.lm_head.register_forward_hook(lambda layer, args, output: widths.append(output.shape[1]))
    batch = batch_of(tiny, [Example([5] * 40, 2), Example([6] * 40, 3)])
    completion_loss(tiny, batch)
    assert widths == [3]


def masked(lengths=(12, 30, 20)):
    """Examples that learn every third token."""
    rows = [[5 + (7 * i + length) % 90 for i in range(length)] for length in lengths]
    masks = [tuple(i % 3 == 1 for i in range(length)) for length in lengths]
    return [Example(row, sum(mask), mask=mask) for row, mask in zip(rows, masks, strict=True)]


@pytest.mark.parametrize("method", ["full", "prompt", "prefix"])
def test_masks_in_the_middle_give_the_loss_of_transformers(tiny, method):
    tuned = get_method(method).apply(tiny)
    batch = batch_of(tuned, masked())
    loss, count = completion_loss(tuned, batch)
    logits = tuned.module(batch.input_ids, attention_mask=batch.attention_mask).logits
    mean = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.targets[:, 1:].flatten())
    assert count == 4 + 10 + 7
    assert loss.item() == pytest.approx(count * mean.item(), rel=1e-5)


def test_masks_in_the_middle_cost_the_logits_of_learned_tokens_alone(tiny):
    sizes = []
    tiny.module.lm_head.register_forward_hook(lambda layer, args, output: sizes.append(output.shape[:-1].numel()))
    completion_loss(tiny, batch_of(tiny, masked()))
    assert sizes == [4 + 10 + 7]
    assert not tiny.module.lm_head._forward_pre_hooks


def test_fresh_adapters_do_not_change_the_loss(tiny, examples):
    batch = batch_of(tiny, examples)
    assert torch.equal(completion_loss(LoRA().apply(tiny), batch)[0], completion_loss(tiny, batch)[0])


@pytest.fixture
def classifier(tiny_encoder):
    torch.manual_seed(1)
    tiny_encoder.head = nn.Linear(32, 3)
    return tiny_encoder


def by_hand(model, prompts):
    """Each text on its own, so without padding and masks."""
    rows = []
    for prompt in prompts:
        inputs = model.tokenizer(prompt, return_tensors="pt")
        mean = model.module(**inputs).last_hidden_state[0].mean(dim=0)
        rows.append(model.head.weight @ (mean / mean.norm()) + model.head.bias)
    return torch.stack(rows)


def test_classes_are_read_off_the_normalized_mean_of_the_tokens(classifier):
    labels = ("a", "b", "c")
    answers = ["a", "c", "b", "a"]
    batch = batch_of(classifier, encode(classifier, PROMPTS, answers, 512, labels))

    expected = by_hand(classifier, PROMPTS)
    torch.testing.assert_close(class_logits(classifier, batch), expected, atol=1e-5, rtol=1e-5)

    loss, count = classification_loss(classifier, batch)
    shares = expected.log_softmax(dim=1)
    assert count == 4
    assert loss.item() == pytest.approx(-(shares[0, 0] + shares[1, 2] + shares[2, 1] + shares[3, 0]).item(), rel=1e-5)


def test_the_head_and_the_encoder_both_get_gradients(classifier):
    batch = batch_of(classifier, encode(classifier, PROMPTS, ["a", "b", "c", "a"], 512, ("a", "b", "c")))
    classification_loss(classifier, batch)[0].backward()
    ours = classifier.head.weight.grad.clone(), classifier.module.embeddings.word_embeddings.weight.grad.clone()
    classifier.head.zero_grad()
    classifier.module.zero_grad()

    F.cross_entropy(by_hand(classifier, PROMPTS), torch.tensor([0, 1, 2, 0]), reduction="sum").backward()
    theirs = classifier.head.weight.grad, classifier.module.embeddings.word_embeddings.weight.grad
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5 * reference.abs().max().item())
