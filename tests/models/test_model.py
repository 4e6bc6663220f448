import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

import labkit as lk
from labkit.assets.fetch import ensure
from labkit.models.model import store_linear_weights

TEXTS = ["The capital of France is Paris.", "Water boils at 100 degrees."]


def logits(model, text=TEXTS[0]) -> torch.Tensor:
    with torch.no_grad():
        return model.module(**model.tokenizer(text, return_tensors="pt")).logits


def vectors(model, texts: list[str]) -> torch.Tensor:
    """Return one unit vector for each text: the mean over its tokens, as the encoder was trained."""
    batch = model.tokenizer(texts, return_tensors="pt", padding=True)
    mask = batch["attention_mask"].unsqueeze(-1)
    with torch.no_grad(), model.autocast():
        states = model.module(**batch).last_hidden_state.float()
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def memory(model) -> set[int]:
    return {parameter.data_ptr() for parameter in model.parameters()}


def save(model, folder: Path) -> str:
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def saved(tiny, tmp_path):
    return Path(save(tiny, tmp_path / "saved"))


# The real models


def test_the_language_model_has_its_published_size(smollm):
    assert sum(parameter.numel() for parameter in smollm.parameters()) == 134_515_008
    assert "134.5 million" in repr(smollm)
    assert smollm.kind == "causal"


def test_the_language_model_knows_the_capital_of_france(smollm):
    assert "Paris" in smollm.generate("The capital of France is", max_new_tokens=4)


def test_generating_adds_the_likeliest_token_each_time(tiny):
    ids = tiny.tokenizer("One, two, three,", return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(5):
            ids = torch.cat([ids, tiny.module(ids).logits[:, -1:].argmax(-1)], 1)
    assert tiny.generate("One, two, three,", 5) == tiny.tokenizer.decode(ids[0, start:])


def test_the_encoder_puts_like_meanings_together(minilm):
    query, like, other = vectors(minilm, ["A man eats pizza.", "Someone is having a meal.", "The stock market fell."])
    assert query @ like > query @ other + 0.2
    assert minilm.kind == "encoder"


def test_padding_on_the_right_leaves_the_vectors_alone(tiny_encoder, minilm):
    together = vectors(tiny_encoder, ["Short.", "A sentence that is quite a bit longer than the other one."])
    assert torch.allclose(together[0], vectors(tiny_encoder, ["Short."])[0], atol=1e-5)
    assert minilm.tokenizer.padding_side == "right"


def test_an_encoder_cannot_write(minilm):
    with pytest.raises(lk.LabkitError, match="encoder") as caught:
        minilm.generate("Once upon a time")
    assert "smollm2-135m" in caught.value.remedy


# The tokenizer of SmolLM2


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("2025", ["2", "0", "2", "5"]),
        ("a  1", ["a", "ĠĠ", "1"]),
        ("in 1990", ["in", "Ġ", "1", "9", "9", "0"]),
        ("The cat", ["The", "Ġcat"]),
    ],
)
def test_text_is_split_as_the_model_saw_it_in_training(smollm, text, tokens):
    assert smollm.tokenizer.tokenize(text) == tokens
    assert smollm.tokenizer(text)["input_ids"] == smollm.tokenizer.convert_tokens_to_ids(tokens)


def test_a_thousand_texts_come_back_as_they_were(smollm):
    obo = (ensure("hpo") / "hp.obo").read_text(encoding="utf-8")
    texts = re.findall(r'^def: "(.+)" \[', obo, re.MULTILINE)[:880] + lk.general_english(120)
    assert len(texts) == 1000
    ids = smollm.tokenizer(texts)["input_ids"]
    assert smollm.tokenizer.batch_decode(ids) == texts


def test_chats_are_written_in_the_form_of_the_models_training(smollm):
    chat = [{"role": "user", "content": "Hi"}]
    assert smollm.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_marks_of_a_chat_are_single_tokens(smollm):
    assert smollm.tokenizer("<|im_start|>user<|im_end|>")["input_ids"][::2] == [1, 2]
    assert smollm.tokenizer.eos_token_id == 2
    assert smollm.tokenizer.pad_token is not None


