"""The loop of reinforcement learning: draw replies, score them, make the better ones likelier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import nn

from labkit.errors import first_line
from labkit.models.model import Model
from labkit.process import seed_all
from labkit.training.batching import Example
from labkit.training.checkpoints import Checkpoints
from labkit.training.config import TrainingConfig
from labkit.training.credit import credit, drawn_at, zero_head
from labkit.training.loop import Trainer
from labkit.training.ppo import value_loss
from labkit.training.processes import Processes
from labkit.training.rewards import RewardError, Rewards
from labkit.training.rl import RL, flat_groups, rl_loss, token_weights
from labkit.training.rollouts import Samples, score
from labkit.training.schedule import plan_batches


class PolicyTrainer(Trainer):
    """Trains the parameters of a causal model that require gradients on rewards.

    A step draws ``rl.group`` replies to each of ``rl.prompts`` prompts, scores them, and makes ``rl.updates`` updates.
    The network stays in evaluation mode, so that no dropout comes between what drew the replies and what is trained.
    The random numbers of a step depend on the seed and the step alone, so a resumed run draws the same replies.

    Args:
        model: as a method's ``apply`` returned it; its weights are changed in place.
        rows: what the rewards are told about each prompt.
        prompts: the ids of each prompt; with ``rl.max_new_tokens`` more, the model must be able to read them.
        rewards: what replies are worth.
        config: how to train; ``batch_size`` is how many replies are read at once.
        rl: how to learn from rewards.
        reference: another model to compare with than the one in training, its adapter disabled.
    """

    def __init__(
        self,
        model: Model,
        rows: Sequence[dict[str, Any]],
        prompts: Sequence[list[int]],
        rewards: Rewards,
        config: TrainingConfig,
        rl: RL,
        processes: Processes | None = None,
        reference: Model | None = None,
    ):
        self.value_head = self.new_value_head(model) if rl.algorithm == "ppo" else None
        super().__init__(model, [Example(ids, 0) for ids in prompts], config, (), processes)
        self.rows, self.prompts, self.rewards, self.rl = list(rows), list(prompts), rewards, rl
        self.plan = plan_batches([len(ids) for ids in prompts], rl.prompts, config.steps, config.seed)
        self.reference = reference

    def new_value_head(self, model: Model) -> nn.Linear:
        """Return the value head of the first step."""
        return zero_head(model)

    def trained(self) -> Mapping[str, nn.Parameter]:
        """Return the parameters of the model and of the value head, by name."""
        head = dict(self.value_head.named_parameters()) if self.value_head is not None else {}
        return self.model.trainable() | {f"value.{name}": parameter for name, parameter in head.items()}

    def _measured(self, step: int, checkpoints: Checkpoints | None) -> dict:
        return self.step(step, checkpoints)  # a ledger would follow every operation of the sampling, too

    def step(self, step: int, checkpoints: Checkpoints | None = None) -> dict:
        """Take one step of the run, counted from 0, and return its record.

        Raises:
            RewardError: a reward failed once more than ``rl.max_failures`` allows.
        """
        self.model.module.eval()
        seed_all(self.config.seed * 1_000_003 + step, self.model.device)
        rate = self.adamw.param_groups[0]["lr"] = self.config.rate_at(step)
        samples = self.draw([self.prompts[i] for i in self.plan[step]], step)
        rows = [self.rows[i] for i in self.plan[step] for _ in range(self.rl.group)]
        lengths = [reply.tokens for reply in samples.replies]
        record = {"step": step + 1, "loss": math.nan, "learning_rate": rate, "grad_norm": math.nan}
        record |= {"tokens": sum(map(len, samples.prompts)) + sum(lengths), "length": fmean(lengths)}
        record["ended"] = fmean(reply.stopped for reply in samples.replies)
        try:
            found = self.rewards(rows, samples.replies)
        except Exception as problem:
            return record | {"skipped": self._failed(step, problem)}
        named = {
            f"reward_{name}": value for name, value in zip(self.rewards.functions, found.mean(0).tolist(), strict=True)
        }
        return record | (named if len(named) > 1 else {}) | self._learn(step, samples, found, checkpoints)

    def draw(self, prompts: list[list[int]], step: int) -> Samples:
        """Return replies of the policy to the prompts of a step."""
        return drawn_at(self.model, prompts, self.rl, self.config.seed, step)

    def _failed(self, step: int, problem: Exception) -> str:
        """Return what to write of a failed reward, or raise where it is one too many."""
        what = f"{type(problem).__name__}: {getattr(problem, 'cause', first_line(problem))}"
        failures = 1 + sum("skipped" in record for record in self.history)
        if failures > self.rl.max_failures:
            raise RewardError(
                f"Training stopped at step {step + 1}: rewards failed at {failures} of its steps, the last by {what}",
                "Fix the reward: the traceback above shows where. RL(max_failures=…) says how many steps may be lost.",
            ) from problem
        return what

    def _learn(self, step: int, samples: Samples, found: torch.Tensor, checkpoints: Checkpoints | None) -> dict:
        rl, mask, size = self.rl, samples.mask, self.config.batch_size
        rewards = self.rewards.total(found)
        known = credit(self.model, samples, rewards, rl, size, self.value_head, self.reference)
        advantage, returns, before, reference = known.advantage, known.returns, known.before, known.reference
        weights, records = token_weights(rl, mask), []
        # Ratios compare with what training computes before its first update, not with what drew the tokens: in 16 bits
        # both differ by rounding, of which the ratio of a whole reply has the sum. It would be clipped at once.
        olds: list[torch.Tensor] = []
        for update in range(rl.updates):
            sums: dict[str, Any] = dict.fromkeys(("loss", "clipped", "kl", "entropy", "mismatch"), 0.0)
            for number, part in enumerate(samples.parts(size)):
                with self.model.autocast():
                    now = score(self.model, samples, part, self.value_head)
                olds += [now.logprobs.detach()] * (update == 0)
                theirs = None if reference is None else reference[part]
                loss, watched = rl_loss(rl, now.logprobs, olds[number], advantage[part], weights[part], theirs)
                if now.values is not None and before is not None and before.values is not None:
                    near = before.values[part], returns[part], weights[part]
                    loss = loss + value_loss(rl.value, now.values, *near)
                if not torch.isfinite(loss):
                    self._diverged(step, f"the loss of update {update + 1} is {loss.item()}", checkpoints)
                self.accelerator.backward(loss)
                watched |= {"entropy": now.entropy, "mismatch": (now.logprobs.detach() - samples.old[part]).abs()}
                for name, values in watched.items():
                    sums[name] = sums[name] + (values * mask[part]).sum() / mask.sum()
                sums["loss"] = sums["loss"] + loss.detach()
            norm = self._update(step, checkpoints)
            records.append({name: float(found) for name, found in sums.items()} | {"grad_norm": norm})
        groups = rewards.view(-1, rl.group)
        made = {name: fmean(each[name] for each in records) for name in ("loss", "grad_norm", "clipped")}
        made |= {name: records[0][name] for name in ("entropy", "mismatch")}
        made |= {"kl": records[0]["kl"]} if reference is not None else {}
        return made | {"reward": rewards.mean().item(), "reward_std": rewards.std().item(), "flat": flat_groups(groups)}

    def _update(self, step: int, checkpoints: Checkpoints | None) -> float:
        norm = float(self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        if not math.isfinite(norm) and not self.accelerator.scaler:
            self._diverged(step, f"the gradient's norm is {norm}", checkpoints)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm
