import csv
import json
import random
import tracemalloc

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import labkit as lk
from labkit.tasks.faults import Faults
from labkit.tasks.reading import read_file

ROWS = [{"prompt": f"{a}{b} is it", "completion": "yes" if b < "d" else "no"} for a in "abcdef" for b in "abcdef"]
JSONL = [json.dumps(row) for row in ROWS]
CSV = ["prompt,completion", *(f"{row['prompt']},{row['completion']}" for row in ROWS)]
FREE = ["prompt,completion", *(f"who is {n},it is {n}" for n in range(36))]
TSV = [line.replace(",", "\t") for line in CSV]


@pytest.fixture
def read(tmp_path):
    def rows_faults_notes(name: str, content: str | bytes, encoding="utf-8"):
        """Return the rows of a file by line, and its faults and notes."""
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        faults, notes = Faults(name), []
        numbered = list(read_file(tmp_path / name, faults, notes))
        rows = dict(numbered)
        assert len(rows) == len(numbered)
        assert not rows.keys() & faults.rows, "a row with a fault is yielded"
        return rows, faults.listed(), notes

    return rows_faults_notes


def refusal(read, *args) -> str:
    with pytest.raises(lk.LabkitError) as caught:
        read(*args)
    return str(caught.value)


def with_lines(lines: list[str], changed: dict[int, str]) -> str:
    """Return the file with other texts in some lines, counted from 1."""
    return "\n".join(changed.get(number, line) for number, line in enumerate(lines, 1))


def test_every_format_holds_the_same_rows(read, tmp_path):
    frame = pd.DataFrame(ROWS)
    frame.to_parquet(tmp_path / "p")
    from_two = dict(enumerate(ROWS, 2))
    for name, content, lines in (
        ("a.JSONL", "\n\n".join(JSONL), range(1, 72, 2)),
        ("a.json", json.dumps(ROWS), range(1, 37)),
        ("b.json", "[\n" + ",\n".join(JSONL) + "\n]\n", range(2, 38)),
        ("c.json", json.dumps(ROWS, indent=1), range(2, 37 * 4 - 3, 4)),
        ("d.json", '{"version": [1],\n "data": [\n' + ",\n".join(JSONL) + '], "more": {}}', range(3, 39)),
        ("e.json", "\n".join(JSONL), range(1, 37)),
        ("a.csv", frame.to_csv(index=False), range(2, 38)),
        ("b.csv", frame.to_csv(), range(2, 38)),  # the index has no name
        ("c.csv", frame.to_csv(index=False, sep=";"), range(2, 38)),
        ("d.csv", frame.to_csv(index=False, sep="\t"), range(2, 38)),
        ("e.csv", "sep=;\r\n" + frame.to_csv(index=False, sep=";", lineterminator="\r\n"), range(3, 39)),
        ("f.csv", ",,,\n".join([*CSV, "", ""]), range(2, 38)),  # what Excel writes of emptied cells
        ("a.tsv", frame.to_csv(index=False, sep="\t"), range(2, 38)),
        ("a.parquet", (tmp_path / "p").read_bytes(), range(1, 37)),
    ):
        for end in ("\n",) if name == "a.parquet" else ("\n", "\r\n", "\r"):
            text = content.replace("\r\n", "\n").replace("\n", end) if isinstance(content, str) else content
            rows, faults, notes = read(name, text)
            assert [*rows.values()] == ROWS, name
            assert [*rows] == [*lines], name
            assert not faults
            assert len(notes) == (name in ("d.json", "e.json", "b.csv", "c.csv", "d.csv", "f.csv")), (name, notes)
    assert from_two == read("a.csv", "\n".join(CSV))[0]


