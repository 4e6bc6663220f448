import time
from collections import deque

import pytest
import torch

import labkit as lk
from labkit.evaluation import latency_ratio

TEXT = "The sky in the north is"
FIXTURES = {"causal": "tiny", "encoder": "tiny_encoder"}


class Clock:
    """Shows the time that models have been said to take."""

    now = 0.0

    def __call__(self):
        return self.now

    def takes(self, model, *seconds):
        """Have a model take that long for each text; the last time holds for all texts to come."""
        left = deque(seconds)

        def pass_time(module, inputs, output):
            self.now += left.popleft() if len(left) > 1 else left[0]

        model.module.register_forward_hook(pass_time)
        return model


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


@pytest.fixture(params=FIXTURES)
def model(request):
    return request.getfixturevalue(FIXTURES[request.param])


@pytest.fixture
def pair(model):
    """A model and one with the same weights."""
    return model, model.copy(share_weights=True)


def test_a_model_takes_as_long_as_itself(model, clock):
    clock.takes(model, 0.2)
    assert latency_ratio(model, model, TEXT) == pytest.approx(1)


def test_the_tuned_model_is_compared_with_its_base(pair, clock):
    base, tuned = pair
    clock.takes(base, 0.2)
    clock.takes(tuned, 0.5)
    assert latency_ratio(base, tuned, TEXT) == pytest.approx(2.5)
    assert latency_ratio(tuned, base, TEXT) == pytest.approx(0.4)


def test_the_first_texts_do_not_count(pair, clock):
    base, tuned = pair
    clock.takes(base, 9, 8, 7, 0.2)
    clock.takes(tuned, 1, 1, 1, 0.6)
    assert latency_ratio(base, tuned, TEXT, repeats=1) == pytest.approx(3)


def test_what_disturbs_a_few_texts_makes_no_difference(pair, clock):
    base, tuned = pair
    clock.takes(base, 1, 1, 1, 2, 2, 99, 2, 2)
    clock.takes(tuned, 1, 1, 1, 0.01, 3, 3, 3, 50)
    assert latency_ratio(base, tuned, TEXT, repeats=5) == pytest.approx(1.5)


def test_what_slows_both_makes_no_difference(pair, clock):
    base, tuned = pair
    slower = [1 + n / 10 for n in range(18)]
    clock.takes(base, *slower)
    clock.takes(tuned, *(2 * seconds for seconds in slower))
    assert latency_ratio(base, tuned, TEXT) == pytest.approx(2)


def test_the_two_take_turns_at_the_same_text(pair):
    turns = []
    for name, each in zip(("base", "tuned"), pair, strict=True):
        each.module.register_forward_pre_hook(
            lambda module, args, inputs, name=name: turns.append((name, inputs["input_ids"].tolist())), with_kwargs=True
        )
    latency_ratio(*pair, TEXT, repeats=4)
    ids = [pair[0].tokenizer(TEXT)["input_ids"]]
    assert turns == [("base", ids), ("tuned", ids)] * (4 + 3)


def test_models_are_timed_as_they_are_used(pair):
    seen = []
    for each in pair:
        each.module.train()
        each.module.register_forward_hook(lambda module, inputs, output: seen.append((module.training, output[0])))
    latency_ratio(*pair, TEXT, repeats=1)
    assert not any(training or output.requires_grad for training, output in seen)


def test_a_causal_model_says_one_token(tiny):
    shapes = []
    tiny.module.register_forward_hook(lambda module, inputs, output: shapes.append(output.logits.shape))
    latency_ratio(tiny, tiny, TEXT, repeats=1)
    assert set(shapes) == {(1, 1, len(tiny.tokenizer))}


def test_models_compute_in_their_precision(tiny):
    tiny.precision = torch.bfloat16
    types = []
    tiny.module.register_forward_hook(lambda module, inputs, output: types.append(output.logits.dtype))
    latency_ratio(tiny, tiny, TEXT, repeats=1)
    assert set(types) == {torch.bfloat16}


def test_a_text_longer_than_both_can_read_is_cut_to_the_same(tiny_encoder):
    tuned, seen = lk.PromptTuning(virtual_tokens=12).apply(tiny_encoder), []
    for each in (tiny_encoder, tuned):
        each.module.embeddings.word_embeddings.register_forward_hook(
            lambda m, inputs, out: seen.append(inputs[0].shape)
        )
    with pytest.warns(lk.TruncationWarning, match="longer than 500 tokens and lost its end") as said:
        assert latency_ratio(tiny_encoder, tuned, "word " * 600, repeats=1) > 0
    assert len(said) == 1
    assert set(seen) == {(1, 500)}


def test_what_cannot_be_timed_is_said(tiny):
    for repeats in (0, -1, 1.5, True):
        with pytest.raises(lk.LabkitError, match="repeats must be a whole number"):
            latency_ratio(tiny, tiny, TEXT, repeats=repeats)
    with pytest.raises(lk.LabkitError, match="is no text"):
        latency_ratio(tiny, tiny, None)
