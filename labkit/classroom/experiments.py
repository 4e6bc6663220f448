"""What checks of experiments share: a learner hands in runs and a verdict; the check looks at how they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.classroom.exercises import MistakeError, untouched
from labkit.evaluation import Comparison, Evaluation, PairScores, ReplyScores, compare
from labkit.evaluation.results import score
from labkit.methods import Method
from labkit.training.config import TrainingConfig
from labkit.training.rl import RL

VERDICTS = ("better", "worse", "undecided")
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Trial:
    """One run of an experiment.

    Attributes:
        config: how it was trained.
        evaluation: how it did.
        method: what was trained; None where only the settings were handed in.
        rl: how it learned from rewards, where it did.
        history: the record of each step.
    """

    config: TrainingConfig
    evaluation: Evaluation
    method: Method | None = None
    rl: RL | None = None
    history: Sequence[Mapping[str, Any]] = ()


def parts(answer: Any, *names: str) -> list[Any]:
    """Return the values of a dictionary with these keys, in their order."""
    if not isinstance(answer, Mapping):
        raise MistakeError(f"Hand in a dictionary with the keys {', '.join(names)}; yours is a {_kind(answer)}.")
    if lacking := [name for name in names if name not in answer or untouched(answer[name])]:
        raise MistakeError(f"This is still missing from your dictionary: {', '.join(lacking)}.")
    return [answer[name] for name in names]


def trials(name: str, given: Any) -> list[Trial]:
    """Return the trials of a list of pairs: a run, or its ``config``, and what ``lk.evaluate`` returned."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise MistakeError(f"{name}: hand in a list of pairs, (run, evaluation), one for each run.")
    found = []
    for pair in given:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise MistakeError(f"{name}: each entry of the list is a pair, (run, evaluation); one is a {_kind(pair)}.")
        run = pair[0]
        config = run if isinstance(run, TrainingConfig) else getattr(run, "config", None)
        if not isinstance(config, TrainingConfig):
            raise MistakeError(f"{name}: first in a pair is a run, as lk.finetune returns it, not a {_kind(run)}.")
        more = {part: getattr(run, part) for part in ("method", "rl", "history") if hasattr(run, part)}
        found.append(Trial(config, evaluation(name, pair[1]), **more))
    return found


def two_settings(answer: Any, kind: type) -> tuple[Any, Any, dict[str, list[Trial]], Any]:
    """Return the settings of an experiment that compares two, the trials of each, and the learner's verdict."""
    first, second, *runs, verdict = parts(answer, "first", "second", "first runs", "second runs", "verdict")
    for name, setting in (("first", first), ("second", second)):
        if not isinstance(setting, kind):
            raise MistakeError(f"{name}: hand in the lk.{kind.__name__} itself, not a {_kind(setting)}.")
    if first == second:
        raise MistakeError("Both settings are the same: there is nothing to compare.")
    groups = {name: trials(name, given) for name, given in zip(("first runs", "second runs"), runs, strict=True)}
    return first, second, groups, verdict


def evaluation(name: str, given: Any) -> Evaluation:
    """Return what ``lk.evaluate`` returned, or another function that counts right answers; or make it from hits."""
    if isinstance(given, str) and given and {*given} <= {"0", "1"}:
        return score([hit == "1" for hit in given], [None] * len(given), (), list(given))
    if isinstance(given, PairScores):
        raise MistakeError(f"{name}: of what lk.score_pairs returned, hand in .accuracy, which lk.compare takes, too.")
    if isinstance(given, ReplyScores):
        raise MistakeError(f"{name}: of what lk.score_replies returned, hand in one measure, such as .mentioned.")
    if not isinstance(given, Evaluation):
        raise MistakeError(
            f"{name}: hand in an evaluation, such as lk.evaluate returns, not a {_kind(given)}. "
            "A comparison needs each single answer."
        )
    return given


def require_seeds(groups: Mapping[str, Sequence[Trial]], fewest: int = FEWEST_SEEDS) -> None:
    """Require each group to have several seeds, and all groups to have the same ones."""
    seeds = {name: [trial.config.seed for trial in group] for name, group in groups.items()}
    for name, used in seeds.items():
        if len({*used}) < len(used):
            raise MistakeError(f"{name}: a seed occurs twice. The same seed gives the same run, not a further one.")
        if len(used) == 1:
            raise MistakeError(f"{name}: there is only one seed. Another one may turn the result around; use {fewest}.")
        if len(used) < fewest:
            raise MistakeError(f"{name}: {len(used)} seeds say little about how far seeds differ. Use {fewest}.")
    if len({tuple(sorted(used)) for used in seeds.values()}) > 1:
        raise MistakeError("The groups have different seeds. With the same ones, they see the same batches.")


def require_same(groups: Mapping[str, Sequence[Trial]], *names: str) -> None:
    """Require settings of training to be the same in all trials."""
    for name in names:
        found = sorted({getattr(trial.config, name) for group in groups.values() for trial in group})
        if len(found) > 1:
            raise MistakeError(
                f"The runs differ in {name}: {', '.join(map(_number, found))}. "
                "Change one thing at a time, or you can't tell which of them made the difference."
            )


def require_same_cases(runs: Sequence[Evaluation | str]) -> None:
    """Require all runs, given by evaluations or hits, to have equally many test cases."""
    if len(found := sorted({len(_hits(run)) for run in runs})) > 1:
        raise MistakeError(
            f"The runs were tested on {' and '.join(map(str, found))} cases. Test all on the same ones, in one task."
        )


def judged(groups: Mapping[str, Sequence[Evaluation | str]], said: Any) -> Comparison:
    """Return the comparison of two groups; require the learner's verdict on the first to be what it says.

    Args:
        groups: the two groups by name: for each run, its evaluation or its hits.
        said: the verdict.
    """
    (first, one), (second, other) = groups.items()
    if said not in VERDICTS:
        raise MistakeError(f"A verdict is one of these words: {', '.join(VERDICTS)}.")
    require_same_cases([*one, *other])
    found = compare([_hits(run) for run in one], [_hits(run) for run in other])
    low, high = (f"{100 * bound:+.1f}" for bound in found.interval)
    facts = f"{first} against {second}: the 95% interval of the difference goes from {low} to {high} points"
    if said != found.verdict:
        if found.verdict == "undecided":
            raise MistakeError(
                f"{facts}. So the order may be chance, whatever the means say. What does lk.compare call that?"
            )
        if said == "undecided":
            raise MistakeError(f"{facts}: all of it lies on one side of 0. These runs do decide.")
        raise MistakeError(f"{facts}. Your verdict has it the other way round: it is about {first!r}.")
    return found


def outcome(found: Comparison) -> str:
    """Return what to keep in mind about a verdict."""
    if found.verdict == "undecided":
        return "Undecided does not mean equal: more seeds or more cases may still tell the two apart."
    return "The difference is more than chance, for this model, this task and this budget."


def _hits(run: Evaluation | str) -> str:
    return run.hits if isinstance(run, Evaluation) else run


def _kind(value: Any) -> str:
    return type(value).__name__


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