def test_random_texts_come_back_with_their_lines(read, tmp_path):
    random.seed(0)
    parts = [*"ab ,;'\t\"", '""', "\n", "\r\n", "é", "😀", "\u2028", "x, y", "\ufeff"]
    for name, separator in (("a.csv", ","), ("a.tsv", "\t"), ("a.jsonl", ""), ("a.json", "")):
        for _ in range(30):
            texts = ["".join(random.choices(parts, k=random.randrange(1, 9))) for _ in range(40)]
            table = [{"id": f"{n}", "prompt": f"{n}{text}", "completion": "."} for n, text in enumerate(texts)]
            if separator:
                with (tmp_path / name).open("w", encoding="utf-8", newline="") as stream:
                    writer = csv.DictWriter(stream, ["id", "prompt", "completion"], delimiter=separator)
                    writer.writeheader()
                    writer.writerows(table)
                lines = [2 + sum(len(text.replace("\r\n", "\n").split("\n")) for text in texts[:n]) for n in range(40)]
            else:
                dumped = [json.dumps(row, ensure_ascii=random.random() < 0.5) for row in table]
                text = "\n".join(dumped) if name == "a.jsonl" else "[" + ",\n".join(dumped) + "]"
                (tmp_path / name).write_text(text, encoding="utf-8")
                lines = range(1, 41)
            rows, faults, _ = read(name, (tmp_path / name).read_bytes())
            assert not faults
            assert rows == dict(zip(lines, table, strict=True))


BAD_JSON = {
    '{"prompt": "a \0", "completion": "b"}': "(it holds a NUL character)",
    '{"prompt": "a", "prompt": "b", "completion": "c"}': "(a key comes twice)",
    "{oops": "not a JSON object: '{oops' (Expecting property name",
    "{} {}": "(more follows at column 3)",
    "[" * 100_000: "not a JSON object: '[[[[",
    '{"n": %s}' % ("9" * 5000): 'not a JSON object: \'{"n": 999',
    '[["prompt", "a"], ["completion", "b"]]': "a JSON array, not an object",
    "7": "a JSON number, not an object: '7'",
    "null": "a JSON null, not an object",
}


def test_lines_that_are_no_json_objects_are_named(read):
    for text, what in BAD_JSON.items():
        rows, (fault,), _ = read("a.jsonl", with_lines(JSONL, {7: text}))
        assert fault.startswith("line 7: "), text[:60]
        assert what in fault
        assert [*rows.values()] == ROWS[:6] + ROWS[7:]
    half = read("a.jsonl", with_lines(JSONL, {7: '{"prompt": "a \\ud83d b"}'}))[0]
    assert half[7] == {"prompt": "a \ud83d b"}  # the value is for others to judge
    for text in (json.dumps(ROWS), json.dumps(ROWS, indent=1)):
        error = refusal(read, "a.jsonl", text)
        assert error.startswith("a.jsonl is one JSON array of 36 values, and not one object per line.\n→ Rename it")
    assert "is one JSON object over several lines" in refusal(read, "a.jsonl", json.dumps(ROWS[0], indent=1))
    pretty = "\n".join(json.dumps(row, indent=1) for row in ROWS)
    assert "objects over several lines each" in refusal(read, "a.jsonl", pretty)
    assert "line 5, more follows the object" in refusal(read, "a.json", pretty)
    assert read("a.jsonl", "{broken\n[1,\n")[1][1].startswith("line 2: not a JSON object")


