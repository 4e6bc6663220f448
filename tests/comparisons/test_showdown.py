import json

import pytest
import torch

import labkit as lk
from labkit.comparisons.showdown import BUDGETS, RATES, SEARCHED, SHOWDOWN
from labkit.comparisons.sweeps import SWEEPS
from labkit.methods import get_method
from labkit.methods.targets import find_targets
from labkit.models.meta import meta_model
from labkit.planning.adapt import adapt_model
from labkit.storage import cache

SEARCHES = {"minilm": "method-rates", "smollm2-135m": "method-rates-smollm2"}
CHOSEN = [(model, label) for model in RATES for label in RATES[model]]


def key(point):
    return json.dumps(point, sort_keys=True)


def test_every_method_is_compared_at_its_own_rate_and_on_the_same_budget():
    for model, task in BUDGETS:
        points = [point for point in SWEEPS["methods"]() if (point["model"], point["task"]) == (model, task)]
        compared = {key(point["method"]): point["learning_rate"] for point in points}
        assert compared == {key(SHOWDOWN[label]): rate for label, rate in RATES[model].items()}
        budgets = {key({**point, "method": 0, "learning_rate": 0, "seed": 0}) for point in points}
        assert budgets == {key({**BUDGETS[model, task], "method": 0, "learning_rate": 0, "seed": 0})}


def test_the_search_is_of_all_methods_that_are_compared():
    assert SEARCHED.keys() == SHOWDOWN.keys()
    searched = {key(point["method"]) for point in SWEEPS["method-rates"]()}
    assert searched == {key(method) for method in SHOWDOWN.values()}
    assert all(labels.keys() <= SHOWDOWN.keys() for labels in RATES.values())


@pytest.fixture(scope="module")
def searches():
    """Return a function that gives the mean accuracy of a method at each rate that was searched."""

    def read(model, label):
        if not (cache.course_data() / "results" / f"{SEARCHES[model]}.json").is_file():
            pytest.skip(f"The search on {model} is not stored.")
        table = lk.results(SEARCHES[model])
        return table[table["label"] == label].groupby("learning_rate")["accuracy"].mean()

    return read


def test_the_rate_of_a_method_is_the_best_of_its_search(searches):
    for model, label in CHOSEN:
        means = searches(model, label)
        assert means[RATES[model][label]] == means.max()


def test_the_best_rate_lies_between_others_that_were_searched(searches):
    for model, label in CHOSEN:
        rates = searches(model, label).index
        assert rates.min() < RATES[model][label] < rates.max()


def trained_by(method, module):
    """How many numbers a method trains, from the sizes of a model and the papers' formulas."""
    config = module.config
    width, blocks = config.hidden_size, config.num_hidden_layers
    keys = width // config.num_attention_heads * getattr(config, "num_key_value_heads", config.num_attention_heads)
    if method.name == "full":
        return sum(parameter.numel() for parameter in module.parameters())
    if method.name in ("lora", "qlora"):  # A and B, of `rank` rows and columns, and DoRA's length of each row
        sizes = [layer.weight.shape for layer in find_targets(module, method.target_modules).values()]
        return sum(method.rank * (rows + columns) + (method.variant == "dora") * rows for rows, columns in sizes)
    if method.name == "bottleneck":
        each = 2 * method.size * width + method.size + width
        return blocks * each * {"houlsby": 2, "pfeiffer": 1}[method.placement]
    return {
        "ia3": blocks * (2 * keys + config.intermediate_size),
        "prefix": 16 * blocks * 2 * keys,
        "prompt": 16 * width,
        "head": 0,  # which comes with the task
    }[method.name]


def trained(model):
    return sum(parameter.numel() for parameter in model.trainable().values())


def test_every_method_suits_the_real_encoder(minilm):
    points = [point for name in SWEEPS for point in SWEEPS[name]() if point["model"] == "minilm"]
    for method in {key(point["method"]): get_method(point["method"]) for point in points}.values():
        assert trained(method.apply(minilm)) == trained_by(method, minilm.module)


def test_every_method_but_the_head_suits_the_real_causal_model(smollm):
    for label in [label for label in SHOWDOWN if label != "head"]:
        method = get_method(SHOWDOWN[label])
        blank = meta_model(smollm.module.config, torch.bfloat16)
        assert trained(adapt_model(blank, method)) == trained_by(method, smollm.module)


def test_a_causal_model_has_no_head_to_compare():
    assert "head" not in RATES["smollm2-135m"]
    assert not any(
        point["method"] == SHOWDOWN["head"]
        for name in SWEEPS
        for point in SWEEPS[name]()
        if point["model"] == "smollm2-135m"
    )
