"""Several adapters made one, as PEFT's add_weighted_adapter makes them."""

import copy

import peft
import pytest
import torch
from tiny import STRONG, tiny_model

import labkit as lk
from labkit.methods import LoRA
from labkit.methods.adapter import adapters_of

PEFTS = {"linear": "linear", "cat": "cat", "ties": "ties", "dare": "dare_linear", "dare_ties": "dare_ties"}


@pytest.fixture
def base(one_thread):
    return tiny_model("llama", None, "tiny", **STRONG)


def tuned(base, seed, **settings):
    model = LoRA(**settings).apply(base)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.trainable().values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@torch.no_grad()
def logits(module, ids):
    return module(input_ids=ids).logits


def saved(models, tmp_path, settings):
    for name, model in models.items():
        (tmp_path / name).mkdir()
        LoRA(**settings[name]).save(model, tmp_path / name)
    return {name: str(tmp_path / name) for name in models}


@pytest.mark.parametrize("how", PEFTS)
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.3, 0.9], [1.0, -0.5]], ids=str)
def test_factors_and_logits_are_those_of_peft(how, weights, base, ids, tmp_path):
    settings = {
        "hospital": {"rank": 4, "alpha": 8},
        "law": {"rank": 4, "alpha": 6, "target_modules": ["q_proj", "up_proj"]},
    }
    settings["hospital"]["target_modules"] = ["q_proj", "down_proj", "up_proj"]
    models = {name: tuned(base, seed, **each) for seed, (name, each) in enumerate(settings.items())}
    folders = saved(models, tmp_path, settings)
    twin = peft.PeftModel.from_pretrained(copy.deepcopy(base.module), folders["hospital"], "hospital").eval()
    twin.load_adapter(folders["law"], "law")
    density = None if how in ("linear", "cat") else 0.6
    with torch.random.fork_rng():
        # PEFT draws the new adapter's first values from the same numbers, before those that say what is dropped.
        ours = peft.tuners.lora.LoraModel.inject_adapter
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                peft.tuners.lora.LoraModel,
                "inject_adapter",
                lambda *given, **named: (ours(*given, **named), torch.manual_seed(7))[0],
            )
            twin.add_weighted_adapter(["hospital", "law"], weights, "both", PEFTS[how], density=density)
    twin.set_adapter("both")
    for source, given in ((models, {}), (folders, {"base": base})):
        made = lk.combine(source, weights, how=how, density=density, seed=7, **given)
        for path, layer in adapters_of(made).items():
            theirs = twin.base_model.model.get_submodule(path)
            assert theirs.scaling["both"] == layer.scale == 1
            rank = len(layer.lora_A)
            A, B = theirs.lora_A["both"].weight, theirs.lora_B["both"].weight
            torch.testing.assert_close(layer.lora_A, A[:rank], atol=1e-6, rtol=0)
            torch.testing.assert_close(layer.lora_B, B[:, :rank], atol=1e-6, rtol=0)
            assert not A[rank:].any()
        torch.testing.assert_close(logits(made.module, ids), logits(twin, ids), atol=1e-5, rtol=0)
    assert (logits(made.module, ids) - logits(base.module, ids)).abs().max() > 1e-2


def test_cat_is_the_weighted_sum_of_the_updates_and_linear_is_not(base):
    models = {
        "a": tuned(base, 0, rank=3),
        "b": tuned(base, 1, rank=3, rslora=True),
        "c": tuned(base, 2, variant="pissa"),
    }
    weights = [0.5, -1.0, 2.0]
    layers = [adapters_of(model) for model in models.values()]
    for path, layer in adapters_of(lk.combine(models, weights, how="cat")).items():
        expected = sum(weight * each[path].delta() for weight, each in zip(weights, layers, strict=True))
        torch.testing.assert_close(layer.delta(), expected, atol=1e-5, rtol=1e-4)
    pair = {name: models[name] for name in "ab"}
    path, layer = next(iter(adapters_of(lk.combine(pair, [1, 1])).items()))
    assert (layer.delta() - layers[0][path].delta() - layers[1][path].delta()).abs().max() > 0.01
    (alone,) = {len(each.lora_A) for each in adapters_of(lk.combine({"a": models["a"]}, [1])).values()}
    assert alone == 3


def test_ties_keeps_the_largest_and_averages_what_agrees():
    from labkit.methods.combinations import ties

    stack = torch.tensor([[[4.0, -3.0, 0.1, 2.0]], [[2.0, 5.0, 0.2, -0.3]]])
    result = ties(stack, torch.tensor([1.0, 10.0])[:, None, None], 0.5, torch.Generator())
    # Trimmed to 4, -3 and 2, 5; signs + and +; 4 and 20 agree in the first place, 50 alone in the second.
    assert result.tolist() == [[12.0, 50.0, 0.0, 0.0]]


