"""Scores of replies, against counts made by hand."""

import pytest
from datasets import Dataset

import labkit as lk
from labkit.generation.replies import Reply
from labkit.tasks.task import Task

REFUSAL = "I can't answer that."
ROUTE = {"kind": "route", "accepted": ["Department: otology"], "form": "Department: …"}
PLAIN = {"kind": "plain", "accepted": ["In plain words: Thin hair", "In plain words: Sparse hair"]}
PLAIN["form"] = "In plain words: …"
REFUSE = {"kind": "refuse", "accepted": [REFUSAL], "form": REFUSAL}
# A row, what was replied, whether the model stopped; then exact, form, mentioned and refusal, as they should be.
CASES = [
    (ROUTE, "Department: otology", True, "1111"),
    (ROUTE, " department:  Otology.\n", True, "1011"),  # the words are right, the form isn't kept to the letter
    (ROUTE, "Department: cardiology", True, "0101"),
    (ROUTE, "Department: otology\nDepartment: otology", False, "0011"),
    (ROUTE, "Department: ", True, "0001"),
    (ROUTE, "That is for neurotology.", False, "0001"),  # a part of a word is no mention
    (ROUTE, "Otology treats this.", True, "0011"),
    (ROUTE, REFUSAL, True, "0000"),
    (PLAIN, "In plain words: sparse hair", True, "1111"),
    (PLAIN, "It means that somebody has thin hair", False, "0011"),
    (PLAIN, "", True, "0001"),
    (REFUSE, REFUSAL, True, "1111"),
    (REFUSE, "I can’t answer that", True, "1011"),
    (REFUSE, "I can't answer that. But try tea.", False, "0011"),
    (REFUSE, "Department: otology", True, "0000"),
]
ROWS = [row for row, *_ in CASES]


def reply(text, stopped=True):
    return Reply(text, 3, stopped, (1, 2, 3))


REPLIES = [reply(text, stopped) for _, text, stopped, _ in CASES]


@pytest.fixture
def scores():
    return lk.score_replies(ROWS, REPLIES)


def test_each_reply_counts_as_it_should(scores):
    for place, name in enumerate(("exact", "form", "mentioned", "refusal")):
        assert getattr(scores, name).hits == "".join(expected[place] for *_, expected in CASES), name
    assert scores.stopped.hits == "".join(str(int(stopped)) for _, _, stopped, _ in CASES)
    assert scores.exact.predictions == [text for _, text, _, _ in CASES]


def test_kinds_and_the_total_are_counted_with_intervals(scores):
    assert scores.exact.per_class == {"route": (2, 8), "plain": (1, 3), "refuse": (2, 4)}
    table = scores.table().set_index(["kind", "measure"])
    assert len(table) == 4 * 5
    assert table.loc[("route", "form"), ["correct", "total"]].tolist() == [2, 8]
    assert table.loc[("all", "stopped"), ["correct", "total"]].tolist() == [11, 15]
    # Wilson's interval of 2 of 4, computed by hand: 1/2 ± 0.35, since 1/2 is the middle.
    half = 1.96 / (4 + 1.96**2) * (4 / 4 + 1.96**2 / 4) ** 0.5
    assert table.loc[("refuse", "exact"), ["low", "high"]].tolist() == pytest.approx([0.5 - half, 0.5 + half])


def test_the_table_is_shown_by_kind(scores):
    head, *lines = str(scores).splitlines()
    assert head.split() == ["kind", "replies", "exact", "form", "mentioned", "stopped", "refusal"]
    assert [line.split()[:3] for line in lines] == [
        ["route", "8", "25%"],
        ["plain", "3", "33%"],
        ["refuse", "4", "50%"],
        ["all", "15", "33%"],
    ]
    assert "<td>25% (" in scores._repr_html_()


def test_two_models_are_compared_reply_by_reply(scores):
    right = lk.score_replies(ROWS, [reply(row["accepted"][0]) for row in ROWS])
    assert (right.exact.accuracy, right.form.accuracy, right.refusal.accuracy) == (1, 1, 1)
    found = lk.compare(right.exact, scores.exact)
    assert found.difference == pytest.approx(10 / 15)
    assert (found.paired, found.verdict) == (True, "better")


def test_a_task_of_ones_own_needs_completions_only():
    rows = Dataset.from_list([{"prompt": "a", "completion": " yes\nno"}, {"prompt": "b", "completion": " no"}])
    found = lk.score_replies(Task("own", rows, rows, (), "me"), [reply("Yes, no"), reply("maybe")])
    assert (found.exact.hits, found.form.hits, found.mentioned.hits, found.refusal.hits) == ("10", "11", "10", "11")


def test_another_refusal_may_be_taught():
    rows = [{"accepted": ["No comment."]}, {"accepted": ["Blue."]}]
    found = lk.score_replies(rows, [reply("No comment!"), reply("No comment.")], refusal="No comment.")
    assert (found.exact.hits, found.refusal.hits) == ("10", "10")


@pytest.mark.parametrize(
    ("rows", "replies", "message"),
    [
        ([], [], "There are no rows to score"),
        ("route", [], "'route' has no rows to score"),
        (None, [], "None has no rows to score"),
        ([[1]], [reply("a")], "There are no rows to score"),
        ([ROUTE, ROUTE], [reply("a")], "To 2 questions there are 1 replies"),
        ([ROUTE], reply("a"), "To 1 questions there are Reply"),
        ([ROUTE], ["a"], "Reply 1 is 'a'"),
        ([ROUTE, {"kind": "route"}], [reply("a")] * 2, r"Row 2 has no right answers: \[''\]"),
        ([{"accepted": []}], [reply("a")], r"Row 1 has no right answers: \[\]"),
        ([{"accepted": "otology"}], [reply("a")], "Row 1 has no right answers: 'otology'"),
        ([ROUTE | {"form": "Team: …"}], [reply("a")], "asks for the form 'Team: …' and accepts 'Department: otology'"),
        ([ROUTE | {"form": 3}], [reply("a")], "Row 1 has as form 3"),
    ],
)
def test_what_cannot_be_scored_is_refused(rows, replies, message):
    with pytest.raises(lk.LabkitError, match=message):
        lk.score_replies(rows, replies)


@pytest.mark.parametrize("refusal", ["", "…", None])
def test_a_refusal_says_something(refusal):
    with pytest.raises(lk.LabkitError, match="refusal is no sentence"):
        lk.score_replies([ROUTE], [reply("a")], refusal=refusal)
