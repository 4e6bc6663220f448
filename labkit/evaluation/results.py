"""The result of an evaluation, and its statistical uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from labkit.evaluation.proportions import wilson
from labkit.printing import printable


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on a test set.

    Attributes:
        correct, total: counts.
        interval: 95% interval of the accuracy (Wilson, 1927), as fractions.
        per_class: label → (correct, total).
        predictions: the predicted label of each test example.
        hits: "1" for each example that was predicted correctly and "0" for each other, for ``lk.compare``.
    """

    correct: int
    total: int
    interval: tuple[float, float]
    per_class: dict[str, tuple[int, int]]
    predictions: list[str] = field(repr=False)
    hits: str = field(default="", repr=False)

    @property
    def accuracy(self) -> float:
        """The share of correct answers, from 0 to 1."""
        return self.correct / self.total

    def __str__(self) -> str:
        low, high = self.interval
        lines = [f"accuracy {self.accuracy:.1%}   95% interval {low:.1%} to {high:.1%}   n = {self.total}"]
        width = max(len(label) for label in self.per_class)
        for label, (right, total) in self.per_class.items():
            bar = "█" * round(20 * right / total)
            lines.append(f"  {label:<{width}}  {right:>3} of {total:<3} {bar}")
        return printable("\n".join(lines))


@dataclass(frozen=True)
class Forgetting:
    """How much worse fine-tuning made a model at general English.

    Attributes:
        before, after: mean loss on general English, in nats per token.
        rise: after − before; e^rise is the factor by which perplexity grew.
    """

    before: float
    after: float

    @property
    def rise(self) -> float:
        """How much the loss rose, in nats per token."""
        return self.after - self.before


def score(
    hits: Sequence[bool], classes: Sequence[str | None], order: Sequence[str], predictions: list[str]
) -> Evaluation:
    """Count the correct predictions, in all and in each class.

    Args:
        hits: for each example, whether its prediction is correct.
        classes: the class of each example.
        order: the classes to count, in the order of ``per_class``; those without an example are left out.
        predictions: the predicted label of each example.
    """
    groups = {name: [hit for hit, own in zip(hits, classes, strict=True) if own == name] for name in order}
    per_class = {name: (sum(group), len(group)) for name, group in groups.items() if group}
    text = "".join(str(int(hit)) for hit in hits)
    return Evaluation(sum(hits), len(hits), wilson(sum(hits), len(hits)), per_class, predictions, text)