# Names and folders


@pytest.mark.parametrize("name", ["smollm2-135n", "./smollm2-135n", "smollm"])
def test_an_unknown_model_is_answered_with_the_valid_names(name):
    with pytest.raises(lk.LabkitError, match=re.escape(repr(name))) as caught:
        lk.load_model(name)
    assert "Valid names: minilm, smollm2-135m." in caught.value.remedy


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(lk.LabkitError) as caught:
        lk.load_model("smollm2-153m")
    assert "Did you mean 'smollm2-135m'?" in caught.value.remedy


def test_a_hub_name_is_refused_offline(monkeypatch):
    monkeypatch.setenv("LABKIT_OFFLINE", "1")
    with pytest.raises(lk.LabkitError, match="no-such-owner/no-such-model could not be loaded") as caught:
        lk.load_model("no-such-owner/no-such-model")
    assert "network" in caught.value.remedy


def test_a_saved_folder_loads_as_the_same_model(tiny, saved):
    loaded = lk.load_model(str(saved), precision="float32")
    assert loaded.kind == "causal"
    assert torch.equal(logits(loaded), logits(tiny))
    assert loaded.tokenizer(TEXTS)["input_ids"] == tiny.tokenizer(TEXTS)["input_ids"]


def test_a_saved_encoder_loads_as_the_same_model(tiny_encoder, tmp_path):
    loaded = lk.load_model(save(tiny_encoder, tmp_path / "saved"), precision="float32")
    assert loaded.kind == "encoder"
    assert torch.equal(vectors(loaded, TEXTS), vectors(tiny_encoder, TEXTS))


def test_an_encoder_saved_without_a_pooler_loads(tiny_encoder, tmp_path):
    tiny_encoder.module = BertModel(tiny_encoder.module.config, add_pooling_layer=False).eval()
    loaded = lk.load_model(save(tiny_encoder, tmp_path / "saved"), precision="float32")
    assert torch.equal(vectors(loaded, TEXTS), vectors(tiny_encoder, TEXTS))


def test_pickled_weights_are_refused(saved):
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    with pytest.raises(lk.LabkitError, match="no weights in safetensors format") as caught:
        lk.load_model(str(saved))
    assert "save_pretrained" in caught.value.remedy


def damage_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def damage_config(folder):
    (folder / "config.json").write_text("{")


def damage_shapes(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))


def damage_names(folder):
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("mlp.up_proj", "mlp.upward"): weight for name, weight in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


def damage_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    "damage", [damage_weights, damage_config, damage_shapes, damage_names, damage_tokenizer], ids=lambda f: f.__name__
)
def test_a_damaged_folder_is_refused(saved, damage):
    damage(saved)
    with pytest.raises(lk.LabkitError, match="could not be loaded") as caught:
        lk.load_model(str(saved))
    assert str(saved) in caught.value.cause
    assert "config.json" in caught.value.remedy


def test_a_tokenizer_that_knows_no_words_is_refused(tmp_path):
    # BERT's tokenizer class needs no files: without them it turns every word into [UNK].
    size = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
    BertModel(BertConfig(vocab_size=50, **size)).save_pretrained(tmp_path)
    with pytest.raises(lk.LabkitError, match="no vocabulary"):
        lk.load_model(str(tmp_path))


@pytest.mark.parametrize("model_type", ["llama", "brand_new"])
def test_code_that_comes_with_a_model_is_not_run(saved, tmp_path, model_type):
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w').close()\nclass Thing:\n    pass\n"
    for name in ("configuration_evil", "modeling_evil", "tokenization_evil"):
        (saved / f"{name}.py").write_text(code)
    for file, entries in {
        "config.json": {"AutoConfig": "configuration_evil.Thing", "AutoModelForCausalLM": "modeling_evil.Thing"},
        "tokenizer_config.json": {"AutoTokenizer": ["tokenization_evil.Thing", "tokenization_evil.Thing"]},
    }.items():
        content = json.loads((saved / file).read_text())
        content["auto_map"] = entries
        if file == "config.json":
            content["model_type"] = model_type
        (saved / file).write_text(json.dumps(content))
    if model_type == "llama":  # transformers has code of its own for it
        assert type(lk.load_model(str(saved)).module).__module__.startswith("transformers.")
    else:
        with pytest.raises(lk.LabkitError, match="could not be loaded") as caught:
            lk.load_model(str(saved))
        assert "their own code" in caught.value.remedy
    assert not trace.exists()


