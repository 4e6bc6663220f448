"""How vLLM serves the same base and adapters, on a GPU and for many users."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from labkit.methods.lora import LoRALinear
from labkit.specialists import Specialists

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that --max-lora-rank takes


def vllm_command(served: Specialists, base: str | Path, adapters: Mapping[str, str | Path]) -> str:
    """Return the command that serves the same models by the same names with vLLM.

    vLLM computes all adapters as if they had the largest rank (``--max-lora-rank``, 16 by default), and with one of
    them at a time unless ``--max-loras`` says otherwise; see "LoRA Adapters" in its documentation.

    Args:
        served: which ranks and names there are.
        base: the folder of the base model, or its name on the hub.
        adapters: the folder of each adapter, with adapter_config.json and adapter_model.safetensors.
    """
    rank = max(part.rank for part in served.model.module.modules() if isinstance(part, LoRALinear))
    words = ["vllm", "serve", str(base), "--served-model-name", served.base.name, "--enable-lora"]
    words += ["--max-loras", str(len(adapters))]
    words += ["--max-lora-rank", str(next((most for most in RANKS if most >= rank), rank))]
    words += ["--lora-modules", *(f"{name}={folder}" for name, folder in adapters.items())]
    return shlex.join(words)
