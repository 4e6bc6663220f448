"""labkit: a small library to learn fine-tuning with. ``import labkit as lk``.

Names are imported when they are first used (PEP 562): torch and transformers take seconds, and ``labkit --help`` needs
neither.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for editors and type checkers, which run no code
    from labkit.classroom import check
    from labkit.classroom.guesses import guess
    from labkit.combining import combine
    from labkit.comparisons.results import repeat, results
    from labkit.comparisons.spread import spread
    from labkit.conversations.faults import check_masks
    from labkit.curation.inspection import inspect
    from labkit.diagnosis import doctor
    from labkit.display import plots
    from labkit.display.chat import ChatWidget
    from labkit.display.episodes import show_episodes
    from labkit.display.explorer import QuantizationExplorer
    from labkit.display.masks import show_masks
    from labkit.display.planner import MemoryPlanner
    from labkit.display.side_by_side import SideBySide
    from labkit.display.transcripts import show_replies
    from labkit.errors import LabkitError
    from labkit.evaluation import (
        compare,
        evaluate,
        forgetting,
        knowledge,
        perplexity,
        score_pairs,
        score_replies,
        text_loss,
    )
    from labkit.experiment import finetune, predict_memory
    from labkit.exports import export
    from labkit.generation.batched import generate
    from labkit.generation.chat import chat
    from labkit.generation.sampling import Sampling
    from labkit.memory import KINDS, Ledger
    from labkit.methods import (
        IA3,
        BottleneckAdapters,
        FullFineTuning,
        HeadOnly,
        LoRA,
        PrefixTuning,
        PromptTuning,
        QLoRA,
        disable_adapter,
        merge,
        quantize_model,
    )
    from labkit.models.config import BLUEPRINTS
    from labkit.models.load import load_model
    from labkit.models.meta import blueprint
    from labkit.models.model import Model
    from labkit.models.truncation import TruncationWarning
    from labkit.planning.plan import plan
    from labkit.quant.absmax import quantize_absmax
    from labkit.quant.blockwise import quantize
    from labkit.quant.error import relative_error
    from labkit.quant.layers import Quantization
    from labkit.reinforcement import reinforce, reward_model
    from labkit.runs import Run, load_run
    from labkit.specialists import Specialists
    from labkit.tasks.english import general_english
    from labkit.tasks.load import load_task
    from labkit.tasks.summary import describe
    from labkit.tasks.task import Task
    from labkit.training.callbacks import Every
    from labkit.training.config import TrainingConfig
    from labkit.training.episodes import sample_episodes
    from labkit.training.preference import Preference
    from labkit.training.rl import RL
    from labkit.training.sampled_pairs import sample_pairs

__all__ = [
    "BLUEPRINTS",
    "IA3",
    "KINDS",
    "RL",
    "BottleneckAdapters",
    "ChatWidget",
    "Every",
    "FullFineTuning",
    "HeadOnly",
    "LabkitError",
    "Ledger",
    "LoRA",
    "MemoryPlanner",
    "Model",
    "Preference",
    "PrefixTuning",
    "PromptTuning",
    "QLoRA",
    "Quantization",
    "QuantizationExplorer",
    "Run",
    "Sampling",
    "SideBySide",
    "Specialists",
    "Task",
    "TrainingConfig",
    "TruncationWarning",
    "blueprint",
    "chat",
    "check",
    "check_masks",
    "combine",
    "compare",
    "describe",
    "disable_adapter",
    "doctor",
    "evaluate",
    "export",
    "finetune",
    "forgetting",
    "general_english",
    "generate",
    "guess",
    "inspect",
    "knowledge",
    "load_model",
    "load_run",
    "load_task",
    "merge",
    "perplexity",
    "plan",
    "plots",
    "predict_memory",
    "quantize",
    "quantize_absmax",
    "quantize_model",
    "reinforce",
    "relative_error",
    "repeat",
    "results",
    "reward_model",
    "sample_episodes",
    "sample_pairs",
    "score_pairs",
    "score_replies",
    "show_episodes",
    "show_masks",
    "show_replies",
    "spread",
    "text_loss",
]

# Where each name is defined.
_HOMES = {
    "labkit.conversations.faults": "check_masks",
    "labkit.classroom": "check",
    "labkit.classroom.guesses": "guess",
    "labkit.combining": "combine",
    "labkit.comparisons.results": "repeat results",
    "labkit.comparisons.spread": "spread",
    "labkit.curation.inspection": "inspect",
    "labkit.diagnosis": "doctor",
    "labkit.display": "plots",
    "labkit.display.chat": "ChatWidget",
    "labkit.display.episodes": "show_episodes",
    "labkit.display.explorer": "QuantizationExplorer",
    "labkit.display.masks": "show_masks",
    "labkit.display.planner": "MemoryPlanner",
    "labkit.display.side_by_side": "SideBySide",
    "labkit.display.transcripts": "show_replies",
    "labkit.errors": "LabkitError",
    "labkit.evaluation": "compare evaluate forgetting knowledge perplexity score_pairs score_replies text_loss",
    "labkit.experiment": "finetune predict_memory",
    "labkit.exports": "export",
    "labkit.generation.batched": "generate",
    "labkit.generation.chat": "chat",
    "labkit.generation.sampling": "Sampling",
    "labkit.memory": "KINDS Ledger",
    "labkit.methods": "IA3 BottleneckAdapters FullFineTuning HeadOnly LoRA PrefixTuning "
    "PromptTuning QLoRA disable_adapter merge quantize_model",
    "labkit.models.config": "BLUEPRINTS",
    "labkit.models.truncation": "TruncationWarning",
    "labkit.models.load": "load_model",
    "labkit.models.meta": "blueprint",
    "labkit.models.model": "Model",
    "labkit.planning.plan": "plan",
    "labkit.quant.absmax": "quantize_absmax",
    "labkit.quant.blockwise": "quantize",
    "labkit.quant.error": "relative_error",
    "labkit.quant.layers": "Quantization",
    "labkit.reinforcement": "reinforce reward_model",
    "labkit.runs": "Run load_run",
    "labkit.specialists": "Specialists",
    "labkit.tasks.english": "general_english",
    "labkit.tasks.load": "load_task",
    "labkit.tasks.summary": "describe",
    "labkit.tasks.task": "Task",
    "labkit.training.callbacks": "Every",
    "labkit.training.config": "TrainingConfig",
    "labkit.training.episodes": "sample_episodes",
    "labkit.training.sampled_pairs": "sample_pairs",
    "labkit.training.preference": "Preference",
    "labkit.training.rl": "RL",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}
# If one thread imports a package while another imports a module of it, each may wait for the other, and Python then
# gives one of them half a module. So only one thread imports at a time.
_LOCK = RLock()
# On a CPU with AVX512-BF16, bitsandbytes logs when it is imported, by PEFT too, that a faster kernel is missing. That
# doesn't help a learner.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> object:
    """Import a name, or a subpackage such as ``lk.evaluation``, when it is first used."""
    with _LOCK:
        if name in _HOME_OF:
            home = __import__(_HOME_OF[name], fromlist=[name])  # from home import name
            return globals().setdefault(name, getattr(home, name))
        module = f"{__name__}.{name}"
        try:
            if not name.startswith("_"):
                return import_module(module)
        except ModuleNotFoundError as problem:
            if problem.name != module:  # the module exists, but a library that it needs does not
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return list(__all__)
