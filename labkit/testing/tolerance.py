"""How far a notebook's numbers may be from the stored ones. A comment in the cell says so:

- ``# ±2%``: by 2% of the stored number. Whole numbers must be equal.
- ``# ±0.05``: by 0.05. Whole numbers must be equal.
- ``# ±3``: by 3, and whole numbers too.
- ``# ±2% ±0.01``: by the larger of the two, for numbers near zero.
- ``# ±2% integers``: whole numbers too.
"""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass
from decimal import Decimal

MARK = re.compile(r"#\s*±\s*(?P<first>[\d.]+%?)(?:\s+±\s*(?P<second>[\d.]+%?))?(?P<integers>\s+integers)?\s*$")


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be from the stored one.

    Attributes:
        share: of the stored number, 0.02 for 2%.
        amount: in the number's own unit. The larger of the two applies.
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
    """Return the tolerance that a comment in a cell names, or None.

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
    """Return the comments of a cell. Lines with a magic (%, !) are not Python, but may end with a comment."""
    for code in (source, re.sub(r"^(\s*)[%!?][^#\n]*", r"\1pass ", source, flags=re.MULTILINE)):
        try:
            tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
        except (tokenize.TokenError, SyntaxError):
            continue
        return [token.string for token in tokens if token.type == tokenize.COMMENT]
    return [line.strip() for line in source.splitlines() if line.strip().startswith("#")]  # another language


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
        raise ValueError(f"{comment!r} is not a tolerance. Write # ±2%, # ±0.05, # ±3, # ±2% ±0.01 or # ±2% integers.")
    whole = bool(amounts) and "." not in amounts[0]
    return Tolerance(share / 100, amount, whole or bool(match["integers"]))
