"""Tell text in cp1252, which Windows uses for Western languages, from bytes in other encodings."""

from __future__ import annotations

import re
import string
from itertools import islice

BETWEEN_LETTERS = frozenset("’–—…·°´×«»\u00a0\u00ad")
SIGNS = BETWEEN_LETTERS | frozenset("‘“”„‹›•§€£¢¥©®™±²³¼½¾¿¡ªº†‰¨÷µ")
RARE = frozenset("ƒªºµ")  # letters to Python, but usually half a character of Chinese or Japanese
LETTERS = string.ascii_letters.encode()


def is_western(data: bytes) -> str | None:
    """Return the text of bytes in cp1252, or None if they are probably in another encoding.

    In French, German, Spanish and the like, few letters have accents, and most of these have none beside them.
    Cyrillic, Chinese or Japanese bytes would become runs of accented letters, symbols inside words, and capitals after
    small letters.
    """
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    found = [match.start() for match in islice(re.finditer(r"[^\x00-\x7f]", text), 10_000)]
    head = data[: found[-1] + 1]
    plain = len(head) - len(head.translate(None, LETTERS))
    accented = sum(text[at].isalpha() for at in found)
    runs = sum(text[max(0, at - 1) : at].isascii() for at in found)
    odd = sum(_is_odd(text[max(0, at - 1) : at], text[at], text[at + 1 : at + 2]) for at in found)
    # A quarter is generous: French, rich in accents, has one in twenty-five.
    is_likely = accented < (accented + plain) / 4 and len(found) < 1.5 * runs and odd <= len(found) / 10
    return text if is_likely else None


def _is_odd(before: str, sign: str, after: str) -> bool:
    if sign.isalpha() and sign not in RARE:
        return sign.isupper() and before.islower()
    return sign not in SIGNS or (before.isalpha() and after.isalpha() and sign not in BETWEEN_LETTERS)


def sample(line: bytes, position: int) -> str:
    """Return the text around a byte of a line in cp1252, or nothing if that has no such character."""
    begin, end = max(0, position - 20), position + 20
    try:
        text = line[begin:end].decode("cp1252").strip()
    except UnicodeDecodeError:
        return ""
    return f"{'…' * (begin > 0)}{text}{'…' * (end < len(line))}"
