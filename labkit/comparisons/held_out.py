"""Training examples held out as a test set, so that a search for settings never sees the real one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from labkit.tasks.task import Task


def hold_out(task: Task, count: int) -> Task:
    """Return the task with ``count`` of its training examples as its test set, the last ones of each class.

    Each class gives the same share of its examples, and each kind does where the task has a column ``kind``. The rest
    is the training set. Both keep their old order.
    """
    answers = task.train["kind" if "kind" in task.train.column_names else "completion"][:]
    total = Counter(answers)
    seen: Counter[str] = Counter()
    places = []
    for i, answer in enumerate(answers):
        seen[answer] += 1
        places.append((seen[answer] / total[answer], i))
    order = [i for _, i in sorted(places)]
    learned, tested = sorted(order[:-count]), sorted(order[-count:])
    return replace(task, train=task.train.select(learned), test=task.train.select(tested))
