"""What exports are asked: texts to tokenize, conversations to render, and prompts whose logits are compared."""

from __future__ import annotations

from contextlib import suppress

from transformers import PreTrainedTokenizerBase

from labkit.conversations.templates import chat_ids
from labkit.errors import LabkitError
from labkit.exports.probes import TEXTS as PROSE
from labkit.exports.probes import conversations, hard_texts

TEXTS = ("", *PROSE, *hard_texts(500))
CONVERSATIONS = (*conversations(), [*conversations()[0], {"role": "assistant", "content": "Hello."}])
LONGEST = 48  # tokens of a prompt: enough for positions to matter


def prompts(tokenizer: PreTrainedTokenizerBase, rows: int) -> list[list[int]]:
    """Return the tokens of four prompts, one of them of a conversation where the tokenizer has a template.

    Args:
        tokenizer: the model's.
        rows: how many tokens the model knows.
    """
    texts = [tokenizer(text, verbose=False)["input_ids"] for text in PROSE[:4]]
    with suppress(LabkitError):  # no template, or one that refuses this conversation: the texts remain
        texts[0] = chat_ids(tokenizer, CONVERSATIONS[2], reply=True)
    return [[token for token in ids if token < rows][:LONGEST] for ids in texts]
