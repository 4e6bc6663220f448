import pytest
import torch
from tiny import Letters, tiny_model
from torch import nn

import labkit as lk
from labkit.models.evaluation_mode import inference
from labkit.training.batching import Example, collate
from labkit.training.inference import batches_of, infer

LENGTHS = [5, 2, 9, 2, 7, 5, 1]


@pytest.fixture
def model():
    """A model that computes in bfloat16, with a part in another mode than the rest."""
    model = tiny_model("llama", Letters(), num_hidden_layers=1)
    model.precision = torch.bfloat16
    model.module.train()
    model.module.model.norm.eval()
    return model


@pytest.fixture
def examples():
    return [Example(list(range(3, 3 + length)), 1) for length in LENGTHS]


def state(model):
    modes = [part.training for part in model.module.modules()]
    return modes, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")


def last_logits(model, part):
    output = model.module(input_ids=part.input_ids, attention_mask=part.attention_mask).logits
    return output[torch.arange(len(part.rows)), part.attention_mask.sum(dim=1) - 1].float()


def test_batches_hold_each_example_once_from_the_shortest_to_the_longest(model, examples):
    parts = list(batches_of(model, examples, 3))
    assert [part.rows for part in parts] == [[6, 1, 3], [0, 5, 4], [2]]  # of equal ones, the first comes first
    for part in parts:
        expected = collate([examples[row] for row in part.rows], 0, model.device)
        assert torch.equal(part.input_ids, expected.input_ids)
        assert torch.equal(part.attention_mask, expected.attention_mask)
        assert torch.equal(part.targets, expected.targets)
        assert part.tokens == expected.tokens
    for size in (0, -1, 2.5, "all"):
        with pytest.raises(lk.LabkitError, match="batch_size"):
            batches_of(model, examples, size)


@torch.no_grad()
def test_results_come_back_in_the_order_of_the_examples(model, examples):
    found = infer(model, examples, 3, lambda part: last_logits(model, part))
    model.module.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone = [model.module(torch.tensor([each.tokens])).logits[0, -1].float() for each in examples]
    torch.testing.assert_close(found, torch.stack(alone), atol=2e-3, rtol=2e-2)
    assert len({row.argmax().item() for row in found}) > 1


def test_inside_the_model_computes_as_after_training(model, examples):
    before = state(model)
    with inference(model):
        for part in batches_of(model, examples, 3):
            assert state(model) == ([False] * len(before[0]), False, True, torch.bfloat16)
            assert not last_logits(model, part).requires_grad
        model.precision = torch.float32
        with inference(model):
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu")
        assert not any(part.training for part in model.module.modules())
    assert state(model) == before


def test_whoever_stops_halfway_finds_all_as_it_was(model, examples):
    before = state(model)
    kept = []

    def stop_at_once():
        batches = batches_of(model, examples, 3)
        kept.append(batches)  # a generator that is kept is not closed
        with inference(model):
            for _ in batches:
                return

    def fail(part):
        raise KeyboardInterrupt

    stop_at_once()
    assert state(model) == before
    with pytest.raises(KeyboardInterrupt) as caught:
        infer(model, examples, 3, fail)
    assert state(model) == before  # while the traceback still holds the frames
    assert caught.tb
    next(batches_of(model, examples, 3))
    assert state(model) == before
    with inference(model):
        pass
    assert state(model) == before


def test_weights_are_neither_changed_nor_given_gradients(model, examples):
    weights = {name: p.clone() for name, p in model.module.named_parameters()}
    infer(model, examples, 3, lambda part: last_logits(model, part))
    for name, parameter in model.module.named_parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, weights[name])
    nn.functional.cross_entropy(model.module(torch.tensor([[3, 4]])).logits[0], torch.tensor([1, 2])).backward()
    assert all(parameter.grad is not None for parameter in model.module.parameters())
