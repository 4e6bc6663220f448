"""An encoder's classifier: the one that it was trained with or, before any training, the labels' own vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import skip_init

from labkit.errors import LabkitError
from labkit.models.encoding import padding_id
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model
from labkit.training.batching import collate, read
from labkit.training.objectives import sentence_vectors

ZERO_SHOT_SCALE = 20.0  # cosine similarities are close together; this spreads them before the softmax


def head_for(model: Model, labels: Sequence[str]) -> nn.Linear:
    """Return an encoder's trained head, or the zero-shot one if it has none.

    The head's rows are in the order of ``labels``: if it was trained on the same classes in another order, a copy
    with its rows in this order is returned.

    Raises:
        LabkitError: the head was trained for other classes.
    """
    head = model.head or zero_shot_head(model, labels)
    remedy = "Use the model as load_model gives it, or the task that it was fine-tuned on."
    if head.out_features != len(labels):
        raise LabkitError(
            f"{model.name} was fine-tuned to tell {head.out_features} classes apart; here there are {len(labels)}.",
            remedy,
        )
    theirs, ours = list(model.labels), list(labels)
    if model.head is None or not theirs or theirs == ours:  # a head that a learner made may have no labels
        return head
    if set(theirs) != set(ours):
        theirs, ours = ([label.strip() for label in each] for each in (theirs, ours))
    if set(theirs) != set(ours) or len(set(ours)) < len(ours):
        raise LabkitError(
            f"{model.name} was fine-tuned to tell {', '.join(theirs)} apart; here the labels are {', '.join(ours)}.",
            remedy,
        )
    sorted_head = nn.Linear(head.in_features, len(ours), device=head.weight.device)
    order = [theirs.index(label) for label in ours]
    with torch.no_grad():
        sorted_head.weight.copy_(head.weight[order])
        sorted_head.bias.copy_(head.bias[order])
    return sorted_head


def zero_shot_head(model: Model, labels: Sequence[str]) -> nn.Linear:
    """Return a head whose rows are the labels' own vectors: a classifier before any training."""
    batch = collate(read(model, labels, what="label"), padding_id(model), model.device)
    with inference(model):
        vectors = sentence_vectors(model, batch).float()
    head = skip_init(nn.Linear, vectors.shape[1], len(labels), device=model.device)
    with torch.no_grad():
        head.weight.copy_(ZERO_SHOT_SCALE * vectors)
        head.bias.zero_()
    return head
