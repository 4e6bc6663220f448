"""Suspect labels: confident learning (Northcutt et al., 2021, arXiv:1911.00068)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit.curation.words import WORD, words
from labkit.errors import LabkitError, require_count, require_seed
from labkit.extras import unusable


@dataclass(frozen=True)
class Suspects:
    """Labels that a classifier doubts.

    Attributes:
        rows: for each suspect row, the label that the classifier is confident of; the most doubtful row first.
        unjudged: rows without words, and rows whose label is missing or too rare to be judged.
        agreement: share of the judged labels that the classifier would give as well, 0 to 1. The rest are wrong labels
            and the classifier's own errors, which no data can tell apart: where it is low, look at suspects yourself.
    """

    rows: dict[int, str]
    unjudged: tuple[int, ...]
    agreement: float = 0.0


def thresholds(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return for each class how sure the classifier is of it, on average, where it is given: (classes,)."""
    return np.array([probabilities[given == j, j].mean() for j in range(probabilities.shape[1])])


def confident(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the class that the classifier is confident of in each row, or -1: (rows,)."""
    above = probabilities >= thresholds(given, probabilities) - 1e-6  # as cleanlab, for rounding
    return np.where(above.any(axis=1), np.where(above, probabilities, -1).argmax(axis=1), -1)


def confident_joint(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return how many rows have the given class i and are confidently of class j: (classes, classes)."""
    sure = confident(given, probabilities)
    joint = np.zeros((probabilities.shape[1],) * 2, dtype=int)
    np.add.at(joint, (given[sure >= 0], sure[sure >= 0]), 1)
    return joint


def rank(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the rows that are likeliest and confidently of another class, the least likely given label first."""
    sure = confident(given, probabilities)
    (rows,) = np.nonzero((sure >= 0) & (sure != given) & (probabilities.argmax(axis=1) != given))
    return rows[np.argsort(probabilities[rows, given[rows]], kind="stable")]


def out_of_fold(texts: Sequence[str], given: np.ndarray, groups: Sequence[int], folds: int, seed: int) -> np.ndarray:
    """Return the probability of each class for each text, from a classifier that has not seen it: (rows, classes).

    Two classifiers read the words, weighted by TF-IDF, and the one that agrees with more of the given labels counts.
    Complement naive Bayes (Rennie et al., 2003) is better where many words say a little, or examples are few; logistic
    regression, learned by stochastic gradient descent, where a single word decides. Both together take a hundredth of
    the time of one that is fitted to the last digit. Texts of one group, such as copies, are in one fold: otherwise a
    copy with the same wrong label would confirm it.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import SGDClassifier
        from sklearn.model_selection import StratifiedKFold
        from sklearn.naive_bayes import ComplementNB
    except ImportError as problem:
        raise unusable("scikit-learn", problem) from problem
    features = TfidfVectorizer(analyzer=words, sublinear_tf=True).fit_transform(texts)
    _, leaders, group = np.unique(groups, return_index=True, return_inverse=True)
    bayes, logistic = ComplementNB(), SGDClassifier(loss="log_loss", max_iter=5, tol=None, random_state=seed)
    made = np.zeros((2, len(texts), given.max() + 1))
    for _, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(leaders, given[leaders]):
        out = np.isin(group, held)
        for chances, model in zip(made, (bayes, logistic), strict=True):
            model.fit(features[~out], given[~out])
            chances[np.ix_(out, model.classes_)] = model.predict_proba(features[out])
    agreed = [(chances.argmax(axis=1) == given).sum() for chances in made]
    return made[int(agreed[1] > agreed[0])]


def find_suspects(
    texts: Sequence[str],
    labels: Sequence[str | None],
    *,
    groups: Sequence[int] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Suspects:
    """Find labels that are probably wrong: a classifier, trained without the row, is confident of another one.

    Args:
        texts: what is labelled.
        labels: their labels; None where one is missing.
        groups: a number for each text, the same for copies.
        folds: in how many parts the texts are split; a label with fewer groups of texts is not judged.
        seed: decides the split.

    Raises:
        LabkitError: there are not as many labels as texts, a number is out of range, or scikit-learn is missing.
    """
    folds, seed = require_count("folds", folds, low=2), require_seed(seed)
    groups = range(len(texts)) if groups is None else groups
    if not len(texts) == len(labels) == len(groups):
        raise LabkitError(
            f"There are {len(texts):,} texts and {len(labels):,} labels.", "Pass one label for each text."
        )
    leaders = {group: label for group, label in zip(reversed(groups), reversed(labels), strict=True)}
    counts = Counter(leaders.values())
    judged = [i for i, label in enumerate(labels) if label is not None and counts[label] >= folds]
    judged = [i for i in judged if WORD.search(texts[i])]
    judged = [i for i in judged if leaders[groups[i]] is not None and counts[leaders[groups[i]]] >= folds]
    names = sorted({labels[i] for i in judged} - {None}, key=str)
    apart = tuple(sorted(set(range(len(texts))) - set(judged)))
    if len(names) < 2:
        return Suspects({}, tuple(range(len(texts))))
    place = {name: number for number, name in enumerate(names)}
    given = np.array([place[labels[i]] for i in judged])
    chances = out_of_fold([texts[i] for i in judged], given, [groups[i] for i in judged], folds, seed)
    sure = confident(given, chances)
    found = {judged[i]: str(names[sure[i]]) for i in rank(given, chances).tolist()}
    return Suspects(found, apart, float((chances.argmax(axis=1) == given).mean()))
