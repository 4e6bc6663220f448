"""The rows of data that are in memory already: a Dataset, a DataFrame, a list of dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from datasets import ClassLabel, Dataset

from labkit.errors import LabkitError, shown
from labkit.tasks.faults import Faults

PICTURES = ("Audio", "Image", "Pdf", "Video")  # no text: decoding such columns would be wasted time
EXAMPLE = 'Write each example as {"prompt": "…", "completion": "…"}.'


def dataset_rows(data: Dataset) -> Iterator[tuple[int, dict]]:
    """Yield each row of a Dataset with its number; classes are given by their names.

    Raises:
        LabkitError: the dataset has a function that computes its rows on access.
    """
    if data.format["type"] == "custom":
        raise LabkitError(
            "Your dataset has a transform, which computes its rows anew whenever they are read.",
            "Pass dataset.map(…) instead of dataset.with_transform(…).",
        )
    data = data.with_format(None)  # plain Python values, of all columns
    names = {name: kind.names for name, kind in data.features.items() if isinstance(kind, ClassLabel) and kind.names}
    used = data.select_columns([name for name, kind in data.features.items() if type(kind).__name__ not in PICTURES])
    number = 0
    for batch in used.iter(batch_size=1000) if used.column_names else ():
        for name, labels in names.items():  # class numbers to names; -1 stands for no class
            batch[name] = [None if i is None or i < 0 else labels[i] for i in batch[name]]
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield number, dict(zip(batch, values, strict=True))


def frame_rows(data: pd.DataFrame) -> Iterator[tuple[int, dict]]:
    """Yield each row of a table with its number; what is missing is None.

    Raises:
        LabkitError: two columns have the same name.
    """
    names = [str(name) for name in data.columns]
    if len(set(names)) < len(names):
        raise LabkitError(f"The table has a column twice: {', '.join(names)}.", "Rename one of them.")
    whole = data.astype(object).where(data.notna(), None)
    for number, values in enumerate(whole.itertuples(index=False, name=None), 1):
        yield number, dict(zip(names, values, strict=True))


def list_rows(data: list | tuple, faults: Faults) -> Iterator[tuple[int, dict]]:
    """Yield each dict of a list with its number; anything else goes to ``faults``."""
    for number, row in enumerate(data, 1):
        if isinstance(row, Mapping):
            yield number, {str(name): value for name, value in row.items()}
        else:
            faults.add(number, f"not a dict but {shown(row)}", EXAMPLE)
