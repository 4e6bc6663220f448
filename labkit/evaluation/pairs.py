"""How well a model tells the better of two replies, and how far its certainty can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from labkit.errors import LabkitError, require_count
from labkit.evaluation.proportions import wilson
from labkit.evaluation.results import Evaluation
from labkit.evaluation.results import score as counted
from labkit.models.model import Model
from labkit.printing import printable
from labkit.tasks.task import Task
from labkit.training.inference import infer
from labkit.training.judged import reply_text
from labkit.training.pairs import encode_pairs, log_probabilities
from labkit.training.reward_model import score

if TYPE_CHECKING:
    from pandas import DataFrame

NO_KIND = "pairs"


@dataclass(frozen=True)
class PairScores:
    """A model on pairs that it was not trained on.

    Attributes:
        accuracy: the share of pairs whose chosen reply has the higher reward, with Wilson's interval, and by kind. In
            place of a reward, a causal model has the reply's log-probability.
        margins: of each pair, the reward of the chosen reply less that of the rejected one.
    """

    accuracy: Evaluation
    margins: list[float] = field(repr=False)

    def bins(self, count: int = 5) -> DataFrame:
        """Return the pairs by how certain the model is, in bins of equal width from 0.5 to 1; empty bins are left out.

        Its certainty is the logistic function of the margin's size. In a calibrated model it is the share of pairs that
        it gets right.

        Columns: low and high, the bin's bounds; pairs; certainty, its mean; share that is right, and the bounds of the
        share's 95% interval, share_low and share_high.
        """
        import pandas as pd

        count, rows = require_count("count", count), []
        margins = torch.tensor(self.margins, dtype=torch.float64)
        certainty = margins.abs().sigmoid()
        place = ((certainty - 0.5) * 2 * count).long().clamp(max=count - 1)
        for number in range(count):
            here = place == number
            if not here.any():
                continue
            right, total = int((margins[here] > 0).sum()), int(here.sum())
            bounds = 0.5 + number / count / 2, 0.5 + (number + 1) / count / 2
            rows.append((*bounds, total, certainty[here].mean().item(), right / total, *wilson(right, total)))
        return pd.DataFrame(rows, columns=["low", "high", "pairs", "certainty", "share", "share_low", "share_high"])

    def calibration_error(self, count: int = 5) -> float:
        """Return how far certainty is from the share of right pairs, averaged over the pairs in bins.

        This is the expected calibration error of Naeini et al. (2015, AAAI, 2901–2907).
        """
        found = self.bins(count)
        return float(((found.certainty - found.share).abs() * found.pairs).sum() / found.pairs.sum())

    def __str__(self) -> str:
        return printable(f"{self.accuracy}\ncalibration error {self.calibration_error():.1%}")


def score_pairs(model: Model, task: Task, *, batch_size: int = 32) -> PairScores:
    """Compare the chosen and the rejected replies of a task's test set.

    A reward model is right where the chosen reply has the higher reward. A causal model is right where it is the
    likelier one: the margin is log π(chosen) − log π(rejected) in nats, of whole replies in its chat template. So a
    longer reply, with more tokens to get right, loses more often: compare what a model says after training with what it
    said before.

    Args:
        model: what ``lk.reward_model`` trained, or a causal model.
        task: with test pairs; a causal model reads conversations alone.
        batch_size: replies in a forward pass.

    Raises:
        LabkitError: there are no test pairs, one can't be used, or the model is an encoder that gives no rewards.
    """
    rows = [dict(row) for row in task.test]
    if not rows or not rows[0].keys() >= {"prompt", "chosen", "rejected"}:
        raise LabkitError(f"{task.name} has no test pairs.", "Use a task with prompt, chosen and rejected.")
    causal = model.kind == "causal"
    both = reply_log_probabilities(model, rows, batch_size) if causal else _rewards(model, rows, batch_size)
    chosen, rejected = both.unbind(1)
    margins = (chosen - rejected).tolist()
    kinds = [str(row.get("kind") or NO_KIND) for row in rows]
    hits = [margin > 0 for margin in margins]
    said = ["chosen" if hit else "rejected" for hit in hits]
    return PairScores(counted(hits, kinds, list(dict.fromkeys(kinds)), said), margins)


def reply_log_probabilities(model: Model, rows: Sequence[Mapping[str, object]], batch_size: int = 16) -> torch.Tensor:
    """Return log π(reply | prompt) of each pair's chosen and rejected reply, in nats, shape (pairs, 2)."""
    examples = encode_pairs(model, rows, model.max_length)
    return infer(model, examples, batch_size, lambda part: log_probabilities(model, part)[0]).view(-1, 2)


def _rewards(model: Model, rows: Sequence[dict], batch_size: int) -> torch.Tensor:
    asked = [row["prompt"] for row in rows]
    return torch.stack(
        [
            score(model, asked, [reply_text(row, column, n) for n, row in enumerate(rows, 1)], batch_size=batch_size)
            for column in ("chosen", "rejected")
        ],
        dim=1,
    )