# Precision and device


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"precision": "bf16"}, {"device": "cpu", "precision": "float16"}])
def test_a_wrong_device_or_precision_is_refused_before_anything_is_loaded(monkeypatch, tmp_path, wrong):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setenv("LABKIT_OFFLINE", "1")
    with pytest.raises(lk.LabkitError, match=next(reversed(wrong.values()))):
        lk.load_model("smollm2-135m", **wrong)


def test_sixteen_bits_hold_the_matrices_of_linear_layers_alone(saved):
    model = lk.load_model(str(saved), precision="bfloat16")
    assert model.precision == torch.bfloat16
    for name, parameter in model.module.named_parameters():
        assert (parameter.dtype == torch.bfloat16) == ("_proj" in name), name
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight


def test_sixteen_bits_lose_nothing_that_autocast_would_keep(tiny):
    tiny.precision = torch.bfloat16
    with tiny.autocast():
        before = logits(tiny)
    store_linear_weights(tiny.module, torch.bfloat16)
    with tiny.autocast():
        assert torch.equal(logits(tiny), before)


# Copies


@pytest.mark.parametrize("share", [True, False])
def test_a_copy_answers_as_the_original(tiny, share):
    copy = tiny.copy(share_weights=share)
    assert torch.equal(logits(copy), logits(tiny))
    assert not {id(m) for m in copy.module.modules()} & {id(m) for m in tiny.module.modules()}


def test_a_sharing_copy_lies_over_the_same_memory(tiny):
    copy = tiny.copy(share_weights=True)
    assert memory(copy) == memory(tiny)
    assert not {id(p) for p in copy.parameters()} & {id(p) for p in tiny.parameters()}


def test_an_independent_copy_is_float32_memory_of_its_own(tiny):
    store_linear_weights(tiny.module, torch.bfloat16)
    copy = tiny.copy(share_weights=False)
    assert not memory(copy) & memory(tiny)
    assert {p.dtype for p in copy.parameters()} == {torch.float32}
    before = {name: p.clone() for name, p in tiny.module.named_parameters()}
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1)
    assert all(torch.equal(p, before[name]) for name, p in tiny.module.named_parameters())


@pytest.mark.parametrize("share", [True, False])
def test_tied_weights_stay_tied(tiny, share):
    copy = tiny.copy(share_weights=share).module
    assert copy.lm_head.weight is copy.model.embed_tokens.weight
    assert sum(p.numel() for p in copy.parameters()) == sum(p.numel() for p in tiny.parameters())


@pytest.mark.parametrize("share", [True, False])
def test_a_copy_keeps_what_is_frozen(tiny, share):
    tiny.module.model.embed_tokens.weight.requires_grad_(False)
    copy = tiny.copy(share_weights=share)
    assert [p.requires_grad for p in copy.parameters()] == [p.requires_grad for p in tiny.parameters()]
    assert not copy.module.model.embed_tokens.weight.requires_grad


def test_adapters_on_a_copy_leave_the_original_alone(tiny):
    before, flags = logits(tiny), [p.requires_grad for p in tiny.parameters()]
    names = [name for name, _ in tiny.module.named_modules()]
    tuned = lk.LoRA().apply(tiny)
    with torch.no_grad():
        for name, parameter in tuned.module.named_parameters():
            if "lora_" in name:
                parameter.fill_(0.1)
    assert not torch.equal(logits(tuned), before)
    assert torch.equal(logits(tiny), before)
    assert [p.requires_grad for p in tiny.parameters()] == flags
    assert [name for name, _ in tiny.module.named_modules()] == names
    assert memory(tiny) <= memory(tuned)


