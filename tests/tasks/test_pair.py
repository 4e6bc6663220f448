"""A learner's own pairs of replies: the forms in which people keep them, and every fault named by its line."""

import json
import warnings

import pytest
from datasets import Dataset

import labkit as lk
from labkit.tasks.pair import pair_of
from labkit.tasks.task import DataWarning

THINGS = (
    "apple, bridge, candle, dragon, engine, forest, guitar, hammer, island, jacket, kettle, ladder, mirror, needle, "
    "orange, pencil, quiver, ribbon, saddle, teapot, urchin, violin, window, yogurt"
)
ROWS = [
    {"prompt": f"How does {thing} {end}", "chosen": f"{thing} is easy{more}", "rejected": f"No idea, {thing}"}
    for thing, end, more in zip(THINGS.split(", "), ("work?", "taste?") * 12, ("", " and fun") * 12, strict=True)
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


ASK, GOOD, POOR = user("Is it far?"), assistant("Two miles."), assistant("Who knows?")
PAIR = {"prompt": [ASK], "chosen": [GOOD], "rejected": [POOR]}
TALK = [user("Hello!"), assistant("Hello."), ASK]
HH = "\n\nHuman: Hello!\n\nAssistant: Hello.\n\nHuman: Is it far?\n\nAssistant:"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "read"),
    [
        ("Is it far?", "Two miles.", "Who knows?", [ASK]),
        ([ASK], [GOOD], [POOR], [ASK]),
        ([ASK], GOOD, POOR, [ASK]),
        ([ASK], "Two miles.", "Who knows?", [ASK]),
        (TALK, [GOOD], [POOR], TALK),
        ([{"from": "human", "value": "Is it far?"}], [{"from": "gpt", "value": "Two miles."}], [POOR], [ASK]),
        (None, [ASK, GOOD], [ASK, POOR], [ASK]),
        (None, [*TALK, GOOD], [*TALK, POOR], TALK),
        ("Is it far?", [ASK, GOOD], [ASK, POOR], [ASK]),  # as UltraFeedback, binarized
        ([ASK], [ASK, GOOD], [ASK, POOR], [ASK]),
        (None, f"{HH} Two miles.", f"{HH} Who knows?", TALK),  # as Anthropic's HH-RLHF
        (HH, " Two miles.", " Who knows?", TALK),
        (None, "Is it far? Two miles.", "Is it far? Who knows?", [ASK]),
    ],
)
def test_every_form_becomes_the_same_pair(prompt, chosen, rejected, read):
    assert pair_of(prompt, chosen, rejected) == PAIR | {"prompt": read}


def test_a_prompt_that_both_replies_begin_with_is_the_one_that_trl_takes():
    extract_prompt = pytest.importorskip("trl.data_utils").extract_prompt
    system = {"role": "system", "content": "Be brief."}
    for read in ([ASK], TALK, [system, ASK]):
        row = {"chosen": [*read, GOOD], "rejected": [*read, POOR]}
        assert pair_of(None, row["chosen"], row["rejected"]) == extract_prompt(row)
    row = {"chosen": "The sky is blue, mostly.", "rejected": "The sky is green."}
    ours, theirs = pair_of(None, row["chosen"], row["rejected"]), extract_prompt(row)
    assert {part: found[0]["content"] for part, found in ours.items()} == {
        part: text.strip() for part, text in theirs.items()
    }
    # TRL cuts "blue" and "black" after "bl"; here a word stays whole.
    assert pair_of(None, "The sky is blue", "The sky is black")["rejected"] == [assistant("black")]


def test_a_file_becomes_a_task_with_its_other_columns(tmp_path):
    rows = [row | {"score": place, "tags": ["a", "b"]} for place, row in enumerate(ROWS)]
    rows[3] |= {"note": "odd"}
    task = lk.load_task(write(tmp_path / "pairs.jsonl", rows))
    assert [len(task.train), len(task.test), task.labels] == [17, 7, ()]
    found = sorted([*task.train, *task.test], key=lambda row: row["score"])
    for given, row in zip(rows, found, strict=True):
        assert row["prompt"] == [user(given["prompt"])]
        assert (row["chosen"], row["rejected"]) == ([assistant(given["chosen"])], [assistant(given["rejected"])])
        assert (row["tags"], row.get("note")) == (["a", "b"], given.get("note"))
    assert task.left_out == {}


def test_conversations_in_a_dataset_and_columns_of_other_names_load_too():
    talks = [
        {"prompt": [user(r["prompt"])], "chosen": [assistant(r["chosen"])], "rejected": [assistant(r["rejected"])]}
        for r in ROWS
    ]
    implicit = [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in talks]
    renamed = [{"ask": r["prompt"], "better": r["chosen"], "worse": r["rejected"]} for r in ROWS]
    named = {"prompt": "ask", "chosen": "better", "rejected": "worse"}
    expected = lk.load_task(ROWS)
    with pytest.warns(DataWarning, match="a prompt is what both replies begin with"):
        from_implicit = lk.load_task(Dataset.from_list(implicit))
    for task in (lk.load_task(Dataset.from_list(talks)), from_implicit, lk.load_task(renamed, columns=named)):
        assert task.train.to_list() == expected.train.to_list()
        assert task.test.to_list() == expected.test.to_list()


