"""The accuracy of an exported model on a task with labels, measured in llama.cpp."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from labkit.evaluation.labels import Stem, along_tree, label_tokens, scored, tested_prompts
from labkit.evaluation.results import Evaluation
from labkit.exports.llama import LlamaCpp
from labkit.exports.llama_predictions import LIKELIEST
from labkit.models.model import Model
from labkit.tasks.task import Task


def evaluate_in_llama(llama: LlamaCpp, model: Model, task: Task) -> Evaluation:
    """Return the accuracy of a GGUF file on the test examples of ``task``, by the rule of ``lk.evaluate``.

    llama.cpp chooses among the labels, so that the only difference from ``lk.evaluate(model, task)`` is who computes.

    Args:
        llama: the file in llama.cpp.
        model: what was exported. Only its tokenizer is used.
        task: one with labels.

    Raises:
        ExportError: llama.cpp refuses a prompt.
        LabkitError: the labels cannot be told apart.
    """
    starts, labels = label_tokens(model, tested_prompts(model, task), task.labels)
    every = model.embeddings.num_embeddings

    def shares(stem: Stem, children: list[int]) -> torch.Tensor:
        rows = []
        for start in starts:
            found = llama.next([*start, *stem], LIKELIEST)
            if not found.keys() >= {*children}:  # a label is among the unlikely ones
                found = llama.next([*start, *stem], every)
            rows.append([found[token] for token in children])
        return F.softmax(torch.tensor(rows), dim=-1)

    return scored(task, along_tree(labels, len(starts), shares))
