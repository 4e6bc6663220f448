"""The training loop. Notebook 01 opens it up line by line."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.memory import Ledger, MemoryReport
from labkit.memory.free import return_freed_memory
from labkit.memory.recorder import can_record
from labkit.models.encoding import padding_id
from labkit.models.model import Model
from labkit.process import own_random_numbers, seed_all
from labkit.quant.bnb import guard
from labkit.training.accelerator import accelerate
from labkit.training.batching import Batch, Example, collate
from labkit.training.callbacks import Callback
from labkit.training.checkpoints import Checkpoints
from labkit.training.config import TrainingConfig
from labkit.training.objectives import classification_loss, completion_loss
from labkit.training.optimizers import make_optimizer
from labkit.training.packing import require_packable
from labkit.training.pair_objective import PairBatch, PairObjective
from labkit.training.processes import Processes, meet_the_others
from labkit.training.recomputation import Recomputation
from labkit.training.schedule import Schedule


class TrainingDivergedError(LabkitError):
    """The loss or a gradient became infinite or not a number.

    Attributes:
        run: the model with its last good weights; ``labkit.finetune`` adds it.
    """

    run: Any  # labkit.runs.Run, which this room may not import


class Trainer:
    """Trains the parameters of a model that require gradients.

    Args:
        model: as a method's ``apply`` returned it; its weights are changed in place.
        examples: what to learn; with ``config.preference``, pairs, as ``encode_pairs`` returns them.
        config: how.
        replay: plain text to train on at every ``config.replay_every``-th step.
        processes: the processes that share the work; by default, those that a launcher has started.

    Raises:
        LabkitError: ``config.packing`` is set, and packed examples would see each other.
    """

    def __init__(
        self,
        model: Model,
        examples: Sequence[Example],
        config: TrainingConfig,
        replay: Sequence[Example] = (),
        processes: Processes | None = None,
    ):
        if config.packing:
            require_packable(model)
        self.model, self.config = model, config
        self.processes = processes or meet_the_others(model.device)
        self.named = self.trained()
        self.parameters = list(self.named.values())
        guard(model.module)
        self.adamw = make_optimizer(self.parameters, config)
        self.accelerator, self.optimizer = accelerate(model, self.adamw)
        self.history: list[dict] = []
        self.memory: MemoryReport | None = None
        self.schedule = Schedule(examples, replay, config)
        self.pairs = PairObjective(model, self.schedule, config, self.processes) if config.preference else None
        self.objective: Any = self.pairs or (completion_loss if model.kind == "causal" else classification_loss)
        self.recomputation = Recomputation(model) if config.gradient_checkpointing else None

    def prepare(self) -> None:
        """Compute what must be known before the weights change, by a step or by a checkpoint: a reference."""
        if self.pairs:
            self.pairs.prepare(self.config.steps)

    def trained(self) -> Mapping[str, nn.Parameter]:
        """Return the parameters to train, by the names that they have in checkpoints."""
        return self.model.trainable()

    def run(self, callbacks: Sequence[Callback] = (), checkpoints: Checkpoints | None = None) -> None:
        """Train to the end, from the newest checkpoint if there is one.

        However the run ends, the model is ready for use afterwards, and the caller's random numbers are unaffected.

        Raises:
            TrainingDivergedError: a loss or gradient was not finite; the weights are the last good ones.
        """
        try:
            self._run(callbacks, checkpoints)
        finally:
            self.close()

    def _run(self, callbacks: Sequence[Callback], checkpoints: Checkpoints | None) -> None:
        start = 0
        self.prepare()
        self.optimizer.zero_grad(set_to_none=True)  # gradients that the caller left would be added to ours
        if checkpoints:
            start, self.history, scaler = checkpoints.load(self.named, self.adamw)
            if self.accelerator.scaler and scaler:
                self.accelerator.scaler.load_state_dict(scaler)
        # The second step too, in case a callback ends the run before the largest one.
        measured = {min(start + 1, self.config.steps - 1), *self.schedule.largest(start)} if can_record() else ()
        for step in range(start, self.config.steps):
            began = time.perf_counter()
            with own_random_numbers(self.model.device):
                record = self._measured(step, checkpoints) if step in measured else self.step(step, checkpoints)
            record["seconds"] = time.perf_counter() - began
            self.history.append(record)
            last = step + 1 == self.config.steps
            for callback in callbacks:
                last = bool(callback(self.model, record, last)) or last
            last = self.processes.any(last)
            if checkpoints and (last or (step + 1) % self.config.checkpoint_every == 0):
                self._save(checkpoints, step + 1)
            if last:
                break

    def close(self) -> None:
        """Make the model ready for use: without gradients and gradient checkpointing, in evaluation mode."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.recomputation:
            self.recomputation.end()
        self.model.module.eval()
        return_freed_memory()

    def _measured(self, step: int, checkpoints: Checkpoints | None) -> dict:
        with Ledger(self.model.module, self.adamw, self.model.head) as ledger:
            record = self.step(step, checkpoints)
        report = ledger.report
        if report and (self.memory is None or report.peak > self.memory.peak):
            self.memory = report
        return record

    def step(self, step: int, checkpoints: Checkpoints | None = None) -> dict:
        """Take one step of the run, counted from 0, and return its record."""
        self.model.module.train()
        seed_all(self.config.seed * 1_000_003 + step, self.model.device)  # dropout, the same after a resume
        rate = self.adamw.param_groups[0]["lr"] = self.config.rate_at(step)
        batches, share = self._batches(step)
        total = 0.0
        for batch in batches:
            with self.model.autocast():
                loss, _ = self.objective(self.model, batch)
                loss = loss * share  # a mean over the tokens of the whole step, not of one batch
            found = self.processes.total(loss)
            if not torch.isfinite(found):
                self._diverged(step, f"the loss is {found.item()}", checkpoints)
            self.accelerator.backward(loss)
            total += found.item()
        self.processes.add_up(self.parameters)
        norm = float(self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        if not math.isfinite(norm) and not self.accelerator.scaler:  # float16's scaler skips such steps
            self._diverged(step, f"the gradient's norm is {norm}", checkpoints)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(len(example.tokens) for batch in self.schedule.batches(step) for example in batch)
        record = {"step": step + 1, "loss": total, "learning_rate": rate, "grad_norm": norm, "tokens": tokens}
        return record | (self.pairs.found() if self.pairs else {})

    def _batches(self, step: int) -> tuple[Sequence[Batch | PairBatch], float]:
        """Return this process's batches of a step, and the weight of one learned token, or of a pair, in the loss."""
        if self.pairs:
            return self.pairs.batches(step)
        batches = self.schedule.batches(step)
        learned = sum(max(example.learned, 1) for batch in batches for example in batch)
        pad = padding_id(self.model)
        return [collate(self.processes.share_of(batch), pad, self.model.device) for batch in batches], 1 / learned

    def _diverged(self, step: int, what: str, checkpoints: Checkpoints | None) -> NoReturn:
        kept = step
        if checkpoints:
            # The weights themselves may have overflowed in the step before; a checkpoint's are sure to be good.
            kept = checkpoints.load(self.named, self.adamw)[0] or step
            del self.history[kept:]
        raise TrainingDivergedError(
            f"Training stopped at step {step + 1}: {what}. The model keeps its weights after step {kept}.",
            f"Lower the learning rate ({self.config.learning_rate:g}) or max_grad_norm, or lengthen the warm-up.",
        )

    def _save(self, checkpoints: Checkpoints, done: int) -> None:
        if self.processes.rank == 0:
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else {}
            checkpoints.save(done, self.named, self.adamw, self.history, scaler)
