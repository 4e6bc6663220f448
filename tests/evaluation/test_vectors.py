import pandas as pd
import pytest
import torch
from torch.nn import functional as F

import labkit as lk
from labkit.evaluation import drift, embed
from labkit.evaluation.vectors import similarities

TEXTS = [
    "The sky in the north is",
    "Rivers run into the sea, and the sea is never full, unto the place from whence the rivers come.",
    "Yes.",
    "A model of the world",
    "What is it? It is a cat, and the cat sat on the mat.",
]
# No two share a token, so that models of random weights see nothing in common.
WORDS = [
    *("water", "music", "paper", "stone", "winter", "horse", "letter", "silver"),
    *("garden", "summer", "market", "finger", "window", "planet", "forest", "bridge"),
    *("castle", "doctor", "engine", "flower", "island", "jacket", "kitchen", "ladder"),
]


@torch.no_grad()
def vector(model, text):
    return model.module(**model.tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)


@pytest.fixture
def reseeded(tiny_encoder):
    """The same architecture with other random weights."""
    torch.manual_seed(1)
    other = tiny_encoder.copy(share_weights=False)
    for parameter in other.module.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    for name, parameter in other.module.named_parameters():
        if name.endswith("LayerNorm.weight"):
            torch.nn.init.ones_(parameter)
    return other


def test_vectors_are_the_means_over_tokens_with_length_one(tiny_encoder):
    expected = torch.stack([F.normalize(vector(tiny_encoder, text), dim=0) for text in TEXTS])
    torch.testing.assert_close(embed(tiny_encoder, TEXTS), expected, atol=1e-5, rtol=0)


def test_only_encoders_give_vectors(tiny):
    with pytest.raises(lk.LabkitError, match="gives no sentence vectors"):
        embed(tiny, TEXTS)


def test_similarities_are_the_cosines_of_all_pairs(tiny_encoder):
    vectors = [vector(tiny_encoder, text) for text in TEXTS]
    pairs = [(one, two) for n, one in enumerate(vectors) for two in vectors[n + 1 :]]
    expected = torch.stack([torch.cosine_similarity(one, two, dim=0) for one, two in pairs])
    torch.testing.assert_close(similarities(tiny_encoder, TEXTS), expected, atol=1e-5, rtol=0)


def test_many_texts_are_compared_in_their_order(tiny_encoder):
    many = [f"{text} {word}" for word in WORDS[:8] for text in TEXTS]
    found = similarities(tiny_encoder, many)
    assert len(found) == 40 * 39 // 2
    vectors = F.normalize(torch.stack([vector(tiny_encoder, text) for text in many]), dim=1)
    torch.testing.assert_close(found[:39], vectors[1:] @ vectors[0], atol=1e-5, rtol=0)


def test_a_model_has_not_drifted_from_itself(tiny_encoder):
    assert drift(tiny_encoder, tiny_encoder, TEXTS) == pytest.approx(0, abs=1e-12)
    assert drift(tiny_encoder, lk.LoRA(rank=2).apply(tiny_encoder), TEXTS) == pytest.approx(0, abs=1e-12)


def test_drift_is_1_minus_spearmans_correlation(tiny_encoder, reseeded):
    table = pd.DataFrame({name: similarities(model, TEXTS) for name, model in (("a", tiny_encoder), ("b", reseeded))})
    expected = 1 - table.corr(method="spearman").loc["a", "b"]
    assert drift(tiny_encoder, reseeded, TEXTS) == pytest.approx(expected, abs=1e-9)
    assert drift(reseeded, tiny_encoder, TEXTS) == pytest.approx(expected, abs=1e-9)
    assert expected > 0.01


def test_the_length_of_vectors_makes_no_difference(tiny_encoder):
    longer = tiny_encoder.copy(share_weights=False)
    norm = longer.module.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        norm.weight *= 4
        norm.bias *= 4
    assert drift(tiny_encoder, longer, TEXTS) == pytest.approx(0, abs=1e-12)


def test_nothing_is_left_of_the_order_under_other_random_weights(tiny_encoder, reseeded):
    assert drift(tiny_encoder, reseeded, WORDS) == pytest.approx(1, abs=0.15)


def test_what_training_moves_less_drifts_less(tiny_encoder, reseeded):
    drifts = []
    for share in (0.02, 0.2, 1):
        moved = tiny_encoder.copy(share_weights=False)
        with torch.no_grad():
            for parameter, goal in zip(moved.module.parameters(), reseeded.module.parameters(), strict=True):
                parameter.lerp_(goal, share)
        drifts.append(drift(tiny_encoder, moved, WORDS))
    assert 0 < drifts[0] < drifts[1] < drifts[2]


def test_drift_is_measured_on_general_english(tiny_encoder, reseeded, monkeypatch):
    monkeypatch.setattr("labkit.evaluation.vectors.general_english", lambda: TEXTS)
    assert drift(tiny_encoder, reseeded) == drift(tiny_encoder, reseeded, TEXTS)


def test_a_causal_model_has_no_drift(tiny):
    with pytest.raises(lk.LabkitError, match=r"tiny gives no sentence vectors.*\n.*lk.forgetting"):
        drift(tiny, tiny, TEXTS)


def test_an_encoder_has_not_drifted_to_a_causal_model(tiny_encoder, tiny):
    with pytest.raises(lk.LabkitError, match="tiny gives no sentence vectors"):
        drift(tiny_encoder, tiny, TEXTS)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_texts_have_no_order_of_pairs(tiny_encoder, count):
    with pytest.raises(lk.LabkitError, match=rf"not of {count}\.\n.*at least 3"):
        drift(tiny_encoder, tiny_encoder, TEXTS[:count])
