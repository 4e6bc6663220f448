"""What a network computes, and how it is saved, by transformers alone."""

from pathlib import Path

import torch

TEXTS = ["The capital of France is Paris.", "Water boils at 100 degrees."]


def logits(model, text=TEXTS[0]) -> torch.Tensor:
    with torch.no_grad():
        return model.module(**model.tokenizer(text, return_tensors="pt")).logits


def vectors(model, texts: list[str]) -> torch.Tensor:
    """Return one unit vector for each text: the mean over its tokens, as the encoder was trained."""
    batch = model.tokenizer(texts, return_tensors="pt", padding=True)
    mask = batch["attention_mask"].unsqueeze(-1)
    with torch.no_grad(), model.autocast():
        states = model.module(**batch).last_hidden_state.float()
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def save(model, folder: Path) -> str:
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return str(folder)
