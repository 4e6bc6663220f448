"""What others published: PEFT's own comparison of its methods, beside which the course's results can be read."""

from __future__ import annotations

import pandas as pd

from labkit.storage.cache import course_data

QUESTIONS = 1319  # of GSM8K's test set


def published() -> pd.DataFrame:
    """Return PEFT's runs on MetaMathQA, one a row, with the columns that ``data/peft-metamathqa.md`` describes.

    ``correct`` and ``total`` are added, so that ``lk.compare`` takes rows. The file holds no answer per question, so
    the comparison isn't paired, and there is one seed: the interval leaves out what another seed would give.
    """
    rows = pd.read_csv(course_data() / "peft-metamathqa.csv")
    rows["total"] = QUESTIONS
    rows["correct"] = (rows["test_accuracy"] * QUESTIONS).round().astype(int)
    return rows
