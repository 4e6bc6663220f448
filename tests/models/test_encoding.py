import re
from itertools import product

import pytest
import torch
from families import families, llama_of

import labkit as lk
from labkit.evaluation import label_probabilities
from labkit.models.encoding import completion_ids, frame, padding_id, prompt_ids
from labkit.training.batching import Example, collate, encode, read
from labkit.training.windows import encode_text, windows

PROMPTS = [
    "The sky is",
    "Item tree\nAnswer:",
    "Answer: ",
    " leading space",
    "Größe der Tür, über",
    "天空是",
    "the sea 🙂🚀",
    "two  spaces\n\n",
    "<s>Item tree",
    "Is it</s> a cat<s>",
    "river\tglass (x = 10)",
    "",
]
COMPLETIONS = [
    " yes",
    "yes",
    "\nno",
    "  perhaps so",
    "ß schön",
    "蓝色的。",
    " 🙂",
    "🚀 sea",
    " </s>",
    "10).",
    "\tAnswer: no",
]


def decoded(model, ids):
    return model.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def inside(model, text):
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.fixture
def fed(monkeypatch):
    """What ``generate`` feeds a model at first."""

    def ids(model, prompt):
        seen = []
        handle = model.module.register_forward_pre_hook(
            lambda module, args, inputs: seen.append(inputs["input_ids"][0].tolist()), with_kwargs=True
        )
        model.generate(prompt, 1)
        handle.remove()
        return seen[0]

    return ids


def test_a_prompt_is_trained_on_as_it_is_fed_to_the_model(fed, smollm, llama):
    real = {"SmolLM2": lk.Model("tiny", llama(len(smollm.tokenizer)), smollm.tokenizer, "causal", torch.float32)}
    for name, model in (families() | real).items():
        examples = encode(model, PROMPTS, [" yes"] * len(PROMPTS), 512)
        for prompt, example, other in zip(PROMPTS, examples, read(model, PROMPTS), strict=True):
            trained = example.tokens[: -example.learned]
            assert trained == other.tokens == fed(model, prompt), (name, prompt)
            if text := inside(model, prompt):  # nothing stands between prompt and completion
                assert trained[-len(text) :] == text, (name, prompt)


def test_the_tokens_that_begin_a_text_are_there_once():
    for name, model in families().items():
        begins = "<s>" in name.split("$")[0] or name in ("word pieces", "add_bos, add_eos")
        ends = name.endswith("</s>") or name in ("word pieces", "add_bos, add_eos")
        assert frame(model.tokenizer) == ([1] * begins, [2] * ends), name
        for prompt in ("Item tree", "<s>Item tree"):
            ids = prompt_ids(model, [prompt])[0]
            assert ids.count(1) == (begins or "<s>" in prompt), (name, prompt)
            assert ids[0] == 1 or not ids.count(1)
            assert 2 not in ids


def test_prompt_and_completion_decode_to_the_text():
    for name, model in families().items():
        pairs = [(prompt, completion) for prompt, completion in product(PROMPTS, COMPLETIONS) if prompt]
        if name == "word pieces":  # these begin a new word with each text
            pairs = [(prompt, completion) for prompt, completion in pairs if completion[0] == " "]
        tried = 0
        for (prompt, completion), example in zip(pairs, encode(model, *zip(*pairs, strict=True), 512), strict=True):
            text, start = prompt + completion, inside(model, prompt)
            if decoded(model, start) != prompt or decoded(model, inside(model, text)) != text:
                continue  # the tokenizer itself loses something
            front = len(example.tokens) - example.learned - len(start)
            end = 0 if completion.endswith("</s>") else 1
            assert example.tokens[-1] == 2
            assert decoded(model, example.tokens[front : len(example.tokens) - end]) == text, (name, prompt, completion)
            tried += 1
        assert tried >= (2 if name == "word pieces" else 50), (name, tried)


def test_a_completion_ends_with_one_end_token_where_there_is_one():
    for model in families().values():
        assert [ids.count(2) for ids in completion_ids(model, [" yes", " yes</s>", "no"])] == [1, 1, 1]
        assert [ids.count(2) for ids in completion_ids(model, [" yes", "no"], end=False)] == [0, 0]


def test_unknown_characters_are_not_lost(monkeypatch):
    monkeypatch.setattr("labkit.models.encoding.ANCHORS", ("🤖", "a"))
    for name in ("legacy, <s> $A", "metaspace first", "unigram, $A </s>"):
        (ids,) = completion_ids(families()[name], ["🤖 yes"], end=False)
        assert decoded(families()[name], ids).strip() == "<unk> yes", name


def test_tokenizers_that_mark_no_beginning_tokenize_a_completion_alone(smollm, triage):
    completions = [*triage.labels, *lk.general_english(20), "\n\n", "yes", " Ünder", "🙂"]
    assert completion_ids(smollm, completions, end=False) == smollm.tokenizer(completions)["input_ids"]


