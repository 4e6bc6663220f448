"""A step of reinforcement learning over fake weights, whose replies all have as many tokens as they may.

How long replies are, nobody knows before they are drawn: this is the most that a step can take. What the rewards
take themselves, such as a reward model, is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from labkit.generation.batched import batches_of
from labkit.generation.casts import Casts
from labkit.generation.replies import Replies, Reply
from labkit.generation.sampling import random_numbers
from labkit.models.decoding import pads
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model
from labkit.planning.fake import FakeMode
from labkit.planning.step import Step
from labkit.training.config import TrainingConfig
from labkit.training.policy import PolicyTrainer
from labkit.training.processes import Processes
from labkit.training.rewards import Rewards
from labkit.training.rl import RL
from labkit.training.rollouts import Samples

TOKEN = 1  # what fake replies consist of, as a number that was never computed is 1


class Rehearsal(PolicyTrainer):
    """A trainer whose weights are fake.

    Args:
        model: with fake weights.
        step: what to simulate.
        config: how it is trained.
        rl: how it learns from rewards.
        mode: in which it is simulated.
        reference: a copy of the model before training, or None.
    """

    def __init__(
        self, model: Model, step: Step, config: TrainingConfig, rl: RL, mode: FakeMode, reference: Model | None
    ):
        self.mode, self._part = mode, ""
        prompts = [example.tokens[: -example.learned] for example in step.examples[:: rl.group]]
        rewards = Rewards(lambda rows, replies: [0.0] * len(replies))
        super().__init__(model, [{}] * len(prompts), prompts, rewards, config, rl, Processes(), reference)
        self.plan = [list(range(len(prompts)))]
        for network in (model.module, *([reference.module] if reference else [])):
            network.register_forward_pre_hook(self._mark)

    def new_value_head(self, model: Model) -> nn.Linear:
        """Return a fake value head."""
        head = super().new_value_head(model).to("meta")
        self.mode.fill(head)
        return head

    def draw(self, prompts: list[list[int]], step: int) -> Samples:
        """Go through what ``rollouts.draw`` does."""
        rl = self.rl
        asked = [list(ids) for ids in prompts for _ in range(rl.group)]
        numbers, made = random_numbers(asked, rl.max_new_tokens, step), dict[int, Reply]()
        count = rl.max_new_tokens
        with inference(self.model), Casts(self.model).swapped():
            for part in batches_of(asked, len(asked), pads(self.model)):
                rows = [asked[i] for i in part]
                replies = _Replies(self.model, rows, count, rl.sampling, numbers[part], drawn=True)
                self._part = "reading"
                left = replies.step()
                self._part = "sampling"
                self.mode.mark("skipping")
                replies.skip(count - 3)
                while left:
                    left = replies.step()
                made.update(zip(part, replies.finished(), strict=True))
        self._part = ""
        return _Samples.of(asked, [made[i] for i in range(len(asked))], rl.sampling, self.model.device)

    def _mark(self, *_: object) -> None:
        self.mode.mark(self._part or ("learning" if torch.is_grad_enabled() else "scoring"))


class _Samples(Samples):
    def parts(self, size: int) -> list[slice]:
        """Return the three largest parts: where there are more, the others need no more than these."""

        def tokens(part: slice) -> int:
            rows = self.prompts[part]
            return len(rows) * (max(map(len, rows)) + self.mask.shape[1])

        return sorted(super().parts(size), key=tokens)[-3:]

    def joined(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return a tensor for all samples, although only some parts are read."""
        return parts[0].new_zeros(self.mask.shape)


class _Replies(Replies):
    """Replies that never end by themselves; only their first token and their last two are simulated."""

    def known_ends(self) -> set[int]:
        """Return no tokens."""
        return set()

    def choices(self, scores: torch.Tensor) -> torch.Tensor:
        """Return as many tokens as can be drawn."""
        assert self.sampling is not None
        return torch.zeros(min(self.sampling.top_k or len(scores), len(scores)), dtype=torch.int)

    def text(self, row: int) -> str:
        """Return no text, as nothing can be decoded."""
        return ""

    def skip(self, count: int) -> None:
        """Go on as if ``count`` more tokens had been drawn."""
        if count < 1:
            return
        for _ in range(count):
            self._decoding.append(torch.full((len(self.rows),), TOKEN), [True] * len(self.rows))
        for layer in self._decoding.cache.layers:
            # Keys and values of one token, so that they take nothing beside what the cache holds of them.
            one = (each[:, :, :1].new_empty(each[:, :, :1].shape) for each in (layer.keys, layer.values))
            layer.update(*(each.expand(-1, -1, count, -1) for each in one))
        for row in range(len(self.rows)):
            self.ids[row] += [TOKEN] * count
            self._drawn[row] += [1.0] * count
            self._choices[row] += [each.clone() for each in self._choices[row] for _ in range(count)]
        self._steps += count
