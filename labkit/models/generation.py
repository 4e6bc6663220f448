"""Text from a causal model: the likeliest token, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from labkit.errors import LabkitError
from labkit.models.decoding import Decoding
from labkit.models.encoding import prompt_ids
from labkit.models.evaluation_mode import inference
from labkit.models.truncation import fit

if TYPE_CHECKING:
    from labkit.models.model import Model


def continue_text(model: Model, prompt: str, count: int) -> str:
    """Return what a model adds to a prompt, at most ``count`` tokens."""
    if not isinstance(prompt, str):
        raise LabkitError(f"A prompt is a text, not {prompt!r}.", "Call generate once for each text.")
    (start,) = fit(model, prompt_ids(model, [prompt]), model.max_length - count, "prompt")
    ends, added, decoding = end_ids(model), list[int](), Decoding(model, [start])
    with inference(model):
        while len(added) < count:
            likeliest = decoding.logits().argmax(dim=-1)
            if likeliest.item() in ends:
                break
            added.append(int(likeliest.item()))
            decoding.append(likeliest, [True])
    return added_text(model, start, added)


def added_text(model: Model, start: list[int], added: list[int]) -> str:
    """Return the text of tokens that follow a prompt's."""
    # Decoded behind the prompt: alone, the first word of some tokenizers would lose its space.
    before, whole, alone = (
        cast(str, model.tokenizer.decode(each, skip_special_tokens=True)) for each in (start, start + added, added)
    )
    return whole[len(before) :] if whole.startswith(before) else alone


def end_ids(model: Model) -> set[int]:
    """Return the tokens that end a text: to the tokenizer, and to the model, which may have several."""
    module = model.module
    named = [model.tokenizer.eos_token_id]
    for config in (module.config, getattr(module, "generation_config", None)):
        eos = getattr(config, "eos_token_id", None)
        named += eos if isinstance(eos, (list, tuple)) else [eos]
    return {token for token in named if token is not None}
