"""Find the most that fits, with few questions."""

from __future__ import annotations

from collections.abc import Callable

MOST = 2**20  # examples or tokens; nobody asks for more


def most_that_fits(
    size_of: Callable[[int], int], known: tuple[int, int], room: int, fixed: int = 0, limit: int = MOST
) -> int:
    """Return the largest number from 0 to ``limit`` whose size is at most ``room``.

    Sizes lie on a line, or near to one: each answer gives a better guess, by the secant through the last two.

    Args:
        size_of: bytes for a number; takes a second to answer.
        known: a number and its size.
        room: bytes that there are.
        fixed: bytes that a size has in any case, for the first guess.
        limit: the largest number that is of interest.
    """
    before, size_before = known
    low, high = (before, limit + 1) if size_before <= room else (0, before)  # low fits, high does not
    guess = int(before * (room - fixed) / max(1, size_before - fixed))
    questions = 0
    while high - low > 1:
        if questions and questions % 4 == 0:
            guess = (low + high) // 2  # where the line is bent, halving is the surer way
        guess = min(max(guess, low + 1), high - 1)
        size = size_of(guess)
        questions += 1
        low, high = (guess, high) if size <= room else (low, guess)
        slope = (size - size_before) / (guess - before)
        before, size_before = guess, size
        guess = int(guess + (room - size) / slope) if slope > 0 else 2 * guess
        if guess <= low:
            guess = low + 1  # to be sure that one more would be too much
    return low
