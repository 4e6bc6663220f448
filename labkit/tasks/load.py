"""Load a task: one of the course's, or one made from a learner's data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from datasets import Dataset

from labkit.errors import LabkitError, require_count, require_seed, unknown
from labkit.process import without_collector
from labkit.tasks import gym
from labkit.tasks.course import COURSE, course_rows, course_split, source_of
from labkit.tasks.instructions import instruction_split
from labkit.tasks.notes import notes_on
from labkit.tasks.own import Own, read_own
from labkit.tasks.pair_sets import pairs_dataset
from labkit.tasks.preferences import CONSTRUCTED, preference_split
from labkit.tasks.row import Row
from labkit.tasks.split import Split, split_own, take_given
from labkit.tasks.task import DataWarning, Task
from labkit.tasks.tone import tone_split

COLUMNS = ("prompt", "completion")
# By default.
SIZES = {
    "triage": (1000, 300),
    "licenses": (1000, 300),
    "instructions": (400, 160),
    "preferences": (400, 200),
    "tone": (112, 56),
}

PAIRS = {"preferences": preference_split, "tone": tone_split}
NOTES = {
    "preferences": CONSTRUCTED,
    "tone": "hand-written by an AI assistant for this course, and checked by no second person",
}
NEAR_DUPLICATES = ("report", "drop")


def load_task(
    data: object,
    *,
    test_data: object = None,
    columns: Mapping[str, str] | None = None,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    balanced: bool = False,
    near_duplicates: str = "report",
    merge_labels: bool = False,
    skip_bad: bool = False,
) -> Task:
    """Build a task, the same for the same arguments on every computer.

    The course's tasks draw their classes evenly, and no training text is a near copy of a test text.
    Your own data are split at random, each label in proportion; only copies of test examples are left
    out, and near copies are reported. An existing split is used as it is: ``test_data``, a ``DatasetDict``
    with ``train`` and ``test`` (or ``validation``), a folder with files of these names, or a column ``split``.

    Args:
        data: ``"triage"``, ``"licenses"``, ``"instructions"`` (conversations), ``"preferences"`` or ``"tone"`` (pairs
            of a chosen and a rejected reply); ``"reasoning-gym:chain_sum"`` or another task of Reasoning Gym (of which
            ``labkit.tasks.gym.gym_task`` also sets how hard it is); a file (``.jsonl``, ``.json``, ``.csv``, ``.tsv``,
            ``.parquet``); a folder of text files, in subfolders named by their labels, or texts to continue; a
            ``pandas.DataFrame``, a ``datasets.Dataset`` or ``DatasetDict``, a list of dicts; or a name on the hub, such
            as ``"owner/name"``.
        test_data: the test set, as any of these, if it is separate.
        columns: which columns are prompt and completion, such as ``{"prompt": "question", "completion": "answer"}``,
            or templates with columns in braces: ``{"prompt": "Ticket: {text}\\nTeam:", …}``. Not needed for columns
            known by name: prompt and completion, text and label, question and answer, instruction (and input) and
            output, and messages: the last reply is learned, in a causal model's chat template. Prompt, chosen and
            rejected make pairs, in TRL's forms: texts or lists of messages, with a prompt or with replies that both
            begin with it.
        train, test: how many examples of each, at most. By default 1,000 and 300 of a course task
            (400 and 160 conversations, 400 and 200 pairs, 112 and 56 of tone) and 400 and 100 of Reasoning Gym; of your
            own data three in ten go to the test set, at most 300, and all others are trained on; a given split is used
            whole.
        seed: decides which examples are drawn.
        balanced: draw each label equally often, while there are examples of it.
        near_duplicates: ``"report"`` keeps training examples that are near copies of test examples and says how many,
            ``"drop"`` leaves them out.
        merge_labels: write labels that differ by case, white space or invisible characters as the most frequent one.
        skip_bad: leave out rows that can't be used, and say which, instead of refusing the data.

    Raises:
        LabkitError: unknown task, missing columns, examples that can't be used (up to twenty are named by
            line), too few examples, counts below 1, or an option that has no use.

    Warns:
        DataWarning: there is less data than was asked for, or something in it that may mislead.
    """
    remedy = "Ask for at least 1."
    train = train if train is None else require_count("train", train, remedy=remedy)
    test = test if test is None else require_count("test", test, remedy=remedy)
    seed = require_seed(seed)
    if near_duplicates not in NEAR_DUPLICATES:
        raise unknown("value of near_duplicates", near_duplicates, NEAR_DUPLICATES)
    is_gym = isinstance(data, str) and data.startswith(gym.PREFIX)
    if isinstance(data, str) and (data in COURSE or is_gym):
        if test_data is not None or columns is not None:
            whose = "Reasoning Gym" if is_gym else "the course"
            raise LabkitError(
                f"{data} is a task of {whose}, with a test set and columns of its own.",
                "Leave test_data and columns out.",
            )
        counts = SIZES.get(data, gym.SIZES)
        sizes = counts[0] if train is None else train, counts[1] if test is None else test
        return gym.gym_task(data.removeprefix(gym.PREFIX), *sizes, seed) if is_gym else _course_task(data, *sizes, seed)
    with without_collector():
        own = read_own(data, test_data, columns=columns, merge_labels=merge_labels, skip_bad=skip_bad)
        split = _split(own, train, test, seed, balanced=balanced, drop=near_duplicates == "drop")
        notes = own.notes + notes_on(split, own, train, test)
    rows = own.train + (own.test or [])
    if not split.train or not split.test:
        raise LabkitError(
            f"The usable examples of {own.name} ({len(rows):,}) are too few, or too much alike, to fill a training and "
            "a test set.",
            "Bring more examples that differ.",
        )
    if notes:
        text = "\n  ".join(["what became of it:", *notes])
        warnings.warn_explicit(text, DataWarning, filename=own.name, lineno=1)  # each time, and without a path
    labels = tuple(sorted({row.completion for row in rows})) if own.has_labels else ()
    left_out = {reason: count for reason, count in (own.left_out | split.left_out).items() if count}
    return Task(own.name, _dataset(split.train), _dataset(split.test), labels, own.name, tuple(notes), left_out)


def _split(own: Own, train: int | None, test: int | None, seed: int, *, balanced: bool, drop: bool) -> Split:
    if own.test is not None:
        if balanced:
            raise LabkitError("balanced=True draws a split, and one was given.", "Leave balanced out.")
        return take_given(own.train, own.test, train, test, seed, drop=drop)
    if balanced and not own.has_labels:
        raise LabkitError(
            f"balanced=True is for labels, and the completions of {own.name} are free text.", "Leave balanced out."
        )
    kind = {"has_labels": own.has_labels, "has_pairs": own.has_pairs}
    return split_own(own.train, train, test, seed, **kind, balanced=balanced, drop=drop)


def _dataset(rows: list[Row]) -> Dataset:
    if rows[0].columns:
        return pairs_dataset([row.columns for row in rows if row.columns])
    columns = {part: [getattr(row, part) for row in rows] for part in COLUMNS}
    if all(row.asked for row in rows):
        columns["messages"] = [
            [*row.asked, {"role": "assistant", "content": row.completion.removeprefix(" ")}] for row in rows
        ]
    return Dataset.from_dict(columns)


def _course_task(name: str, train: int, test: int, seed: int) -> Task:
    if name == "instructions":
        train_set, test_set = map(Dataset.from_list, instruction_split(train, test, seed))
        return Task(name, train_set, test_set, (), source_of(name))
    if name in PAIRS:
        learned, tested, left_out = PAIRS[name](train, test, seed)
        if len(learned) < train or len(tested) < test:
            got = f"got {len(learned):,} and {len(tested):,}"
            warnings.warn(f"Asked for {train:,} pairs to train on and {test:,} to test on, {got}.", DataWarning, 3)
        parts = (pairs_dataset(learned), pairs_dataset(tested))
        return Task(name, *parts, (), source_of(name), (NOTES[name],), left_out)
    rows = course_rows(name)
    parts = course_split(rows, train, min(test, len(rows) // 2), seed)
    keep = ("id", *COLUMNS)
    train_set, test_set = (Dataset.from_list([{key: row[key] for key in keep} for row in part]) for part in parts)
    return Task(name, train_set, test_set, tuple(sorted({row["completion"] for row in rows})), source_of(name))
