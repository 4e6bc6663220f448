"""Fine-tuning methods, one file each, behind one registry."""

from labkit.methods.full import FullFineTuning
from labkit.methods.lora import LoRA
from labkit.methods.registry import METHODS, Method, get_method, register

__all__ = ["METHODS", "FullFineTuning", "LoRA", "Method", "get_method", "register"]
