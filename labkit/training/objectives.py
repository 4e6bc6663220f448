"""The loss of a batch, computed only where there is something to learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn import functional as F

from labkit.models.model import Model
from labkit.training.batching import IGNORED, Batch


def completion_loss(model: Model, batch: Batch, reduction: str = "sum") -> tuple[torch.Tensor, int]:
    """Return the summed cross-entropy, in nats, of the tokens to learn, and their number.

    With ``reduction="none"``, it is that of each token, row by row.

    A causal model would return logits for every position, each as wide as the vocabulary: the largest
    tensor of a step, most of it thrown away under completion-only loss. ``logits_to_keep`` limits them to the
    columns that hold a target in some row, and the mask then picks the exact positions. Where targets may be anywhere
    in a row, nearly every column holds one, so the positions are picked before the logits are computed.
    """
    targets = batch.targets[:, 1:]  # position i predicts token i + 1
    wanted = targets != IGNORED
    columns = wanted.any(dim=0).nonzero().squeeze(1)
    kept = wanted[:, columns].nonzero(as_tuple=True)
    with only(model, kept) if batch.masked else nullcontext():
        logits = logits_at(model, batch, columns)
    chosen = (slice(None), 0) if batch.masked else kept
    # No name for the chosen logits, which would keep their 16-bit form beside the 32-bit one.
    loss = F.cross_entropy(logits[chosen].float(), targets[:, columns][kept], reduction=reduction)
    return loss, len(kept[0])


@contextmanager
def only(model: Model, places: tuple[torch.Tensor, ...]) -> Iterator[None]:
    """Let a causal model compute logits of some places (rows, columns), as if each were a text of one token.

    What follows the layer of the logits, in any architecture here, treats each place alone.
    """
    layer = model.module.get_output_embeddings()
    handle = layer.register_forward_pre_hook(lambda _, args: (args[0][places].unsqueeze(1),))
    try:
        yield
    finally:
        handle.remove()


def logits_at(model: Model, batch: Batch, columns: torch.Tensor) -> torch.Tensor:
    """Return a causal model's logits at some positions of every row, shape (examples, columns, vocabulary)."""
    # Counted from the end, columns stay right when a method puts virtual tokens before the prompt.
    return model.module(
        input_ids=batch.input_ids,
        logits_to_keep=columns - batch.input_ids.shape[1],
        use_cache=False,
        **_seen(batch),
    ).logits


def _seen(batch: Batch) -> dict[str, torch.Tensor]:
    """Return what tells a causal model which tokens each token sees.

    Without a mask, transformers takes positions that start again for the beginning of another text, and masks all
    before it (``packed_sequence_mask`` in its ``masking_utils.py``). Unlike a mask of our own, its mask also suits
    layers with a sliding window.
    """
    if batch.position_ids is None:
        return {"attention_mask": batch.attention_mask}
    return {"position_ids": batch.position_ids}


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
