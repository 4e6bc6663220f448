"""The loss of a batch, computed only where there is something to learn."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from labkit.models.model import Model
from labkit.training.batching import IGNORED, Batch


def completion_loss(model: Model, batch: Batch) -> tuple[torch.Tensor, int]:
    """Return the summed cross-entropy, in nats, of the tokens to learn, and their number.

    A causal model would return logits for every position, each as wide as the vocabulary: the largest
    tensor of a step, most of it thrown away under completion-only loss. ``logits_to_keep`` limits them to the
    columns that hold a target in some row, and the mask then picks the exact positions.
    """
    targets = batch.targets[:, 1:]  # position i predicts token i + 1
    wanted = targets != IGNORED
    columns = wanted.any(dim=0).nonzero().squeeze(1)
    logits = logits_at(model, batch, columns)
    kept = wanted[:, columns].nonzero(as_tuple=True)
    loss = F.cross_entropy(logits[kept].float(), targets[:, columns][kept], reduction="sum")
    return loss, len(kept[0])


def logits_at(model: Model, batch: Batch, columns: torch.Tensor) -> torch.Tensor:
    """Return a causal model's logits at some positions of every row, shape (examples, columns, vocabulary)."""
    # Counted from the end, columns stay right when a method puts virtual tokens before the prompt.
    return model.module(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        logits_to_keep=columns - batch.input_ids.shape[1],
        use_cache=False,
    ).logits


def classification_loss(model: Model, batch: Batch) -> tuple[torch.Tensor, int]:
    """Return the summed cross-entropy of the classes that an encoder's head predicts, and their number."""
    loss = F.cross_entropy(class_logits(model, batch).float(), batch.labels, reduction="sum")
    return loss, len(batch.labels)


def class_logits(model: Model, batch: Batch) -> torch.Tensor:
    """Return the head's logits, shape (examples, classes), from the mean of an encoder's token vectors."""
    assert model.head is not None  # fine-tuning gives an encoder a head before the first batch
    return model.head(sentence_vectors(model, batch))


def sentence_vectors(model: Model, batch: Batch) -> torch.Tensor:
    """Return one unit vector for each text: the normalized mean over its tokens (Reimers and Gurevych, 2019)."""
    hidden = model.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    mask = batch.attention_mask.unsqueeze(-1)
    return F.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)
