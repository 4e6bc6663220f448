"""The course's messy CSV is messy in the lines that its card names, and nowhere else."""

import csv
import re
from collections import Counter

import pytest

import labkit as lk
from labkit.storage.cache import course_data
from labkit.tasks.task import DataWarning

COLUMNS = {"prompt": "Message: {Message}\nOffice:", "completion": "Office"}
UNUSABLE = ("no label", "no message", "too many cells", "stray quote")


def table(card: str, row: str) -> dict[str, list[int]]:
    return {name: [int(number) for number in cell.split(",")] for name, cell in re.findall(row, card, re.MULTILINE)}


def test_the_card_of_the_inbox_names_every_flaw_by_line():
    data = (course_data() / "inbox.csv").read_bytes()
    card = (course_data() / "inbox.md").read_text(encoding="utf-8")
    flaws = table(card, r"^\| ([a-z][a-z ]+) \| ([\d, ]+) \|$")
    counts = table(card, r"^\| `(\w+)` \|.*\| (\d+) \|$")
    assert (len(flaws), len(counts)) == (9, 8)
    lines = data.decode("cp1252").splitlines(keepends=True)
    assert len(lines) == 345
    assert [number for number, line in enumerate(lines, 1) if not line.endswith("\r\n")] == list(range(293, 300))
    # With the stray quote away, each row can be read where it begins.
    (stray,) = flaws["stray quote"]
    assert lines[stray - 1].rfind('"') == 0
    swallowed = [number for number in range(stray + 1, stray + 10) if '"' in lines[number - 1]]
    assert f"closes where the next one opens, in line {swallowed[0]}." in card
    lines[stray - 1] = lines[stray - 1][1:]
    reader = csv.reader(lines, delimiter=";", strict=True)
    assert next(reader) == ["Message", "Office", "Received"]
    rows, first = [], 2
    for cells in reader:
        rows.append((first, cells))
        first = reader.line_num + 1
    assert f"{len(rows)} messages to" in card

    found = {name: [] for name in flaws} | {"stray quote": [stray]}
    found["too many cells"] = [number for number, cells in rows if len(cells) != 3]
    found["no message"] = [number for number, cells in rows if not cells[0].strip()]
    found["no label"] = [number for number, cells in rows if not cells[1].strip()]
    found["broken letters"] = [number for number, cells in rows if "Ã" in cells[0]]
    unusable = [*found["stray quote"], *found["too many cells"], *found["no message"], *found["no label"]]
    rows = [(number, *cells) for number, cells in rows if number not in unusable]
    found["label spelled with other capitals or white space"] = [n for n, _, label, _ in rows if label not in counts]
    offices = Counter(label.strip().title() for _, _, label, _ in rows)
    found["label with a single message"] = [n for n, _, label, _ in rows if offices[label.strip().title()] == 1]
    earlier = []
    for number, message, *_ in rows:
        words = set(message.lower().split())
        likeness = max((len(words & other) / len(words | other) for other, _ in earlier), default=0)
        if any(message == text for _, text in earlier):
            found["exact duplicate"].append(number)
        elif likeness > 0.5:  # all others share less than a third of their words
            found["near duplicate"].append(number)
        earlier.append((words, message))
    assert found == flaws
    assert {name: [count] for name, count in offices.items()} == counts
    assert f"These are the {len(rows)} messages that can be used" in card


def test_the_loader_names_the_flaws_that_the_card_lists():
    inbox = course_data() / "inbox.csv"
    flaws = table(inbox.with_suffix(".md").read_text(encoding="utf-8"), r"^\| ([a-z][a-z ]+) \| ([\d, ]+) \|$")
    unusable = {number for name in UNUSABLE for number in flaws[name]}
    with pytest.raises(lk.LabkitError) as caught:
        lk.load_task(inbox, columns=COLUMNS)
    named = {int(number): what for number, what in re.findall(r"line (\d+): (.*)", caught.value.cause)}
    spaces = {number for number, what in named.items() if "only by white space" in what}
    assert named.keys() - spaces == unusable
    assert spaces < set(flaws["label spelled with other capitals or white space"])
    with pytest.warns(DataWarning) as said:
        task = lk.load_task(inbox, columns=COLUMNS, skip_bad=True, merge_labels=True)
    text = str(said[0].message)
    for what in ("read as cp1252", "separated by semicolons", "line 169, '…in front of our cafÃ©", "'Mayor' (line 88)"):
        assert what in text
    assert task.left_out["can't be used"] == len(unusable)
    assert len(task.train) + len(task.test) + sum(task.left_out.values()) == 337
    assert len(task.labels) == 8
