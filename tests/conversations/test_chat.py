"""Masks and losses of conversations against TRL's, family by family; bad conversations are named."""

import pytest
import torch
from datasets import Dataset
from template_families import FAMILIES

from labkit.conversations.masks import masked
from labkit.conversations.messages import conversation
from labkit.conversations.templates import CHATML, chat_ids, turn_ends
from labkit.errors import LabkitError
from labkit.models.encoding import padding_id
from labkit.models.truncation import TruncationWarning
from labkit.training.batching import collate
from labkit.training.objectives import completion_loss
from labkit.training.sft import encode_conversations

U, A = ({"role": role, "content": text} for role, text in (("user", "What colour is it?"), ("assistant", "Blue.")))
TALKS = [[U, A], [U, A, {"role": "user", "content": "And grass?"}, {"role": "assistant", "content": "Green, a lot."}]]
# The families whose own template ends no reply: TRL then trains none, which labkit refuses.
ENDLESS = {"glm4moe"}
# TRL hands plain texts to templates that read blocks, and would train on nothing: it is given blocks.
BLOCKS = {name for name, family in FAMILIES.items() if family.blocks}


def trl(model, data, folder, **settings):
    """TRL's rows of tokens and labels, and its loss of the batch of all of them."""
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        str(folder),
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        max_length=None,
        gradient_checkpointing=False,
        per_device_train_batch_size=len(TALKS),
        shuffle_dataset=False,
        dataset_num_proc=None,
        **settings,
    )
    trainer = SFTTrainer(model.module, config, train_dataset=Dataset.from_list(data), processing_class=model.tokenizer)
    rows = list(trainer.train_dataset)
    batch = trainer.data_collator(rows)
    with torch.no_grad():
        return rows, float(trainer.compute_loss(model.module.eval(), batch))


def loss(model, examples):
    """labkit's own loss of the batch of all of them."""
    with torch.no_grad():
        nats, count = completion_loss(model, collate(examples, padding_id(model), model.device))
    return float(nats) / count


def blocks(name, messages):
    if name not in BLOCKS:
        return messages
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("learn", ["all", "completion"])
def test_tokens_labels_and_loss_equal_trl(name, learn, tmp_path):
    pytest.importorskip("trl")
    model = FAMILIES[name].model(training=learn == "all" or name in ENDLESS)
    if learn == "all":
        data, settings = [{"messages": blocks(name, t)} for t in TALKS], {"assistant_only_loss": True}
    else:
        data = [{"prompt": blocks(name, t[:-1]), "completion": blocks(name, t[-1:])} for t in TALKS]
        settings = {}
    ours = encode_conversations(model, TALKS, 512, learn)
    rows, expected = trl(model, data, tmp_path, **settings)
    for example, row in zip(ours, rows, strict=True):
        assert example.tokens == row["input_ids"]
        labels = [t if m else -100 for t, m in zip(example.tokens, example.mask, strict=True)]
        assert labels == row["labels"]
    assert loss(model, ours) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_template_without_marks_gives_masks_of_whole_replies_or_is_refused(name):
    family = FAMILIES[name]
    for learn in ("last", "all"):
        try:
            found = masked(family.tokenizer(), TALKS[1], learn)
        except LabkitError:
            assert name in ENDLESS or (learn == "all" and name in {"gptoss", "qwen3", "phi3"})
            continue
        tokenizer = family.tokenizer()
        text = tokenizer.decode([i for i, m in zip(found.ids, found.learned, strict=True) if m])
        assert text.count("Green, a lot.") == 1
        assert text.count("Blue.") == (learn == "all")
        assert "grass" not in text
        assert any(end in text for end in family.ends)


@pytest.mark.parametrize("name", FAMILIES)
def test_bos_is_neither_doubled_nor_lost(name):
    family = FAMILIES[name]
    ids, bos = chat_ids(family.tokenizer(), TALKS[0]), family.tokenizer().bos_token_id
    written = family.bos is not None and (family.adds_bos or family.bos in family.template)
    assert ids.count(bos) == (1 if written or "bos_token" in family.template else 0)


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - ENDLESS))
def test_turn_ends(name):
    tokenizer = FAMILIES[name].tokenizer()
    assert set(tokenizer.convert_tokens_to_ids(list(FAMILIES[name].ends))) <= turn_ends(tokenizer)


BAD = {
    "no list of messages": [],
    "no role": [{"content": "Hi"}],
    "is empty": [U, {"role": "assistant", "content": " "}],
    "two system messages": [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, U, A],
    "in a row": [U, U, A],
    "before the assistant": [A],
    "unknown key 'colour'": [{**U, "colour": 1}, A],
    "tools are not supported": [U, {**A, "tool_calls": [1]}],
    "holds a list": [{"role": "user", "content": [{"type": "image"}]}, A],
    "unknown role": [{"role": "judge", "content": "Hi"}],
}


@pytest.mark.parametrize("said", BAD)
def test_bad_conversations_are_named(said):
    with pytest.raises(LabkitError, match=said):
        conversation(BAD[said])


def test_an_error_says_which_conversation():
    with pytest.raises(LabkitError, match=r"Conversation 2: .*in a row"):
        encode_conversations(FAMILIES["llama3"].model(), [[U, A], [U, U]], 512)


def test_sharegpt():
    assert conversation([{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}])[1]["role"] == "assistant"


def test_no_template_and_no_system_role():
    tokenizer = FAMILIES["qwen2_5"].tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(LabkitError, match="CHATML"):
        masked(tokenizer, [U, A])
    tokenizer.chat_template = CHATML
    assert sum(masked(tokenizer, TALKS[1], "all").learned) > sum(masked(tokenizer, TALKS[1], "last").learned)
    with pytest.raises(LabkitError, match="first user message"):
        masked(FAMILIES["gemma"].tokenizer(), [{"role": "system", "content": "Be brief."}, U, A])


def test_long_conversations_lose_their_oldest_turns():
    model = FAMILIES["llama3"].model()
    system = {"role": "system", "content": "Be brief."}
    short = masked(model.tokenizer, [system, *TALKS[1][2:]])
    with pytest.warns(
        TruncationWarning, match=r"^The conversation was longer than \d+ tokens and lost its oldest turns\.$"
    ):
        (example,) = encode_conversations(model, [[system, *TALKS[1]]], len(short.ids))
    assert example.tokens == short.ids
    with pytest.raises(LabkitError, match="last turn"):
        masked(model.tokenizer, TALKS[1], max_length=len(short.ids) // 3)
