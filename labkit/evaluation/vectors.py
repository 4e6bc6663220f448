"""How similar an encoder finds texts, and how much fine-tuning changed that."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from labkit.errors import LabkitError
from labkit.models.model import Model
from labkit.tasks.english import general_english
from labkit.training.batching import read
from labkit.training.inference import Part, infer
from labkit.training.objectives import sentence_vectors


def embed(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """Return an encoder's vector of each text, of length 1: shape (texts, width), float32.

    Raises:
        LabkitError: the model is not an encoder, or a text is empty.
    """
    if model.kind != "encoder":
        raise LabkitError(f"{model.name} gives no sentence vectors.", 'Load an encoder, such as "minilm".')

    def unit_vectors(part: Part) -> torch.Tensor:
        return F.normalize(sentence_vectors(model, part).float(), dim=1)

    return infer(model, read(model, texts), 16, unit_vectors)


def similarities(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """Return the cosine similarity of each pair of texts, shape (n·(n−1)/2,)."""
    vectors = embed(model, texts)
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1)
    return (vectors @ vectors.T)[first, second]


def drift(before: Model, after: Model, texts: Sequence[str] | None = None) -> float:
    """Return how much fine-tuning changed an encoder's view of general English: an encoder's kind of forgetting.

    An encoder predicts no words, but finds some texts more similar than others. Drift is 1 minus the rank correlation
    (Spearman, 1904) between the similarities of all pairs of texts before and after: 0 if the order of the pairs
    is unchanged, about 1 if nothing is left of it, up to 2 if it is reversed. NaN if a similarity is not finite.

    Raises:
        LabkitError: a model is not an encoder, or there are fewer than 3 texts.
    """
    if causal := [model.name for model in (before, after) if model.kind != "encoder"]:
        raise LabkitError(f"{causal[0]} gives no sentence vectors to compare.", "Use lk.forgetting.")
    texts = general_english() if texts is None else texts
    if len(texts) < 3:
        raise LabkitError(
            f"Drift compares pairs of at least 3 texts, not of {len(texts)}.", "Pass at least 3 different texts."
        )
    alike = [similarities(model, texts) for model in (before, after)]
    if not all(each.isfinite().all() for each in alike):
        return float("nan")
    ranks = [each.argsort().argsort().double() for each in alike]
    return 1 - torch.corrcoef(torch.stack(ranks))[0, 1].item()
