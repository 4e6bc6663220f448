"""Measure two specialists on one base, and every way to make one model of both."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from labkit.combining import combine
from labkit.comparisons.two_jobs import Jobs, prefers_plain
from labkit.evaluation import evaluate, text_loss
from labkit.experiment import finetune
from labkit.methods import Method
from labkit.models.model import Model
from labkit.runs import Run
from labkit.tasks.english import general_english

PAIRS = 40  # that are tested
TEXTS = 16  # of general English
APART = 100  # between the seeds of hospital and law: with one seed, both adapters would start from the same factor A
ONE = ("hospital", "law", "both")  # what one adapter learns; "both" from the data of both jobs


@dataclass(frozen=True)
class Scores:
    """How a model does each job.

    Attributes:
        triage, licenses: "1" or "0" for each test example.
        plain: the same for each test pair: whether the model prefers the plain words.
        english: loss on general English, in nats a token.
    """

    triage: str
    licenses: str
    plain: str
    english: float

    @classmethod
    def of(cls, model: Model, jobs: Jobs) -> Scores:
        """Test a model."""
        triage, licenses = evaluate(model, jobs.hospital).hits, evaluate(model, jobs.law).hits
        return cls(triage, licenses, prefers_plain(model, jobs.pairs).hits, text_loss(model, _english()))


def _english() -> list[str]:
    return general_english(TEXTS)


@dataclass
class Team:
    """The adapters of one seed. Each is trained when it is first asked for, and kept for what is made of it later.

    Attributes:
        base: the model that all of them are trained on.
        jobs: what they learn.
        method, settings: as for ``finetune``. The law firm's seed is another one, as adapters made in two places have.
        runs: of each name, the run and the seconds that it took.
    """

    base: Model
    jobs: Jobs
    method: Method
    settings: dict[str, Any]
    runs: dict[str, tuple[Run, float]] = field(default_factory=dict)

    def run(self, name: str) -> tuple[Run, float]:
        """Return the run that learned a job, and the seconds that its training took."""
        if name not in self.runs:
            began = time.perf_counter()
            own = {"seed": self.settings["seed"] + APART} if name == "law" else {}
            job, settings = self.jobs.learned(name), self.settings | own
            run = finetune(self.base, job, self.method, progress=False, **settings)
            self.runs[name] = run, time.perf_counter() - began
        return self.runs[name]


def merge_measured(
    team: Team, before: Scores, *, way: str, weight: float = 1.0, density: float | None = None
) -> dict[str, Any]:
    """Make one model in a certain way, and return how it does both jobs.

    Args:
        team: the adapters, trained where they aren't yet.
        before: the base model's scores.
        way: "base", "hospital", "law", "both", or how ``lk.combine`` makes one adapter of the hospital's and the law's.
        weight: of either adapter.
        density: as in ``lk.combine``.

    Returns a dictionary of:
        correct, total, hits: of triage and licences together, as ``lk.compare`` wants them; triage comes first.
        triage_hits, licenses_hits: the same of each task.
        plain_hits: a 1 for each test pair whose plain words the model prefers, and a 0 for each other.
        english_rise: forgetting, in nats a token of general English.
        trained_parameters, seconds: of all training that the model needs; of the base 0.
    """
    used = () if way == "base" else (way,) if way in ONE else ("hospital", "law")
    runs = {name: team.run(name) for name in used}
    if way == "base":
        scores = before
    elif way in ONE:
        scores = Scores.of(runs[way][0].model, team.jobs)
    else:
        adapters = {name: run for name, (run, _) in runs.items()}
        seed = team.settings["seed"]
        merged = combine(adapters, [weight, weight], how=way, density=density, base=team.base, seed=seed)
        scores = Scores.of(merged, team.jobs)
    hits = scores.triage + scores.licenses
    return {
        "correct": hits.count("1"),
        "total": len(hits),
        "hits": hits,
        "triage_hits": scores.triage,
        "licenses_hits": scores.licenses,
        "plain_hits": scores.plain,
        "english_rise": round(scores.english - before.english, 4),
        "trained_parameters": sum(run.trained_parameters for run, _ in runs.values()),
        "seconds": round(sum(seconds for _, seconds in runs.values()), 2),
    }
