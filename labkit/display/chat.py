"""A widget: talk to a model, or to two side by side, such as before and after fine-tuning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from html import escape

from labkit.display.transcript import transcript
from labkit.errors import LabkitError, first_line, require_count, require_seed, shown
from labkit.extras import unusable
from labkit.generation.chat import chat
from labkit.generation.sampling import Sampling
from labkit.models.model import Model

try:
    import ipywidgets as widgets
except ImportError as problem:
    raise unusable("ipywidgets", problem) from problem

MOST = 2  # models side by side: more columns are too narrow to read


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
        columns = widgets.HBox(list(self._logs.values()), layout={"grid_gap": "16px"})
        super().__init__([columns, self.message, buttons, self._state])

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
            notes = []
            for name in self._models:
                self._state.value = f"{escape(name)} is writing …"
                notes += [f"<br>{escape(name)}: {escape(note)}" for note in self._answer(name, text)]
            self._state.value = f"Ready.{''.join(notes)}"
        except (Exception, KeyboardInterrupt) as problem:  # an error here would be lost: it belongs to no cell
            self.conversations, self.message.value = before, text
            said = escape(str(problem) or first_line(problem))
            self._state.value = f"Nothing was sent. {said}".replace("\n", "<br>")
            for name in self._models:
                self._show(name)
        finally:
            self._switch(off=False)

    def _answer(self, name: str, text: str) -> list[str]:
        """Add a message and the model's reply, and return what there is to say of it, such as turns that were cut."""
        turns = self.conversations[name]
        turns.append({"role": "user", "content": text})
        reply = {"role": "assistant", "content": ""}
        self._show(name, reply)
        model, count, sampling = self._models[name], self._count, self._sampling
        with warnings.catch_warnings(record=True) as notes:  # beside a widget, nobody would see them
            warnings.simplefilter("always")
            pieces = chat(model, turns, max_new_tokens=count, sampling=sampling, stream=True, seed=self._seed)
        for piece in pieces:
            reply["content"] += piece
            self._show(name, reply)
        said = [str(note.message) for note in notes]
        if not reply["content"].strip():  # which no conversation may hold
            turns.pop()
            self._show(name)
            return [*said, "It wrote nothing. Its conversation goes on without this message."]
        turns.append(reply)
        return said

    def _switch(self, *, off: bool) -> None:
        """Disable the controls while a model writes: what is clicked meanwhile would wait, and be done later."""
        for control in (self.message, self.send, self.reset):
            control.disabled = off

    def _show(self, name: str, *more: dict[str, str]) -> None:
        self._logs[name].value = transcript(name, (*self.conversations[name], *more))
