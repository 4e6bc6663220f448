"""Preferences without people: a model answers several times, a verifier says which answer is best and which is worst.

So are pairs made where answers can be checked, from the model's own words: Yuan et al. (2024, "Self-Rewarding Language
Models", arXiv:2401.10020) pair the best with the worst of several samples, and leave out prompts whose samples all
score the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from datasets import Dataset

from labkit.conversations.messages import conversation
from labkit.errors import LabkitError, require_count
from labkit.generation.batched import generate
from labkit.generation.prompts import asked
from labkit.generation.sampling import Sampling
from labkit.models.model import Model
from labkit.tasks.pair_sets import pairs_dataset
from labkit.training.scorer import Scorer, Verifier


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


ROWS = "Pass dicts with prompt or messages, such as load_task('instructions').train."
FEW, SAME = "fewer than two different replies that are finished and have a score", "all replies score the same"


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
    keep_unfinished: bool = False,
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
        keep_unfinished: let replies take part that were cut off at ``max_new_tokens``. A model that learns from one
            learns to stop in the middle.
        most_failures: so many replies may be left without a score, since the verifier raised or returned no finite
            number; one more stops.

    Raises:
        LabkitError: a row has no prompt, ``size`` is below 2, or the verifier failed too often; then the last exception
            that it raised is the cause.
    """
    size = require_count("size", size, low=2, remedy="A pair needs two replies: try 4.")
    scorer = Scorer(verifier, most_failures)
    asking = [dict(row) for row in rows]
    prompts = [_prompt(row, number) for number, row in enumerate(asking, 1)]
    drawn = generate(
        model, prompts * size, max_new_tokens, sampling=sampling or Sampling(), batch_size=batch_size, seed=seed
    )
    texts = [reply.text.strip() if reply.stopped or keep_unfinished else "" for reply in drawn]
    found, without = [], {FEW: 0, SAME: 0}
    for number, (row, prompt) in enumerate(zip(asking, prompts, strict=True)):
        own = dict.fromkeys(filter(None, texts[number :: len(asking)]))  # the same reply twice is one
        scored = [(text, score) for text in own if (score := scorer.score(text, row, number + 1)) is not None]
        # max and min take the first of several.
        best = max(scored, key=itemgetter(1), default=("", 0.0))
        worst = min(scored, key=itemgetter(1), default=("", 0.0))
        if best[1] > worst[1]:
            pair = row | {"prompt": prompt}
            for side, (text, score) in (("chosen", best), ("rejected", worst)):
                pair |= {side: [{"role": "assistant", "content": text}], f"{side}_score": score}
            found.append(pair)
        else:
            without[SAME if len(scored) > 1 else FEW] += 1
    empty = Dataset.from_dict({name: [] for name in ("prompt", "chosen", "rejected")})
    pairs = pairs_dataset(found) if found else empty
    unfinished = sum(not reply.stopped for reply in drawn)
    return SampledPairs(pairs, len(asking), without, scorer.failures, unfinished)


def _prompt(row: dict, number: int) -> list[dict[str, str]]:
    """Return what a row asks, as a conversation that waits for a reply."""
    prompt, messages = row.get("prompt"), row.get("messages")
    if isinstance(prompt, str) and messages is None:
        if not prompt.strip():
            raise LabkitError(f"Row {number} has an empty prompt.", "Write a question.")
        prompt = [{"role": "user", "content": prompt}]
    elif messages is not None and not isinstance(prompt, list):
        turns = conversation(messages, f"The conversation of row {number}")
        prompt = turns[:-1] if turns[-1]["role"] == "assistant" else turns
    if prompt is None:
        raise LabkitError(f"Row {number} has no prompt; it has {', '.join(row) or 'nothing'}.", ROWS)
    return asked(prompt, f"The prompt of row {number}")
