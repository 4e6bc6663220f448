"""The classic faults of a mask, made on purpose: notebook 08 trains with each and measures what it costs.

``lk.check_masks`` finds them all, except for a wrong template, whose tokens are no longer those of the conversation.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from transformers import PreTrainedTokenizerBase

from labkit.conversations.masks import Masked, masked
from labkit.conversations.messages import conversation
from labkit.conversations.pieces import shared
from labkit.conversations.templates import chat_ids, turn_ends
from labkit.errors import LabkitError, unknown

# The layout of Alpaca (Taori et al., 2023), which many recipes use whatever the model's own template is.
ALPACA = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}### Response:\n{% generation %}"
    "{{ message['content'] + eos_token }}{% endgeneration %}\n\n{% elif message['role'] == 'user' %}### Instruction:\n"
    "{{ message['content'] }}\n\n{% else %}{{ message['content'] }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)


def broken(fault: str, tokenizer: PreTrainedTokenizerBase, messages: object) -> Masked:
    """Return a conversation's tokens, with the last reply learned but for one fault.

    Args:
        fault: a key of ``FAULTS``.
        tokenizer: with a chat template.
        messages: a conversation that ends with a reply.

    Raises:
        LabkitError: there is no such fault, or ``masked`` refuses the conversation.
    """
    if fault not in FAULTS:
        raise unknown("fault", fault, FAULTS)
    return FAULTS[fault](tokenizer, conversation(messages))


def _stop_ignored(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> Masked:
    right, ends = masked(tokenizer, turns), turn_ends(tokenizer)
    stop = next(i for i, learned in enumerate(right.learned) if learned and right.ids[i] in ends)
    return Masked(right.ids, [learned and i < stop for i, learned in enumerate(right.learned)])


def _header_learned(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> Masked:
    right = masked(tokenizer, turns)
    opening = shared(right.ids, chat_ids(tokenizer, turns[:-1]))  # where the header of the last reply begins
    return Masked(right.ids, [learned or i >= opening for i, learned in enumerate(right.learned)])


def _prompt_learned(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> Masked:
    right = masked(tokenizer, turns)
    return Masked(right.ids, [i > 0 for i in range(len(right.ids))])


def _begin_doubled(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> Masked:
    right = masked(tokenizer, turns)
    if tokenizer.bos_token_id is None:
        raise LabkitError("This tokenizer has no begin token to double.", "Leave this fault out.")
    return Masked([tokenizer.bos_token_id, *right.ids], [False, *right.learned])


def _system_dropped(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> Masked:
    return masked(tokenizer, [turn for turn in turns if turn["role"] != "system"])


def _answer_cut(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> Masked:
    right = masked(tokenizer, turns)
    kept = len(right.ids) - sum(right.learned) // 2  # as max_length cuts where it cuts the end
    return Masked(right.ids[:kept], right.learned[:kept])


def _wrong_template(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> Masked:
    other = deepcopy(tokenizer)
    other.chat_template = ALPACA
    return masked(other, turns)


FAULTS: dict[str, Callable[[PreTrainedTokenizerBase, list[dict[str, str]]], Masked]] = {
    "stop never learned": _stop_ignored,
    "answer cut": _answer_cut,
    "header learned": _header_learned,
    "prompt learned": _prompt_learned,
    "begin token doubled": _begin_doubled,
    "system message dropped": _system_dropped,
    "wrong template": _wrong_template,
}
