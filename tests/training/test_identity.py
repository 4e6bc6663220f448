import hashlib
from dataclasses import asdict

from labkit.training.batching import Example
from labkit.training.config import TrainingConfig
from labkit.training.identity import differences, digest_of

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


def test_packed_rows_depend_on_the_longest_text_too():
    def packed(max_length):
        return OURS | {"settings": SETTINGS | {"packing": True, "max_length": max_length}}

    assert differences(packed(300), packed(300)) == []
    assert differences(packed(300), packed(400)) == ["settings: max_length 300 there and 400 here"]
    assert differences(OURS, packed(SETTINGS["max_length"])) == ["settings: packing False there and True here"]
    older = {name: value for name, value in SETTINGS.items() if name not in ("packing", "learn")}
    assert differences(OURS | {"settings": older}, OURS) == []


def test_a_mask_changes_the_digest_and_its_absence_does_not():
    plain, masked = Example([5, 6, 7], 1), Example([5, 6, 7], 1, mask=(False, True, False))
    assert digest_of([plain]) == hashlib.sha256(b"[[[5, 6, 7], 1, -1]]").hexdigest()[:16]
    assert len({digest_of([each]) for each in (plain, masked, Example([5, 6, 7], 1, mask=(False, False, True)))}) == 3
