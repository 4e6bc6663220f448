"""Runs that differ in their seed: how far their results spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


def spread(rows: DataFrame, by: str | list[str]) -> DataFrame:
    """Return the mean, lowest and highest accuracy of each group, in percent, and its number of runs."""
    table = rows.groupby(by, sort=False, dropna=False)["accuracy"].agg(["mean", "min", "max", "count"])
    table[["mean", "min", "max"]] *= 100
    return table.round(1).rename(columns={"count": "runs"})