def test_faults_in_a_json_array_are_named(read):
    lines = ["[", *(f"{line}," for line in JSONL[:-1]), JSONL[-1], "]"]
    text = with_lines(lines, {3: "7,", 4: '{"a": 1, "a": 2},', 5: '{\n"prompt": \n"x"},'})
    rows, faults, _ = read("a.json", text)
    assert [fault.split(" (")[0] for fault in faults] == [
        "line 3: a JSON number, not an object: '7'",
        'line 4: not a JSON object: \'{"a": 1, "a": 2}\'',
    ]
    assert {**dict(enumerate(ROWS[4:], 8)), 2: ROWS[0], 5: {"prompt": "x"}} == rows
    for changed, what in (
        ({7: '{"prompt": "x" "y"},'}, "line 7: not JSON from here on (Expecting ',' delimiter at column 16)"),
        ({7: '{"prompt": "\0"},'}, "line 7: not JSON from here on (it holds a NUL character)"),
        ({7: '{"n": %s},' % ("9" * 5000)}, "line 7: not JSON from here on (Exceeds the limit"),
        ({7: "[" * 100_000}, "line 7: not JSON from here on (maximum recursion"),
        ({6: JSONL[4]}, "line 7: not JSON from here on (a comma or ] is missing at column 1)"),
        ({37: f"{JSONL[-1]},"}, "line 38: not JSON from here on (a comma stands before the ] at column 1"),
        ({38: ""}, "line 38: not JSON from here on (a comma or ] is missing"),
        ({38: "]\n[]"}, "line 39: more follows the array in line 39: '[]'"),
    ):
        for begin, end in (("", ""), ('{"data": ', "}")):
            content = begin + with_lines(lines, changed) + end
            if begin and 38 in changed:
                continue  # whatever follows is part of the object
            rows, (fault,), _ = read("a.json", content)
            assert fault.startswith(what), fault
            assert [*rows.values()] == ROWS[: len(rows)]
            assert len(rows) >= 5
    assert "line 38: not JSON: a comma or } is missing" in read("a.json", '{"data": ' + "\n".join(lines))[1][0]
    for text, what in (
        ('{"train": [{}], "test": [{}]}', "several lists of objects: train, test"),
        (pd.DataFrame(ROWS).to_json(), "with no list of objects, and not an array"),
        ("hello", "is not JSON; line 1 begins 'hello'"),
        ('{"a": 1\n"b"', "is not JSON: line 2, a comma or } is missing at column 1"),
        ('{"a" 1}', "a colon is missing"),
        ("{1: 2}", "a key in quotes is missing"),
    ):
        assert what in refusal(read, "a.json", text)
    rows, faults, _ = read("a.json", json.dumps([*ROWS[:2], 7, ROWS[3]]) + "\n")  # all in one line
    assert rows == {1: ROWS[0], 2: ROWS[1], 4: ROWS[3]}
    assert faults == ["element 3: a JSON number, not an object: '7'"]
    assert read("a.json", " \n") == read("a.json", "[]") == ({}, [], [])


def test_faults_in_a_table_are_named(read):
    limit = csv.field_size_limit()
    middle = "a quote opens here and is closed in the middle of a text"
    for changed, *expected in (
        ({7: "a"}, "line 7: 1 cell where the header has 2"),
        ({7: "a,b,yes,,"}, "line 7: 3 cells where the header has 2"),
        ({7: 'a, "b, c",yes'}, "line 7: 4 cells where the header has 2; a quote counts only right after the comma"),
        ({7: '"be" or not,yes'}, f"line 7: {middle}"),
        ({7: '"a,yes'}, "line 7: a quote opens here and isn't closed; it swallows the lines up to 37"),
        ({5: '"begin of it,yes', 9: 'end" of it,no'}, f"line 5: {middle} in line 9; it swallows the lines between"),
        (
            {5: '"a,yes', 20: "one", 30: '"a" b,no'},
            f"line 5: {middle} in line 30",
            "line 20: 1 cell",
            f"line 30: {middle}",
        ),
    ):
        rows, faults, _ = read("a.csv", with_lines(CSV, changed))
        assert len(faults) == len(expected)
        for fault, begin in zip(faults, expected, strict=True):
            assert fault.startswith(begin)
        assert [rows[line] for line in range(2, 38) if line not in changed] == [
            row for line, row in enumerate(ROWS, 2) if line not in changed
        ]
    for text in ("word " * 40_000, "word\n" * 40_000, 'a "" word ' * 40_000):
        rows, faults, _ = read("a.csv", with_lines(CSV, {7: f'"{text}",yes'}))
        assert rows[7] == {"prompt": text.replace('""', '"'), "completion": "yes"}
        assert len(rows) == 36
        assert not faults
    assert csv.field_size_limit() == limit
    assert "has a column twice, a: a, b, a." in refusal(read, "a.csv", "a,b, a,\n1,2,3")
    assert "line 2: the header has a stray quote" in refusal(read, "a.csv", '\n"prompt,completion\na,b')
    rows, _, notes = read("a.csv", "a,,b,,\n1,2,3\n4,5,6\n,,\n\n")
    assert rows == {2: {"a": "1", "b": "3"}, 3: {"a": "4", "b": "6"}}
    assert notes == [
        "column 2 has no name in the header and is left out",
        "1 row (the first in line 4) of empty cells only, skipped",
    ]


