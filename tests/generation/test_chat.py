import pytest
import torch
from tiny import tiny_model

import labkit as lk
from labkit.conversations.masks import masked

ASK = [{"role": "user", "content": "What is the capital of France?"}]


def test_the_reply_is_what_the_model_says_after_the_template(smollm):
    prompt = smollm.tokenizer.apply_chat_template(ASK, tokenize=False, add_generation_prompt=True)
    expected = smollm.generate(prompt, 12)
    assert lk.chat(smollm, ASK, max_new_tokens=12) == expected
    assert "".join(lk.chat(smollm, ASK, max_new_tokens=12, stream=True)) == expected


def test_pieces_break_no_character_and_no_space(tiny):
    wanted, place = (
        tiny.tokenizer(" Größe 🙂 天空 two  spaces\n", add_special_tokens=False)["input_ids"],
        iter(range(99)),
    )

    def say(module, args, output):
        output.logits[..., wanted[next(place) % len(wanted)]] += 1000
        return output

    handle = tiny.module.register_forward_hook(say)
    pieces = list(lk.chat(tiny, ASK, max_new_tokens=len(wanted), stream=True))
    handle.remove()
    assert "".join(pieces) == " Größe 🙂 天空 two  spaces\n"
    assert 4 < len(pieces) < len(wanted)  # some characters take several tokens
    assert not any("\ufffd" in piece for piece in pieces)


def test_between_pieces_the_model_is_as_it_was(tiny):
    tiny.module.train()
    before = dict(tiny.module.named_parameters())
    for _ in lk.chat(tiny, ASK, max_new_tokens=3, stream=True):
        assert torch.is_grad_enabled()
        assert tiny.module.training
        assert all(after is before[name] for name, after in tiny.module.named_parameters())


def test_a_long_conversation_loses_its_oldest_turns(tokenizer, one_thread):
    """By the rule of training: what is read before a reply is what a model was trained to reply to."""
    reader, rule = tokenizer("smollm2-135m"), {"role": "system", "content": "Be brief."}
    talk = [{"role": role, "content": f"{role} says {n}."} for n in range(3) for role in ("user", "assistant")]
    last = {"role": "user", "content": "The last question."}
    left = [rule, *talk[4:], last]
    prompt = reader.apply_chat_template(left, add_generation_prompt=True)["input_ids"]
    room = len(prompt)
    model, seen = tiny_model("llama", reader, vocab_size=len(reader), max_position_embeddings=room + 3), []
    model.module.register_forward_pre_hook(lambda m, a, inputs: seen.append(inputs["input_ids"]), with_kwargs=True)
    what = rf"^The conversation was longer than {room} tokens and lost its oldest turns\.$"
    with pytest.warns(lk.TruncationWarning, match=what):
        said = lk.chat(model, [rule, *talk, last], max_new_tokens=3)
    assert seen[0].tolist() == [prompt]
    with pytest.warns(lk.TruncationWarning, match=r"^1 of 2 conversations was longer.* lost its oldest turns"):
        replies = lk.generate(model, [[rule, *talk, last], left], 3)
    assert [reply.text for reply in replies] == [said, said]
    trained = masked(reader, [rule, *talk, last, {"role": "assistant", "content": "Yes."}], max_length=room + 9)
    assert trained.ids[:room] == prompt
    with pytest.raises(lk.LabkitError, match=r"The last turn .* there is room for 5\."):
        lk.chat(model, [rule, *talk, last], max_new_tokens=room - 2)
    long = [{"role": "user", "content": "again " * room}]
    with pytest.raises(lk.LabkitError, match=r"^Conversation 2: The last turn"):
        lk.generate(model, [left, long], 3)


def test_what_makes_no_conversation_is_refused(tiny):
    for messages in ("Hello", ["Hello"], None, []):
        with pytest.raises(lk.LabkitError, match=r"no list of messages|no dictionary"):
            lk.chat(tiny, messages)
    with pytest.raises(lk.LabkitError, match="ends with a reply already"):
        lk.chat(tiny, [*ASK, {"role": "assistant", "content": "Paris."}])
    before = tiny.tokenizer.chat_template
    try:
        tiny.tokenizer.chat_template = "{{ raise_exception('No system, please') }}"
        with pytest.raises(lk.LabkitError, match="No system, please"):
            lk.chat(tiny, ASK, stream=True)
        tiny.tokenizer.chat_template = None
        with pytest.raises(lk.LabkitError, match="no chat template"):
            lk.chat(tiny, ASK)
    finally:
        tiny.tokenizer.chat_template = before
