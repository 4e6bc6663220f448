"""Pairs from a model's own replies: which are paired, that it can be repeated, and what is said of failures."""

import math
from collections import Counter

import pytest

import labkit as lk
from labkit.training.sampled_pairs import FEW, SAME, sample_pairs

ROWS = [{"id": str(i), "prompt": f"Say something about {thing}."} for i, thing in enumerate(("rain", "bread", "Rome"))]
QUICK = {"max_new_tokens": 6, "size": 4, "keep_unfinished": True}


def vowels(reply, row):
    return sum(reply.lower().count(vowel) for vowel in "aeiou")


def test_the_best_reply_is_paired_with_the_worst(tiny):
    made = sample_pairs(tiny, ROWS, vowels, **QUICK)
    prompts = [[{"role": "user", "content": row["prompt"]}] for row in ROWS]
    drawn = lk.generate(tiny, prompts * 4, 6, sampling=lk.Sampling())
    assert (made.prompts, made.without, made.failures) == (3, {FEW: 0, SAME: 0}, 0)
    assert made.unfinished == sum(not reply.stopped for reply in drawn) > 0
    for number, pair in enumerate(made.pairs):
        scores = {reply.text.strip(): vowels(reply.text, {}) for reply in drawn[number::3]}
        assert pair["id"] == str(number)
        assert pair["prompt"] == prompts[number]
        for side, end in (("chosen", max), ("rejected", min)):
            (reply,) = pair[side]
            assert reply["role"] == "assistant"
            assert pair[f"{side}_score"] == scores[reply["content"]] == end(scores.values())
    assert "3 pairs from 3 prompts" in str(made)


def test_the_same_seed_draws_the_same_and_another_something_else(tiny):
    first, again, other = (sample_pairs(tiny, ROWS, vowels, **QUICK, seed=seed) for seed in (1, 1, 2))
    assert first.pairs.to_list() == again.pairs.to_list() != other.pairs.to_list()
    backwards = sample_pairs(tiny, ROWS[::-1], vowels, **QUICK, seed=1, batch_size=5)
    assert backwards.pairs.to_list()[::-1] == first.pairs.to_list()


def test_prompts_without_a_pair_are_counted_by_reason(tiny):
    def verifier(reply, row):
        return vowels(reply, row) if row["id"] == "0" else 1

    made = sample_pairs(tiny, ROWS, verifier, **QUICK)
    assert (len(made.pairs), made.without) == (1, {FEW: 0, SAME: 2})
    greedy = sample_pairs(tiny, ROWS, vowels, sampling=lk.Sampling(top_k=1), **QUICK)
    assert (greedy.without, len(greedy.pairs)) == ({FEW: 3, SAME: 0}, 0)  # one reply, four times
    assert greedy.pairs.column_names == ["prompt", "chosen", "rejected"]


def test_replies_that_were_cut_off_take_no_part_unless_they_are_kept(tiny):
    free = lk.generate(tiny, [[{"role": "user", "content": ROWS[0]["prompt"]}]] * 4, 6, sampling=lk.Sampling())
    # A token that some of the replies hold now ends them.
    tiny.module.generation_config.eos_token_id = [free[0].ids[2], free[1].ids[4]]
    made = sample_pairs(tiny, ROWS[:1], lambda reply, row: len(reply), max_new_tokens=6)
    replies = lk.generate(tiny, [made.pairs[0]["prompt"]] * 4, 6, sampling=lk.Sampling())
    finished = {reply.text.strip() for reply in replies if reply.stopped}
    assert made.unfinished == 4 - sum(reply.stopped for reply in replies) > 0
    assert {made.pairs[0][side][0]["content"] for side in ("chosen", "rejected")} <= finished
    assert sample_pairs(tiny, ROWS[:1], vowels, max_new_tokens=1).without == {FEW: 1, SAME: 0}


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "7", [1.0]])
def test_what_is_no_score_is_counted_and_stops_beyond_a_limit(tiny, value):
    def verifier(reply, row):
        return value if row["id"] == "1" else vowels(reply, row)

    made = sample_pairs(tiny, ROWS, verifier, **QUICK, most_failures=4)
    assert made.failures == 4
    assert [pair["id"] for pair in made.pairs] == ["0", "2"]
    assert made.without == {FEW: 1, SAME: 0}
    with pytest.raises(lk.LabkitError, match=r"returned .* for row 2, reply .*: failure 4") as caught:
        sample_pairs(tiny, ROWS, verifier, **QUICK, most_failures=3)
    assert "most_failures, now 3" in caught.value.remedy


def test_a_verifier_that_raises_is_counted_and_its_traceback_is_kept(tiny):
    calls = Counter()

    def verifier(reply, row):
        calls[row["id"]] += 1
        if row["id"] == "1" and calls["1"] == 1:
            raise KeyError("accepted")
        return vowels(reply, row)

    made = sample_pairs(tiny, ROWS, verifier, **QUICK, most_failures=1)
    assert (made.failures, len(made.pairs)) == (1, 3)  # three of the four replies to row 2 were scored
    calls.clear()
    with pytest.raises(lk.LabkitError, match=r"raised KeyError .'accepted'. for row 2") as caught:
        sample_pairs(tiny, ROWS, verifier, **QUICK, most_failures=0)
    cause = caught.value.__cause__
    assert isinstance(cause, KeyError)
    assert cause.__traceback__.tb_next.tb_frame.f_code.co_name == "verifier"


def test_rows_of_a_task_are_asked_without_their_reply_and_what_comes_out_is_data(tiny):
    talks = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": "secret"}], "n": n}
        for n, row in enumerate(ROWS * 4)
    ]
    for n, talk in enumerate(talks):
        talk["messages"][0]["content"] += f" Number {n}, please."
    made = sample_pairs(tiny, talks, vowels, **QUICK)
    assert "secret" not in str(made.pairs["prompt"][:])
    task = lk.load_task(made.pairs, test=3)
    rows = [*task.train, *task.test]
    assert sorted(row["n"] for row in rows) == sorted(made.pairs["n"][:])
    assert {"prompt", "chosen", "rejected", "chosen_score"} <= set(task.train.column_names)


def test_bad_input_is_refused(tiny):
    for rows, said in (
        ([{"text": "a"}], "Row 1 has no prompt; it has text"),
        ([*ROWS, {"prompt": " "}], "Row 4 has an empty prompt"),
        (
            [{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}],
            "row 1 ends with a r",
        ),
    ):
        with pytest.raises(lk.LabkitError, match=said):
            sample_pairs(tiny, rows, vowels)
    with pytest.raises(lk.LabkitError, match="size must be a whole number from 2"):
        sample_pairs(tiny, ROWS, vowels, size=1)
    with pytest.raises(lk.LabkitError, match="no function"):
        sample_pairs(tiny, ROWS, 3)
    assert sample_pairs(tiny, [], vowels).prompts == 0
