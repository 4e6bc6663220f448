"""How long examples are in a model's tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache as memoize
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from labkit.assets.fetch import asset_folder
from labkit.assets.manifest import get_asset
from labkit.models.encoding import completion_ids, prompt_ids
from labkit.models.model import Model
from labkit.tasks.pair_sets import read_texts

SAMPLE = 2_000  # the most rows that are measured
CHARACTERS = 2_000_000  # and the most characters: a tokenizer reads these in a few seconds
READER = "smollm2-135m"  # the model whose tokens are counted if no model is given


def drawn(train: Dataset, test: Dataset) -> tuple[list[str], list[str]]:
    """Return prompts and completions of both sets: of all rows or, if they are many or long, of a random sample."""
    draw, first = random.Random(0).sample, len(train)
    places = sorted(draw(range(first + len(test)), min(first + len(test), SAMPLE)))
    parts = train.select([i for i in places if i < first]), test.select([i - first for i in places if i >= first])
    rows = [row for part in parts for row in read_texts(part)]
    characters = sum(len(text) for row in rows for text in row)
    if characters > CHARACTERS:
        rows = draw(rows, max(1, len(rows) * CHARACTERS // characters))
    return [prompt for prompt, _ in rows], [completion for _, completion in rows]


def measure(prompts: Sequence[str], completions: Sequence[str], model: Model | None) -> list[int]:
    """Return the number of tokens of each example as training reads it uncut; without a model, its characters.

    Training reads what ``labkit.training.batching.encode`` returns: prompt, completion and the end-of-text token.

    Raises:
        LabkitError: the model can't read one of the texts.
    """
    if model is None:
        return [len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True)]
    lengths = [len(ids) for ids in prompt_ids(model, prompts)]
    if model.kind == "encoder":  # it learns a class, and reads no completion
        return lengths
    return [length + len(ids) for length, ids in zip(lengths, completion_ids(model, completions), strict=True)]


def reader_in_cache() -> Model | None:
    """Return SmolLM2 without its weights, or None if the cache has no copy: nothing is downloaded."""
    try:
        return _without_weights(asset_folder(get_asset(READER)))
    except Exception:  # missing, or damaged, which load_model repairs: a table can do without it
        return None


@memoize
def _without_weights(folder: Path) -> Model:
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):  # shapes only
        return Model(READER, AutoModelForCausalLM.from_config(config), tokenizer, "causal", torch.float32)
