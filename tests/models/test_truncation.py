import pytest
from families import families

import labkit as lk
from labkit.evaluation import label_probabilities
from labkit.models.encoding import completion_ids, frame, prompt_ids
from labkit.models.truncation import cut, fit
from labkit.training.batching import encode

TEXTS = ["The sky is", "Item tree\nAnswer:", " leading space", "天空是", ""]


def test_what_is_cut_is_the_beginning_behind_the_head_or_the_end_before_the_tail():
    ids = list(range(10))
    for room, head, tail, expected in (
        (10, 1, None, ids),
        (4, 0, None, [6, 7, 8, 9]),
        (4, 1, None, [0, 7, 8, 9]),
        (3, 2, None, [0, 1, 9]),
        (4, 1, 1, [0, 1, 2, 9]),
        (4, 0, 0, [0, 1, 2, 3]),
        (3, 1, 1, [0, 1, 9]),
    ):
        assert cut(ids, room, head, tail) == expected


def test_a_cut_prompt_keeps_the_token_that_begins_it_and_its_end():
    long = "Item tree stone cloud river glass " * 3 + "\nAnswer:"
    for name, model in families().items():
        (whole,), (head, _) = prompt_ids(model, [long]), frame(model.tokenizer)
        with pytest.warns(lk.TruncationWarning, match=r"1 of 2 examples was longer than 12 tokens and lost its beg"):
            short, kept_part = encode(model, ["Is", long], [" a", " a"], 12)
        assert len(kept_part.tokens) == 12, name
        assert kept_part.tokens[: len(head)] == head
        kept = 12 - len(head) - kept_part.learned
        assert kept_part.tokens[len(head) : -kept_part.learned] == whole[-kept:]
        assert short.tokens == encode(model, ["Is"], [" a"], 512)[0].tokens
    begun = families()["byte-level"]  # the user wrote the token, the tokenizer doesn't
    with pytest.warns(lk.TruncationWarning):
        assert fit(begun, prompt_ids(begun, ["<s>" + long]), 5, "prompt")[0][0] == 1


def test_nothing_is_said_where_nothing_is_cut(recwarn):
    for model in families().values():
        rows = prompt_ids(model, TEXTS)
        assert fit(model, rows, max(map(len, rows)), "prompt") == rows
        encode(model, TEXTS, [" yes"] * len(TEXTS), 512)
        label_probabilities(model, TEXTS, (" yes", " no"))
    assert not recwarn.list


def test_no_room_at_all_is_an_error():
    model = families()["byte-level, <s> $A"]
    with pytest.raises(lk.LabkitError, match=r"Nothing is left of prompt 1: it takes \d+ tokens.*room for 1\."):
        fit(model, prompt_ids(model, ["The sky"]), 1, "prompt")
    with pytest.raises(lk.LabkitError, match=r"Example 1 has nothing to learn.*leaves 1 for the prompt"):
        encode(model, ["The sky"], [" yes"], 1 + len(completion_ids(model, [" yes"])[0]))
