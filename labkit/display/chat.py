"""A widget: talk to a model, or to two side by side, such as before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from labkit.errors import LabkitError, require_count, require_seed, shown
from labkit.extras import unusable
from labkit.generation.chat import chat
from labkit.generation.sampling import Sampling
from labkit.models.model import Model

try:
    import ipywidgets as widgets
except ImportError as problem:
    raise unusable("ipywidgets", problem) from problem

MOST = 2  # models side by side: more columns are too narrow to read
SPEAKERS = {"system": "System", "user": "You", "assistant": "Model"}


class ChatWidget(widgets.VBox):
    """Send messages to one model or two, and see the replies as they are written.

    Each model has a conversation of its own: it reads its own replies, not the other's.

    Args:
        models: a model, or one or two by the name to show.
        system: the message that comes first and says how to answer; "" for none.
        sampling: how tokens are drawn; None takes the likeliest.
        max_new_tokens: the most tokens of a reply.
        seed: of the random numbers that tokens are drawn with.

    Attributes:
        message, send, reset: the controls; code can set ``message.value`` and call ``send.click()``, too.
        conversations: the messages of each model by its name.
    """

    def __init__(
        self,
        models: Model | Mapping[str, Model],
        *,
        system: str = "",
        sampling: Sampling | None = None,
        max_new_tokens: int = 200,
        seed: int = 0,
    ):
        self._models = dict(models) if isinstance(models, Mapping) else {getattr(models, "name", "model"): models}
        if not 1 <= len(self._models) <= MOST or not all(isinstance(each, Model) for each in self._models.values()):
            raise LabkitError(
                f"A chat is with one model or {MOST}, not with {shown(models)}.",
                'Pass a model, or {"before": model, "after": run.model}.',
            )
        self._system, self._sampling = system, sampling
        self._count, self._seed = require_count("max_new_tokens", max_new_tokens), require_seed(seed)
        # Not a placeholder, which vanishes with the first letter, but a label, which a screen reader says.
        self.message = widgets.Textarea(description="message", rows=2, layout={"width": "auto"})
        self.send = widgets.Button(description="Send", button_style="primary", tooltip="Send the message")
        self.reset = widgets.Button(description="Reset", tooltip="Forget the conversation")
        self._state = widgets.HTML()
        self._logs = {name: widgets.HTML(layout={"flex": "1 1 0", "min_width": "0"}) for name in self._models}
        self.send.on_click(lambda _: self._send())
        self.reset.on_click(lambda _: self._reset())
        self._reset()
        buttons = widgets.HBox([self.send, self.reset])
        super().__init__([widgets.HBox(list(self._logs.values())), self.message, buttons, self._state])

    def _reset(self) -> None:
        first = [{"role": "system", "content": self._system}] if self._system else []
        self.conversations: dict[str, list[dict[str, str]]] = {name: list(first) for name in self._models}
        for name in self._models:
            self._show(name)
        self._state.value = "Ready."

    def _send(self) -> None:
        text = self.message.value.strip()
        if not text:
            self._state.value = "Write a message first."
            return
        before = {name: list(turns) for name, turns in self.conversations.items()}
        self.message.value = ""
        self._switch(off=True)
        try:
            for name in self._models:
                self._state.value = f"{escape(name)} is writing …"
                self._answer(name, text)
            self._state.value = "Ready."
        except Exception as problem:  # an error here would be lost: it belongs to no cell
            self.conversations, self.message.value = before, text
            self._state.value = f"Nothing was sent. {escape(str(problem))}".replace("\n", "<br>")
            for name in self._models:
                self._show(name)
        finally:
            self._switch(off=False)

    def _answer(self, name: str, text: str) -> None:
        turns = self.conversations[name]
        turns.append({"role": "user", "content": text})
        reply = {"role": "assistant", "content": ""}
        self._show(name, reply)
        pieces = chat(
            self._models[name],
            list(turns),
            max_new_tokens=self._count,
            sampling=self._sampling,
            stream=True,
            seed=self._seed,
        )
        for piece in pieces:
            reply["content"] += piece
            self._show(name, reply)
        turns.append(reply)

    def _switch(self, *, off: bool) -> None:
        """Disable the controls while a model writes: what is clicked meanwhile would wait, and be done later."""
        for control in (self.message, self.send, self.reset):
            control.disabled = off

    def _show(self, name: str, *more: dict[str, Any]) -> None:
        lines = [
            f"<p><b>{SPEAKERS[turn['role']]}:</b> {escape(turn['content'])}</p>".replace("\n", "<br>")
            for turn in (*self.conversations[name], *more)
        ]
        title = f"Conversation with {escape(name, quote=True)}"
        # A screen reader says what is added, once it stops changing.
        self._logs[
            name
        ].value = f'<div role="log" aria-label="{title}"><p><b>{escape(name)}</b></p>{"".join(lines)}</div>'
