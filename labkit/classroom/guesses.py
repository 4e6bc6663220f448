"""Guesses: what a learner expects before a run, kept and shown beside the result."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError, require_number
from labkit.printing import printable
from labkit.storage import cache, records
from labkit.storage.files import write_text

# ipywidgets sets radio buttons 20 pixels apart, too near for some fingers (WCAG 2.2: 24), and cuts off long choices.
STYLE = """<style>
.labkit-guess .widget-radio-box label {
  display: flex; flex-direction: row-reverse; justify-content: flex-end; height: auto; padding: 4px 0;
}
.labkit-guess .widget-html-content {line-height: 1.5; padding: 4px 0}
</style>"""
FACTOR = 1.5  # a guessed number is right if it is off by at most this factor


def guess(question: str, choices: Sequence[str | float] | None = None) -> Guess:
    """Ask for a guess before a run; ``reveal`` shows it beside the result.

    In a notebook, an input is shown, which has the guess of an earlier time. Where nobody guesses, as when nbval runs
    a notebook, nothing is asked for and nothing is printed.

    Args:
        question: what is guessed; a guess is kept under it.
        choices: what to choose among; without them, a number is asked for.
    """
    asked = Guess(question, choices)
    if not unattended():
        asked.show()
    return asked


class Guess:
    """A question, and what the learner expects.

    Attributes:
        question: what is guessed.
        choices: what to choose among; () where a number is asked for.
        value: the guess; None until there is one.
    """

    def __init__(self, question: str, choices: Sequence[str | float] | None = None):
        if not isinstance(question, str) or not question.strip():
            raise LabkitError(f"{question!r} is not a question.", 'Write one, such as lk.guess("How many?").')
        if choices is not None and (isinstance(choices, str) or len({*choices}) < 2):
            raise LabkitError(f"{choices!r} leaves no choice.", "Pass two or more choices in a list, or none.")
        self.question, self.choices = question.strip(), tuple(choices or ())
        kept = None if unattended() else _kept().get(self.question, {}).get("guess")
        # The question may have had other choices when the guess was made.
        fits = kept in self.choices if self.choices else isinstance(kept, int | float)
        self.value: str | float | None = kept if fits else None

    def make(self, value: str | float) -> None:
        """Keep a guess, on this computer, until another one is made."""
        if self.choices and value not in self.choices:
            raise LabkitError(f"{value!r} is not among the choices.", f"Choose {', '.join(map(str, self.choices))}.")
        if not self.choices:
            if isinstance(value, str):
                raise LabkitError(f"A guess here is a number, not {value!r}.", "Guess one, such as 0.5.")
            value = require_number("A guess", value)
        self.value = value
        _keep(self.question, {"guess": self.value})

    def reveal(self, result: str | float) -> None:
        """Print the guess beside the result, and how many were right so far; without a guess, print nothing."""
        if self.value is None or unattended():
            return
        right = self.is_right(result)
        _keep(self.question, {"guess": self.value, "right": right})
        marks = [each["right"] for each in _kept().values() if "right" in each]
        shown = f"{result:.3g}" if isinstance(result, float) else str(result)
        text = f"{'✓' if right else '✗'} You guessed {self.value}; it is {shown}."
        print(printable(f"{text} Right so far: {sum(marks)} of {len(marks)}."))  # noqa: T201  shown to the learner

    def is_right(self, result: str | float) -> bool:
        """Return whether the guess is right: the choice that is nearest to the result, or a number near it."""
        if self.value is None:
            return False
        numbers = [choice for choice in self.choices if isinstance(choice, int | float)]
        if not self.choices:
            return _apart(float(self.value), float(result)) <= math.log(FACTOR)
        if isinstance(result, str) or len(numbers) < len(self.choices):
            return self.value == result
        return self.value == min(numbers, key=lambda choice: _apart(choice, result))

    def show(self) -> None:
        """Show the question with an input, in a notebook."""
        try:
            import ipywidgets as widgets
            from IPython.display import display
        except ImportError:  # a plain terminal: the question is in the notebook's text too
            return
        if self.choices:
            # Not ToggleButtons, which cut off long choices and don't tell a screen reader which one is chosen.
            field: Any = widgets.RadioButtons(options=self.choices, value=self.value, layout={"width": "auto"})
        else:
            shown = "" if self.value is None else f"{self.value:g}"
            label = {"description": "your guess", "tooltip": self.question}
            field = widgets.Text(shown, placeholder="a number", continuous_update=False, **label)
        problem = widgets.HTML(layout={"display": "none"})  # not a Label, which doesn't wrap

        def tell(text: str) -> None:
            problem.value, problem.layout.display = escape(text), None if text else "none"

        def keep(change: dict[str, Any]) -> None:
            try:
                self.make(change["new"] if self.choices else float(change["new"].replace(",", ".")))
                tell("")
            except ValueError:
                tell("Write a number, such as 0.5.")
            except LabkitError as fault:
                tell(str(fault))

        field.observe(keep, names="value")
        box = widgets.VBox([widgets.HTML(STYLE + escape(self.question)), field, problem])
        display(box.add_class("labkit-guess"))


def unattended() -> bool:
    """Return whether nobody sits in front of the notebook: ``LABKIT_UNATTENDED`` says so, as in tests."""
    return os.environ.get("LABKIT_UNATTENDED", "").lower() in {"1", "true", "yes", "on"}


def _apart(one: float, other: float) -> float:
    """Return how far two numbers lie apart: by what factor, in logarithms, or not at all, or without limit."""
    if one == other:
        return 0.0
    return abs(math.log(one / other)) if one * other > 0 else math.inf


def _file() -> Path:
    return cache.home() / "guesses.json"


def _kept() -> dict[str, dict[str, Any]]:
    if not _file().exists():
        return {}
    try:
        return records.read_json(_file(), "guesses", ["guesses"])["guesses"]
    except records.DamagedError as problem:
        raise LabkitError(problem.cause, "Remove it. Only the guesses that were kept in it are lost.") from problem


def _keep(question: str, content: dict[str, Any]) -> None:
    with cache.locked("guesses"):
        kept = _kept() | {question: content}
        text = json.dumps(records.stamped("guesses", {"guesses": kept}), indent=1, ensure_ascii=False)
        write_text(_file(), text + "\n")
