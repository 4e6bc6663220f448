"""Tasks of Reasoning Gym: questions without end, made by programs, with verifiers that score any reply.

Stojanovski et al. (2025, "Reasoning Gym", arXiv:2505.24760); the package ``reasoning-gym``, under the Apache licence.
"""

from __future__ import annotations

import ast
import inspect
import random
import re
import warnings
from functools import lru_cache
from typing import Any

from datasets import Dataset

from labkit.errors import LabkitError, first_line, require_count, require_seed, shown, unknown
from labkit.extras import unusable
from labkit.tasks.task import DataWarning, Task

PREFIX = "reasoning-gym:"
SIZES = (400, 100)  # by default
TRIES = 20  # questions made for each that is wanted: small tasks repeat themselves
# A verifier that runs a text as Python, other than its own entry's; SymPy's parse_expr is an eval, too.
RUNS = re.compile(r"\b(eval|exec|parse_expr|sympify)\((?!entry)")
SOURCE = "Stojanovski et al. 2025, Reasoning Gym, arXiv:2505.24760"


def gym_task(name: str, train: int = SIZES[0], test: int = SIZES[1], seed: int = 0, **settings: Any) -> Task:
    """Return a task of Reasoning Gym. No question occurs twice, in one set or in both.

    Rows are conversations of a question and the gym's answer, with ``prompt`` and ``completion``, and what
    ``labkit.evaluation.rewards.gym_score`` needs: the gym's own entry, as a text. ``load_task`` makes the same task
    with the gym's usual settings. A few of its generators, such as word_ladder, also depend on ``PYTHONHASHSEED``: set
    it to get the same questions in another process.

    Args:
        name: one of the gym's, such as ``"chain_sum"``.
        train, test: how many questions of each.
        seed: decides which; more training data never changes what is tested.
        **settings: how hard the questions are: the gym's own, such as ``max_terms=3, max_digits=2``.

    Raises:
        LabkitError: ``reasoning-gym`` is missing, there is no such task, it has no such settings, its questions have no
            answer that can be stored, or its verifier would run what a model wrote.

    Warns:
        DataWarning: there are fewer different questions.
    """
    train, test, seed = require_count("train", train), require_count("test", test), require_seed(seed)
    known = _gym().factory.DATASETS
    if name not in known:
        raise unknown("task of Reasoning Gym", name, known)
    if RUNS.search(inspect.getsource(known[name][0].score_answer)):
        raise LabkitError(
            f"The verifier of {name} runs what a model wrote as Python, which may do anything.",
            "Choose a task whose verifier only compares.",
        )
    asked: set[str] = set()
    tested = _rows(name, settings, test, f"{seed} test", asked)
    learned = _rows(name, settings, train, f"{seed} train", asked)
    if len(learned) < train or len(tested) < test:
        got = f"got {len(learned):,} and {len(tested):,} that differ"
        warnings.warn(f"Asked for {train:,} questions to train on and {test:,} to test on, {got}.", DataWarning, 2)
    if not learned or not tested:
        raise LabkitError(
            f"{name} has too few different questions.", "Choose settings that give more, or ask for less."
        )
    return Task(PREFIX + name, Dataset.from_list(learned), Dataset.from_list(tested), (), SOURCE)


def gym_score_of(row: dict[str, Any], text: str) -> float:
    """Return what the gym's verifier gives a reply to a row of such a task, from 0 to 1.

    What counts is the text in the last ``<answer>…</answer>``, which the gym's own prompts ask for, or else all of it.
    A text at which the verifier raises, since it can't read it, gets 0.

    Raises:
        LabkitError: ``reasoning-gym`` is missing, or the row is of another task.
    """
    if not row.keys() >= {"gym", "settings", "entry"}:
        raise LabkitError(
            f"A row with {', '.join(row)} is not of Reasoning Gym.", f'Use load_task("{PREFIX}chain_sum"), for example.'
        )
    answer = _gym().utils.extract_answer(text)
    dataset, entry = _dataset(row["gym"], row["settings"], 0, 1), ast.literal_eval(row["entry"])
    try:
        return float(dataset.score_answer(text.strip() if answer is None else answer, entry))
    except Exception:
        return 0.0


def _rows(name: str, settings: dict[str, Any], count: int, dice: str, asked: set[str]) -> list[dict[str, Any]]:
    """Return questions that are not among those ``asked`` already, and add them to these."""
    # The gym's neighbouring seeds share all but one of their questions.
    source = _dataset(name, repr(settings), random.Random(dice).getrandbits(31), TRIES * count)
    rows: list[dict[str, Any]] = []
    for number in range(TRIES * count):
        entry = source[number]
        if entry["question"] not in asked:
            asked.add(entry["question"])
            rows.append(_row(name, settings, entry, f"{dice.split()[1]} {number}"))
        if len(rows) == count:
            break
    return rows


def _row(name: str, settings: dict[str, Any], entry: dict[str, Any], label: str) -> dict[str, Any]:
    question, answer, text = entry["question"], entry["answer"], repr(entry)
    try:
        stored = ast.literal_eval(text) == entry
    except (ValueError, SyntaxError):
        stored = False
    if not isinstance(answer, str) or not stored:
        what = "no answer to compare with" if stored else f"entries that no text holds, such as {shown(entry)}"
        raise LabkitError(f"{name} has {what}.", "Choose another task.")
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    row = {"id": label, "messages": messages, "prompt": question, "completion": f" {answer}"}
    return row | {"gym": name, "settings": repr(settings), "entry": text}


@lru_cache(maxsize=8)
def _dataset(name: str, settings: str, seed: int, size: int) -> Any:
    given = ast.literal_eval(settings)
    try:
        return _gym().create_dataset(name, **given, seed=seed, size=size)
    except (TypeError, ValueError, AssertionError) as problem:  # a setting unknown, of a wrong type, or out of bounds
        raise LabkitError(
            f"{name} can't be made with {shown(given)}: {first_line(problem)}.",
            f"Its settings are the fields of {_gym().factory.DATASETS[name][1].__name__}.",
        ) from problem


def _gym() -> Any:
    try:
        import reasoning_gym
        import reasoning_gym.factory
        import reasoning_gym.utils
    except ImportError as problem:
        raise unusable("reasoning-gym", problem) from problem
    return reasoning_gym
