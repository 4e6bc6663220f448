"""Which tokens end the assistant's turn in a conversation."""

from __future__ import annotations

from typing import cast

from transformers import PreTrainedTokenizerBase

from labkit.errors import LabkitError, first_line

ANSWER = "labkit"  # a reply of which only the end of the turn behind it is wanted


def conversation_ids(tokenizer: PreTrainedTokenizerBase, messages: list[dict]) -> list[int]:
    """Return the ids of a conversation in the tokenizer's chat template, up to where the assistant's reply begins.

    Raises:
        LabkitError: the tokenizer has no chat template, or the template refuses the messages.
    """
    text = _rendered(tokenizer, messages, reply=True)
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # the template has them already


def turn_ends(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the special token that the chat template puts behind the assistant's reply; none without a template."""
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, str):
        return set()
    try:
        text = _rendered(tokenizer, [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}])
    except LabkitError:
        return set()
    behind = tokenizer(text.rpartition(ANSWER)[2], add_special_tokens=False)["input_ids"]
    return set(behind[:1]) & set(tokenizer.added_tokens_decoder)


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: list[dict], reply: bool = False) -> str:
    if not tokenizer.chat_template:
        raise LabkitError(
            "The tokenizer has no chat template, so nobody knows how this model was shown a conversation.",
            "Use a chat model such as smollm2-135m, or set tokenizer.chat_template to the one it was trained with.",
        )
    try:
        return cast(str, tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply))
    except Exception as problem:  # a template raises what it likes
        raise LabkitError(
            f"The chat template refuses these messages: {first_line(problem)}.",
            "Pass a list of {'role': …, 'content': …}, users and assistant in turn, the user last.",
        ) from problem
