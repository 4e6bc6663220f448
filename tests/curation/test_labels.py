import random

import numpy as np
import pytest
from cleanlab import count
from cleanlab import filter as filters

from labkit.curation.contamination import find_leaks
from labkit.curation.labels import confident_joint, find_suspects, rank, thresholds
from labkit.errors import LabkitError


def made_up(rows, classes, seed=0):
    rng = np.random.default_rng(seed)
    given = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])
    chances = rng.dirichlet(np.full(classes, 0.4), rows)
    chances[np.arange(rows), given] += rng.random(rows)
    return given, chances / chances.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 5])
def test_confident_learning_agrees_with_cleanlab(classes):
    given, chances = made_up(500, classes)
    assert thresholds(given, chances) == pytest.approx(count.get_confident_thresholds(given, chances))
    assert (confident_joint(given, chances) == count.compute_confident_joint(given, chances, calibrate=False)).all()
    theirs = filters.find_label_issues(given, chances, filter_by="confident_learning", n_jobs=1)
    ours = np.isin(np.arange(500), rank(given, chances))
    assert ours.sum() > 20
    assert (theirs == ours).all()
    assert (np.diff(chances[rank(given, chances), given[rank(given, chances)]]) >= 0).all()


def planted(rows=600, flipped=30):
    dice = random.Random(0)
    themes = {"animal": "cat dog horse cow sheep goat duck hen", "tool": "saw hammer drill file axe spade rake hoe"}
    themes["food"] = "bread rice soup cheese apple pear plum bean"
    common = "the a of and my your big small old new red blue here there now then"
    labels = [dice.choice([*themes]) for _ in range(rows)]
    texts = [" ".join(dice.choices(themes[label].split(), k=3) + dice.choices(common.split(), k=8)) for label in labels]
    wrong = dice.sample(range(rows), flipped)
    for i in wrong:
        labels[i] = dice.choice([name for name in themes if name != labels[i]])
    return texts, labels, set(wrong)


def test_flipped_labels_are_found():
    texts, labels, wrong = planted()
    found = find_suspects(texts, labels)
    hits = len(wrong & found.rows.keys())
    assert hits / len(wrong) >= 0.8
    assert hits / len(found.rows) >= 0.9
    assert found == find_suspects(texts, labels)
    assert all(label != labels[i] for i, label in found.rows.items())


def test_a_label_that_one_word_of_many_decides_is_found():
    dice = random.Random(0)
    words = [f"w{i}" for i in range(20_000)]
    right = [dice.choice("abcd") for _ in range(1500)]
    texts = [" ".join([*dice.choices(words, k=30), f"office {label * 3}"]) for label in right]
    wrong = set(dice.sample(range(1500), 100))
    labels = [dice.choice("abcd".replace(label, "")) if i in wrong else label for i, label in enumerate(right)]
    found = find_suspects(texts, labels)
    hits = len(wrong & found.rows.keys())
    assert hits / len(found.rows) >= 0.9
    assert hits / len(wrong) >= 0.7
    assert found.agreement == pytest.approx(1400 / 1500, abs=0.02)
    assert all(found.rows[i] == right[i] for i in wrong & found.rows.keys())


def test_a_copy_does_not_confirm_a_wrong_label():
    texts, labels, wrong = planted(300, 5)
    groups = list(range(300)) + sorted(wrong) * 3
    texts += [texts[i] for i in sorted(wrong)] * 3
    labels += [labels[i] for i in sorted(wrong)] * 3
    together, alone = (len(wrong & find_suspects(texts, labels, groups=g).rows.keys()) for g in (groups, None))
    assert together >= 4
    assert alone < together


def test_labels_that_cannot_be_judged_are_named():
    texts, labels, _ = planted(60, 0)
    found = find_suspects([*texts, "a", "b", " "], [*labels, "rare", None, "tool"])
    assert found.unjudged == (60, 61, 62)
    assert find_suspects(["a", "b", "c"], ["x", "y", "x"]).unjudged == (0, 1, 2)
    assert find_suspects(texts, ["same"] * 60).rows == {}
    assert find_suspects([], []).unjudged == ()
    with pytest.raises(LabkitError, match="1 texts and 2 labels"):
        find_suspects(["a"], ["x", "y"])
    with pytest.raises(LabkitError, match="folds must be"):
        find_suspects(texts, labels, folds=1)


def test_planted_leaks_are_found_and_nothing_else():
    dice = random.Random(0)
    words = [f"w{i}" for i in range(2000)]
    train = [" ".join(dice.choices(words, k=40)) for _ in range(300)]
    test = [" ".join(dice.choices(words, k=40)) for _ in range(50)]
    train[10] = f" {test[0].upper()} "
    train[20] = " ".join([*test[1].split()[:38], "new", "end"])
    train[30] = " ".join([train[30], test[2], train[31]])
    train[40] = " ".join(test[3].split()[:20] + train[40].split()[:20])  # half of it is no leak
    found = [(leak.test, leak.train, leak.kind) for leak in find_leaks(train, test)]
    assert found == [(0, 10, "exact"), (1, 20, "near"), (2, 30, "contained")]
    assert find_leaks([], test) == find_leaks(train, []) == find_leaks(["", "yes"], ["", "no"]) == []
    assert [leak.kind for leak in find_leaks(["Yes!", "yes"], ["YES"])] == ["exact"]
    with pytest.raises(LabkitError, match="limit must be"):
        find_leaks(["a"], ["a"], limit=2)