def test_dare_keeps_the_expected_value_and_its_seed_decides(base):
    from labkit.methods.combinations import dare

    stack, weights = torch.ones(2, 300, 100), torch.tensor([1.0, 0.5])[:, None, None]
    result = dare(stack, weights, 0.2, torch.Generator().manual_seed(0))
    assert result.mean().item() == pytest.approx(1.5, rel=0.03)
    assert (result == 0).float().mean().item() == pytest.approx(0.8**2, abs=0.02)
    models = {"a": tuned(base, 0), "b": tuned(base, 1)}
    state = torch.get_rng_state()
    made = [lk.combine(models, [1, 1], how="dare", seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (next(iter(adapters_of(model).values())).lora_A for model in made)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_result_is_a_tuned_model_over_the_same_weights(base, ids, tmp_path):
    settings = {"rank": 2, "alpha": 2, "target_modules": ["q_proj", "up_proj"]}
    models = {"a": tuned(base, 0, **settings), "b": tuned(base, 1, **settings)}
    before = {name: p.clone() for name, p in models["a"].trainable().items()}
    made = lk.combine(models, [0.5, 0.5], how="ties")
    assert {p.data_ptr() for p in base.parameters()} <= {p.data_ptr() for p in made.parameters()}
    assert {*made.trainable()} == {*models["a"].trainable()}
    assert all(torch.equal(p, before[name]) for name, p in models["a"].trainable().items())
    torch.testing.assert_close(logits(lk.merge(made).module, ids), logits(made.module, ids), atol=1e-5, rtol=0)
    LoRA(**settings).save(made, tmp_path)
    twin = peft.PeftModel.from_pretrained(copy.deepcopy(base.module), tmp_path).eval()
    torch.testing.assert_close(logits(twin, ids), logits(made.module, ids), atol=1e-5, rtol=0)
    with lk.disable_adapter(made):
        assert torch.equal(logits(made.module, ids), logits(base.module, ids))


def test_what_cannot_be_combined_is_refused(base, tiny_encoder):
    models = {"a": tuned(base, 0), "b": tuned(base, 1)}
    other = tiny_model("llama", None, "other", **STRONG)
    other.module.model.norm.weight.data[0] = 2
    for given, weights, settings, message in (
        (models, [1, 1], {"how": "tise"}, r"no way to combine adapters called 'tise'.*\n.*'ties'.*cat, dare"),
        (models, [1, 1], {"how": ["ties"]}, "no way to combine adapters"),
        (models, [1], {}, "A weight is needed for each of a, b"),
        (models, {"a": 1, "b": 1}, {}, "A weight is needed for each of a, b"),
        (models, [1, "x"], {}, "a weight must be a finite number"),
        (models, [1, float("nan")], {}, "a weight must be a finite number"),
        (models, [1, 1], {"density": 0.5}, "'linear' drops nothing"),
        (models, [1, 1], {"how": "ties", "density": 0}, "density must be above 0"),
        (models, [1, 1], {"how": "ties", "density": 1.5}, "density is a share"),
        ({}, [], {}, "Adapters are needed by name"),
        ({"a": "folder"}, [1], {}, "Folders hold no base"),
        ({"a": base}, [1], {}, "has no adapter"),
        ({"a": models["a"], "b": tuned(base, 1, rank=2)}, [1, 1], {"how": "ties"}, "needs equal ranks.*: a 8, b 2"),
        ({"a": models["a"], "b": tuned(other, 1)}, [1, 1], {}, "trained on other .*base here is tiny"),
        ({"a": models["a"], "b": lk.IA3().apply(base)}, [1, 1], {}, "'b' is no plain LoRA"),
        ({"a": models["a"], "b": LoRA(variant="dora").apply(base)}, [1, 1], {}, "'b' is no plain LoRA"),
        ({"a": LoRA().apply(tiny_encoder)}, [1], {}, "has a classifier for each task"),
        (models, [1, 1], {"base": models["a"]}, "has an adapter already"),
        (models, [1, 1], {"base": "tiny"}, "The base is 'tiny'"),
        (models, [1e300, 1], {}, r"weights \[1e\+300, 1\] are too large"),
    ):
        with pytest.raises(lk.LabkitError, match=message):
            lk.combine(given, weights, **settings)
