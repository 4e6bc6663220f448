"""The course's own tasks: classes drawn evenly, and no training text that is a near copy of a test text."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache as memoize

from labkit.assets.fetch import ensure
from labkit.assets.manifest import get_asset
from labkit.tasks.licenses import license_rows
from labkit.tasks.likeness import shingles, similarity
from labkit.tasks.triage import triage_rows

TEMPLATES = {"triage": "Finding: {text}\nDepartment:", "licenses": "License: {text}\nCategory:"}
LIMIT = 0.5  # texts whose word pairs are this similar, or more, are near copies
_ASSET = {"triage": "hpo", "licenses": "licenses", "instructions": "hpo", "preferences": "hpo"}
COURSE = (*_ASSET, "tone")
OWN_LICENCE = "Apache-2.0"  # of what was written for the course, in data/


def source_of(name: str) -> str:
    """Return whom to cite for a task of the course."""
    if name == "tone":
        return "hand-written for this course: data/preferences.md"
    return get_asset(_ASSET[name]).source


def licence_of(name: str) -> str:
    """Return the licence of the data of a task of the course."""
    if name == "tone":
        return OWN_LICENCE
    licence = get_asset(_ASSET[name]).licence
    return f"{licence}; the questions to be refused: {OWN_LICENCE}" if name == "instructions" else licence


@memoize
def course_rows(name: str) -> list[dict]:
    """Return all examples of a task of the course, with ``id``, ``text``, ``label``, ``prompt`` and ``completion``."""
    asset = get_asset(_ASSET[name])
    folder = ensure(asset.name)
    if name == "triage":
        rows = triage_rows(folder / "hp.obo")
    else:
        rows = license_rows(folder / asset.wheel, asset.members[0])
    template = TEMPLATES[name]
    return [{**row, "prompt": template.format(**row), "completion": f" {row['label']}"} for row in rows]


def course_split(rows: list[dict], train: int, test: int, seed: int, within: str = "") -> tuple[list[dict], list[dict]]:
    """Draw a balanced test set, then a balanced training set that shares nothing with it.

    Classes take turns until the set is full or all are empty. A row may enter the training set only if
    its similarity to every test row is below one half. The test set depends on ``seed`` and ``test``
    alone: more training data never changes what is tested. Within a class, the values of the key ``within`` take turns,
    too, if one is given.
    """
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    if within:
        order = _alternating(rows, order, within)
    chosen = _take_turns(rows, order, test, share=1 / 3)  # leave most of a small class to train on
    test_rows = [rows[i] for i in chosen]
    # A row may have several texts, a name and a definition say: each is compared with all of the test rows.
    is_new = unlike([text for row in test_rows for text in row.get("texts", (row["text"],))])

    def is_clean(index: int) -> bool:
        return all(map(is_new, rows[index].get("texts", (rows[index]["text"],))))

    taken = set(chosen)
    rest = [i for i in order if i not in taken]
    if within:  # those that are left, or the values with many near copies would miss their turns
        rest = _alternating(rows, [i for i in rest if is_clean(i)], within)
    return [rows[i] for i in _take_turns(rows, rest, train, is_clean)], test_rows


def unlike(texts: list[str]) -> Callable[[str], bool]:
    """Return a function that says whether a text is a near copy of none of ``texts``."""
    # Only texts that share a shingle can be similar: an index of shingles finds those few.
    sets = [shingles(text) for text in texts]
    holders = defaultdict(list)
    for number, items in enumerate(sets):
        for item in items:
            holders[item].append(number)

    def is_new(text: str) -> bool:
        mine = shingles(text)
        rivals = {number for item in mine for number in holders.get(item, ())}
        return all(similarity(mine, sets[number]) < LIMIT for number in rivals)

    return is_new


def _alternating(rows: list[dict], order: list[int], within: str) -> list[int]:
    """Return an order in which each value of a key has its first row before any has its second, in each class."""
    seen: Counter[tuple] = Counter()
    rounds = {}
    for i in order:
        group = (rows[i]["label"], rows[i].get(within))
        rounds[i] = seen[group]
        seen[group] += 1
    return sorted(order, key=rounds.__getitem__)  # a stable sort: within a round, the order stays


def _take_turns(
    rows: list[dict],
    order: list[int],
    count: int,
    accept: Callable[[int], bool] = lambda index: True,
    share: float = 1.0,
) -> list[int]:
    queues = defaultdict(list)
    for index in reversed(order):  # reversed, so that pop() takes them in order
        queues[rows[index]["label"]].append(index)
    names = sorted(queues)
    floor = {name: len(queue) * (1 - share) for name, queue in queues.items()}
    taken: list[int] = []
    while names and len(taken) < count:
        for name in list(names):
            while queues[name] and not accept(queues[name][-1]):
                queues[name].pop()
            if len(queues[name]) <= floor[name]:
                names.remove(name)
            elif len(taken) < count:
                taken.append(queues[name].pop())
    return taken
