"""Replies that a policy drew, and how likely a model finds them: under the very distribution that drew them.

The most common silent bug of reinforcement learning is that both differ: another temperature, padding that is read,
top-k or top-p that only one side knows. Likelihood ratios are then wrong from the first step, and nothing fails. Where
top-k or top-p are on, the tokens that could be drawn are kept, and training chooses among the same ones (DeepSeek-AI,
2025, arXiv:2512.02556, "Keep Sampling Mask").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from labkit.generation.batched import generate
from labkit.generation.replies import Reply
from labkit.generation.sampling import Sampling
from labkit.models.encoding import padding_id
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model
from labkit.training.batching import IGNORED, Example, collate
from labkit.training.objectives import logits_at, only
from labkit.training.rl import RL


@dataclass(frozen=True)
class Samples:
    """Replies to some prompts, the replies to one prompt beside each other.

    Attributes:
        prompts: the ids of each reply's prompt.
        replies: what was drawn.
        sampling: how.
        mask: shape (replies, tokens of the longest): 1 for a token, 0 for the padding behind it.
        old: the tokens' log-probabilities when they were drawn, of the same shape; 0 for padding.
    """

    prompts: list[list[int]]
    replies: list[Reply]
    sampling: Sampling
    mask: torch.Tensor
    old: torch.Tensor

    @classmethod
    def of(cls, prompts: list[list[int]], replies: list[Reply], sampling: Sampling, device: torch.device) -> Samples:
        """Return replies, which ``generate(…, drawn=True)`` made, with their tensors."""
        lengths = torch.tensor([len(reply.ids) for reply in replies])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        flat = torch.tensor([value for reply in replies for value in reply.drawn])
        old = torch.zeros(mask.shape).masked_scatter(mask, flat)
        return cls(prompts, replies, sampling, mask.float().to(device), old.to(device))

    def parts(self, size: int) -> list[slice]:
        """Return the parts of at most ``size`` replies in which they are read."""
        return [slice(i, i + size) for i in range(0, len(self.replies), size)]

    def joined(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return what was found for each part as one tensor."""
        return torch.cat(list(parts))


def draw(model: Model, prompts: Sequence[list[int]], rl: RL, seed: int) -> Samples:
    """Return ``rl.group`` replies to each prompt; the same seed gives the same replies."""
    asked = [list(ids) for ids in prompts for _ in range(rl.group)]
    made = partial(generate, sampling=rl.sampling, batch_size=len(asked), seed=seed, drawn=True)
    return Samples.of(asked, made(model, asked, rl.max_new_tokens), rl.sampling, model.device)


@dataclass(frozen=True)
class Scores:
    """What a model makes of replies, token by token, shape (replies, tokens); 0 for padding.

    Attributes:
        logprobs: of the tokens, as they were drawn.
        entropy: of the distributions that they are drawn from, in nats; without gradients.
        values: what a value head predicts before each token, or None.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor
    values: torch.Tensor | None = None


def score(model: Model, samples: Samples, part: slice, value_head: nn.Linear | None = None) -> Scores:
    """Return what a model makes of a part of the samples.

    Args:
        model: the policy, or the reference where its adapter is disabled.
        samples: replies with what they were drawn with.
        part: which of them.
        value_head: predicts a value from the hidden state before each token, which it doesn't change.
    """
    replies, mask = samples.replies[part], samples.mask[part].bool()
    rows = zip(samples.prompts[part], replies, strict=True)
    examples = [Example([*prompt, *reply.ids], len(reply.ids)) for prompt, reply in rows]
    batch = collate(examples, padding_id(model), model.device)
    wanted = batch.targets[:, 1:] != IGNORED  # position i predicts token i + 1
    columns = wanted.any(dim=0).nonzero().squeeze(1)
    states: list[torch.Tensor] = []
    with only(model, wanted[:, columns].nonzero(as_tuple=True)), _watched(model, states):
        logits = logits_at(model, batch, columns)[:, 0].float()
    logits = _as_drawn(logits, samples.sampling, replies)
    tokens = torch.tensor([token for reply in replies for token in reply.ids], device=model.device)
    logprobs = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(1)
    with torch.no_grad():
        entropy = torch.special.entr(logits.softmax(1)).sum(1)
    values = None
    if value_head is not None:
        with torch.autocast(model.device.type, enabled=False):  # its float32 is cheap
            values = value_head(states[0][:, 0].detach().float())[:, 0]
    padded = partial(torch.masked_scatter, torch.zeros(mask.shape, device=model.device), mask)
    return Scores(padded(logprobs), padded(entropy), None if values is None else padded(values))


def score_all(model: Model, samples: Samples, size: int, value_head: nn.Linear | None = None) -> Scores:
    """Return the same of all samples, read ``size`` at a time, without gradients."""
    with inference(model):
        found = [score(model, samples, part, value_head) for part in samples.parts(size)]
    values = [each.values for each in found if each.values is not None]
    logprobs, entropy = (samples.joined([getattr(each, name) for each in found]) for name in ("logprobs", "entropy"))
    return Scores(logprobs, entropy, samples.joined(values) if values else None)


def _as_drawn(logits: torch.Tensor, sampling: Sampling, replies: Sequence[Reply]) -> torch.Tensor:
    """Return logits divided by the temperature, and -inf for tokens that could not be drawn."""
    logits = logits / sampling.temperature
    if sampling.draws_all:
        return logits
    choices = list(chain.from_iterable(reply.choices for reply in replies))
    counts = torch.tensor([len(each) for each in choices])
    places = torch.repeat_interleave(torch.arange(len(choices)), counts)
    drawn = torch.zeros_like(logits, dtype=torch.bool)
    drawn[places.to(logits.device), torch.cat(choices).long().to(logits.device)] = True
    return logits.masked_fill(~drawn, -torch.inf)


def _watched(model: Model, states: list[torch.Tensor]) -> RemovableHandle:
    layer = model.module.get_output_embeddings()
    return layer.register_forward_pre_hook(lambda _, args: states.append(args[0]))
