"""What a notebook took, beside the limits of the course."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError
from labkit.testing.budget_table import FAST

SECONDS = {FAST: (90, 60), "CUDA": (90, 60)}  # on two cores: the most for a notebook, and for the mean of all
SECONDS_ELSEWHERE = (240, 180)
PEAK = 3.5e9  # bytes
HEADING = f"{'notebook':<26}{'seconds':>8}{'limit':>7}{'GB':>7}{'limit':>7}{'operations':>13}  made with"


@dataclass(frozen=True)
class Measured:
    """What a notebook took.

    Attributes:
        path: of the notebook.
        kind: of the processor, such as AVX512-BF16 or AVX2.
        made: date, processor, threads, precision, versions, and variables of the environment that slow torch down.
        seconds: from the start of the kernel to its end.
        peak: the most bytes that the kernel and its processes held.
        operations: floating-point operations of products, if they were counted.
        problem: why it could not be executed.
    """

    path: Path
    kind: str
    made: dict[str, Any]
    seconds: float = 0.0
    peak: int = 0
    operations: int | None = None
    problem: LabkitError | None = None

    def __str__(self) -> str:
        if self.problem:
            return f"{self.path.stem:<26}{self.problem}"
        limit = limits(self.kind)[0]
        count = "–" if self.operations is None else f"{self.operations:.2e}"
        over = [f"{self.seconds - limit:.0f} s"] * (self.seconds > limit)
        over += [f"{(self.peak - PEAK) / 1e9:.2f} GB"] * (self.peak > PEAK)
        by = f"{self.made['processor']}, {self.kind}, {self.made['precision']}, {self.made['threads']} threads"
        return (
            f"{self.path.stem:<26}{self.seconds:>8.1f}{limit:>7}{self.peak / 1e9:>7.2f}{PEAK / 1e9:>7.1f}{count:>13}"
            f"  {by}{'; over by ' + ' and '.join(over) if over else ''}"
        )


def limits(kind: str) -> tuple[int, int]:
    """Return the most seconds that a notebook may take on a kind of processor, and the mean of all."""
    return SECONDS.get(kind, SECONDS_ELSEWHERE)


def mean(measured: Iterable[Measured]) -> str:
    """Return a line with the mean time, where several notebooks ran."""
    ran = [each for each in measured if each.problem is None]
    if len(ran) < 2:
        return ""
    seconds, limit = sum(each.seconds for each in ran) / len(ran), limits(ran[0].kind)[1]
    over = f"; over by {seconds - limit:.0f} s" if seconds > limit else ""
    return f"{'mean':<26}{seconds:>8.1f}{limit:>7}{over}"
