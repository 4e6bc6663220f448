"""How a run is made: it is trained to its end, or the same run is given back that was kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import Any

from labkit.models.model import Model
from labkit.runs.keep import Kept
from labkit.runs.run import Run
from labkit.training.callbacks import Callback, Progress
from labkit.training.checkpoints import Checkpoints
from labkit.training.loop import Trainer


def make(
    model: Model,
    begin: Callable[[], Trainer],
    about: dict[str, Any],
    callbacks: Sequence[Callback],
    *,
    saved: Checkpoints | None = None,
    resume: bool = False,
    kept: Kept | None = None,
    progress: bool = True,
) -> Run:
    """Return the run. Whatever ends it early has the run so far in its attribute ``run``.

    Args:
        model: what the run starts from.
        begin: returns a trainer of the run before its first step.
        about: what the run says of itself: its method, config, base and task, and rl where there is one.
        callbacks: called after each step.
        saved: where the run saves its state.
        resume: go on from there; otherwise, what is there is removed.
        kept: where the run is kept.
        progress: show a bar.
    """

    def bar() -> AbstractContextManager[Progress | None]:
        return closing(Progress(about["config"].steps)) if progress else nullcontext()

    with kept.alone() if kept else nullcontext():
        if kept and (found := kept.find(model, begin)):
            with bar() as shown:
                if shown:
                    shown.skip(found.history[-1], "a kept run, whose first step came out the same")
            return replace(found, **about)
        if saved and not resume:
            saved.clear()
        trainer = begin()
        run = Run(trainer.model, **about, labels=trainer.model.labels, history=trainer.history)
        if kept:
            kept.warn_if_full(trainer)
            saved = saved or kept.checkpoints(trainer)
        with bar() as shown:
            try:
                try:
                    trainer.run([*callbacks, *([shown] if shown else [])], saved)
                finally:
                    run.history, run.memory = trainer.history, trainer.memory
                if kept and (size := kept.keep(run)) and shown:
                    shown.say(f"trained, and kept in {size / 1e6:.1f} MB")
            except BaseException as stop:
                stop.run = run  # type: ignore[attr-defined]  # what was learned so far isn't lost
                raise
    return run
