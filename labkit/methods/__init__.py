"""Fine-tuning methods, one file each, behind one registry."""

from labkit.methods.bottleneck import Bottleneck, BottleneckAdapters
from labkit.methods.disabling import disable_adapter
from labkit.methods.full import FullFineTuning
from labkit.methods.head_only import HeadOnly
from labkit.methods.ia3 import IA3, IA3Linear
from labkit.methods.lora import LoRA, LoRALinear
from labkit.methods.lora_variants import DoRALinear, PiSSALinear
from labkit.methods.merging import merge
from labkit.methods.method import METHODS, Method, get_method, register
from labkit.methods.prefix import PrefixTuning
from labkit.methods.prompt import PromptTuning
from labkit.methods.qlora import QLoRA, quantize_model

__all__ = [
    "IA3",
    "METHODS",
    "Bottleneck",
    "BottleneckAdapters",
    "DoRALinear",
    "FullFineTuning",
    "HeadOnly",
    "IA3Linear",
    "LoRA",
    "LoRALinear",
    "Method",
    "PiSSALinear",
    "PrefixTuning",
    "PromptTuning",
    "QLoRA",
    "disable_adapter",
    "get_method",
    "merge",
    "quantize_model",
    "register",
]
