"""labkit: a small library to learn fine-tuning with. ``import labkit as lk``."""

from labkit.classroom import check
from labkit.comparisons.run import repeat, results
from labkit.display.block import plot_block
from labkit.display.comparisons import is_tie, plot_predictions, plot_sweep, spread
from labkit.display.decisions import plot_decisions
from labkit.display.explorer import QuantizationExplorer
from labkit.display.grids import plot_grids, relative_error
from labkit.display.pareto import plot_pareto
from labkit.display.planner import MemoryPlanner
from labkit.display.plots import plot_accuracy, plot_curves, plot_history, plot_memory, plot_timeline
from labkit.doctor import doctor
from labkit.errors import LabkitError
from labkit.evaluation import (
    Difference,
    Evaluation,
    Forgetting,
    bootstrap_interval,
    drift,
    evaluate,
    forgetting,
    knowledge,
    label_probabilities,
    latency_ratio,
    paired_bootstrap,
    perplexity,
    text_loss,
)
from labkit.experiment import finetune, predict_memory
from labkit.memory import KINDS, Ledger, MemoryReport
from labkit.methods import (
    IA3,
    BottleneckAdapters,
    FullFineTuning,
    HeadOnly,
    LoRA,
    LoRALinear,
    PrefixTuning,
    PromptTuning,
    QLoRA,
    disable_adapter,
    merge,
    quantize_model,
)
from labkit.models.blueprints import BLUEPRINTS, blueprint
from labkit.models.context import TruncationWarning
from labkit.models.model import Model, load_model
from labkit.planning import Plan, plan
from labkit.quant.absmax import quantize_absmax, quantize_zero_point
from labkit.quant.blockwise import quantize
from labkit.quant.layers import Quantization
from labkit.runs import Run, load_run
from labkit.tasks.english import general_english, general_knowledge
from labkit.tasks.load import load_task
from labkit.tasks.summary import describe
from labkit.tasks.task import Task
from labkit.training.callbacks import Callback, Every
from labkit.training.config import TrainingConfig
from labkit.training.loop import TrainingDivergedError

__all__ = [
    "BLUEPRINTS",
    "IA3",
    "KINDS",
    "BottleneckAdapters",
    "Callback",
    "Difference",
    "Evaluation",
    "Every",
    "Forgetting",
    "FullFineTuning",
    "HeadOnly",
    "LabkitError",
    "Ledger",
    "LoRA",
    "LoRALinear",
    "MemoryPlanner",
    "MemoryReport",
    "Model",
    "Plan",
    "PrefixTuning",
    "PromptTuning",
    "QLoRA",
    "Quantization",
    "QuantizationExplorer",
    "Run",
    "Task",
    "TrainingConfig",
    "TrainingDivergedError",
    "TruncationWarning",
    "blueprint",
    "bootstrap_interval",
    "check",
    "describe",
    "disable_adapter",
    "doctor",
    "drift",
    "evaluate",
    "finetune",
    "forgetting",
    "general_english",
    "general_knowledge",
    "is_tie",
    "knowledge",
    "label_probabilities",
    "latency_ratio",
    "load_model",
    "load_run",
    "load_task",
    "merge",
    "paired_bootstrap",
    "perplexity",
    "plan",
    "plot_accuracy",
    "plot_block",
    "plot_curves",
    "plot_decisions",
    "plot_grids",
    "plot_history",
    "plot_memory",
    "plot_pareto",
    "plot_predictions",
    "plot_sweep",
    "plot_timeline",
    "predict_memory",
    "quantize",
    "quantize_absmax",
    "quantize_model",
    "quantize_zero_point",
    "relative_error",
    "repeat",
    "results",
    "spread",
    "text_loss",
]
