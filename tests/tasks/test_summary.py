import io
import re
import socket
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from datasets import Dataset
from tiny import tiny_model

import labkit as lk
from labkit.models.context import MAX_LENGTH
from labkit.tasks import lengths
from labkit.tasks.summary_table import CLASSES, LONGEST
from labkit.tasks.task import Task
from labkit.training.batching import encode

NO_LIMIT = 1 << 20
AWKWARD = [
    ("<script>alert(1)</script> &amp; & \"double\" 'single' </td>", " <b>yes</b>"),
    ("Costs $5 or $x^2$, \\(a+b\\), **bold**:", " no  "),
    ("\n  def f():\n\treturn  1\n", "\n"),
    ("مرحبا بالعالم: 42", " نعم"),
    ("这是一个句子。", " 对"),
    ("bell \x07, escape \x1b[31m, right to left \u202e, no width \u200b\ufeff, family 👩‍👩‍👧", " \x00"),
]


def task_of(train, test=(("A prompt", " yes"),), labels=(), **more):
    def rows(pairs):
        return Dataset.from_dict(dict(zip(("prompt", "completion"), map(list, zip(*pairs, strict=True)), strict=True)))

    return Task("mine <&>.csv", rows(train), rows(test), labels, "me", **more)


class Reader(HTMLParser):
    """Collects a table's text by row as a browser would show it, its tags, and their attributes."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.tags, self.attributes, self.open = {}, set(), [], None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag in ("th", "caption"):
            self.heading, self.open = "", "heading"
        elif tag == "td":
            self.rows[self.heading], self.open = [], "cell"
        elif tag == "div":
            self.rows[self.heading].append("")

    def handle_data(self, data):
        if self.open == "heading":
            self.heading += data
        else:
            self.rows[self.heading][-1] += data.replace("\N{NO-BREAK SPACE}", " ")

    def handle_endtag(self, tag):
        if tag == "caption":
            self.rows["caption"] = self.heading


@pytest.fixture
def many_lengths():
    """Texts of many lengths, in words that no tokenizer has whole, with completions of one and of several tokens."""
    rows = [("Zyx wvut, srq! " * (i % 37) + f"Number {i}:", " yes" + " indeed" * (i % 4)) for i in range(60)]
    return task_of(rows[:40], rows[40:])


@pytest.mark.filterwarnings("ignore::labkit.TruncationWarning")
def test_lengths_are_those_that_training_reads(tiny, tiny_encoder, many_lengths):
    prompts, completions = (many_lengths.train[c][:] + many_lengths.test[c][:] for c in ("prompt", "completion"))
    short = tiny_model("llama", tiny.tokenizer, vocab_size=len(tiny.tokenizer), max_position_embeddings=64)
    for model, asked, limit in ((tiny, 200, 200), (tiny_encoder, 100, 100), (short, 200, 64)):
        module = model.module.config
        read, module.max_position_embeddings = module.max_position_embeddings, NO_LIMIT
        whole = [len(e.tokens) for e in encode(model, prompts, completions, NO_LIMIT, sorted(set(completions)))]
        module.max_position_embeddings = read
        cut = [len(e.tokens) for e in encode(model, prompts, completions, asked, sorted(set(completions)))]

        told = lk.describe(many_lengths, model, max_length=asked)
        assert told.unit == f"tokens of {model.name}"
        assert told.limit == limit == max(cut)
        assert told.beyond == sum(a != b for a, b in zip(whole, cut, strict=True)) > 0
        assert told.share_beyond == told.beyond / 60
        quantiles = np.quantile(whole, [0.5, 0.95, 1], method="inverted_cdf").tolist()
        assert [told.median, told.percentile_95, told.longest] == quantiles


def test_without_a_model_the_tokens_are_those_of_the_course_s_model(tiny, many_lengths):
    told = lk.describe(many_lengths)
    assert told == replace(lk.describe(many_lengths, tiny), unit="tokens of smollm2-135m")
    assert told.limit == MAX_LENGTH == lk.TrainingConfig().max_length == tiny.max_length


def test_without_a_tokenizer_characters_are_counted_and_nothing_is_fetched(many_lengths, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    told = lk.describe(many_lengths)
    rows = [*many_lengths.train, *many_lengths.test]
    assert (told.unit, told.beyond, told.share_beyond) == ("characters", None, None)
    assert told.longest == max(len(row["prompt"] + row["completion"]) for row in rows)
    assert "in characters" in str(told)
    assert "describe(task, model)" in str(told)
    assert list(tmp_path.iterdir()) == []

    folder = lengths.asset_folder(lengths.get_asset(lengths.READER))
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{ cut off")
    assert lk.describe(many_lengths) == told


def test_of_many_rows_two_thousand_are_measured_and_of_books_fewer(tiny, monkeypatch):
    read = []

    def count(model, texts):
        read.append(sum(map(len, texts)))
        return prompt_ids(model, texts)

    prompt_ids = lengths.prompt_ids
    monkeypatch.setattr(lengths, "prompt_ids", count)
    rows = [(f"Row {i}", " yes" if i % 4 else " no") for i in range(100_000)]
    told = lk.describe(task_of(rows, rows[:8], (" no", " yes")), tiny)
    assert (told.train, told.test, told.measured) == (100_000, 8, 2_000)
    assert list(told.classes.items()) == [(" yes", (75_000, 6)), (" no", (25_000, 2))]
    assert len(read) == 1
    assert read[0] <= 2_000 * len("Row 99999")
    assert "of 2,000 sampled" in str(told)
    assert "of 2,000 sampled" in told._repr_html_()

    monkeypatch.setattr(lengths, "CHARACTERS", 20_000)
    books = task_of([("word " * 1_000, " yes")] * 50)
    told = lk.describe(books, tiny)
    assert 0 < told.measured < 10
    assert sum(read[1:]) <= 20_000


def test_text_and_page_say_the_same(tiny):
    labels = [f" {'very ' * 12 if i == 1 else ''}label {i}" for i in range(15)]
    train = [("Which one?\nAnswer:", label) for i, label in enumerate(labels) for _ in range(20 - i)]
    more = {"notes": ("It was read as UTF-8.", "Two <p>\nare alike."), "left_out": {"copies": 1_200, "no text": 1}}
    for task in (task_of(train, train[::2], tuple(labels), **more), task_of([("a " * 300, " b c")], train)):
        told = lk.describe(task, tiny, max_length=8)
        rows = Reader(told._repr_html_()).rows
        assert rows.pop("caption") == "Task mine <&>.csv"
        plain = "".join(str(told).split())
        for heading, lines in rows.items():
            for line in lines:
                for part in line.split(" · ") if heading == "classes" else [line]:
                    label, _, counts = part.rpartition(": ") if "label " in part else ("", "", part)
                    assert "".join(f"{counts}{label}".split()) in plain, part
            assert re.search(f"^{heading}", str(told), re.M)
        assert f"{told.beyond} of {told.measured} ({told.share_beyond:.1%})" in rows["longer than 8 tokens"][0]
        assert all(f"{count:,}" in rows["length"][0] for count in (told.median, told.percentile_95, told.longest))
        assert rows["rows"] == [f"{len(task.train):,} to train on, {len(task.test):,} to test on"]
        if task.labels:
            head, listed = rows["classes"]
            assert head.startswith("15 ")
            assert listed.count(": ") == CLASSES
            assert listed.endswith("and 3 more")
            assert listed.startswith("label 0: 20 + 10 · very very")
            assert rows["left out"] == ["1,200 rows: copies", "1 row: no text"]
            assert rows["notes"] == list(more["notes"])
        else:
            assert (rows["classes"], rows["left out"], "notes" in rows) == (["free text"], ["nothing"], False)


def test_what_learners_wrote_is_shown_as_they_wrote_it(tiny):
    for prompt, completion in AWKWARD:
        told = lk.describe(task_of([(prompt, completion)], labels=(completion, "other")), tiny)
        page = Reader(told._repr_html_())
        (shown,) = page.rows["example 1"]
        unseen = r"[\x00\x07\x1b\u202e\u200b\ufeff]"
        assert not re.search(unseen, told._repr_html_() + str(told))
        assert shown == re.sub(unseen, lambda sign: repr(sign[0])[1:-1], f"{prompt}█{completion}")
        assert page.tags <= {"table", "caption", "tbody", "tr", "th", "td", "div", "b", "bdi"}
        assert ("class", "mathjax_ignore tex2jax_ignore") in page.attributes  # MathJax 3 and 2
        assert not re.search("color|background|http|src=", "".join(f"{a}={b}" for a, b in page.attributes))
        assert {a for a, _ in page.attributes} <= {"class", "style", "scope", "dir"}


def test_a_long_text_is_shortened_in_the_middle(tiny):
    prompt = "The beginning" + "x" * 5_000 + "the end"
    (shown,) = Reader(lk.describe(task_of([(prompt, " yes")]), tiny)._repr_html_()).rows["example 1"]
    assert shown.startswith("The beginning")
    assert shown.endswith("the end█ yes")
    assert " … " in shown
    assert len(shown) <= LONGEST + len(" … █ yes")


def test_a_task_shows_its_table_and_its_repr_stays_short(monkeypatch):
    task = task_of(AWKWARD, notes=("a note",), left_out={"copies": 3})
    assert str(task) == str(lk.describe(task))
    assert task._repr_html_() == lk.describe(task)._repr_html_()
    assert repr(task) == "Task(name='mine <&>.csv', labels=(), source='me')"
    assert isinstance(hash(task), int)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "cp1252"))
    print(task)  # raises no error, though the code page has no Arabic
    sys.stdout.flush()
    assert b"\\u0645" in sys.stdout.buffer.getvalue()


def test_what_is_no_task_or_length_is_refused(tiny):
    with pytest.raises(lk.LabkitError, match=r"(?s)A Dataset is not a task\..*load_task"):
        lk.describe(Dataset.from_dict({"prompt": ["a"], "completion": ["b"]}))
    with pytest.raises(lk.LabkitError, match="max_length"):
        lk.describe(task_of(AWKWARD), tiny, max_length=0)
    with pytest.raises(lk.LabkitError, match=r"(?s)'smollm2-135m' is not a model\..*load_model"):
        lk.describe(task_of(AWKWARD), "smollm2-135m")
