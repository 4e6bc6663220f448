"""E-mail addresses, phone numbers, bank accounts and cards in texts, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?!\w)")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?\b")
CARD = re.compile(r"(?<![\d.,-])\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}(?![\d-]|[.,]\d)")
# With a country's code; in North America's form; or with a trunk 0 and groups. Digits alone may be anything.
PHONE = re.compile(
    r"(?<![\w.,+-])(?<!\d )(?:\+\d{1,3}(?:[ .\-/]?\(?\d{1,5}\)?){2,6}|"
    r"(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])[2-9]\d\d[-.]\d{4}|"
    r"\(?0\d{1,4}\)?[ /\-]\d{2,4}(?:[ \-]?\d{2,4}){1,3})(?!\w|[.,\-]\d)"
)
DIGIT = re.compile(r"\d")
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}")


class Personal(NamedTuple):
    """What may identify a person: its kind, and where it begins and ends in the text."""

    kind: str
    start: int
    end: int
    masked: str


def find_personal(text: str) -> list[Personal]:
    """Return what may identify a person in a text, in its order; the values are masked.

    Card numbers pass Luhn's test and bank accounts theirs (ISO 13616). Names and addresses are not looked for, nor are
    phone numbers that are written as digits alone, such as 5551234567: those may be anything.
    """
    found: list[Personal] = []
    for kind, start, end in _matches(text):
        if all(end <= other.start or start >= other.end for other in found):
            found.append(Personal(kind, start, end, mask(text[start:end])))
    return sorted(found, key=lambda each: each.start)


def mask(value: str) -> str:
    """Return a value with all but its first character, and its signs, replaced by dots."""
    return value[:1] + re.sub(r"\w", "•", value[1:])


def _matches(text: str) -> Iterator[tuple[str, int, int]]:
    if "@" in text:
        yield from (("e-mail", *match.span()) for match in EMAIL.finditer(text))
    if not DIGIT.search(text):
        return
    yield from (("IBAN", *match.span()) for match in IBAN.finditer(text) if _is_iban(match[0].replace(" ", "")))
    yield from (("card", *match.span()) for match in CARD.finditer(text) if _is_card(re.sub(r"\D", "", match[0])))
    for match in PHONE.finditer(text):
        if 9 <= len(re.sub(r"\D", "", match[0])) <= 15 and not DATE.match(match[0]):
            yield ("phone", *match.span())


def _is_iban(value: str) -> bool:
    digits = "".join(str(int(sign, 36)) for sign in value[4:] + value[:4])
    return 15 <= len(value) <= 34 and int(digits) % 97 == 1


def _is_card(digits: str) -> bool:
    doubled = [int(sign) * (1 + place % 2) for place, sign in enumerate(reversed(digits))]
    luhn = sum(value - 9 * (value > 9) for value in doubled) % 10 == 0
    return 13 <= len(digits) <= 19 and luhn and len(set(digits)) > 1
