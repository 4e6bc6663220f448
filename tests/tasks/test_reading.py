import csv
import json

import pytest

import labkit as lk
from labkit.tasks.faults import Faults
from labkit.tasks.reading import read_rows
from labkit.tasks.task import DataWarning

ROWS = [{"prompt": f"{a}{b} is it", "completion": "yes" if b < "d" else "no"} for a in "abcdef" for b in "abcdef"]
COUNTS = {"train": 20, "test": 10}
JSONL = [json.dumps(row) for row in ROWS]
CSV = ["prompt,completion", *(f"{row['prompt']},{row['completion']}" for row in ROWS)]


def refused(path, content: str | bytes, encoding="utf-8") -> tuple[list[str], str]:
    """Return the lines of the error that a file with this content raises, and its remedy."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    with pytest.raises(lk.LabkitError) as caught:
        lk.load_task(path, **COUNTS)
    return [line.strip() for line in caught.value.cause.splitlines()], caught.value.remedy


def with_line(lines: list[str], number: int, text: str) -> str:
    """Return the file with another text in one line, counted from 1."""
    return "\n".join([*lines[: number - 1], text, *lines[number:]])


BAD_JSON = {
    '{"prompt": "a", "completion": ""}': "the completion has no text: ''",
    '{"prompt": " \\n", "completion": "b"}': "the prompt has no text: ' \\n'",
    '{"prompt": null, "completion": "b"}': "the prompt is null",
    '{"prompt": "a", "completion": 7}': "the completion is no text but of type int: 7",
    '{"prompt": ["a"], "completion": "b"}': "the prompt is no text but of type list: ['a']",
    '{"prompt": "a", "answer": "b"}': "the column completion is missing; there are prompt, answer",
    '{"prompt": "a \\u0000", "completion": "b"}': "the prompt holds a NUL character",
    '{"prompt": "a \\ud83d b", "completion": "b"}': "the prompt holds half a character, \\ud83d",
    '{"prompt": "a \0", "completion": "b"}': "(it holds a NUL character)",
    '{"prompt": "a", "prompt": "b", "completion": "c"}': "(a key comes twice)",
    '{"prompt": "%s", "completion": "b"}' % ("a" * 200_000): "the prompt has 200,000 characters, more than 131,072",
    "{oops": "not a JSON object: '{oops' (Expecting property name",
    "[" * 100_000: "not a JSON object: '[[[[",
    '[["prompt", "a"], ["completion", "b"]]': "a JSON array, not an object",
    "7": "a JSON number, not an object: '7'",
    "null": "a JSON null, not an object",
}
BAD_CSV = {
    "a,": "the completion has no text: ''",
    "a": "1 cells where the header has 2",
    "a,b,yes": "3 cells where the header has 2",
    "a \0,yes": "the prompt holds a NUL character",
    f'"{"word " * 40_000}",yes': "a text of more than 131,072 characters",
    f"{'word ' * 40_000},yes": "a text of more than 131,072 characters",
    '"be" or not,yes': "a quote opens here and is closed in the middle of a text",
    '"a,yes': "a quote opens here and isn't closed; it swallows the lines up to 37",
}


def test_a_fault_is_named_with_its_line(tmp_path):
    limit = csv.field_size_limit()
    for name, lines, faults in (("a.jsonl", JSONL, BAD_JSON), ("a.csv", CSV, BAD_CSV)):
        for text, what in faults.items():
            (first, *rest), remedy = refused(tmp_path / name, with_line(lines, 7, text))
            assert first.startswith(f"{name}, line 7: "), text[:60]
            assert what in first
            assert not rest
            assert remedy.endswith(".")
    assert csv.field_size_limit() == limit


def test_all_faults_come_at_once(tmp_path):
    text = "\n".join([*JSONL, *BAD_JSON])
    lines, _ = refused(tmp_path / "a.jsonl", text)
    assert [int(line.split("line ")[1].split(":")[0]) for line in lines] == list(range(37, 37 + len(BAD_JSON)))
    lines, remedy = refused(tmp_path / "a.jsonl", "\n".join([*JSONL, *['{"prompt": 1, "completion": ""}'] * 30]))
    assert len(lines) == 21
    assert lines[-1] == "and 40 more"
    assert remedy == "Write it as text, in quotes. Fill it in or remove the example."
    text = with_line(with_line(CSV, 5, '"unclosed,yes').split("\n"), 20, "one cell").replace("fa is it", "")
    assert [line.split(": ")[0] for line in refused(tmp_path / "a.csv", text)[0]] == [
        "a.csv, line 5",
        "line 20",
        "line 32",
    ]


def test_a_quote_that_swallows_rows_is_found_where_it_opens(tmp_path):
    for closing, what in (
        ('end" of it,no', "closed in the middle of a text in line 9"),
        ('end of it",no', "closes in line 9; it seems to swallow 4 rows"),
    ):
        lines = [*CSV]
        lines[4], lines[8] = '"begin of it,yes', closing
        found = refused(tmp_path / "a.csv", "\n".join(lines))[0]
        assert found[0].startswith("a.csv, line 5: a quote opens here")
        assert what in found[0]


def test_texts_of_several_lines_are_no_fault(tmp_path):
    rows = [{"prompt": f"{row['prompt']}\nroses, red,\r\nviolets, blue", **row} for row in ROWS]
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(rows)
    task = lk.load_task(path, **COUNTS)
    assert {*task.train["prompt"], *task.test["prompt"]} <= {row["prompt"] for row in rows}


def test_one_json_value_for_the_whole_file_is_named(tmp_path):
    for text in (json.dumps(ROWS), json.dumps(ROWS, indent=1)):
        (cause,), remedy = refused(tmp_path / "a.jsonl", text)
        assert cause == "a.jsonl is one JSON array of 36 values, and not one object a line."
        assert "Dataset.from_list" in remedy
    assert "one JSON object over several lines" in refused(tmp_path / "a.jsonl", json.dumps(ROWS[0], indent=1))[0][0]


def test_encodings_are_named(tmp_path):
    for name, lines in (("a.csv", CSV), ("a.jsonl", JSONL)):
        path = tmp_path / name
        odd = "\n".join(lines).replace("ba is", "café is").replace("ca is", "naïve is")
        found, remedy = refused(path, odd, "cp1252")
        start = 8 if name == "a.csv" else 7
        assert found[0].startswith(f"{name}, line {start}: not UTF-8 (the byte 0xe9); in cp1252")
        assert "café" in found[0]
        assert found[1].startswith(f"line {start + 6}: not UTF-8 (the byte 0xef)")
        assert remedy == "Save the file again as UTF-8."
        assert "looks like UTF-16" in refused(path, odd, "utf-16-le")[0][0]
        assert "begins as UTF-16 text, but isn't" in refused(path, odd.encode("utf-16") + b"x")[0][0]
        path.write_text(odd, encoding="utf-8-sig")
        expected = lk.load_task(path, **COUNTS)
        for encoding in ("utf-16", "utf-32"):
            path.write_text(odd, encoding=encoding)
            with pytest.warns(DataWarning, match=f"encoded in {encoding.upper()} and was read as that"):
                assert lk.load_task(path, **COUNTS).train.to_list() == expected.train.to_list()


def test_labels_that_look_the_same_are_named(tmp_path):
    for label in ("yes ", "yes\\t", "\\nyes", "yes\\u200b", "\\u00a0yes"):
        line = f'{{"prompt": "x is it", "completion": "{label}"}}'
        (cause,), remedy = refused(tmp_path / "a.jsonl", with_line(JSONL, 7, line))
        assert cause.startswith("a.jsonl, line 7: after its prompt, the label ")
        assert "differs from ' yes' (17×) only by white space" in cause
        assert "merge_labels=True" in remedy
    (tmp_path / "a.csv").write_text(with_line(CSV, 8, "x is it,Yes"), encoding="utf-8")
    with pytest.warns(
        DataWarning,
        match=r"'yes' \(17×\) and 'Yes' \(1×\) differ only by .* as 2 \(line 8\)",
    ):
        assert lk.load_task(tmp_path / "a.csv", **COUNTS).labels == (" Yes", " no", " yes")


def test_prompts_may_end_with_a_space_or_without(tmp_path):
    lines = [line.replace("a is it", "a is it ") for line in CSV]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    task = lk.load_task(tmp_path / "a.csv", train=26, test=10)
    assert task.labels == (" no", " yes")
    joined = sorted(row["prompt"] + row["completion"] for row in [*task.train, *task.test])
    assert joined == sorted(f"{row['prompt']} {row['completion']}" for row in ROWS)


def test_files_that_cannot_be_read_at_all_and_lines_that_are_skipped(tmp_path):
    with pytest.raises(lk.LabkitError, match=r"gone\.csv can't be read: No such file"):
        read_rows(tmp_path / "gone.csv", Faults("gone.csv"), [])
    (tmp_path / "blank.csv").write_text("\n\n".join(CSV), encoding="utf-8")
    rows, columns = read_rows(tmp_path / "blank.csv", Faults("blank.csv"), [])
    assert [row for _, row in rows] == ROWS
    assert columns == ["prompt", "completion"]
    lines, _ = refused(tmp_path / "pieces.jsonl", "{broken\n[1,\n")  # as a whole it is no JSON either
    assert len(lines) == 2
    assert "line 1: not a JSON object" in lines[0]
    lines, _ = refused(tmp_path / "bytes.jsonl", b'{"prompt": "\x81", "completion": "no"}\n')  # no letter in cp1252
    assert lines[0].endswith("not UTF-8 (the byte 0x81)")
