import json
from collections import defaultdict
from dataclasses import asdict

import pytest

import labkit as lk
from labkit.assets.manifest import get_asset
from labkit.comparisons.bench import bench
from labkit.comparisons.data_quality import GRID, RATE
from labkit.comparisons.point import Point
from labkit.comparisons.settings import SEEDS
from labkit.comparisons.sweeps import BEST_OF_RANK, RANK_RATES, RANKS, SWEEPS, lora_targets, points
from labkit.methods import get_method
from labkit.methods.targets import find_targets
from labkit.tasks.course import TEMPLATES

PARTS = {"model", "task", "method", "learning_rate", "steps", "batch_size", "seed", "train", "test"}
SEARCHES = {"lora-rank-rates", "method-rates", "method-rates-smollm2", "data-quality-rates"}
SEARCHES |= {"instruction-rates", "preference-rates"}


def key(point):
    return json.dumps(point, sort_keys=True)


def complete(point):
    """The point with the method's defaults filled in, so that two ways to say the same are equal."""
    return {**point, "method": {**get_method(point["method"]).to_dict(), "learning_rate": 0}}


def targets():
    """The names of layers that are compared, once each."""
    return list(dict.fromkeys(point["method"]["target_modules"] for point in lora_targets()))


@pytest.mark.parametrize("name", SWEEPS)
def test_points_equal_their_json_round_trip(name):
    for point in points(name):
        assert Point(**json.loads(json.dumps(asdict(point)))) == point


@pytest.mark.parametrize("name", SWEEPS)
def test_points_say_what_the_sweep_says(name):
    for point, said in zip(points(name), SWEEPS[name](), strict=True):
        assert {**asdict(point), "method": 0} == {"held_out": 0, "data": {}, **said, "method": 0}
        for key, value in said["method"].items():
            assert point.method[key] == (list(value) if isinstance(value, tuple) else value)


def test_an_unknown_sweep_is_answered_with_those_there_are():
    for reader in (points, bench):
        with pytest.raises(lk.LabkitError) as caught:
            list(reader("lora-rat"))
        assert caught.value.cause == "There is no sweep called 'lora-rat'."
        assert "Did you mean 'lora-rate'?" in caught.value.remedy
        assert all(name in caught.value.remedy for name in SWEEPS)


def test_the_points_of_a_sweep_differ():
    for name in SWEEPS:
        points = [key(complete(point)) for point in SWEEPS[name]()]
        assert len(set(points)) == len(points) > 1


def seeds_of(name, model):
    """How many seeds a setting has: fewer where a rate is only looked for, more where small differences matter."""
    fewer = {"lora-rank-rates": 2, "method-rates": 2, "method-rates-smollm2": 1, "data-quality-rates": 2}
    fewer |= {"instruction-rates": 1, "preference-rates": 1, "exports": 1, "rounding": 1}
    return fewer.get(name, 5 if model == "minilm" or name in {"qlora", "instructions", "data-quality-smollm2"} else 3)


def test_each_setting_has_its_seeds():
    for name in SWEEPS:
        seeds = defaultdict(list)
        for point in SWEEPS[name]():
            seeds[point["model"], key({**complete(point), "seed": 0})].append(point["seed"])
        assert SEEDS == (0, 1, 2, 3, 4)
        assert all(found == list(range(seeds_of(name, model))) for (model, _), found in seeds.items())


def test_a_point_says_everything_and_names_what_there_is():
    for name in SWEEPS:
        for point in SWEEPS[name]():
            assert PARTS <= set(point) <= PARTS | {"held_out", "data"}
            assert get_asset(point["model"]).kind == "model"
            assert point["task"] in {*TEMPLATES, "instructions", "preferences", "hospital and law"}


def test_a_sweep_is_made_anew_each_time():
    for name in SWEEPS:
        assert list(SWEEPS[name]()) == list(SWEEPS[name]())


def test_the_rate_of_each_rank_is_the_best_of_its_search_and_lies_between_others():
    table = lk.results("lora-rank-rates")
    means = table.groupby(["method.rslora", "method.rank", "learning_rate"])["accuracy"].mean()
    for rslora, rates in BEST_OF_RANK.items():
        for rank, rate in zip(RANKS, rates, strict=True):
            assert means[rslora, rank].idxmax() == rate
            assert RANK_RATES[0] < rate < RANK_RATES[-1]


def test_the_rate_of_the_comparison_of_data_is_the_best_of_its_search_and_lies_between_others():
    means = lk.results("data-quality-rates").groupby("learning_rate")["correct"].sum()
    assert means.idxmax() == RATE  # of equals, the lowest
    assert GRID[0] < RATE < GRID[-1]


def test_the_test_set_is_kept_from_searches_and_used_by_all_else():
    for name in SWEEPS:
        for point in SWEEPS[name]():
            held_out = point.get("held_out", 0)
            assert (held_out > 0) == (name in SEARCHES)
            assert held_out <= point["train"] / 3


# Six blocks, of four layers in the attention and two in the MLP.
def test_the_layers_to_adapt_exist_in_the_real_encoder(minilm):
    for names, count in zip(targets(), [2 * 6, 4 * 6, 2 * 6, 6 * 6], strict=True):
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
