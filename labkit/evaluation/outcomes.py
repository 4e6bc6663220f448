"""What the runs of a method got right: from evaluations, rows of a table, or texts of 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from labkit.errors import LabkitError
from labkit.evaluation.results import Evaluation

if TYPE_CHECKING:
    from pandas import DataFrame

Runs: TypeAlias = "Evaluation | DataFrame | Sequence[Evaluation] | Sequence[str]"


@dataclass(frozen=True)
class Outcomes:
    """The runs of a method on one test set.

    Attributes:
        hits: 1 for each example that a run got right and 0 for each other, shape (runs, examples); None where only the
            number of correct answers is known.
        accuracy: mean over the runs, as a fraction.
        count: runs.
        total: test examples.
    """

    hits: np.ndarray | None
    accuracy: float
    count: int
    total: int

    @classmethod
    def of(cls, name: str, runs: Runs) -> Outcomes:
        """Return what ``runs`` hold.

        Args:
            name: the method's name in error messages.
            runs: one or more results of ``lk.evaluate``; rows of ``lk.results``, with the column ``hits`` or else
                ``correct`` and ``total``; or for each run a text of "1" and "0".

        Raises:
            LabkitError: there are none, or they are not of the same examples.
        """
        if isinstance(runs, Evaluation):
            runs = [runs]
        if isinstance(runs, str):
            raise _unequal(name, "one text of 0 and 1")
        if hasattr(runs, "columns"):
            return cls._of_rows(name, runs)
        texts = [run.hits if isinstance(run, Evaluation) else run for run in runs]
        if not texts or not all(isinstance(text, str) and text and not text.strip("01") for text in texts):
            raise _unequal(name, "no runs" if not texts else "runs that are not texts of 0 and 1")
        if len({len(text) for text in texts}) > 1:
            raise _unequal(name, f"runs of {', '.join(map(str, sorted({len(text) for text in texts})))} examples")
        hits = np.array([[int(hit) for hit in text] for text in texts])
        return cls(hits, float(hits.mean()), *hits.shape)

    @classmethod
    def _of_rows(cls, name: str, rows: Any) -> Outcomes:
        if not len(rows):
            raise _unequal(name, "no runs")
        if "hits" in rows.columns and rows["hits"].notna().all():
            return cls.of(name, list(rows["hits"]))
        totals = sorted({*rows["total"]})
        if len(totals) > 1:
            raise _unequal(name, f"runs of {', '.join(map(str, totals))} examples")
        return cls(None, float(rows["correct"].mean() / totals[0]), len(rows), int(totals[0]))


def _unequal(name: str, found: str) -> LabkitError:
    return LabkitError(
        f"{name[0].upper()}{name[1:]} has {found}; one run or more of the same test examples are needed.",
        'Pass what lk.evaluate returned, rows of lk.results, or texts such as ["0110", "1110"], one for each run.',
    )
