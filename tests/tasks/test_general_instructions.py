"""The hand-written instructions, as their card describes them."""

import json
import re
from collections import Counter

import pytest

from labkit.conversations.messages import conversation
from labkit.errors import LabkitError
from labkit.storage.cache import course_data
from labkit.tasks.general_chat import general_chat
from labkit.tasks.likeness import near_copies, shingles, similarity

ROWS = [json.loads(line) for line in (course_data() / "instructions.jsonl").read_text(encoding="utf-8").splitlines()]
CARD = (course_data() / "instructions.md").read_text(encoding="utf-8")


def test_the_card_counts_what_is_there():
    kinds = Counter(row["kind"] for row in ROWS)
    assert dict(re.findall(r"^\| `([\w ]+)` \|.*\| (\d+) \|$", CARD, re.MULTILINE)) == {
        kind: str(count) for kind, count in kinds.items()
    }
    several = sum(sum(message["role"] == "user" for message in row["messages"]) > 1 for row in ROWS)
    system = sum(row["messages"][0]["role"] == "system" for row in ROWS)
    assert f"{len(ROWS)} short conversations" in CARD
    assert f"{several} conversations have two user's turns or more, {system} begin with a system message" in CARD
    assert len(ROWS) >= 200


def test_each_is_a_conversation_with_short_replies_and_an_id_of_its_own():
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        turns = conversation(row["messages"])
        assert turns == row["messages"]
        assert turns[-1]["role"] == "assistant"
        assert all(len(turn["content"].split()) <= 60 for turn in turns if turn["role"] == "assistant")


def test_each_keeps_to_the_form_that_its_kind_asks_for():
    for row in ROWS:
        reply = row["messages"][-1]["content"]
        if row["kind"] == "json":
            json.loads(reply)
        elif row["kind"] == "one word":
            assert len(reply.split()) == 1
        elif row["kind"] == "yes or no":
            assert re.match(r"(Yes|No)\. \S", reply)
        elif row["kind"] == "three items":
            assert len(reply.split("\n" if "\n" in reply else ", ")) == 3
        elif row["kind"] == "clarify":
            assert "?" in reply or "Please paste" in reply


def test_no_two_are_alike():
    texts = ["\n".join(turn["content"] for turn in row["messages"] if turn["role"] != "system") for row in ROWS]
    for place, text in enumerate(texts):
        assert not near_copies([text], texts[:place])
    sets = [shingles(text) for text in texts]
    assert max(similarity(a, b) for place, a in enumerate(sets) for b in sets[:place]) < 0.5


def test_half_of_each_kind_is_measured_and_half_rehearsed():
    halves = {split: general_chat(split) for split in ("test", "replay")}
    kind_of = {json.dumps(row["messages"]): row["kind"] for row in ROWS}
    counts = {split: Counter(kind_of[json.dumps(talk)] for talk in talks) for split, talks in halves.items()}
    assert counts["test"] + counts["replay"] == Counter(row["kind"] for row in ROWS)
    assert all(abs(counts["test"][kind] - counts["replay"][kind]) <= 1 for kind in counts["test"])
    assert not {json.dumps(talk) for talk in halves["test"]} & {json.dumps(talk) for talk in halves["replay"]}
    with pytest.raises(LabkitError, match="replay"):
        general_chat("train")
