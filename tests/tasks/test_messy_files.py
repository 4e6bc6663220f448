"""Files as they come out of spreadsheets, scripts and downloads: each loads, or its faults are named by line."""

import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

import labkit as lk

LABELS = ("roads", "parks", "waste")
ROWS = [(f"In front of number {i} there is “much” to do, señor", LABELS[i % 3]) for i in range(30)]


def table(changed: dict[int, str] | None = None, *, separator=",", header=("text", "label"), end="\n") -> str:
    """Return a table of thirty rows, lines 2 to 31, in which some lines are others."""
    quoted = [(f'"{text}"', label) for text, label in ROWS]
    lines = [separator.join(cells) for cells in (header, *quoted)]
    for number, line in (changed or {}).items():
        lines[number - 1] = line
    return "".join(line + end for line in lines)


def objects(changed: dict[int, object] | None = None, make=lambda text, label: {"text": text, "label": label}) -> str:
    """Return thirty JSON lines, in which some are others: values, or texts as they stand."""
    rows = [make(*row) for row in ROWS]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    for number, value in (changed or {}).items():
        lines[number - 1] = value if isinstance(value, str) else json.dumps(value)
    return "\n".join(lines)


def array(**options) -> str:
    return json.dumps([{"text": text, "label": label} for text, label in ROWS], ensure_ascii=False, **options)


def chat(text: str, label: str) -> dict:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": label}]}


