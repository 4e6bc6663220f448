import random
from collections import Counter
from itertools import pairwise

from labkit.tasks.course import course_split


def pairs_of(text: str) -> set[tuple[str, str]]:
    words = text.lower().split()
    return set(pairwise(words))


def jaccard(a: str, b: str) -> float:
    return len(pairs_of(a) & pairs_of(b)) / len(pairs_of(a) | pairs_of(b))


def crowded_rows(seed: int, count: int = 300) -> list[dict]:
    """Short texts over few words, so that many are near copies of another."""
    dice = random.Random(seed)
    words = ["abnormal", "blood", "cell", "density", "enlarged", "figure", "growth", "heart"]
    return [
        {"text": " ".join(dice.choices(words, k=dice.randint(3, 7))), "label": dice.choice("xyz")} for _ in range(count)
    ]


def test_no_training_text_is_near_a_test_text():
    for seed in range(5):
        train, test = course_split(crowded_rows(seed), 300, 30, seed)
        assert len(test) == 30
        assert train
        assert max(jaccard(a["text"], b["text"]) for a in train for b in test) < 0.5


def test_no_usable_text_is_thrown_away():
    for seed in range(5):
        rows = crowded_rows(seed)
        train, test = course_split(rows, len(rows), 30, seed)
        kept = {id(row) for row in train + test}
        for row in rows:
            if id(row) not in kept:
                assert max(jaccard(row["text"], rival["text"]) for rival in test) >= 0.5


def test_copies_that_differ_in_case_numbers_or_marks_stay_on_one_side():
    variants = ["Loss of {} units in the {}.", "loss of {} UNITS in the {}", "Loss, of {} units - in the {}!"]
    organs = ["heart", "liver", "lung", "kidney", "spleen", "brain", "skin", "bone", "eye", "ear"]
    rows = [{"text": v.format(n, organ), "label": organ} for organ in organs for n, v in enumerate(variants)]
    train, test = course_split(rows, 30, 10, 0)
    assert train == []  # every other row is a variant of some test row
    assert len(test) == 10


def test_more_training_data_leaves_the_test_set_alone():
    rows = crowded_rows(0)
    few, many = course_split(rows, 5, 30, 3), course_split(rows, 200, 30, 3)
    assert few[1] == many[1]
    assert many[0][:5] == few[0]


def test_the_seed_decides():
    rows = crowded_rows(0)
    assert course_split(rows, 20, 20, 1) == course_split(rows, 20, 20, 1)
    assert course_split(rows, 20, 20, 1)[1] != course_split(rows, 20, 20, 2)[1]


def test_classes_take_turns():
    for test in [9, 10, 11]:
        rows = [{"text": f"{label}{n} {n}{label}", "label": label} for label in "xyz" for n in "abcdefghijklmnopqrst"]
        train, held = course_split(rows, 20, test, 0)
        for drawn in (train, held):
            counts = Counter(row["label"] for row in drawn).values()
            assert max(counts) - min(counts) <= 1


def test_a_small_class_keeps_two_thirds_for_training():
    rows = [{"text": f"rare{n}", "label": "rare"} for n in "abcdef"]
    rows += [{"text": f"often{a}{b}", "label": "often"} for a in "abcdefgh" for b in "abcdefgh"]
    train, test = course_split(rows, 100, 20, 0)
    assert Counter(row["label"] for row in test) == {"rare": 2, "often": 18}
    assert Counter(row["label"] for row in train)["rare"] == 4
