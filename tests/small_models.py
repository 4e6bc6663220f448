"""Small models of one causal and one encoder architecture, which tests must not change, and a mask."""

import pytest
import torch
from architectures import small


@pytest.fixture(params=["llama", "bert"])
def model(request):
    return small(request.param)


@pytest.fixture
def causal():
    return small("llama")


@pytest.fixture
def encoder():
    return small("bert")


@pytest.fixture
def mask():
    """Of three texts, the second is one of 9 tokens, the third of 5."""
    return torch.arange(13) < torch.tensor([[13], [9], [5]])
