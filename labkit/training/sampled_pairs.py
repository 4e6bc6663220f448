"""Preferences without people: a model answers several times, a verifier says which answer is best and which is worst.

So are pairs made where answers can be checked, from the model's own words: Yuan et al. (2024, "Self-Rewarding Language
Models", arXiv:2401.10020) pair the best with the worst of several samples, and leave out prompts whose samples all
score the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from datasets import Dataset

from labkit.errors import LabkitError, first_line, require_count, require_number, shown
from labkit.generation.batched import generate
from labkit.generation.prompts import asked
from labkit.generation.replies import Reply
from labkit.generation.sampling import Sampling
from labkit.models.model import Model

Verifier = Callable[[str, dict], float]
WHAT = "A verifier takes a reply (a text) and its row (a dict) and returns a number, the higher the better."


@dataclass(frozen=True)
class SampledPairs:
    """Pairs of a model's own replies.

    Attributes:
        pairs: one row for each prompt that gave a pair: the columns of its row, of which ``prompt`` is a list of
            messages, and ``chosen``, ``rejected`` (each a list of one message), ``chosen_score``, ``rejected_score``.
        prompts: how many were asked.
        without: how many of them gave no pair, by reason.
        failures: how many replies the verifier could not score.
        unfinished: how many replies were cut off at ``max_new_tokens``.
    """

    pairs: Dataset = field(repr=False)
    prompts: int
    without: dict[str, int]
    failures: int
    unfinished: int

    def __str__(self) -> str:
        lines = [f"{len(self.pairs):,} pairs from {self.prompts:,} prompts"]
        lines += [f"  no pair, {reason}: {count:,}" for reason, count in self.without.items()]
        lines += [f"  replies without a score: {self.failures:,}"] * bool(self.failures)
        return "\n".join([*lines, f"  replies cut off: {self.unfinished:,}"])


FEW, SAME = "fewer than two replies have a text and a score", "all replies score the same"


def sample_pairs(
    model: Model,
    rows: Iterable[Mapping],
    verifier: Verifier,
    *,
    size: int = 4,
    max_new_tokens: int = 60,
    sampling: Sampling | None = None,
    batch_size: int = 16,
    seed: int = 0,
    most_failures: int = 10,
) -> SampledPairs:
    """Sample replies to each prompt and pair the best with the worst; the same for the same seed.

    Of replies with the same score, the one that was drawn first counts: its length has no say.

    Args:
        model: a causal model whose tokenizer has a chat template.
        rows: what is asked: dicts with ``prompt``, a text or a list of messages, or with ``messages``, of which a last
            reply is not shown; such as ``load_task("instructions").train``.
        verifier: returns the score of a reply, given its text and its row.
        size: replies to each prompt, at least 2.
        max_new_tokens: the most tokens of a reply.
        sampling: how tokens are drawn; by default at temperature 1.
        batch_size: prompts that are read together.
        seed: of the random numbers.
        most_failures: so many replies may be left without a score, since the verifier raised or returned no finite
            number; one more stops.

    Raises:
        LabkitError: a row has no prompt, ``size`` is below 2, or the verifier failed too often; then the last exception
            that it raised is the cause.
    """
    size = require_count("size", size, low=2, remedy="A pair needs two replies: try 4.")
    limit = require_count("most_failures", most_failures, low=0)
    rows = [dict(row) for row in rows]
    prompts = [_prompt(row, number) for number, row in enumerate(rows, 1)]
    settings = {"sampling": sampling or Sampling(), "batch_size": batch_size, "seed": seed}
    drawn = generate(model, prompts * size, max_new_tokens, **settings) if rows else []
    scores, failures = _scores(verifier, [(reply.text.strip(), row) for reply, row in zip(drawn, rows * size, strict=True)], limit)
    found, without = [], {FEW: 0, SAME: 0}
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        texts = [reply.text.strip() for reply in drawn[number :: len(rows)]]
        scored = [(text, score) for text, score in zip(texts, scores[number :: len(rows)], strict=True) if text and score is not None]
        ...
    return SampledPairs(Dataset.from_list(found), len(rows), without, failures, sum(not r.stopped for r in drawn))
