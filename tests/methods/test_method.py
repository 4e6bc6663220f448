import itertools
import json
import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import labkit as lk
from labkit.methods import METHODS, FullFineTuning, LoRA, Method, QLoRA, get_method, register
from labkit.methods import method as registry


@pytest.fixture
def own_registry(monkeypatch):
    """A registry that a test may add to."""
    monkeypatch.setattr(registry, "METHODS", dict(METHODS))


def test_all_methods_are_registered():
    assert set(METHODS) == {"bottleneck", "full", "head", "ia3", "lora", "prefix", "prompt", "qlora"}
    assert (METHODS["full"], METHODS["lora"], METHODS["qlora"]) == (FullFineTuning, LoRA, QLoRA)


def test_a_name_gives_the_method_with_its_defaults():
    assert get_method("lora") == LoRA()
    assert get_method("full") == FullFineTuning()
    assert get_method("qlora") == QLoRA() != LoRA()


def test_an_instance_is_returned_as_it_is():
    method = LoRA(rank=3)
    assert get_method(method) is method


def test_settings_survive_the_way_to_json_and_back():
    for method in [
        FullFineTuning(learning_rate=3e-4),
        LoRA(rank=3, alpha=5, dropout=0.2),
        LoRA(variant="dora", rslora=True),
        QLoRA(rank=3, format="fp4", block_size=128, double=False, backend="labkit"),
    ]:
        assert get_method(json.loads(json.dumps(method.to_dict()))) == method


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest():
    with pytest.raises(
        lk.LabkitError,
        match=r"'lorra'.*\n.*Did you mean 'lora'.*bottleneck, full, head, ia3, lora, prefix, prompt, qlora",
    ):
        get_method("lorra")


def test_every_method_refuses_an_impossible_rate():
    for name, rate in itertools.product(sorted(METHODS), [0, -1e-3, math.nan, math.inf]):
        with pytest.raises(lk.LabkitError, match=f"learning_rate .*not {rate}"):
            METHODS[name](learning_rate=rate)


def test_a_taken_name_cannot_be_registered_again(own_registry):
    class Other:
        name = "lora"

    with pytest.raises(lk.LabkitError, match="'lora' is registered already"):
        register(Other)
    assert get_method("lora") == LoRA()


def test_a_new_method_is_one_class(own_registry, tiny, colours):
    @register
    @dataclass(frozen=True)
    class NormsOnly(Method):
        name: ClassVar[str] = "norms"
        learning_rate: float = 1e-2

        def apply(self, model, *, inplace=False):
            tuned = model.copy(share_weights=False)
            for key, parameter in tuned.module.named_parameters():
                parameter.requires_grad_("norm" in key)
            return tuned

        def save(self, model, folder):
            raise NotImplementedError

        def load(self, base, folder):
            raise NotImplementedError

    run = lk.finetune(tiny, colours, "norms", steps=2, batch_size=4, progress=False)

    before = dict(tiny.module.named_parameters())
    changed = {key for key, p in run.model.module.named_parameters() if not torch.equal(p, before[key])}
    assert changed == {key for key in before if "norm" in key}
