"""Episodes: replies with what a step of reinforcement learning makes of them, before anything is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.conversations.messages import conversation
from labkit.conversations.pieces import text_of
from labkit.errors import LabkitError, require_seed, shown
from labkit.generation.prompts import fitted
from labkit.generation.replies import Reply
from labkit.models.model import Model
from labkit.process import as_by_default, own_random_numbers, seed_all
from labkit.tasks.questions import questions
from labkit.tasks.task import Task
from labkit.training.config import TrainingConfig
from labkit.training.credit import credit, drawn_at, zero_head
from labkit.training.rewards import Reward, Rewards
from labkit.training.rl import RL
from labkit.training.schedule import plan_batches


@dataclass(frozen=True)
class Episode:
    """A reply that a policy drew, and what it is worth.

    Attributes:
        prompt: which prompt it answers, counted from 1; replies to one prompt are a group.
        asked: the prompt: a conversation or a text.
        reply: what was drawn.
        tokens: the text of each token.
        advantages: of each token. With a learned value (PPO) each has its own, else all of a reply have one.
        reward: the weighted sum of ``rewards``.
        rewards: what each function gave, by its name.
    """

    prompt: int
    asked: str | list[dict[str, str]] = field(repr=False)
    reply: Reply
    tokens: tuple[str, ...] = field(repr=False)
    advantages: tuple[float, ...]
    reward: float
    rewards: dict[str, float]


@as_by_default()
def sample_episodes(
    model: Model,
    task: Task | Sequence[str] | Sequence[list[dict]],
    rewards: Reward | Sequence[Reward] | Mapping[Reward, float],
    *,
    rl: RL | None = None,
    seed: int = 0,
) -> list[Episode]:
    """Draw replies, reward them and say what each token is worth, as the first step of ``lk.reinforce`` does.

    Nothing is learned. With the same model, task, rewards, ``rl`` and seed, these are the replies that the first step
    of ``lk.reinforce`` learns from. Give it ``run.model`` to see what a trained policy does: where the KL divergence is
    part of the reward, it is that from the model before training. PPO's value head is always a new one, which predicts
    0, as at the first step.

    Args:
        model: a causal model, with or without an adapter.
        task, rewards: as ``lk.reinforce`` takes them. What a reward raises is raised.
        rl: how to learn from rewards; ``rl.prompts`` prompts get ``rl.group`` replies each.
        seed: decides which prompts are asked and how tokens are drawn.

    Returns:
        Replies to the same prompt beside each other; ``lk.show_episodes`` shows them.

    Raises:
        LabkitError: bad prompts, a model that cannot write, or a reward that gives no number for each reply.
    """
    rl, seed = RL() if rl is None else rl, require_seed(seed)
    if not isinstance(rl, RL):
        raise LabkitError(f"rl is {shown(rl)}.", 'Pass lk.RL("grpo"), for example.')
    scored, config = Rewards(rewards), TrainingConfig(seed=seed)
    rows, asked = questions(task)
    prompts = fitted(model, asked, rl.max_new_tokens)
    (plan,) = plan_batches([len(ids) for ids in prompts], rl.prompts, 1, seed)
    with own_random_numbers(model.device):
        seed_all(seed * 1_000_003, model.device)
        samples = drawn_at(model, [prompts[i] for i in plan], rl, seed, 0)
        found = scored([rows[i] for i in plan for _ in range(rl.group)], samples.replies)
        total = scored.total(found)
        head = zero_head(model) if rl.algorithm == "ppo" else None
        known = credit(model, samples, total, rl, config.batch_size, head)
    worth = known.advantage.expand_as(samples.mask).tolist()
    return [
        Episode(
            prompt=number // rl.group + 1,
            asked=_readable(model, asked[plan[number // rl.group]]),
            reply=reply,
            tokens=tuple(text_of(model.tokenizer, token) for token in reply.ids),
            advantages=tuple(worth[number][: reply.tokens]),
            reward=total[number].item(),
            rewards=dict(zip(scored.functions, found[number].tolist(), strict=True)),
        )
        for number, reply in enumerate(samples.replies)
    ]


def _readable(model: Model, asked: Any) -> str | list[dict[str, str]]:
    """Return a prompt as a conversation or a text, where it may be token ids."""
    if isinstance(asked, str):
        return asked
    if isinstance(asked[0], Mapping):
        return conversation(asked)
    return "".join(text_of(model.tokenizer, token) for token in asked)
