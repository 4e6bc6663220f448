"""What a model's replies are worth, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.evaluation.proportions import wilson
from labkit.evaluation.results import Evaluation
from labkit.printing import printable

if TYPE_CHECKING:
    from pandas import DataFrame

ALL = "all"
MEASURES = ("exact", "form", "mentioned", "stopped", "refusal")


@dataclass(frozen=True)
class ReplyScores:
    """What replies got right, by measure. ``lk.compare(one.exact, other.exact)`` compares two models.

    Of each measure, ``accuracy`` is the share of the replies that have it, ``interval`` Wilson's, ``per_class`` the
    counts by kind, ``hits`` "1" or "0" for each reply, and ``predictions`` the replies.

    Attributes:
        exact: the reply is one of the accepted answers, but for case and marks.
        form: the reply, but for white space around it, is in the form asked for, whatever it answers.
        mentioned: an accepted answer, without what its form adds, occurs in the reply as whole words. So it does in a
            reply that repeats all choices of a question.
        stopped: the model ended its reply; it was not cut at the limit of tokens.
        refusal: the reply refuses if it should, and does not if it shouldn't.
    """

    exact: Evaluation
    form: Evaluation
    mentioned: Evaluation
    stopped: Evaluation
    refusal: Evaluation

    def table(self) -> DataFrame:
        """Return a row for each kind, and for all together, and measure.

        Columns: kind, measure, correct, total, and as fractions share and the bounds of its 95% interval, low and high.
        """
        import pandas as pd

        rows = [
            (kind, measure, right, total, right / total, *wilson(right, total))
            for kind, counts in self._counts()
            for measure, (right, total) in counts.items()
        ]
        return pd.DataFrame(rows, columns=["kind", "measure", "correct", "total", "share", "low", "high"])

    def _counts(self) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
        measures = {name: getattr(self, name) for name in MEASURES}
        for kind in self.exact.per_class:
            yield kind, {name: measure.per_class[kind] for name, measure in measures.items()}
        yield ALL, {name: (measure.correct, measure.total) for name, measure in measures.items()}

    def _shown(self) -> DataFrame:
        """Return a row for each kind and a column for each measure, of texts."""
        import pandas as pd

        rows = []
        for kind, counts in self._counts():
            cells = {"kind": kind, "replies": str(counts["exact"][1])}
            for measure, (right, total) in counts.items():
                low, high = wilson(right, total)
                cells[measure] = f"{right / total:.0%} ({low:.0%} to {high:.0%})"
            rows.append(cells)
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        return printable(self._shown().to_string(index=False))

    def _repr_html_(self) -> str:
        return str(self._shown().to_html(index=False))
