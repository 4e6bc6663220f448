"""Checks of the exercises in notebook 00."""

from __future__ import annotations

from labkit.classroom.exercises import exercise


@exercise(
    "Each step looks at one batch.",
    "The run above made 30 steps, with the default of 16 examples in a batch.",
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
    'Print task.train[0]["prompt"] and imitate it.',
    "It starts with the word Finding and a colon, and its second line is the word Department and a colon.",
    'An f-string or plain text will do: "Finding: …\\nDepartment:"',
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
