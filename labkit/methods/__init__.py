"""Fine-tuning methods, one file each, behind one registry."""

from labkit.methods.full import FullFineTuning
from labkit.methods.lora import LoRA, LoRALinear
from labkit.methods.lora_variants import DoRALinear, PiSSALinear
from labkit.methods.merge import merge
from labkit.methods.qlora import QLoRA, quantize_model
from labkit.methods.registry import METHODS, Method, get_method, register

__all__ = [
    "METHODS",
    "DoRALinear",
    "FullFineTuning",
    "LoRA",
    "LoRALinear",
    "Method",
    "PiSSALinear",
    "QLoRA",
    "get_method",
    "merge",
    "quantize_model",
    "register",
]
