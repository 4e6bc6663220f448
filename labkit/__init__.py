"""labkit: a small library to learn fine-tuning with. ``import labkit as lk``."""

from labkit.assets.english import general_english, general_knowledge
from labkit.assets.models import Model, load_model
from labkit.assets.tasks import Task, load_task
from labkit.bench import repeat, results
from labkit.classroom import check
from labkit.display.plots import plot_accuracy, plot_curves, plot_history, plot_memory, plot_timeline
from labkit.doctor import doctor
from labkit.errors import LabkitError
from labkit.evaluation import (
    Evaluation,
    Forgetting,
    evaluate,
    forgetting,
    knowledge,
    label_probabilities,
    perplexity,
    text_loss,
)
from labkit.experiment import Run, finetune, load_run
from labkit.memory import Ledger, MemoryReport
from labkit.methods import FullFineTuning, LoRA, QLoRA, merge, quantize_model
from labkit.quant.absmax import quantize_absmax, quantize_zero_point
from labkit.quant.blockwise import quantize
from labkit.quant.layers import Quantization
from labkit.training.callbacks import Callback, Every
from labkit.training.config import TrainingConfig
from labkit.training.loop import TrainingDivergedError

__all__ = [
    "Callback",
    "Evaluation",
    "Every",
    "Forgetting",
    "FullFineTuning",
    "LabkitError",
    "Ledger",
    "LoRA",
    "MemoryReport",
    "Model",
    "QLoRA",
    "Quantization",
    "Run",
    "Task",
    "TrainingConfig",
    "TrainingDivergedError",
    "check",
    "doctor",
    "evaluate",
    "finetune",
    "forgetting",
    "general_english",
    "general_knowledge",
    "knowledge",
    "label_probabilities",
    "load_model",
    "load_run",
    "load_task",
    "merge",
    "perplexity",
    "plot_accuracy",
    "plot_curves",
    "plot_history",
    "plot_memory",
    "plot_timeline",
    "quantize",
    "quantize_absmax",
    "quantize_model",
    "quantize_zero_point",
    "repeat",
    "results",
    "text_loss",
]