FAULTS = {
    "the column prompt is missing": {"chosen": "b", "rejected": "c"},
    "the rejected is null": {"prompt": "a", "chosen": "b", "rejected": None},
    "chosen and rejected are the same: 'So it is.'": {"prompt": "a", "chosen": "So it is.", "rejected": " So  it is."},
    "the chosen has no text": {"prompt": "a", "chosen": " ", "rejected": "c"},
    "the rejected reply is empty": PAIR | {"rejected": [assistant("")]},
    "the last message of the prompt is not the user's": PAIR | {"prompt": [ASK, GOOD]},
    "the chosen has 2 messages after the prompt": PAIR | {"chosen": [GOOD, ASK]},
    "two messages of the user in a row": PAIR | {"prompt": [ASK, ASK]},
    "has the unknown role 'robot'": PAIR | {"prompt": [{"role": "robot", "content": "a"}, ASK]},
    "the chosen is neither a text nor a list of messages: 3": {"prompt": "a", "chosen": 3, "rejected": "c"},
    "the prompt has no text": {"prompt": "", "chosen": "b", "rejected": "c"},
    "the chosen holds a NUL character": {"prompt": "a", "chosen": "b\0", "rejected": "c"},
    "the conversation of the rejected": PAIR | {"rejected": [user("c")]},
}


def test_every_fault_is_named_by_its_line_and_bad_rows_can_be_left_out(tmp_path):
    path = write(tmp_path / "pairs.jsonl", [*ROWS, *FAULTS.values()])
    with pytest.raises(lk.LabkitError) as caught:
        lk.load_task(path)
    lines = caught.value.cause.splitlines()
    assert len(lines) == len(FAULTS)
    for number, (said, line) in enumerate(zip(FAULTS, lines, strict=True), len(ROWS) + 1):
        assert f"line {number}: " in line
        assert said.lower() in line.lower()
    assert "skip_bad=True" in caught.value.remedy
    with pytest.warns(DataWarning, match="left out, since they can't be used: 13"):
        task = lk.load_task(path, skip_bad=True)
    assert len(task.train) + len(task.test) == len(ROWS)


def test_without_a_prompt_replies_must_begin_with_one():
    for chosen, rejected, said in (
        ("yes", "no", "don't begin with one"),
        ([ASK, GOOD], [user("How far?"), POOR], "don't begin with one"),
        ([ASK, GOOD], [ASK, GOOD], "the same"),
        ("Is it", "Is it far?", "the chosen reply is empty"),
        ([ASK], [ASK, POOR], "the chosen reply is empty"),
        ("Is it far?", [ASK, POOR], "one reply is a text and the other a list"),
    ):
        with pytest.raises(lk.LabkitError, match=said):
            pair_of(None, chosen, rejected)


def test_a_missing_side_and_wrong_names_are_said():
    with pytest.raises(lk.LabkitError, match="a column 'chosen' and none called 'rejected'"):
        lk.load_task([{"prompt": "a", "chosen": "b"}])
    with pytest.raises(lk.LabkitError, match="has no column 'worse'"):
        lk.load_task(ROWS, columns={"chosen": "chosen", "rejected": "worse"})
    with pytest.raises(lk.LabkitError, match="takes prompt, chosen and rejected of pairs, not 'completion'"):
        lk.load_task(ROWS, columns={"chosen": "chosen", "completion": "rejected"})
    with pytest.raises(lk.LabkitError, match="holds values of different types, int and str"):
        lk.load_task([row | {"score": place if place % 2 else "none"} for place, row in enumerate(ROWS)])
    with pytest.raises(lk.LabkitError, match="holds pairs of replies and another doesn't"):
        lk.load_task({"train": ROWS, "test": [{"prompt": "a", "completion": "b"}] * 3})
    with pytest.raises(lk.LabkitError, match="for labels"):
        lk.load_task(ROWS, balanced=True)


def test_all_pairs_of_a_prompt_go_to_the_same_set():
    rows = [row | {"chosen": f"{row['chosen']} {again}"} for row in ROWS for again in ("now", "then", "at night")]
    with pytest.warns(DataWarning, match="the longer one in 100%"):
        task = lk.load_task(rows)
    asked = [{row["prompt"][0]["content"] for row in part} for part in (task.train, task.test)]
    assert not asked[0] & asked[1]
    assert len(task.train) + len(task.test) + sum(task.left_out.values()) == len(rows)
    assert len(task.train) + len(task.test) >= len(rows) - 2


def test_a_given_split_is_kept_and_copies_are_said():
    with pytest.warns(DataWarning, match="whose prompt is that of a test example: 2"):
        task = lk.load_task({"train": ROWS[:16], "test": ROWS[14:]})
    assert [len(task.train), len(task.test)] == [16, 10]
    rows = [row | {"split": "test" if place > 15 else "train"} for place, row in enumerate(ROWS)]
    assert [len(part) for part in (lk.load_task(rows).train, lk.load_task(rows).test)] == [16, 8]


def test_length_that_tells_which_reply_was_chosen_is_said():
    with pytest.warns(DataWarning, match="the chosen reply is the longer one in 100% of the pairs"):
        lk.load_task([row | {"chosen": row["chosen"] * 3} for row in ROWS])
    with pytest.warns(DataWarning, match="the chosen reply is the shorter one in 100% of the pairs"):
        lk.load_task([row | {"rejected": row["rejected"] * 3} for row in ROWS])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lk.load_task(ROWS).notes == ()


def test_a_task_of_pairs_is_described(tiny):
    task = lk.load_task(ROWS)
    summary = lk.describe(task, tiny)
    texts = [
        "User: {prompt}\nAssistant: {longer}".format(**row, longer=max(row["chosen"], row["rejected"], key=len))
        for row in ROWS
    ]
    assert summary.longest == max(len(tiny.tokenizer(text)["input_ids"]) for text in texts) + 1  # with the end
    assert "Rejected: No idea" in str(task)
