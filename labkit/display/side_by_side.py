"""A widget: one prompt, continued by several specialists in one batch, side by side."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from html import escape
from textwrap import shorten
from typing import Protocol

from labkit.display.looks import Look, look_of, looks
from labkit.display.transcripts import reply_text
from labkit.errors import LabkitError, first_line, require_count, shown
from labkit.extras import unusable
from labkit.generation.replies import Reply
from labkit.printing import printable

try:
    import ipywidgets as widgets
except ImportError as problem:
    raise unusable("ipywidgets", problem) from problem

OWN = "(your own)"  # what is chosen where the prompt is none of the examples
LETTERS = 70  # of an example in the list
# Spaces and ends of lines are shown as they are; a word longer than a line is broken.
STYLE = "line-height:1.5;white-space:pre-wrap;overflow-wrap:anywhere"


class Mixed(Protocol):
    """What the widget asks of ``lk.Specialists``."""

    names: tuple[str, ...]

    def generate(
        self, prompts: Sequence[str], names: Sequence[str], max_new_tokens: int = ..., *, batch_size: int = ...
    ) -> list[Reply]:
        """Continue each prompt by its own specialist."""


class SideBySide(widgets.VBox):
    """Ask the base model and its specialists for the same prompt; one batch holds a row for each of them.

    ``print`` shows the last replies as text.

    Args:
        specialists: ``lk.Specialists(…)``.
        prompts: examples to choose from, as the specialists were trained on; the first one stands in the field.
        max_new_tokens: the most tokens of a reply.

    Attributes:
        prompt, example, ask: the controls; code can set ``prompt.value`` and call ``ask.click()``, too.
        asked: the prompt of the last replies.
        replies: the last reply of each, by name.

    Raises:
        LabkitError: these are no specialists, or the prompts are not texts.
    """

    def __init__(self, specialists: Mixed, prompts: Sequence[str] = (), *, max_new_tokens: int = 24):
        if not hasattr(specialists, "generate") or not hasattr(specialists, "names"):
            raise LabkitError(f"These are no specialists: {shown(specialists)}.", "Pass lk.Specialists(base, {…}).")
        listed = isinstance(prompts, Sequence) and not isinstance(prompts, str)
        if not listed or not all(isinstance(each, str) and each.strip() for each in prompts):
            raise LabkitError(f"Prompts are a list of texts, not {shown(prompts)}.", 'Pass ["Finding: fever", …].')
        self._specialists, self._count = specialists, require_count("max_new_tokens", max_new_tokens)
        self.asked = ""
        self.replies: dict[str, Reply] = {}
        base, *others = specialists.names
        self._looks: dict[str, Look] = {base: look_of("base"), **looks(others)}
        examples = [(shorten(" ⏎ ".join(text.splitlines()), LETTERS, placeholder=" …"), text) for text in prompts]
        self.example = widgets.Dropdown(options=[*examples, (OWN, "")], description="example", layout={"width": "auto"})
        # Not a placeholder, which vanishes with the first letter, but a label, which a screen reader says.
        self.prompt = widgets.Textarea(self.example.value, description="prompt", rows=5, layout={"width": "auto"})
        self.ask = widgets.Button(description="Ask all", button_style="primary", tooltip="Send the prompt to all")
        self._state, self._above = widgets.HTML(), widgets.HTML()
        # Columns that are too narrow to read stand one below another.
        self._columns = {name: widgets.HTML(layout={"flex": "1 1 13em", "min_width": "0"}) for name in self._looks}
        self.example.observe(lambda change: self._take(change.new), names="value")
        self.prompt.observe(lambda change: self._find(change.new), names="value")
        self.ask.on_click(lambda _: self._ask())
        self._say("Ready.")
        self._show()
        columns = widgets.HBox(list(self._columns.values()), layout={"flex_flow": "row wrap", "grid_gap": "16px"})
        super().__init__([*[self.example] * bool(examples), self.prompt, self.ask, self._state, self._above, columns])

    def _take(self, example: str) -> None:
        if example:
            self.prompt.value = example

    def _find(self, text: str) -> None:
        """Let the list say whether the prompt is an example: an edited one can then be chosen again."""
        known = [example for _, example in self.example.options]
        self.example.value = text if text in known else ""

    def _ask(self) -> None:
        text, names = self.prompt.value, list(self._looks)
        if not text.strip():
            self._say("Write a prompt first.")
            return
        self._switch(off=True)
        self._say(f"{', '.join(names)} are writing …")
        try:
            with warnings.catch_warnings(record=True) as notes:  # beside a widget, nobody would see them
                warnings.simplefilter("always")
                start, size = time.perf_counter(), len(names)
                replies = self._specialists.generate([text] * size, names, self._count, batch_size=size)
                seconds = time.perf_counter() - start
            self.asked, self.replies = text, dict(zip(names, replies, strict=True))
            self._show()
            total = f"{size} replies in one batch, {sum(reply.tokens for reply in replies)} tokens: {seconds:.2f} s."
            self._say("\n".join([total, *(str(note.message) for note in notes)]))
        except (Exception, KeyboardInterrupt) as problem:  # an error here would be lost: it belongs to no cell
            self._say(f"Nothing was written. {str(problem) or first_line(problem)}")
        finally:
            self._switch(off=False)

    def _switch(self, *, off: bool) -> None:
        """Disable the controls while they write: what is clicked meanwhile would wait, and be done later."""
        for control in (self.example, self.prompt, self.ask):
            control.disabled = off

    def _say(self, text: str) -> None:
        self._state.value = f'<div role="status">{escape(text)}</div>'.replace("\n", "<br>")

    def _show(self) -> None:
        self._above.value = f'<div style="{STYLE}">{escape(self.asked)}</div>'
        for name, column in self._columns.items():
            column.value = _column(name, self._looks[name], self.replies.get(name))

    def __str__(self) -> str:
        width = max(map(len, self._looks))
        lines = [
            f"{name:>{width}} │ " + reply_text(reply).replace("\n", f"\n{' ' * width} │ ")
            for name, reply in self.replies.items()
        ]
        return printable("\n".join([repr(self), *[self.asked] * bool(lines), *lines]))

    def __repr__(self) -> str:
        return f"SideBySide({', '.join(self._looks)})"


def _column(name: str, look: Look, reply: Reply | None) -> str:
    head = f'<div style="font-weight:bold;border-bottom:4px solid {look.ink}">{escape(name)}</div>'
    body = f"<div>{'No reply yet.' if reply is None else escape(reply_text(reply))}</div>"
    if reply is not None:
        count = f"{reply.tokens} token{'s' * (reply.tokens != 1)}"
        body += f"<small>{count}, {'with the one that ends it' if reply.stopped else 'and no end'}</small>"
    return f'<div role="region" aria-label="Reply of {escape(name, quote=True)}" style="{STYLE}">{head}{body}</div>'
