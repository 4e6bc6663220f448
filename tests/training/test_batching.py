import re

import pytest
import torch

import labkit as lk
from labkit.training.batching import IGNORED, Example, collate, encode, learned_columns


@pytest.fixture
def rows(triage):
    """Real prompts of many lengths, and completions of one and of several tokens."""
    prompts = list(triage.train["prompt"][:12])
    completions = [f" {'very ' * (number % 4)}{c.strip()}" for number, c in enumerate(triage.train["completion"][:12])]
    return prompts, completions


def test_what_is_learned_is_the_completion_and_the_end(tiny, rows):
    end = tiny.tokenizer.eos_token
    for example, prompt, completion in zip(encode(tiny, *rows, 512), *rows, strict=True):
        cut = len(example.tokens) - example.learned
        assert tiny.tokenizer.decode(example.tokens[cut:]) == completion + end
        assert tiny.tokenizer.decode(example.tokens[:cut]) == prompt


def test_targets_decode_to_the_completion_and_the_end(tiny, rows):
    batch = collate(encode(tiny, *rows, 512), tiny.tokenizer.pad_token_id, tiny.device)
    for targets, completion in zip(batch.targets, rows[1], strict=True):
        assert tiny.tokenizer.decode(targets[targets != IGNORED]) == completion + tiny.tokenizer.eos_token


def test_collate_pads_on_the_right():
    batch = collate([Example([5, 6, 7], 2, 1), Example([8, 9, 10, 11, 12], 1, 0)], pad=2, device=torch.device("cpu"))
    assert batch.input_ids.tolist() == [[5, 6, 7, 2, 2], [8, 9, 10, 11, 12]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.targets.tolist() == [[-100, 6, 7, -100, -100], [-100, -100, -100, -100, 12]]
    assert batch.labels.tolist() == [1, 0]
    assert batch.tokens == 8


@pytest.mark.parametrize("max_length", [8, 20, 40])
@pytest.mark.filterwarnings("ignore::labkit.TruncationWarning")
def test_a_long_example_loses_the_beginning_of_its_prompt_only(tiny, rows, max_length):
    whole, cut = encode(tiny, *rows, 512), encode(tiny, *rows, max_length)
    assert max(len(example.tokens) for example in whole) > max_length
    for before, after in zip(whole, cut, strict=True):
        assert after.tokens == before.tokens[-max_length:]
        assert after.learned == before.learned < len(after.tokens)


@pytest.mark.filterwarnings("ignore::labkit.TruncationWarning")
def test_a_completion_that_leaves_no_room_is_an_error_with_the_numbers(tiny):
    completion = " one two three four five"
    count = len(tiny.tokenizer(completion)["input_ids"]) + 1
    assert encode(tiny, ["Count:"], [completion], count + 1)[0].learned == count
    for length in (count, count - 3):
        numbers = rf"Example 2 .*takes {count} tokens.*max_length={length} leaves 0"
        with pytest.raises(lk.LabkitError, match=numbers) as refusal:
            encode(tiny, ["Count:", "Count:"], [" one", completion], length)
        enough = int(re.search(r"Set max_length to (\d+)", refusal.value.remedy)[1])  # the remedy works
        assert tiny.tokenizer.decode(encode(tiny, ["Count:"], [completion], enough)[0].tokens).startswith("Count:")


def test_an_example_without_a_completion_is_an_error(tiny):
    with pytest.raises(lk.LabkitError, match=r"Example 1 has nothing to learn.*max_length=512"):
        encode(tiny, ["Count:"], [""], 512)


def test_an_encoder_learns_the_number_of_the_class(tiny_encoder):
    labels = (" black", " white")
    with pytest.warns(lk.TruncationWarning, match="1 of 2 prompts was longer than 16 tokens and lost its end"):
        examples = encode(tiny_encoder, ["snow " * 50, "coal"], [" white", " black"], 16, labels)
    with pytest.raises(lk.LabkitError, match="' red' is not one of the labels"):
        encode(tiny_encoder, ["coal"], [" red"], 16, labels)
    assert [example.label for example in examples] == [1, 0]
    assert [len(example.tokens) for example in examples] == [16, 3]  # [CLS] coal [SEP]


def test_nothing_is_longer_than_the_model_can_read(llama, smollm, rows):
    small = lk.Model(
        "small", llama(len(smollm.tokenizer), max_position_embeddings=24), smollm.tokenizer, "causal", None
    )
    with pytest.warns(lk.TruncationWarning, match=r"of 12 examples were longer than 24 tokens"):
        assert max(len(example.tokens) for example in encode(small, *rows, 512)) == 24


# Masks


def test_a_mask_says_what_is_learned():
    masked = Example([5, 6, 7, 8, 9], 2, mask=(False, True, False, True, False))
    batch = collate([masked, Example([10, 11, 12], 1)], 0, torch.device("cpu"))
    assert batch.targets.tolist() == [[-100, 6, -100, 8, -100], [-100, -100, 12, -100, -100]]
    assert batch.masked
    assert not collate([Example([10, 11, 12], 1)], 0, torch.device("cpu")).masked
    assert Example([10, 11, 12], 1).is_learned == (False, False, True)


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ({"learned": 1, "mask": (False, True)}, "mask of 2 tokens, 1 of them learned"),
        ({"learned": 2, "mask": (False, True, False)}, "learned=2"),
        ({"learned": 1, "mask": (True, False, False)}, "nothing precedes it"),
        ({"learned": 1, "mask": (False, True, False), "parts": (1, 2)}, "nothing precedes it"),
        ({"learned": 1, "mask": (False, False, True), "parts": (1, 1)}, "don't make up a row of 3"),
        ({"learned": 1, "parts": (1, 2)}, "don't make up a row"),
    ],
)
def test_a_mask_that_does_not_suit_the_tokens_is_refused(rest, problem):
    with pytest.raises(lk.LabkitError, match=problem):
        Example([5, 6, 7], **rest)


def test_columns_that_need_logits_are_those_with_a_target_in_some_row():
    masked = [Example([1] * 6, 2, mask=(False, True, False, False, True, False)), Example([1] * 9, 1)]
    for examples in (masked, [Example([1] * 9, 3), Example([1] * 7, 2)], [Example([1] * 3, 0)]):
        targets = collate(examples, 0, torch.device("cpu")).targets
        assert learned_columns(examples) == int((targets != IGNORED).any(dim=0).sum())
