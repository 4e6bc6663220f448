"""Compare two texts whose numbers may differ: a printed 4.31 that is 4.32 on another processor."""

from __future__ import annotations

import re
from decimal import Decimal

from labkit.testing.tolerance import Tolerance

# A number stands alone or before its unit (4.3s). The digits of a name (NF4) or of a version (2.13.0) are text. A minus
# belongs to a number unless it joins two (10-20). Commas group thousands, but not in a list without spaces: [100,200].
NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>(?<![\w)\]])[-+−])?"
    r"(?P<digits>(?<![\[(,{])\d{1,3}(?:,\d{3})+(?![\])},])(?:\.\d+(?![\])},]))?|\d+\.\d+|\d+|\.\d+)"
    r"(?P<exponent>[eE][-+]?\d{1,3})?(?!\.?\d)"
)
MARK = "\0"  # stands for a number; no text has it


def differences(stored: str, new: str, tolerance: Tolerance) -> list[str] | None:
    """Return what differs beyond a tolerance, number by number; None if anything but numbers differs."""
    if masked(stored) != masked(new):
        return None
    found = []
    for was, now in zip(NUMBER.finditer(stored), NUMBER.finditer(new), strict=True):
        before, after = value_of(was), value_of(now)
        exact = is_whole(was) and is_whole(now) and not tolerance.integers
        limit = Decimal(0) if exact else tolerance.allows(before)
        if abs(after - before) > limit:
            why = "whole numbers must be equal" if exact else f"{tolerance} allows {float(limit):.4g}"
            line = stored.count("\n", 0, was.start()) + 1
            found.append(f"line {line}: {was[0]} is stored, and {now[0]} is new; {why}")
    return found


def masked(text: str) -> str:
    """Return a text with a mark for each number, without the padding and rules that depend on the width of numbers."""
    plain = re.sub(r"[-─═]{2,}", "--", NUMBER.sub(MARK, text))
    return "\n".join(line.strip() for line in re.sub(r"[ \t]+", " ", plain).split("\n"))


def value_of(number: re.Match[str]) -> Decimal:
    """Return the value of a number in a text."""
    digits = number["digits"].replace(",", "") + (number["exponent"] or "")
    return -Decimal(digits) if number["sign"] in ("-", "−") else Decimal(digits)


def is_whole(number: re.Match[str]) -> bool:
    """Return whether a number is written as a whole one."""
    return "." not in number["digits"] and not number["exponent"]
