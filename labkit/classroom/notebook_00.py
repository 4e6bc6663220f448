"""Checks of the exercises in notebook 00."""

from __future__ import annotations

from collections import Counter
from os import PathLike
from typing import Any

from labkit.classroom.exercises import MistakeError, exercise
from labkit.classroom.experiments import evaluation, judged, outcome, parts, require_same_cases
from labkit.tasks.task import Task

COURSE_DATA = ("triage", "licenses", "inbox.csv")
FEWEST_TESTS = 10
MOST_OF_ONE = 0.75  # share of the test set


@exercise(
    minutes=3,
    difficulty=1,
    points=1,
    kind="compute",
    hints=(
        "Each step looks at one batch.",
        "The run above made 30 steps, with the default of 16 examples in a batch.",
    ),
)
def examples_seen(answer: int) -> str:
    """Check how many examples the run looked at."""
    mistakes = {
        30: "That is the number of steps. Each step looks at a whole batch.",
        16: "That is the size of one batch. How many batches were there?",
        1000: "That is the size of the training set. The run stopped before it had seen all of it.",
    }
    if answer == 480:
        return "✓ Right: 30 steps of 16 examples. The model has not even seen half of the training set."
    return f"✗ {mistakes.get(answer, 'Not quite: multiply the steps by the examples in a batch.')}"


@exercise(
    minutes=5,
    difficulty=1,
    points=1,
    kind="write code",
    hints=(
        'Print task.train[0]["prompt"] and imitate it.',
        "It starts with the word Finding and a colon, and its second line is the word Department and a colon.",
        "Nothing may follow the last colon, not even a space. Compare yours with the one you printed, sign by sign.",
    ),
)
def triage_prompt(answer: str) -> str:
    """Check a prompt in the format of the training set."""
    if not isinstance(answer, str):
        return f"✗ A prompt is a text; yours is a {type(answer).__name__}."
    first, _, rest = answer.partition("\n")
    if answer.endswith(("Department: ", "Department:\n")):
        return "✗ Almost: remove the white space after the last colon. The answer ' cardiology' brings its own space."
    if not first.startswith("Finding: "):
        return "✗ The first line starts with 'Finding: ', as in every training example."
    if rest != "Department:":
        return "✗ The second and last line is 'Department:', with a capital D and a colon."
    if len(first.split()) < 5:
        return "✗ The format is right. Describe the finding in a few more words."
    return "✓ The model will recognize this format."


@exercise(
    minutes=10,
    difficulty=2,
    points=3,
    kind="experiment",
    hints=(
        "task.test.map(function) returns the test set with each example changed. The function returns a new prompt.",
        "replace(task, test=…), from dataclasses, makes a task of it. The right departments stay as they are.",
        "lk.compare takes two evaluations. Its verdict is about the first one: pass the taught form first.",
    ),
)
def other_form(answer: dict[str, Any]) -> str:
    """Check what the form of a prompt is worth: the same findings, asked in the taught form and in another one."""
    taught, other, verdict = parts(answer, "taught", "other", "verdict")
    taught, other = evaluation("taught", taught), evaluation("other", other)
    require_same_cases([taught, other])
    if taught.predictions == other.predictions:
        raise MistakeError("Every single answer is the same. Did the prompts change? Print one of each.")
    found = judged({"the taught form": [taught], "the other form": [other]}, verdict)
    if found.verdict == "worse":
        return "✓ Well measured, and a surprise: your form suits the model better than the one it was taught."
    if found.verdict == "better":
        return "✓ Right: ask in the form that was taught. The model knows the findings, and stumbles over the form."
    return f"✓ Right: this change of the form does not show. {outcome(found)}"


@exercise(
    minutes=20,
    difficulty=2,
    points=3,
    kind="own data",
    hints=(
        "Forty rows in a spreadsheet, saved as CSV, will do: a text in one column, what you want to hear in another.",
        "lk.load_task names each row that it can't use by line, and says what to do. columns= names the two columns.",
        "A prompt's column may be a template around a column in braces, as for the inbox above.",
    ),
)
def own_data(answer: Task) -> str:
    """Check a task made of a learner's own file: is it fit to learn from, and to test with?"""
    if isinstance(answer, str | PathLike):
        raise MistakeError("That is the place of a file. Hand in what lk.load_task makes of it.")
    if not isinstance(answer, Task):
        raise MistakeError(f"Hand in what lk.load_task returned, not a {type(answer).__name__}.")
    if answer.name in COURSE_DATA:
        raise MistakeError(f"{answer.name} comes with the course. Take a file of your own, even a short one.")
    train, test = len(answer.train), len(answer.test)
    if test < FEWEST_TESTS:
        raise MistakeError(
            f"With {test} test examples, one more right answer moves the accuracy by {100 / test:.0f} points. "
            f"Bring enough rows that at least {FEWEST_TESTS} are left to test."
        )
    if (left_out := sum(answer.left_out.values())) > (train + test + left_out) / 5:
        raise MistakeError(f"{left_out} rows were left out, more than a fifth. Correct the file: print(task) says why.")
    prompts = answer.train["prompt"][:]
    if any(prompts) and len({(prompt.split() or [""])[-1] for prompt in prompts}) > 1:
        raise MistakeError(
            "Your prompts have no ending in common, so nothing tells the model that its answer begins. "
            'Put a template around the text: columns={"prompt": "Message: {your column}\\nAnswer:", …}.'
        )
    if answer.labels:
        return _own_labels(answer)
    return f"✓ {train} texts to learn from, {test} to test with. Score free text with lk.text_loss, before and after."


def _own_labels(task: Task) -> str:
    """Say what a task with labels is fit for."""
    counts = Counter(task.test["completion"][:])
    (largest, most), total = counts.most_common(1)[0], len(task.test)
    if never := [label.strip() for label in task.labels if not counts[label]]:
        raise MistakeError(
            f"No test example is of {', '.join(never)}. Bring more examples of it, or join it with another label."
        )
    if most > MOST_OF_ONE * total:
        raise MistakeError(
            f"{most} of {total} test examples are {largest.strip()!r}: always naming that would look good. "
            "Bring more of the others, or pass balanced=True."
        )
    return (
        f"✓ {len(task.train)} examples to learn from, {total} to test with, {len(task.labels)} labels. "
        f"Always naming {largest.strip()!r} would be right in {100 * most / total:.0f}%: that is what to beat."
    )
