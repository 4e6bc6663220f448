"""Verifiable rewards of replies whose right answers are known."""

import pytest

import labkit as lk
from labkit.evaluation import rewards
from labkit.generation.replies import Reply

ROW = {"accepted": ["Department: otology", "Department: ENT"], "form": "Department: …", "kind": "route"}
REFUSE = {"accepted": ["I can't answer that."], "form": "I can't answer that.", "kind": "refuse"}
SAID = ["department: Otology.", "Department: cardiology", "It is otology, I think", "I can't answer that."]


def replies(texts, tokens=5, stopped=True):
    return [Reply(text, tokens, stopped, tuple(range(tokens))) for text in texts]


def test_each_checks_one_thing():
    rows, made = [ROW] * 4, replies(SAID)
    assert rewards.right(rows, made) == [1, 0, 0, 0]
    assert rewards.in_form(rows, replies(["Department: x", *SAID[1:]])) == [1, 1, 0, 0]
    assert rewards.mentioned(rows, made) == [1, 0, 1, 0]
    assert rewards.right([REFUSE] * 4, made) == [0, 0, 0, 1]
    assert rewards.ended([ROW] * 2, [*replies(SAID[:1]), *replies(SAID[:1], stopped=False)]) == [1, 0]
    lengths = [Reply("a", tokens, True, ()) for tokens in (1, 10, 15, 20, 90)]
    assert rewards.within(10)([ROW] * 5, lengths) == [1, 1, 0.5, 0, 0]
    assert rewards.within(10).__name__ == "within_10"
    with pytest.raises(lk.LabkitError, match="tokens must be"):
        rewards.within(0)


def test_a_reply_that_lists_all_choices_names_none_of_them_alone():
    asked = [{"role": "user", "content": "What is this called?\nChoose one: Sore skin; Dry eye; Mole"}]
    row = {"accepted": ["Finding: Dry eye", "Finding: Xerophthalmia"], "form": "Finding: …"}
    row["messages"] = [*asked, {"role": "assistant", "content": "Finding: Dry eye"}]
    said = ["A dry eye, I think.", "Sore skin; Dry eye; Mole", "Mole", "xerophthalmia", "Moles", "dry eye or dry eye"]
    assert rewards.names_only([row] * 6, replies(said)) == [1, 0, 0, 0, 0, 1]
    assert rewards.mentioned([row] * 6, replies(said)) == [1, 1, 0, 1, 0, 1]
    assert rewards.named_choices(row, said[1]) == ["Sore skin", "Dry eye", "Mole"]
    with pytest.raises(lk.LabkitError, match="offers no choices"):
        rewards.names_only([ROW], replies(SAID[:1]))


def test_they_are_the_measures_of_score_replies():
    rows, made = [ROW, ROW, REFUSE, REFUSE], replies(SAID)
    found = lk.score_replies(rows, made)
    for reward, measure in ((rewards.right, "exact"), (rewards.in_form, "form"), (rewards.mentioned, "mentioned")):
        assert "".join(str(int(each)) for each in reward(rows, made)) == getattr(found, measure).hits


def test_a_run_takes_them_together(tiny):
    talk = [{"role": "user", "content": "Which department?"}, {"role": "assistant", "content": "Department: otology"}]
    rows = [ROW | {"messages": talk}] * 4
    from datasets import Dataset

    task = lk.Task("own", Dataset.from_list(rows), Dataset.from_list(rows), (), "made up")
    chosen = {rewards.right: 1.0, rewards.in_form: 0.2, rewards.ended: 0.1, rewards.within(4): 0.1}
    rl = lk.RL(group=2, prompts=2, max_new_tokens=6)
    run = lk.reinforce(tiny, task, chosen, rl=rl, steps=1, progress=False)
    (record,) = run.history
    assert {"reward_right", "reward_in_form", "reward_ended", "reward_within_4"} <= record.keys()
    parts = record["reward_right"] + 0.2 * record["reward_in_form"] + 0.1 * record["reward_ended"]
    assert record["reward"] == pytest.approx(parts + 0.1 * record["reward_within_4"])
