"""Compare two texts whose numbers may differ a little: a printed 4.31 that is 4.32 on another processor.

A cell's tolerance stands in a comment in it:

- ``# ±2%``: a number may differ by 2% of the stored one. Whole numbers must be equal.
- ``# ±0.05``: it may differ by 0.05. Whole numbers must be equal.
- ``# ±3``: it may differ by 3, and whole numbers too.
- ``# ±2% ±0.01``: by the larger of both, for numbers near zero.
- ``# ±2% integers``: whole numbers too.
"""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass
from decimal import Decimal

MARK = re.compile(r"#\s*±\s*(?P<first>[\d.]+%?)(?:\s+±\s*(?P<second>[\d.]+%?))?(?P<integers>\s+integers)?\s*$")
# A number stands alone or before its unit (4.3s). The digits of a name (NF4) or of a version (2.13.0) are text. A minus
# belongs to a number unless it joins two (10-20).
NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>(?<![\w)\]])[-+−])?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d+|\.\d+)"
    r"(?P<exponent>[eE][-+]?\d+)?(?!\.?\d)"
)
# What depends on the width of numbers: spaces between columns, and rules under headings.
PADDING = re.compile(r"[ \t]+|[-─═]{2,}")


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be from the stored one.

    Attributes:
        share: of the stored number, 0.02 for 2%.
        amount: in the number's own unit. The larger of both holds.
        integers: whether whole numbers may differ too.
    """

    share: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)
    integers: bool = False

    def allows(self, stored: Decimal) -> Decimal:
        """Return the largest difference from ``stored`` that is allowed."""
        return max(self.share * abs(stored), self.amount)

    def __str__(self) -> str:
        share, amount = f"±{(self.share * 100).normalize():f}%", f"±{self.amount.normalize():f}"
        return " ".join([share] * bool(self.share) + [amount] * bool(self.amount)) or "±0"


def tolerance_of(source: str) -> Tolerance | None:
    """Return the tolerance that a cell's comment names, or None.

    Raises:
        ValueError: it cannot be read, or the cell names two that differ.
    """
    found = {}
    for comment in comments_in(source):
        if re.match(r"#\s*±", comment):
            found[comment] = read_mark(comment)
    if len({*found.values()}) > 1:
        raise ValueError(f"A cell has one tolerance, and this one has several: {', '.join(found)}. Split the cell.")
    return next(iter(found.values()), None)


def comments_in(source: str) -> list[str]:
    """Return the comments of a cell, whose magics (%, !) are no Python."""
    plain = re.sub(r"^(\s*)[%!?].*$", r"\1pass", source, flags=re.MULTILINE)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(plain).readline))
    except (tokenize.TokenError, SyntaxError):  # no Python: a cell in another language, or a broken one
        return [line.strip() for line in source.splitlines() if line.strip().startswith("#")]
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def read_mark(comment: str) -> Tolerance:
    """Return the tolerance of a comment such as ``# ±2%``.

    Raises:
        ValueError: the comment has another form.
    """
    match = MARK.match(comment)
    parts = [part for part in (match["first"], match["second"]) if part] if match else []
    shares = [part for part in parts if part.endswith("%")]
    amounts = [part for part in parts if not part.endswith("%")]
    try:
        share, amount = (Decimal(each[0].rstrip("%")) if each else Decimal(0) for each in (shares, amounts))
    except ArithmeticError:
        match = None
    if match is None or len(shares) > 1 or len(amounts) > 1:
        raise ValueError(f"{comment!r} is no tolerance. Write # ±2%, # ±0.05, # ±3, # ±2% ±0.01 or # ±2% integers.")
    whole = bool(amounts) and amount == amount.to_integral_value() and "." not in amounts[0]
    return Tolerance(share / 100, amount, whole or bool(match["integers"]))


def differences(stored: str, new: str, tolerance: Tolerance) -> list[str] | None:
    """Return what differs beyond a tolerance, number by number; None where more than numbers differs."""
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
    """Return a text with a mark for each number, and without the padding that depends on their width."""
    plain = PADDING.sub(" ", NUMBER.sub("#", text))
    return "\n".join(line.strip() for line in plain.split("\n"))


def value_of(number: re.Match[str]) -> Decimal:
    """Return the value of a number in a text."""
    digits = number["digits"].replace(",", "") + (number["exponent"] or "")
    return -Decimal(digits) if number["sign"] in ("-", "−") else Decimal(digits)


def is_whole(number: re.Match[str]) -> bool:
    """Say whether a number is written as a whole one."""
    return "." not in number["digits"] and not number["exponent"]
