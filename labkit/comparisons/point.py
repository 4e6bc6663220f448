"""One run of a comparison: its settings, how it is run, and how it is read from a stored row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import pandas as pd
import torch

from labkit.comparisons.chat_measures import chat_measured, losses
from labkit.comparisons.export_measures import Live, export_measured
from labkit.comparisons.held_out import hold_out
from labkit.comparisons.measures import measured
from labkit.comparisons.merge_measures import PAIRS, Scores, Team, merge_measured
from labkit.comparisons.preference_measures import log_probabilities_of, preference_measured
from labkit.comparisons.reward_measures import Judges, reward_measured
from labkit.comparisons.rounding_measures import rounding_measured
from labkit.comparisons.two_jobs import Jobs
from labkit.computer import circumstances
from labkit.errors import LabkitError
from labkit.evaluation import text_loss
from labkit.generation.own_words import in_own_words
from labkit.methods import get_method
from labkit.models.load import load_model
from labkit.models.model import Model
from labkit.tasks.english import general_english
from labkit.tasks.load import load_task
from labkit.tasks.quality import altered
from labkit.tasks.task import Task


@dataclass(frozen=True)
class Point:
    """One run of a sweep: everything that its result depends on, except the computer.

    Attributes:
        model, task: names of a model and a task.
        method: all settings of a method, its name among them.
        learning_rate, steps, batch_size, seed: as in ``TrainingConfig``.
        train, test: how many examples the task has.
        held_out: how many training examples replace the test set and are left out of training. A search for settings
            needs them; on the test set, it would choose settings that suit the test set. Each class gives its share.
        data: how the training examples are changed first, as ``labkit.tasks.quality.altered`` takes it; the seed is the
            run's. Such a run is not measured for what it costs. For a task of conversations: ``fault`` and ``replay``
            as ``chat_measured`` takes them, and ``words``, "given" or the model's "own". For pairs: ``loss``, ``beta``,
            ``sft`` and ``pairs`` as ``preference_measured`` takes them. For learning from rewards: ``algorithm`` and
            ``beta`` as ``reward_measured`` takes them. Where the model is exported: ``format`` and ``fault`` as
            ``export_measured`` takes them. Where the adapter is brought into weights: ``base`` and ``way`` as
            ``rounding_measured`` takes them.
            For two specialists, whose task is none that is loaded: ``way``, ``weight`` and ``density`` as
            ``merge_measured`` takes them; ``train`` is for each of their jobs.
    """

    model: str
    task: str
    method: dict[str, Any]
    learning_rate: float
    steps: int
    batch_size: int
    seed: int
    train: int
    test: int
    held_out: int = 0
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Point | None:
        """Return the point of a stored row; None if the row lacks a setting that points need now."""
        names = [each.name for each in fields(cls)]
        if not row.keys() >= {*names} - {"held_out", "data"}:
            return None
        # pandas returns numpy's numbers; a point has Python's.
        plain = {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
        # Old rows have no held_out. In a table beside new ones, pandas makes it a float, which may be missing.
        held_out = plain.get("held_out", 0)
        plain["held_out"] = 0 if pd.isna(held_out) else int(held_out)
        data = plain.get("data")  # missing likewise
        plain["data"] = data if isinstance(data, dict) else {}
        return cls(**{name: plain[name] for name in names})

    def run(self) -> dict[str, Any]:
        """Train and evaluate; return what was measured, with the versions and the computer."""
        base = _model(self.model)
        return self._found(base) | {"made": circumstances(base.device, base.precision)}

    def settings(self) -> dict[str, Any]:
        """Return the settings of the training, as ``finetune`` takes them."""
        return {key: getattr(self, key) for key in ("learning_rate", "steps", "batch_size", "seed")}

    def training(self) -> Point:
        """Return what is equal for runs that share their training, which is done once if they follow each other."""
        return replace(self, data={}) if "way" in self.data else self

    def _found(self, base: Model) -> dict[str, Any]:
        settings = self.settings()
        if "way" in self.data and "base" not in self.data:
            return self._merge(settings)
        task = _task(self.task, self.train, self.test)
        if self.held_out:
            task = hold_out(task, self.held_out)
        if "format" in self.data:
            return export_measured(self._live(), task, **self.data)
        if "base" in self.data:
            return rounding_measured(self._live(), base, task, **self.data)
        if "algorithm" in self.data:
            return self._rewards(base, task, settings)
        if "chosen" in task.train.column_names:
            return self._pairs(base, task, settings)
        if "messages" in task.train.column_names:
            return self._chat(base, task, settings)
        if self.data:
            task = altered(task, **self.data, seed=self.seed)
        english = _english(self.model) if base.kind == "causal" else None
        return measured(base, task, get_method(self.method), settings, english, costs=not self.data)

    def _live(self) -> Live:
        return _live(json.dumps(asdict(replace(self, data={}))))

    def _merge(self, settings: dict[str, Any]) -> dict[str, Any]:
        team = _team(self.model, json.dumps(self.method), tuple(settings.items()), self.train, self.test)
        return merge_measured(team, _scores(self.model, self.train, self.test), **self.data)

    def _rewards(self, base: Model, task: Task, settings: dict[str, Any]) -> dict[str, Any]:
        judges = _judges(self.model, self.task, self.train, self.test, self.held_out)
        return reward_measured(base, task, get_method(self.method), settings, _losses(self.model), judges, **self.data)

    def _pairs(self, base: Model, task: Task, settings: dict[str, Any]) -> dict[str, Any]:
        said = _said(self.model, self.task, self.train, self.test, self.held_out)
        method = get_method(self.method)
        return preference_measured(base, task, method, settings, _losses(self.model), said, **self.data)

    def _chat(self, base: Model, task: Task, settings: dict[str, Any]) -> dict[str, Any]:
        data = {key: value for key, value in self.data.items() if key != "words"}
        own, count = None, 0
        if self.data["words"] == "own":
            if self.held_out:
                raise LabkitError("Held-out examples have no words of the model's own.", "Leave held_out or words out.")
            own, count = _own_words(self.model, self.task, self.train, self.test)
        found = chat_measured(base, task, get_method(self.method), settings, _losses(self.model), own=own, **data)
        return found | {"own_words": count}


def all_settings(method: str | dict[str, Any]) -> dict[str, Any]:
    """Return all settings of a method, defaults included, as a stored row has them."""
    settings = get_method(method).to_dict()
    del settings["learning_rate"]  # the method's default, which the point's own rate replaces
    return json.loads(json.dumps(settings))


@lru_cache(maxsize=1)
def _model(name: str) -> Model:
    return load_model(name)


@lru_cache(maxsize=1)
def _english(name: str) -> float:
    return text_loss(_model(name), general_english())


@lru_cache(maxsize=1)
def _task(name: str, train: int, test: int) -> Task:
    return load_task(name, train=train, test=test)


@lru_cache(maxsize=1)
def _live(point: str) -> Live:
    """Return the run of a point, written as JSON, of which several things are made."""
    made = Point(**json.loads(point))
    task = _task(made.task, made.train, made.test)
    return Live.of(_model(made.model), task, get_method(made.method), made.settings())


@lru_cache(maxsize=1)
def _losses(name: str) -> tuple[float, float]:
    return losses(_model(name))


@lru_cache(maxsize=1)
def _said(model: str, task: str, train: int, test: int, held_out: int) -> torch.Tensor:
    whole = _task(task, train, test)
    return log_probabilities_of(_model(model), hold_out(whole, held_out) if held_out else whole)


@lru_cache(maxsize=1)
def _judges(model: str, task: str, train: int, test: int, held_out: int) -> Judges:
    whole = _task(task, train, test)
    return Judges.of(_model(model), hold_out(whole, held_out) if held_out else whole)


@lru_cache(maxsize=1)
def _own_words(model: str, task: str, train: int, test: int) -> tuple[Task, int]:
    return in_own_words(_model(model), _task(task, train, test))


@lru_cache(maxsize=1)
def _jobs(train: int, test: int) -> Jobs:
    return Jobs.of(train, test, PAIRS)


@lru_cache(maxsize=1)
def _scores(model: str, train: int, test: int) -> Scores:
    return Scores.of(_model(model), _jobs(train, test))


@lru_cache(maxsize=1)
def _team(model: str, method: str, settings: tuple[tuple[str, Any], ...], train: int, test: int) -> Team:
    return Team(_model(model), _jobs(train, test), get_method(json.loads(method)), dict(settings))
