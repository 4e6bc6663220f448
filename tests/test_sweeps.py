import json
from collections import defaultdict

import pytest

from labkit.assets.manifest import get_asset
from labkit.assets.tasks import TEMPLATES
from labkit.methods import get_method
from labkit.methods.targets import find_targets
from labkit.sweeps import SEEDS, SWEEPS, lora_targets

PARTS = {"model", "task", "method", "learning_rate", "steps", "batch_size", "seed", "train", "test"}
NAMES = pytest.mark.parametrize("name", SWEEPS)


def key(point):
    return json.dumps(point, sort_keys=True)


def complete(point):
    """The point with the method's defaults filled in, so that two ways to say the same are equal."""
    return {**point, "method": {**get_method(point["method"]).to_dict(), "learning_rate": 0}}


def targets():
    """The names of layers that are compared, once each."""
    return list(dict.fromkeys(point["method"]["target_modules"] for point in lora_targets()))


@NAMES
def test_the_points_of_a_sweep_differ(name):
    points = [key(complete(point)) for point in SWEEPS[name]()]
    assert len(set(points)) == len(points) > 1


@NAMES
def test_each_setting_has_three_seeds(name):
    seeds = defaultdict(list)
    for point in SWEEPS[name]():
        seeds[key({**complete(point), "seed": 0})].append(point["seed"])
    assert len(SEEDS) == 3
    assert all(found == list(SEEDS) for found in seeds.values())


@NAMES
def test_a_point_says_everything_and_names_what_there_is(name):
    for point in SWEEPS[name]():
        assert set(point) == PARTS
        assert get_asset(point["model"]).kind == "model"
        assert point["task"] in TEMPLATES


@NAMES
def test_a_sweep_is_made_anew_each_time(name):
    assert list(SWEEPS[name]()) == list(SWEEPS[name]())


def test_every_method_suits_the_real_encoder(minilm):
    points = [point for name in SWEEPS for point in SWEEPS[name]() if point["model"] == "minilm"]
    for method in {key(point["method"]): get_method(point["method"]) for point in points}.values():
        trained = sum(parameter.numel() for parameter in method.apply(minilm).trainable().values())
        if method.name == "full":
            assert trained == sum(parameter.numel() for parameter in minilm.parameters())
        else:  # A and B, of `rank` rows and columns
            layers = find_targets(minilm.module, method.target_modules).values()
            assert trained == method.rank * sum(sum(layer.weight.shape) for layer in layers) > 0


# Six blocks, of four layers in the attention and two in the MLP.
@pytest.mark.parametrize(("names", "count"), zip(targets(), [2 * 6, 4 * 6, 2 * 6, 6 * 6], strict=True))
def test_the_layers_to_adapt_exist_in_the_real_encoder(minilm, names, count):
    found = find_targets(minilm.module, names)
    assert len(found) == count
    for name in names:
        assert name in found or any(path.endswith(f".{name}") for path in found)


def test_attention_and_mlp_share_no_layer_and_are_all_of_the_blocks(minilm):
    pair, attention, mlp, both = (set(find_targets(minilm.module, names)) for names in targets())
    assert pair < attention
    assert not attention & mlp
    assert all(".attention." in path for path in attention)
    assert not any(".attention." in path for path in mlp)
    assert both == attention | mlp
    blocks = {path for path in find_targets(minilm.module, "all-linear") if path.startswith("encoder.layer.")}
    assert both == blocks
