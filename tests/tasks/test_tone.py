"""The hand-written pairs on tone and honesty, as their card describes them."""

import json
import re
from collections import Counter

import pytest

import labkit as lk
from labkit.conversations.messages import conversation
from labkit.storage.cache import course_data
from labkit.tasks.likeness import near_copies, shingles, similarity
from labkit.tasks.task import DataWarning

ROWS = [json.loads(line) for line in (course_data() / "preferences.jsonl").read_text(encoding="utf-8").splitlines()]
CARD = (course_data() / "preferences.md").read_text(encoding="utf-8")
SIDES = ("chosen", "rejected")


def reply(row, side):
    (message,) = row[side]
    return message["content"]


def test_the_card_counts_what_is_there():
    kinds = Counter(row["kind"] for row in ROWS)
    assert dict(re.findall(r"^\| `([\w ]+)` \|.*\| (\d+) \|$", CARD, re.MULTILINE)) == {
        kind: str(count) for kind, count in kinds.items()
    }
    assert len(ROWS) >= 150
    assert f"{len(ROWS)} questions with two replies each" in CARD
    assert f"{sum(len(row['prompt']) == 3 for row in ROWS)} prompts have two user's turns" in CARD
    assert f"{len(ROWS) // 3} pairs at most" in CARD


def test_each_is_a_pair_with_an_id_of_its_own_and_short_replies():
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row["id"].startswith(row["kind"])
        assert row["prompt"][-1]["role"] == "user"
        for side in SIDES:
            assert conversation([*row["prompt"], *row[side]]) == [*row["prompt"], *row[side]]
            assert 3 <= len(reply(row, side).split()) <= 40
        assert reply(row, "chosen") != reply(row, "rejected")


def test_no_two_are_alike():
    texts = ["\n".join(turn["content"] for part in ("prompt", *SIDES) for turn in row[part]) for row in ROWS]
    for place, text in enumerate(texts):
        assert not near_copies([text], texts[:place])
    sets = [shingles(text) for text in texts]
    assert max(similarity(a, b) for place, a in enumerate(sets) for b in sets[:place]) < 0.5
    assert len({reply(row, side) for row in ROWS for side in SIDES}) == 2 * len(ROWS)


def test_length_does_not_tell_which_reply_was_chosen(tokenizer):
    read = tokenizer("smollm2-135m")
    for measure in (len, lambda text: len(read(text)["input_ids"])):
        longer, total = Counter(), 0
        for row in ROWS:
            difference = measure(reply(row, "chosen")) - measure(reply(row, "rejected"))
            assert difference
            longer[row["kind"]] += difference > 0
            total += difference / len(ROWS)
        # Who prefers the longer reply, or the shorter one, is right in half of the pairs of each kind.
        assert set(longer.values()) == {6}
        lengths = [measure(reply(row, side)) for row in ROWS for side in SIDES]
        assert abs(total) < 0.1 * sum(lengths) / len(lengths)


@pytest.mark.parametrize("seed", [0, 1])
def test_both_sets_are_even_over_kinds_and_lengths(seed):
    task = lk.load_task("tone", seed=seed)
    assert [len(part) for part in (task.train, task.test)] == [112, 56]
    assert not {*task.train["id"]} & {*task.test["id"]}
    known = {row["id"]: row for row in ROWS}
    for part, each in ((task.train, 4), (task.test, 2)):
        rows = part.to_list()
        assert all(row == known[row["id"]] for row in rows)
        halves = Counter((row["kind"], len(reply(row, "chosen")) > len(reply(row, "rejected"))) for row in rows)
        assert len(halves) == 28
        assert set(halves.values()) == {each}
    assert lk.load_task("tone", train=20, seed=seed).test.to_list() == task.test.to_list()


def test_too_much_is_not_promised():
    with pytest.warns(DataWarning, match="got 112 and 56"):
        task = lk.load_task("tone", test=100)
    assert len(task.test) == 56
    assert "AI assistant" in str(task.notes)
