from dataclasses import asdict

from labkit.training.config import TrainingConfig
from labkit.training.identity import differences

SETTINGS = asdict(TrainingConfig())
OURS = {
    "model": {"name": "a", "fingerprint": "1f"},
    "method": {"name": "lora", "rank": 4, "learning_rate": 1e-3},
    "settings": SETTINGS,
    "data": "9c",
}


def test_only_what_changes_the_numbers_of_a_run_makes_it_another():
    assert differences(OURS, OURS) == []
    renamed = OURS | {"model": {"name": "b", "fingerprint": "1f"}, "settings": SETTINGS | {"max_length": 300}}
    assert differences(renamed, OURS) == []
    other = OURS | {"data": "77", "method": {"name": "lora", "rank": 8, "learning_rate": 1e-3}}
    assert differences(other, OURS) == ["method: rank 8 there and 4 here", "data: 77 there, 9c here"]


def test_settings_that_an_older_labkit_did_not_have_are_the_defaults():
    older = OURS | {"settings": {name: value for name, value in SETTINGS.items() if name != "optimizer"}}
    assert differences(older, OURS) == []
    (line,) = differences(older, OURS | {"settings": SETTINGS | {"optimizer": "paged_adamw"}})
    assert line == "settings: optimizer adamw there and paged_adamw here"
