"""Small models of one causal and one encoder architecture; tests must not change them."""

import pytest
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
