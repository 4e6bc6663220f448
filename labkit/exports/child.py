"""Start the process that reads exports without labkit, once for all formats."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from labkit.errors import LabkitError
from labkit.exports import plain
from labkit.exports.questions import CONVERSATIONS, TEXTS

# No network, and one thread from the start.
SETTINGS = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Job:
    """An export to read.

    Attributes:
        folder: where it is.
        base: the folder of the base model, where the export is an adapter.
        attention: how attention is computed, by transformers' name.
    """

    folder: str
    base: str = ""
    attention: str = "sdpa"


@dataclass(frozen=True)
class Answer:
    """What plain transformers and PEFT made of an export.

    Attributes:
        found: see ``labkit.exports.plain.answer``; only ``error`` where the export could not be read.
        logits: of each prompt, shape (tokens, vocabulary), in float32.
    """

    found: dict[str, Any]
    logits: list[torch.Tensor]


def ask(jobs: Mapping[str, Job], prompts: list[list[int]], scratch: Path) -> dict[str, Answer]:
    """Read exports in a new process that cannot import labkit, and return what came out of each.

    Args:
        jobs: the exports by name, a plain one.
        prompts: tokens whose logits are computed.
        scratch: a folder for temporary files.

    Raises:
        LabkitError: the process ended without answers.
    """
    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        asked = {job: asdict(export) for job, export in jobs.items()}
        question = {"jobs": asked, "texts": TEXTS, "conversations": CONVERSATIONS, "prompts": prompts}
        (folder / "question.json").write_text(json.dumps(question), encoding="utf-8")
        # -I: neither the current folder, nor PYTHONPATH, nor a folder of the user's own packages is searched.
        command = [sys.executable, "-I", "-c", Path(plain.__file__).read_text(encoding="utf-8"), name]
        done = subprocess.run(command, env=os.environ | SETTINGS, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise LabkitError(
                f"The process that was to prove the export ended with code {done.returncode}: {last}.",
                "Look whether memory is short: the model is loaded a second time there, in float32.",
            )
        answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
        return {job: Answer(found, _logits(folder / f"{job}.safetensors")) for job, found in answers.items()}


def _logits(file: Path) -> list[torch.Tensor]:
    if not file.is_file():
        return []
    found = load_file(file)
    return [found[str(number)] for number in range(len(found))]