def test_an_encoder_reads_what_its_tokenizer_gives(tiny_encoder):
    texts = [prompt for prompt in PROMPTS if prompt]
    assert prompt_ids(tiny_encoder, texts) == tiny_encoder.tokenizer(texts)["input_ids"]
    with pytest.warns(lk.TruncationWarning, match="longer than 512 tokens and lost its end"):
        assert tiny_encoder.tokenizer.decode(read(tiny_encoder, ["grass " * 600])[0].tokens[-2:]) == "grass [SEP]"


def test_an_empty_prompt_begins_with_the_first_token_that_there_is(llama):
    tokenizer = families()["byte-level"].tokenizer
    for bos, eos, expected in (("<s>", "</s>", [1]), (None, "</s>", [2])):
        other = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, bos_token=bos, eos_token=eos)
        assert prompt_ids(llama_of(other), [""]) == [expected]
    bare = llama_of(type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer))
    with pytest.raises(lk.LabkitError, match="Text 2 is empty"):
        prompt_ids(bare, ["a", ""])


# Cutting


@torch.no_grad()
def test_each_token_of_a_long_text_is_scored_once_from_half_a_window_or_more():
    text = " ".join(["The sky in the north is blue, and rivers run into the sea."] * 2)
    for name in ("byte-level", "byte-level, <s> $A", "legacy, <s> $A"):
        model = families()[name]
        (ids,), head = prompt_ids(model, [text]), len(frame(model.tokenizer)[0])
        expected, width = [], 24
        for place in range(1, len(ids)):  # by hand: the window that a place lies in ends at the next multiple of half
            half = (width - head) // 2
            end = min(len(ids), width + max(0, -(-(place + 1 - width) // half)) * half)
            window = ids[:head] + ids[max(head, end - width + head) : end]
            logits = model.module(torch.tensor([window])).logits[0]
            expected.append(-logits.log_softmax(-1)[len(window) - (end - place) - 1, ids[place]])
        found = lk.text_loss(model, [text], max_length=width)
        assert found == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5), name
        parts = windows(model, [ids], [len(ids) - 1], width)
        assert [token for part in parts for token in part.tokens[-part.learned :]] == ids[1:]
        assert all(len(part.tokens) - part.learned >= width // 2 for part in parts[1:])
        assert all(len(part.tokens) <= width for part in parts)
        whole = model.module(torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
        assert lk.text_loss(model, [text]) == pytest.approx(whole, rel=1e-5)  # one window: as it always was
    with pytest.raises(lk.LabkitError, match=r"Windows of 2 tokens are too narrow.*\n.*max_length to 3"):
        encode_text(families()["byte-level, <s> $A"], [text], 2)
    assert len(encode_text(families()["byte-level, <s> $A"], [text], 3)) > 10  # the remedy works


# What cannot be encoded


def test_what_is_no_list_of_texts_is_said():
    model = families()["byte-level"]
    for call in (
        lambda: lk.text_loss(model, "a text"),
        lambda: label_probabilities(model, "a text", (" a", " b")),
    ):
        with pytest.raises(lk.LabkitError, match=r"list of (texts|prompts).*a text"):
            call()
    for odd in (None, 3, ["a"], b"a"):
        with pytest.raises(lk.LabkitError, match=re.escape(f"Text 2 is no text but {odd!r}")):
            prompt_ids(model, ["a", odd])
        with pytest.raises(lk.LabkitError, match="A prompt is a text"):
            model.generate(odd)


def test_a_token_that_the_model_does_not_know_is_said():
    tokenizer = families()["byte-level"].tokenizer
    model = llama_of(tokenizer, vocab_size=100)
    with pytest.raises(lk.LabkitError, match=r"gives the token \d+, .* knows 100 only\.\n.*resize_token_embeddings"):
        prompt_ids(model, ["The sky is blue"])
    model.module.resize_token_embeddings(len(tokenizer))  # the remedy works
    assert prompt_ids(model, ["The sky is blue"])


def test_padding_is_a_token_that_the_model_knows():
    tokenizer = families()["byte-level"].tokenizer
    for pad, expected in ((None, 0), (-1, 0), (10_000, 0), (2, 2)):
        other = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>", bos_token="<s>")
        model = llama_of(other, pad_token_id=pad if pad in (None, -1, 2) else None)
        model.tokenizer = other if pad in (None, 2) else _Padded(other, pad)
        if pad == 2:
            other.pad_token = "</s>"
        assert padding_id(model) == expected
        assert lk.text_loss(model, ["The sky is blue", "The sky"]) == pytest.approx(
            lk.text_loss(model, ["The sky is blue", "The sky"], batch_size=1), rel=1e-5
        )


class _Padded:
    """A tokenizer whose files name a padding token of another number."""

    def __init__(self, tokenizer, pad):
        self._tokenizer, self.pad_token_id = tokenizer, pad

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, *args, **settings):
        return self._tokenizer(*args, **settings)


def test_a_batch_needs_tokens():
    for examples in ([], [Example([5], 0), Example([], 0)]):
        with pytest.raises(lk.LabkitError, match="at least one token each"):
            collate(examples, 0, torch.device("cpu"))