def sharegpt(text: str, label: str) -> dict:
    return {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": label}]}


def alpaca(text: str, label: str) -> dict:
    rest = {"input": "By phone"} if label == "roads" else {"input": ""} if label == "parks" else {}
    return {"instruction": f"Whose is it? {text}", "output": label} | rest


def parquet(folder: Path) -> Path:
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    frame["label"] = frame["label"].map(LABELS.index)
    frame.to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


@dataclass
class Messy:
    """A file, and what is to come of it.

    Attributes:
        name: of the file.
        content: its text in UTF-8, its bytes, or what writes it into a folder.
        faults: what is said of each line that can't be used.
        says: what is in the notes, or in the remedy if there are faults.
        refused: what is said if the file as a whole can't be used.
    """

    name: str
    content: object
    faults: dict[int, str] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    refused: str = ""


LONG = "a" * 200_000
FILES = {
    "Excel in Europe": Messy(
        "a.csv", table(separator=";", end="\r\n").encode("cp1252"), says=("cp1252", "“much” to do, señor", "semicolon")
    ),
    "Excel's Unicode text": Messy("a.tsv", table(separator="\t", end="\r\n").encode("utf-16"), says=("UTF-16",)),
    "PowerShell's redirection": Messy("a.jsonl", objects().encode("utf-16-le"), says=("UTF-16",)),
    "Excel's UTF-8": Messy("a.csv", table(end="\r\n").encode("utf-8-sig")),
    "an old Mac": Messy("a.csv", table(end="\r")),
    "UTF-8, pasted into in cp1252": Messy(
        "a.csv",
        table({8: "@"}).encode().replace(b"@", "“Señor”,roads".encode("cp1252")),
        {8: "not UTF-8"},
        says=("UTF-8",),
    ),
    "a workbook": Messy("a.csv", b"PK\x03\x04" + bytes(99), refused="not text but an Excel workbook"),
    "a quote that isn't closed": Messy("a.csv", table({8: '"Where?,roads'}), {8: "a quote opens"}, says=("quotes",)),
    "a quote that the next but one closes": Messy(
        "a.csv", table({8: '"Where?,roads', 9: "When?,parks", 10: 'Who?",waste'}), {8: "swallow 2 rows"}
    ),
    "a quote amid a text": Messy("a.csv", table({8: '"The "old" lamp",roads'}), {8: "middle of a text"}),
    "inches, in a table with tabs": Messy(
        "a.tsv", table({8: '5" pipe\troads', 9: '"5" pipe\troads'}, separator="\t"), says=("line 9",)
    ),
    "too few cells, and too many": Messy(
        "a.csv", table({8: "Where?", 9: "Where, when?,roads"}), {8: "1 cell", 9: "3 cells"}, says=("comma",)
    ),
    "empty rows": Messy("a.csv", table() + ",\n,\n\n", says=("empty cells",)),
    "a header with spaces and capitals": Messy("a.csv", table(header=(" Text", "LABEL ")), says=("'LABEL'",)),
    "an index, from pandas": Messy("a.csv", pd.DataFrame(ROWS, columns=["text", "label"]).to_csv()),
    "half an emoji": Messy(
        "a.jsonl", objects({8: '{"text": "Oh \\ud83d", "label": "roads"}'}), {8: "half a character"}, says=("whole",)
    ),
    "NUL": Messy("a.csv", table({8: "Oh\0,roads"}), {8: "NUL"}, says=("Remove",)),
    "a novel": Messy("a.csv", table({8: f"{LONG},roads"}), {8: "200,000 characters"}, says=("Cut",)),
    "a number": Messy("a.jsonl", objects({8: {"text": "a", "label": 3}}), {8: "type int: 3"}, says=("in quotes",)),
    "a null": Messy("a.jsonl", objects({8: {"text": None, "label": "roads"}}), {8: "null"}, says=("Fill it in",)),
    "a list": Messy("a.jsonl", objects({8: {"text": ["a"], "label": "roads"}}), {8: "type list"}),
    "empty texts": Messy("a.csv", table({8: ",roads", 9: '"  ",parks'}), {8: "no text", 9: "no text"}),
    "keys that come and go": Messy(
        "a.jsonl", objects({8: {"text": "a"}, 9: {"text": "a", "Label": "roads"}}), {8: "label is missing", 9: "Label"}
    ),
    "lines that aren't objects": Messy(
        "a.jsonl",
        objects({8: ["a", "roads"], 9: "{'text': 'a', 'label': 'roads'}", 30: '{"text": "a", "la'}),
        {8: "array", 9: "not a JSON object", 30: "not a JSON object"},
        says=("one object per line",),
    ),
    "an array in lines": Messy("a.jsonl", array(), refused="one JSON array of 30", says=(".json",)),
    "an array": Messy("a.json", array(indent=2)),
    "an array with a null": Messy("a.json", array(indent=2).replace('"parks"', "null", 1), {6: "null"}),
    "an array in an object": Messy("a.json", f'{{"version": 1, "data": {array()}}}', says=("list 'data'",)),
    "numbers for classes": Messy("a.parquet", parquet, dict.fromkeys(range(1, 21), "type int"), says=("text",)),
    "labels in capitals": Messy(
        "a.csv", table({8: "Where?,Roads"}), says=("'Roads' (1×) differ only by upper and lower case", "(line 8)")
    ),
    "labels with a space": Messy("a.csv", table({8: "Where?,roads "}), {8: "white space"}, says=("merge_labels=True",)),
    "a label with one example": Messy("a.csv", table({8: "Where?,lamps"}), says=("'lamps' (line 8)",)),
    "a split with a typo": Messy(
        "a.csv",
        "text,label,split\n"
        + "".join(f"{i} is,roads,{'tset' if i == 8 else 'test'}\n" for i in range(2, 12))
        + "".join(f"{i} is,parks,train\n" for i in range(12, 32)),
        {8: "the split is 'tset'"},
        says=("Write one of train",),
    ),
    "Alpaca": Messy("a.jsonl", objects(make=alpaca), says=("'instruction' and 'input' and 'output'",)),
    "chats": Messy("a.jsonl", objects({8: {"messages": []}}, make=chat), {8: "no list of messages"}),
    "chats of ShareGPT": Messy("a.jsonl", objects(make=sharegpt), says=("'conversations': the last reply",)),
    "a chat without a reply": Messy(
        "a.jsonl", objects({8: {"messages": chat("a", "b")["messages"][:1]}}, make=chat), {8: "ends with no reply"}
    ),
}


def written(messy: Messy, folder: Path) -> Path:
    if callable(messy.content):
        return messy.content(folder)
    path = folder / messy.name
    path.write_bytes(messy.content if isinstance(messy.content, bytes) else messy.content.encode())
    return path


def loaded(path: Path, **options) -> lk.Task:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lk.load_task(path, **options)


def test_messy_files_load_or_name_the_lines_at_fault(tmp_path):
    for number, (name, messy) in enumerate(FILES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = written(messy, folder)
        if not messy.faults and not messy.refused:
            task = loaded(path)
            assert len(task.train) + len(task.test) == 30, name
            assert all(any(words in note for note in task.notes) for words in messy.says), (name, task.notes)
            continue
        with pytest.raises(lk.LabkitError) as caught:
            lk.load_task(path)
        assert all(words in caught.value.remedy for words in messy.says), (name, caught.value.remedy)
        if messy.refused:
            assert messy.refused in caught.value.cause, name
            continue
        found = dict(re.findall(r"(?:line|row) (\d+): (.*)", caught.value.cause))
        assert [*map(int, found)] == [*messy.faults], (name, caught.value.cause)
        assert all(words in found[str(line)] for line, words in messy.faults.items()), (name, found)


def test_good_rows_of_messy_files_load_and_the_others_are_counted(tmp_path):
    for number, (name, messy) in enumerate(FILES.items()):
        if not messy.faults or messy.name == "a.parquet":
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        task = loaded(written(messy, folder), skip_bad=True)
        count = len(messy.faults)
        assert (len(task.train) + len(task.test), task.left_out) == (30 - count, {"can't be used": count}), name
        left_out = next(note for note in task.notes if note.startswith(f"left out, since they can't be used: {count} "))
        assert [int(line) for line in re.findall(r"line (\d+): ", left_out)] == [*messy.faults], name


def test_twenty_of_many_faults_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(table({line: ",roads" for line in range(2, 32)}) + "Where?,roads\n" * 5)
    with pytest.raises(lk.LabkitError) as caught:
        lk.load_task(path)
    assert [int(line) for line in re.findall(r"line (\d+): the text has no text", caught.value.cause)] == [
        *range(2, 22)
    ]
    assert caught.value.cause.endswith("\n  and 10 more")
    path.write_text(table({line: ",roads" for line in range(2, 32)}))
    with pytest.raises(lk.LabkitError, match="the text has no text"):  # none is left
        lk.load_task(path, skip_bad=True)
