import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import labkit as lk
from labkit.generation.sampling import random_numbers

LOGITS = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 3
SETTINGS = [(1.0, None, 1.0), (0.5, None, 1.0), (2.0, 7, 1.0), (1.0, None, 0.6), (0.8, 20, 0.9), (1.3, 1, 0.5)]
PROMPTS = ["The sky", "The sky in the north is blue, and", "Item", "Is it a cat or"]


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
def test_tokens_are_drawn_as_transformers_would(temperature, top_k, top_p):
    sampling, expected = lk.Sampling(temperature, top_k, top_p), LOGITS
    warpers = [TemperatureLogitsWarper(temperature), *([TopKLogitsWarper(top_k)] if top_k else [])]
    for warper in [*warpers, TopPLogitsWarper(top_p)]:
        expected = warper(None, expected)
    expected = expected.softmax(-1)
    torch.testing.assert_close(sampling.probabilities(LOGITS), expected)
    # One number from the middle of each of many equal parts: what is drawn counts out the probabilities.
    numbers = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
    for row, wanted in zip(LOGITS, expected, strict=True):
        counts = sampling.draw(row.expand(5000, -1), numbers).bincount(minlength=50)
        torch.testing.assert_close(counts / 5000, wanted, atol=2.1 / 5000, rtol=0)
        assert not counts[wanted == 0].any()


def test_the_ends_of_the_range_draw_tokens_that_may_be_drawn():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, -1)
    assert lk.Sampling().draw(logits, torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist() == [1, 2]


def test_the_same_seed_gives_the_same_texts_in_any_order_and_batch(tiny):
    def texts(prompts, **settings):
        made = lk.generate(tiny, prompts, 8, sampling=lk.Sampling(1.5), **settings)
        return dict(zip(prompts, (reply.ids for reply in made), strict=True))

    first = texts(PROMPTS)
    for size in (1, 3):
        assert texts(PROMPTS[::-1], batch_size=size) == first
    assert texts(PROMPTS, seed=1) != first
    same = lk.generate(tiny, PROMPTS[:1] * 4, 8, sampling=lk.Sampling(1.5))
    assert len({reply.ids for reply in same}) == 4
    state = torch.get_rng_state()
    texts(PROMPTS)
    assert torch.equal(torch.get_rng_state(), state)


def test_numbers_are_uniform():
    numbers = random_numbers([[i] for i in range(200)], 100, 0).flatten()
    counts = torch.histc(numbers, 10, 0, 1)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi-squared, 9 degrees of freedom: one of 1,000 is larger


def test_settings_without_sense_are_refused():
    for given in ({"temperature": 0}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": 0}, {"top_k": 2.0}):
        with pytest.raises(lk.LabkitError, match=next(iter(given))):
            lk.Sampling(**given)