def test_a_quote_that_swallows_rows_is_found_where_it_opens(read):
    first_label = ["completion,prompt", *(",".join(reversed(line.split(","))) for line in CSV[1:])]
    for lines, opening, closing in (
        (CSV, '"begin of it,yes', 'end of it",no'),
        (CSV, 'begin of it,"yes', 'end of it,no"'),
        (first_label, 'yes,"begin of it', 'no,end of it"'),
        (FREE, '"begin of it,one', 'end of it",two'),
        (FREE, 'begin of it,"one', 'end of it,two"'),
    ):
        rows, faults, _ = read("a.csv", with_lines(lines, {5: opening, 9: closing}))
        assert faults == ["line 5: a quote opens here and closes in line 9; it seems to swallow 4 rows"]
        assert [*rows] == [2, 3, 4, *range(6, 38)]  # what it swallowed is read on its own
        # The same lines written as they should be are one text.
        text = "\n".join(["Roses, red,", "violets are blue,", "yes, they are."])
        cells = [f'"{text}"', "yes"] if lines is not first_label else ["yes", f'"{text}"']
        rows, faults, _ = read("a.csv", with_lines(lines, {5: ",".join(cells)}))
        assert text in rows[5].values()
        assert not faults


def test_with_tabs_a_stray_quote_is_part_of_the_text(read):
    for changed in (
        {5: '"begin of it\tyes', 9: 'end of it"\tno'},
        {5: '"be" or not\tyes', 9: '"unclosed\tno'},
        {5: '"begin of it\tyes', 9: '"end of it\tno'},
    ):
        rows, faults, notes = read("a.tsv", with_lines(TSV, changed))
        expected = {line: changed.get(line, text).split("\t") for line, text in enumerate(TSV, 1) if line > 1}
        assert {line: [*row.values()] for line, row in rows.items()} == expected
        assert not faults
        assert "(the first in line 5) with a quote that isn't closed" in notes[0]
    rows, faults, _ = read("a.tsv", with_lines(TSV, {5: '"two\nlines"\tyes', 9: 'x\t"so ""it""\nis"', 12: '"lost'}))
    assert (rows[5]["prompt"], rows[10]["completion"]) == ("two\nlines", 'so "it"\nis')
    assert faults[0].startswith("line 14: a quote opens here and isn't closed")


def test_encodings_are_told(read):
    for name, lines in (("a.csv", CSV), ("a.jsonl", [line.replace("é", "e") for line in JSONL])):
        odd = "\n".join(lines).replace("ba is", "café à la carte").replace("ca is", "“Don’t” – 5 €")
        start = 8 if name == "a.csv" else 7
        expected = read(name, odd)
        assert expected[0][start]["prompt"] == "café à la carte it"
        assert read(name, odd, "utf-8-sig") == expected
        for encoding in ("utf-16", "utf-32", "utf-16-le", "utf-16-be"):
            rows, faults, (note,) = read(name, odd, encoding)
            assert (rows, faults) == expected[:2]
            assert f"encoded in {encoding.upper()} and was read as that" in note
        rows, faults, (note,) = read(name, odd, "cp1252")
        assert (rows, faults) == expected[:2]
        assert f"read as cp1252, the encoding of Windows: line {start} reads" in note
        assert "café à la carte" in note
        mixed = (
            odd.encode("cp1252")
            .replace("Don’t".encode("cp1252"), "naïve".encode())
            .replace(b"\x93", b"")
            .replace(b"\x94", b"")
        )
        mixed = mixed.replace(b"\x96", b"").replace(b"\x80", b"")
        rows, (fault,), _ = read(name, mixed)
        assert fault.startswith(f"line {start}: not UTF-8 (the byte 0xe9); in cp1252")
        assert "café" in fault
        assert rows[start + 6]["prompt"].startswith("naïve")
        assert "begins as UTF-16 text, but isn't" in refusal(read, name, odd.encode("utf-16") + b"x")
        assert "may be UTF-32 without its mark" in refusal(read, name, odd, "utf-32-le")


