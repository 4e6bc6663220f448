"""Find out the encoding of a text file, and name the lines that do not fit it."""

from __future__ import annotations

import codecs
import unicodedata

from labkit.errors import LabkitError
from labkit.tasks.faults import Faults
from labkit.tasks.western import is_western, sample

# UTF-32 first: its mark begins with that of UTF-16.
MARKS = [
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
NO_TEXT = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a parquet file",
    b"%PDF": "a PDF",
}
NO_TEXT_REMEDY = "Save its table as CSV in UTF-8; a parquet file needs a name that ends with .parquet."


def decode(data: bytes, faults: Faults, notes: list[str]) -> str:
    """Return the text of a file in UTF-8, UTF-16, UTF-32 or, if it reads like a Western language, cp1252.

    Lines that are not UTF-8 go to ``faults``; their text is returned with replacement characters. If the encoding is
    not UTF-8, a note says so.

    Raises:
        LabkitError: the file as a whole is not a text in these encodings.
    """
    for begin, kind in NO_TEXT.items():
        if data.startswith(begin):
            raise LabkitError(f"{faults.name} is not text but {kind}.", NO_TEXT_REMEDY)
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "")
    try:
        text = data.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as problem:
        if encoding:
            cause = f"{faults.name} begins as {encoding.upper()} text, but isn't: {problem.reason}."
            raise LabkitError(cause, "Save it as UTF-8.") from problem
        text = None
    if not encoding and (unmarked := _utf16_without_mark(data, faults.name, is_utf8=text is not None)):
        encoding, text = unmarked
    if encoding:
        notes.append(f"the file is encoded in {encoding.upper()} and was read as that")
    return _decode_other(data, faults, notes) if text is None else text


def _utf16_without_mark(data: bytes, name: str, is_utf8: bool) -> tuple[str, str] | None:
    """Return the encoding and the text of a file in UTF-16 that doesn't begin with its mark."""
    begin = data[:4000]
    zeros = {"utf-16-le": begin[1::2].count(0), "utf-16-be": begin[::2].count(0)}  # half of an ASCII character is zero
    is_likely = sum(zeros.values()) > len(begin) / 4
    if is_likely or (not is_utf8 and sum(zeros.values()) > 1):
        encoding = max(zeros, key=zeros.__getitem__)
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            text = ""
        # Control and unassigned characters are not text; and text files have line ends or quotes.
        strange = {"Cc", "Cn", "Co"} & {unicodedata.category(sign) for sign in text[:2000] if sign not in "\t\r\n"}
        if not strange and any(sign in text for sign in '\n\r"'):
            return encoding, text
    if is_likely:
        cause = f"{name} is not UTF-8; it may be UTF-32 without its mark, or no text at all."
        raise LabkitError(cause, "Save it as UTF-8.")
    return None


def _decode_other(data: bytes, faults: Faults, notes: list[str]) -> str:
    """Decode what isn't UTF-8 as a whole: cp1252 or, as a rule, UTF-8 with a few lines that aren't."""
    bad, good = [], []  # lines that aren't UTF-8, and those that are and hold more than ASCII
    number = 0
    for number, content in enumerate(data.splitlines(), 1):
        try:
            if not content.isascii() and content.decode("utf-8"):
                good.append((number, next(i for i, byte in enumerate(content) if byte > 127), content))
        except UnicodeDecodeError as problem:
            bad.append((number, problem.start, content))
    # A few lines in UTF-8 among ten times as many in cp1252 were already broken: a program confused the encodings.
    if len(good) <= len(bad) / 10 and (text := is_western(data)):
        where = f"line {bad[0][0]} reads {sample(bad[0][2], bad[0][1])!r}"
        notes.append(f"the file isn't UTF-8 and was read as cp1252, the encoding of Windows: {where}; is that right?")
        if good:
            line, start, content = good[0]
            notes.append(
                f"lines whose letters were broken before, {len(good):,}: line {line}, {sample(content, start)!r}"
            )
        return text
    convert = (
        "Convert it to UTF-8 from the encoding it has, such as cp1252, gbk, shift_jis or cp1251: "
        "Path('new.csv').write_text(Path('old.csv').read_text(encoding='gbk'), encoding='utf-8')."
    )
    if not good and len(bad) > max(3, number / 10):
        line, start, content = bad[0]
        cause = f"{faults.name} is not UTF-8, and not cp1252 either; the first of {len(bad):,} lines with such bytes is"
        raise LabkitError(f"{cause} line {line} (the byte 0x{content[start]:02x}).", convert)
    fix = "Other lines are UTF-8: write these again in it, too." if good else convert
    for line, start, content in bad:
        windows = (
            f"; in cp1252, the encoding of Windows, it would read {text!r}" if (text := sample(content, start)) else ""
        )
        faults.add(line, f"not UTF-8 (the byte 0x{content[start]:02x}){windows}", fix)
    return data.decode("utf-8-sig", errors="replace")  # to find what else is wrong
