"""Checks of the exercises in notebook 08."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import judged, outcome, parts, require_same, require_seeds, trials
from labkit.conversations.broken import FAULTS

# A conversation of made-up tokens: 1 opens a turn, 2 ends it; 7 is "system", 8 "user", 9 "assistant".
HEADER, STOP = [1, 9], 2
CHAT = [1, 7, 30, 2, 1, 8, 41, 42, 2, 1, 9, 51, 52, 2, 1, 8, 43, 2, 1, 9, 53, 2]
REPLIES = [[11, 12, 13], [20, 21]]  # where the two replies stand, each with the token that ends it


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="write code",
    hints=(
        "Start with a list of False. Then look for the places where the header begins: ids[i : i + len(header)].",
        "Behind a header, everything is learned up to the next stop token. Is that token itself learned?",
        "Work out by hand for [1, 9, 50, 2, 1, 8, 60, 2] which two tokens are learned.",
    ),
)
def reply_mask(answer: Callable[[list[int], list[int], int], Sequence[bool]]) -> str:
    """Check a mask of all the assistant's turns."""
    result = answer(list(CHAT), list(HEADER), STOP)
    if untouched(result):
        return not_attempted("reply_mask")
    try:
        learned = [bool(value) for value in result]
    except TypeError:
        raise MistakeError(f"Return a list with True or False for each token, not a {type(result).__name__}.") from None
    if len(learned) != len(CHAT):
        raise MistakeError(f"The conversation has {len(CHAT)} tokens, and your mask {len(learned)}.")
    found = [i for i, value in enumerate(learned) if value]
    right = [i for reply in REPLIES for i in reply]
    if found == right:
        if [bool(value) for value in answer([5, 6, 4, 3, 7], [5, 6], 3)] != [False, False, True, True, False]:
            return "✗ Right here, but not with another header and another stop token: use the arguments."
        return "✓ Right: each reply, with the token that ends it, and nothing that the template writes."
    ends = {reply[-1] for reply in REPLIES}
    headers = {i for reply in REPLIES for i in (reply[0] - 2, reply[0] - 1)}
    mistakes = {
        tuple(i for i in right if i not in ends): (
            "The token that ends a reply isn't learned. A model trained so never learns to stop."
        ),
        tuple(sorted({*right} | headers)): "You learn the header too. The template writes it, not the model.",
        tuple(REPLIES[-1]): "That is the last reply alone. Here, every turn of the assistant is learned.",
        tuple(REPLIES[0]): "That is the first reply alone. Go on searching behind it.",
        tuple(range(REPLIES[0][0], len(CHAT))): "Behind the first header you learn everything, the user's turns too.",
        tuple(i - 1 for i in right): "You are one token early. The loss shifts the targets, so the mask must not.",
        tuple(i for i in range(len(CHAT)) if i not in right): "It is the other way round: these tokens are only read.",
    }
    return f"✗ {mistakes.get(tuple(found)) or f'You learn the tokens {found}. Compare them with the ids by hand.'}"


@exercise(
    minutes=10,
    difficulty=2,
    points=2,
    kind="find the bug",
    hints=(
        "Many tokenizers pad with the token that ends a text. What does the second line do to a text's own last token?",
        "Which argument knows padding from text, whatever the padding token is?",
        "Count for each row of attention_mask how many tokens are text. So many labels must be left.",
    ),
)
def padding_labels(answer: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]) -> str:
    """Check labels that were fixed: they hid the token that ends a reply along with the padding."""
    end = 2
    ids = torch.tensor([[5, 6, 7, end], [8, end, end, end]])
    attention = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    kept = ids.clone()
    result = answer(ids, attention, end)
    if untouched(result):
        return not_attempted("padding_labels")
    if not torch.equal(ids, kept):
        raise MistakeError("Your function changed input_ids in place: now the model reads -100. Work on a copy.")
    if not isinstance(result, torch.Tensor) or result.shape != ids.shape:
        raise MistakeError("Return labels of the same shape as input_ids.")
    right = ids.masked_fill(attention == 0, -100)
    if torch.equal(result, right):
        return "✓ Right: attention_mask knows what is padding. The id of a token doesn't."
    mistakes = {
        "Now nothing is ignored: the model learns to write padding for ever.": ids,
        "It is the other way round: you hide the text and learn the padding.": ids.masked_fill(attention == 1, -100),
        "That hides every last column, text or not. Rows differ in length.": torch.cat(
            [ids[:, :-1], torch.full((2, 1), -100)], 1
        ),
        "0 is a token like any other, and would be learned. The loss leaves out -100.": ids.masked_fill(
            attention == 0, 0
        ),
    }
    if torch.equal(result, ids.masked_fill(ids == end, -100)):
        return not_attempted("padding_labels")  # as the stub has it
    for mistake, wrong in mistakes.items():
        if torch.equal(result, wrong):
            return f"✗ {mistake}"
    return f"✗ For the check's batch you got {result.tolist()}. Which of these tokens are padding?"


@exercise(
    minutes=25,
    difficulty=3,
    points=4,
    kind="experiment",
    hints=(
        "with_fault(lm, small, name) gives the task with the fault; small itself is the right one.",
        "Write a function of task and seed that trains and returns (run, scores of its replies to small's questions).",
        "Pass pairs of (run, scores.exact), or scores.stopped for both groups, and compare what you pass.",
    ),
)
def fault_cost(answer: dict[str, Any]) -> str:
    """Check an experiment: what does a fault of the mask cost?"""
    fault, faulty, right, verdict = parts(answer, "fault", "faulty", "right", "verdict")
    if fault not in FAULTS:
        raise MistakeError(f"{fault!r} is none of the faults: {', '.join(FAULTS)}.")
    groups = {"faulty": trials("faulty", faulty), "right": trials("right", right)}
    require_seeds(groups)
    require_same(groups, "steps", "batch_size", "accumulation", "learning_rate")
    evaluations = {name: [trial.evaluation for trial in group] for name, group in groups.items()}
    found = judged(evaluations, verdict)
    if found.verdict == "better":
        return "✓ Well measured, and surprising: with the fault it went better. Try more seeds before you believe it."
    return f"✓ Well measured. {outcome(found)}"
