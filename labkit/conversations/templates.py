"""A conversation as the text and the tokens that a model reads, by its tokenizer's chat template."""

from __future__ import annotations

from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from labkit.conversations.messages import conversation
from labkit.errors import LabkitError, first_line
from labkit.models.encoding import frame

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_PROBE = [{"role": "user", "content": "x1"}, {"role": "assistant", "content": "y2"}]


def applied(tokenizer: PreTrainedTokenizerBase, messages: object, *, reply: bool = False, **options: Any) -> Any:
    """Return what ``tokenizer.apply_chat_template`` gives; raise a ``LabkitError`` where it can't, or drops a text."""
    if not getattr(tokenizer, "chat_template", None):
        raise LabkitError(
            "This tokenizer has no chat template: its model was not trained on conversations.",
            "Set one: tokenizer.chat_template = labkit.conversations.templates.CHATML, and add the tokens <|im_start|> "
            "and <|im_end|>.",
        )
    turns = conversation(messages)
    blocks = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    text = ""
    for form in (turns, blocks):  # templates of models that see images read lists of blocks, and drop plain texts
        try:
            text = cast(
                str, tokenizer.apply_chat_template(cast(Any, form), tokenize=False, add_generation_prompt=reply)
            )
        except (TemplateError, TypeError) as problem:
            system = turns[0]["role"] == "system"
            raise LabkitError(
                f"The chat template refuses the conversation: {first_line(problem)}.",
                "Put the system message's text at the beginning of the first user message."
                if system
                else "Change the conversation as the template asks, or set another template.",
            ) from problem
        lost = [turn for turn in turns if turn["content"].split("</think>")[-1].strip() not in text]
        if not lost:
            options = {"add_generation_prompt": reply} | options
            return tokenizer.apply_chat_template(cast(Any, form), **options) if options.get("tokenize") else text
    raise LabkitError(
        f"The chat template drops or changes what the {lost[0]['role']} says: {lost[0]['content'][:40]!r}.",
        "Set a template that writes every message as it is, such as labkit.conversations.templates.CHATML.",
    )


def render(tokenizer: PreTrainedTokenizerBase, messages: object, *, reply: bool = False) -> str:
    """Return a conversation as text; with ``reply``, up to where the assistant begins to speak.

    Raises:
        LabkitError: the conversation is bad, or the tokenizer's template is missing, refuses it or drops a text.
    """
    return applied(tokenizer, messages, reply=reply)


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: object, *, reply: bool = False) -> list[int]:
    """Return the tokens of ``render``, with what the tokenizer puts before every text once, whoever writes it."""
    ids = tokenizer(render(tokenizer, messages, reply=reply), add_special_tokens=False, verbose=False)["input_ids"]
    return [*missing_front(tokenizer, ids), *ids]


def missing_front(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Return the ids that belong before ``ids`` and aren't there."""
    front = frame(tokenizer)[0]
    return [] if ids[: len(front)] == front else front


def turn_ends(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end the assistant's turn: the template's first after a reply, and the end of a text."""
    text = render(tokenizer, _PROBE)
    after = tokenizer(text[text.rindex("y2") + 2 :], add_special_tokens=False)["input_ids"]
    added = set(tokenizer.get_added_vocab().values())
    first = next((token for token in after if token in added), None)
    return {token for token in (first, tokenizer.eos_token_id) if token is not None}