def test_a_copied_head_is_its_own(tiny_encoder):
    tiny_encoder.head = torch.nn.Linear(32, 3)
    copy = tiny_encoder.copy(share_weights=True)
    with torch.no_grad():
        copy.head.weight.zero_()
    assert tiny_encoder.head.weight.abs().sum() > 0
    assert len(tiny_encoder.parameters()) == len(list(tiny_encoder.module.parameters())) + 2


# Fingerprints


def test_the_fingerprint_is_that_of_the_weights_in_any_precision(tiny, saved):
    expected = tiny.fingerprint()
    assert re.fullmatch("[0-9a-f]{16}", expected)
    for precision in ("float32", "bfloat16"):
        assert lk.load_model(str(saved), precision=precision).fingerprint() == expected


def test_the_fingerprint_of_the_real_model_survives_storage_in_other_types(smollm):
    copy = smollm.copy(share_weights=True)
    for dtype in (torch.float16, torch.bfloat16):
        # On the copy: its parameters are new objects, so the original keeps its own storage.
        store_linear_weights(copy.module, dtype)
        assert copy.fingerprint() == smollm.fingerprint()


def test_the_fingerprint_changes_with_any_tensor(tiny):
    expected = tiny.fingerprint()
    for parameter in tiny.parameters():
        old = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        assert tiny.fingerprint() != expected
        parameter.data.copy_(old)
    assert tiny.fingerprint() == expected


# In 4 bits (the layers themselves: tests/methods/test_qlora.py)


@pytest.mark.parametrize("backend", ["labkit", "bitsandbytes"])
def test_a_copy_in_4_bits_answers_alike_and_cannot_have_weights_of_its_own(tiny, backend):
    made = lk.quantize_model(tiny, lk.Quantization(block_size=32, backend=backend))
    copy = made.copy(share_weights=True)
    assert torch.equal(logits(copy), logits(made))
    assert not {id(m) for m in copy.module.modules()} & {id(m) for m in made.module.modules()}
    with pytest.raises(lk.LabkitError, match=r"stored in 4 bits \(nf4\), which cannot be trained"):
        made.copy(share_weights=False)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_model_in_4_bits_writes(saved, precision):
    model = lk.load_model(str(saved), device="cpu", precision=str(precision).removeprefix("torch."))
    texts = {
        lk.quantize_model(model, lk.Quantization(block_size=32, backend=backend)).generate("One, two,", 5)
        for backend in ("labkit", "bitsandbytes")
    }
    assert len(texts) == 1


def test_bytes_are_counted_once_for_tied_and_shared_weights(tiny, tiny_encoder):
    buffers = sum(b.numel() * b.element_size() for b in tiny.module.buffers())
    assert tiny.nbytes == 4 * sum(p.numel() for p in tiny.parameters()) + buffers
    store_linear_weights(tiny.module, torch.bfloat16)
    linear = sum(m.weight.numel() for m in tiny.module.model.modules() if isinstance(m, torch.nn.Linear))
    assert tiny.nbytes == 4 * sum(p.numel() for p in tiny.parameters()) - 2 * linear + buffers
    bare = tiny_encoder.nbytes
    tiny_encoder.head = torch.nn.Linear(32, 3)
    assert tiny_encoder.nbytes - bare == 4 * (3 * 32 + 3)


def test_the_real_model_in_4_bits_takes_a_third_and_still_knows_the_capital_of_france(smollm):
    made = lk.quantize_model(smollm)
    linear = sum(m.weight.numel() for m in smollm.module.model.modules() if isinstance(m, torch.nn.Linear))
    size = next(m.weight.element_size() for m in smollm.module.model.modules() if isinstance(m, torch.nn.Linear))
    saved_bits = 8 * (smollm.nbytes - made.nbytes) / linear
    assert 8 * size - 4.2 < saved_bits < 8 * size - 4.1  # 4 bits, and about 0.13 for the scales
    assert "134.5 million parameters, nf4" in repr(made)
    assert "Paris" in made.generate("The capital of France is", max_new_tokens=4)
