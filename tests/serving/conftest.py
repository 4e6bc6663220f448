"""What the endpoint answers with in tests: a tiny base with two adapters."""

import pytest
from tiny import STRONG, disturb, tiny_model

import labkit as lk


@pytest.fixture
def base(tokenizer, one_thread):
    reader = tokenizer("smollm2-135m")
    sizes = {"vocab_size": len(reader), "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2}
    return tiny_model("llama", reader, "tiny", **STRONG | sizes)


@pytest.fixture
def both(base):
    """The base and two adapters that do something."""
    tuned = {}
    for seed, name in enumerate(("hospital", "law")):
        tuned[name] = lk.LoRA(rank=4).apply(base)
        disturb(tuned[name], seed, 0.1)
    return lk.Specialists(base, tuned)


@pytest.fixture
def held(both):
    """The same, whose steps wait until the test lets them go."""
    from asking import Held

    held = Held(both)
    yield held
    held.free()
