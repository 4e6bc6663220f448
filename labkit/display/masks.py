"""Paint each token of an example by what the loss does with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from labkit.conversations.masks import masked
from labkit.conversations.pieces import IGNORED, padding, row, shared, text_of
from labkit.conversations.templates import turn_ends
from labkit.display.style import INK, PALETTE, darkened, tinted
from labkit.errors import LabkitError

# How each state looks: its colour, and a line and a tag that tell it without colour.
LOOKS = {
    "read": ("span", tinted(PALETTE["sky blue"]), "border-bottom:2px solid transparent"),
    "learned": ("mark", tinted(PALETTE["orange"]), f"border-bottom:3px solid {darkened(PALETTE['vermillion'], 4.5)}"),
    "ignored": ("span", "white", f"border-bottom:2px dotted {INK};color:#595959"),
    "cut": ("del", tinted(PALETTE["reddish purple"]), f"border-bottom:2px dashed {INK};text-decoration:line-through"),
}
MEANINGS = {
    "read": "the model sees it",
    "learned": "the loss counts it",
    "ignored": "padding",
    "cut": "left out: the example was too long",
}


@dataclass(frozen=True)
class Painted:
    """The tokens of an example, each with its text, its id and its state; shown as HTML or as text.

    Attributes:
        tokens: ``(text, id, state)`` of each; the state is a key of ``MEANINGS``.
    """

    tokens: tuple[tuple[str, int, str], ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many tokens are in each state."""
        return {state: sum(one == state for *_, one in self.tokens) for state in MEANINGS}

    @property
    def words(self) -> str:
        """What is shown, in a sentence."""
        return f"Tokens by what the loss does with them: {', '.join(f'{n} {s}' for s, n in self.counts.items())}."

    def __str__(self) -> str:
        lines: list[tuple[str, str]] = []
        for text, _, state in self.tokens:
            before = lines.pop()[1] if lines and lines[-1][0] == state and not lines[-1][1].endswith("↵") else ""
            lines.append((state, before + visible(text)))
        return "\n".join([self.words, *(f"{state:>8} │ {text}" for state, text in lines)])

    __repr__ = __str__

    def _repr_html_(self) -> Any:
        if os.environ.get("LABKIT_ALT_TEXT") == "print":
            print("Figure:", self.words)  # noqa: T201  asked for by the reader
        key = " ".join(
            _span(f"{state} {self.counts[state]}", state, meaning) + f" {meaning} "
            for state, meaning in MEANINGS.items()
        )
        # Without spaces, a line may break only where it is told that it may: between tokens, and in overlong ones.
        body = "<wbr>".join(
            _span(visible(text), state, f"token {at}: id {token}, {state}") + ("<br>" if "\n" in text else "")
            for at, (text, token, state) in enumerate(self.tokens)
        )
        # White, so that it reads in Jupyter's dark theme, too.
        style = f"background:white;color:{INK};padding:.6em;line-height:2;font-family:monospace;font-size:14px"
        style += ";overflow-wrap:anywhere"
        words = escape(self.words)
        html = f'<div role="figure" aria-label="{words}" style="{style}"><div>{key}</div><hr>{body}</div>'
        return html, {"alt": self.words}


def show_masks(
    tokenizer: Any,
    example: Any,
    labels: Any = None,
    *,
    learn: str = "last",
    max_length: int | None = None,
    attention_mask: Any = None,
) -> Painted:
    """Paint every token of an example by what the loss does with it.

    Args:
        tokenizer: a tokenizer, or a model of labkit's.
        example: a conversation (a list of messages); or the ``input_ids`` of one row; or a row of a batch as a
            mapping with ``input_ids``, ``labels`` and perhaps ``attention_mask``, such as a collator of TRL's makes it.
        labels: of ``input_ids``, -100 where nothing is learned.
        learn: for a conversation: ``"last"``, ``"all"`` or ``"completion"``; see ``labkit.conversations.masks``.
        max_length: for a conversation: where it is cut, in tokens.
        attention_mask: of ``input_ids``; without it, padding tokens at either end count as padding.

    Raises:
        LabkitError: the example is none of these, or ids and labels are not of one length.
    """
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if isinstance(example, Sequence) and example and isinstance(example[0], Mapping):
        return _conversation(tokenizer, example, learn, max_length)
    if isinstance(example, Mapping) or hasattr(example, "keys"):
        labels, attention_mask = example["labels"], example.get("attention_mask")
        example = example["input_ids"]
    if labels is None:
        raise LabkitError("Ids without labels don't say what is learned.", "Pass input_ids and labels.")
    ids, aims = row("input_ids", example), row("labels", labels)
    attention = None if attention_mask is None else row("attention_mask", attention_mask)
    if len({len(ids), len(aims), len(ids if attention is None else attention)}) > 1:
        raise LabkitError(f"There are {len(ids)} input_ids and {len(aims)} labels.", "Pass all of one row.")
    pads = padding(tokenizer, ids, attention)
    states = [
        "learned" if aim != IGNORED else "ignored" if pad else "read" for aim, pad in zip(aims, pads, strict=True)
    ]
    return _painted(tokenizer, ids, states)


def visible(text: str) -> str:
    """Return a text with signs for its white space."""
    return text.replace(" ", "·").replace("\t", "⇥").replace("\r", "␍").replace("\n", "↵")


def _conversation(tokenizer: Any, messages: Any, learn: str, max_length: int | None) -> Painted:
    made, whole = masked(tokenizer, messages, learn, max_length), masked(tokenizer, messages, learn)
    lost, at = len(whole.ids) - len(made.ids), _seam(tokenizer, whole.ids, made.ids)
    states = ["learned" if learned else "read" for learned in made.learned]
    ids = made.ids[:at] + whole.ids[at : at + lost] + made.ids[at:]
    states[at:at] = ["cut"] * lost
    return _painted(tokenizer, ids, states)


def _seam(tokenizer: Any, whole: list[int], made: list[int]) -> int:
    """Return before which token of ``made`` the lost ones stood: of all places that fit, one where a turn ends."""
    first = len(made) - shared(whole[::-1], made[::-1])
    places = range(first, max(first, shared(whole, made)) + 1)
    ends = turn_ends(tokenizer)
    at = next((place for place in places if place and made[place - 1] in ends), first)
    while at > first and at < places[-1] and not text_of(tokenizer, made[at]).strip():
        at += 1  # a line's end behind the end of a turn
    return at


def _painted(tokenizer: Any, ids: list[int], states: list[str]) -> Painted:
    return Painted(tuple((text_of(tokenizer, token), token, state) for token, state in zip(ids, states, strict=True)))


def _span(text: str, state: str, title: str) -> str:
    tag, ground, line = LOOKS[state]
    style = f"background:{ground};color:{INK};{line};margin-right:1px;padding:1px;white-space:pre-wrap"
    return f'<{tag} style="{style}" title="{escape(title)}">{escape(text)}</{tag}>'