def test_other_encodings_are_not_taken_for_cp1252(read):
    for encoding, text in {
        "gbk": "你好，世界很大",
        "big5": "一個中文的句子",
        "shift_jis": "テストです。カタカナ",
        "euc_kr": "안녕하세요",
        "cp1251": "Привет, мир",
        "cp1250": "żółć więc mało",
        "cp437": "über müde café",
        "mac_roman": "über müde café",
    }.items():
        for every in (1, 3, 20):  # of how many lines one is in that language
            prompts = [text[: 3 + n % 9] if n % every == 0 else "plain English" for n in range(60)]
            lines = [json.dumps({"prompt": prompt, "completion": "yes"}, ensure_ascii=False) for prompt in prompts]
            if every < 20:
                error = refusal(read, "a.jsonl", "\n".join(lines), encoding)
                assert "a.jsonl is not UTF-8, and not cp1252 either" in error, encoding
                assert "line 1 (the byte 0x" in error
                assert "read_text(encoding='gbk')" in error
            else:
                rows, faults, _ = read("a.jsonl", "\n".join(lines), encoding)
                assert [fault.split(" (")[0] for fault in faults] == [f"line {n}: not UTF-8" for n in (1, 21, 41)]
                assert len(rows) == 57
    chinese = "\n".join(["问题,回答", *(f"这是第{n}个问题吗,是的" for n in range(40))])
    for encoding in ("utf-16-le", "utf-16-be"):
        assert read("a.csv", chinese, encoding)[0] == read("a.csv", chinese)[0]
    assert read("a.csv", with_lines(CSV, {3: "a \0,yes", 4: "a \0,no"}))[0][3]["prompt"] == "a \0"


def test_files_that_cannot_be_read_at_all(read, tmp_path):
    for name in ("gone.csv", "gone.parquet"):
        with pytest.raises(lk.LabkitError, match=rf"{name} can't be read: No such file"):
            next(read_file(tmp_path / name, Faults(name), []))
    assert "not text but an Excel workbook" in refusal(read, "a.csv", b"PK\x03\x04\x14\0")
    assert "can't be read as a parquet file" in refusal(read, "a.parquet", "hello")
    assert "Choose one of .jsonl, .json, .csv, .tsv, .parquet" in refusal(read, "a.txt", "hello")


def test_rows_of_parquet_are_counted(read, tmp_path):
    texts = pa.array([b"a", b"\xff", "é".encode()]).view(pa.binary()).cast(pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"prompt": texts, "n": [1, None, 3]}), tmp_path / "b")
    rows, faults, _ = read("b.parquet", (tmp_path / "b").read_bytes())
    assert rows == {1: {"prompt": "a", "n": 1}, 3: {"prompt": "é", "n": 3}}
    assert faults == ["row 2: a text in it is not UTF-8"]


def test_rows_come_one_by_one(tmp_path):
    text = "\n".join(f"what is {n} and more of it,answer {n}" for n in range(4_000))
    (tmp_path / "a.csv").write_text(f"prompt,completion\n{text}\n", encoding="utf-8")
    jsonl = [json.dumps({"prompt": line, "completion": "yes"}) for line in text.split("\n")]
    (tmp_path / "a.jsonl").write_text("\n".join(jsonl), encoding="utf-8")
    (tmp_path / "a.json").write_text(f"[{','.join(jsonl)}]", encoding="utf-8")
    for name in ("a.csv", "a.jsonl", "a.json"):
        tracemalloc.start()
        assert sum(1 for _ in read_file(tmp_path / name, Faults(name), [])) == 4_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2.5 * (tmp_path / name).stat().st_size


def test_faults_are_listed_in_the_order_of_the_file():
    faults = Faults("your table", "row {number} (df.iloc[{index}])")
    for number in range(3000, 0, -1):
        faults.add(number, f"fault {number}", "Fix it.")
        faults.add(number, "and another", "Fix it.")
    assert len(faults) == 6000
    assert len(faults.rows) == 3000
    listed = faults.listed()
    assert listed[:2] == ["row 1 (df.iloc[0]): fault 1", "row 1 (df.iloc[0]): and another"]
    assert listed[19:] == ["row 10 (df.iloc[9]): and another", "and 5,980 more"]
    with pytest.raises(lk.LabkitError) as caught:
        faults.raise_any()
    assert str(caught.value) == "your table, " + "\n  ".join(listed) + "\n→ Fix it."
    assert Faults("a folder", lambda number: f"file {number}").where(7) == "file 7"
