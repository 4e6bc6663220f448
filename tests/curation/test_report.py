import json

import pytest

import labkit as lk
from labkit.cli import main


def messy():
    words = [f"w{i}" for i in range(60)]
    rows = [{"text": " ".join(words[i : i + 40]), "label": "ab"[i % 2]} for i in (0, 20)]
    rows += [rows[0], {"text": "mail anna@example.org <script>alert(1)</script>", "label": "a"}]
    return [*rows, {"text": "", "label": "b"}, {"text": "no label", "label": None}]


def test_a_messy_file_is_reported_and_cleaned_as_asked(tmp_path, capsys):
    path, page = tmp_path / "messy.jsonl", tmp_path / "out.html"
    path.write_text("".join(json.dumps(row) + "\n" for row in messy()), encoding="utf-8")
    report = lk.inspect(path)
    assert report.counts() == {
        "exact copies": 1, "near copies": 0, "leaks": 0, "suspect labels": 0, "personal data": 1,
        "other language": 0, "too short": 0, "too long": 0, "unusable rows": 2,
    }  # fmt: skip
    assert len(report.rows) == 4
    assert report.clean() == (report.rows, {})
    kept, why = report.clean("exact copies", "personal data")
    assert (len(kept), why) == (2, {2: "exact copies: equals row 1", 3: "personal data: e-mail"})
    with pytest.raises(lk.LabkitError, match="no reason to drop a row called 'copies'"):
        report.clean("copies")
    assert main(["inspect", str(path), "--html", str(page)]) == 0
    assert "exact copies" in capsys.readouterr().out
    written = page.read_text(encoding="utf-8")
    assert "http" not in written
    assert "<script" not in written
    assert "anna@" not in written + report._repr_html_()


def test_a_split_shows_leaks():
    row = {"prompt": "one two three four five six", "completion": " seven"}
    report = lk.inspect({"train": [row, {"prompt": "other", "completion": " x"}], "test": [row]})
    assert [(leak.train, leak.test, leak.kind) for leak in report.leaks] == [(0, 2, "exact")]
    assert [kept.prompt for kept in report.clean("leaks")[0]] == ["other"]


def test_columns_with_names_of_their_own_are_said_at_the_command_line(tmp_path, capsys):
    path = tmp_path / "inbox.csv"
    path.write_text("Message,Office\nThe lamp is out,Roads\nthe lamp is out,Roads\nMy bin,Waste\n", encoding="utf-8")
    assert main(["inspect", str(path)]) == 1
    assert main(["inspect", str(path), "--prompt", "Message", "--completion", "Office"]) == 0
    assert "exact copies       1" in capsys.readouterr().out
