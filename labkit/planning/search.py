"""Search for the largest batch, or the longest examples, that fit on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from labkit.errors import LabkitError

if TYPE_CHECKING:
    from labkit.planning.plan import Plan

MOST = 2**20  # examples or tokens: the upper limit of a search


def largest_batch(plan: Plan) -> int:
    """Return how many of the plan's examples fit on its GPU in one batch; 0 if not even one does."""
    most = plan.rl.group * plan.rl.prompts if plan.rl else MOST
    start = min(plan.training.batch_size, most)
    return _largest(plan, start, most, lambda count: _with(plan, count, plan.length))


def largest_length(plan: Plan) -> int:
    """Return how many tokens the examples of the plan's batch may have on its GPU; 0 if not even the fewest do."""
    batch, least = plan.training.batch_size, plan.learned + 1 if plan.rl else 2
    most = _largest(plan, plan.length, plan.longest, lambda count: _with(plan, batch, max(least, count)))
    return most if most >= least else 0


def _with(plan: Plan, batch: int, length: int) -> Plan:
    """Return the plan with another batch size and length, in which the same share of the tokens is learned."""
    whole = plan.learned == plan.length - 1
    learned = length - 1 if whole else max(1, plan.learned * length // plan.length)
    if plan.rl:
        learned = plan.learned
    return replace(plan, training=replace(plan.training, batch_size=batch), length=length, learned=learned)


def _largest(plan: Plan, start: int, limit: int, change: Callable[[int], Plan]) -> int:
    if not plan.gpu:
        raise LabkitError("The plan names no GPU to fit.", 'Name one: lk.plan(…, gpu="24GB").')
    fixed = plan.report.parameters + plan.report.optimizer + plan.context
    return most_that_fits(lambda count: change(count).total, (start, plan.total), plan.gpu, fixed, limit)


def most_that_fits(
    size_of: Callable[[int], int], known: tuple[int, int], room: int, fixed: int = 0, limit: int = MOST
) -> int:
    """Return the largest number from 0 to ``limit`` whose size is at most ``room``.

    Sizes grow linearly, or nearly so: the secant through the last two gives the next guess. That needs few calls.

    Args:
        size_of: returns the bytes for a number; a call takes about a second.
        known: a number and its size.
        room: bytes available.
        fixed: the part of every size that does not depend on the number, for the first guess.
        limit: the largest number to consider.
    """
    before, size_before = known
    low, high = (before, limit + 1) if size_before <= room else (0, before)  # low fits, high does not
    guess = int(before * (room - fixed) / max(1, size_before - fixed))
    calls = 0
    while high - low > 1:
        if calls and calls % 4 == 0:
            guess = (low + high) // 2  # where sizes are not linear, bisection is more reliable
        guess = min(max(guess, low + 1), high - 1)
        size = size_of(guess)
        calls += 1
        low, high = (guess, high) if size <= room else (low, guess)
        slope = (size - size_before) / (guess - before)
        before, size_before = guess, size
        guess = int(guess + (room - size) / slope) if slope > 0 else 2 * guess
        if guess <= low:
            guess = low + 1  # to make sure that one more does not fit
    return low
