import json
import re
from xml.etree import ElementTree

import pytest

import labkit as lk
from labkit.cli import main
from labkit.curation.charts import bars, by_length


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


def inbox(rows=120):
    offices = {"Roads": "lamp road hole kerb sign pavement", "Waste": "bin bag rubbish skip glass paper"}
    return [
        {"text": f"{' '.join([word] * 3)} number {i} was not seen to by them", "label": office}
        for i in range(rows // 2)
        for office, words in offices.items()
        for word in [words.split()[i % 6]]
    ]


def test_the_page_draws_labels_lengths_and_languages(tmp_path):
    rows = [*inbox(), {"text": "Die Lampe vor unserem Haus ist seit gestern kaputt.", "label": "Roads"}]
    rows += [{"text": "?", "label": "Waste"}, {"text": "the bin was full again " * 30, "label": "Waste"}]
    report = lk.inspect(rows)
    told = {kind: {report.rows[i].number for i in found} for kind, found in report.reasons().items()}
    assert (told["other language"], told["too short"], told["too long"]) == ({121}, {122}, {123})
    report.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    drawn = ElementTree.fromstring(f"<all>{''.join(re.findall('<svg.*?</svg>', page))}</all>")
    labels, lengths, languages = ([bar.text for bar in chart.iter("text")] for chart in drawn)
    assert labels == ["Waste", "62 (50.4%)", "Roads", "61 (49.6%)"]
    assert (
        sum(int(count.split()[0]) for count in lengths[1::2]) == sum(int(c.split()[0]) for c in languages[1::2]) == 123
    )
    assert {"en", "de", "unsure"} == {*languages[::2]}


def test_many_labels_make_one_bar_of_the_rest():
    drawn = bars("Labels", {f"<{i}>": 100 - i for i in range(50)})
    assert drawn.count("<rect") == 20
    assert "31 others" in drawn
    assert "<3>" not in drawn
    assert by_length([1, 10, 11, 150]) == {"up to 10": 2, "11 to 20": 1, "21 to 50": 0, "51 to 100": 0, "101 to 200": 1}
    assert (bars("Labels", {}), by_length([])) == ("", {})


BAD = {
    "empty": ("", None, "bad.jsonl is empty"),
    "unknown columns": ('{"foo": "a", "bar": "b"}\n', None, "has the columns 'foo', 'bar'"),
    "no such column": ('{"text": "a", "label": "b"}\n', {"prompt": "text", "completion": "team"}, "no column 'team'"),
    "no labels": ('{"text": "a"}\n', {"prompt": "text", "completion": "label"}, "no column 'label'"),
    "numbers": ('{"text": 1, "label": "b"}\n', None, "the text is not text but of type int: 1"),
    "lists": ('{"text": "a", "label": ["b"]}\n', None, "the label is not text but of type list"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_files_are_refused_with_what_is_wrong(fault, tmp_path, capsys):
    content, columns, told = BAD[fault]
    path = tmp_path / "bad.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(lk.LabkitError, match=re.escape(told)):
        lk.inspect(path, columns=columns)
    if not columns:
        assert main(["inspect", str(path), "--html", str(tmp_path / "out.html")]) == 1
        assert told in capsys.readouterr().err
        assert not (tmp_path / "out.html").exists()


def test_rows_that_hold_no_text_are_named_and_the_rest_is_inspected():
    report = lk.inspect([*inbox(), {"text": {"a": 1}, "label": "Roads"}, {"text": "a bin", "label": None}])
    assert (len(report.rows), report.unusable_rows) == (120, 2)
    assert ["row 121" in report.unusable[0], "row 122" in report.unusable[1]] == [True, True]


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
