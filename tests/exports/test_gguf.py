"""GGUF files read by transformers, an independent reader, and by labkit's own check, which names planted faults."""

import gguf
import numpy as np
import pytest
import torch
from gguf_faults import FOUND
from tiny import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

import labkit as lk
from labkit.exports.errors import ExportError
from labkit.exports.faults import FAULTS, SCALE, plant
from labkit.exports.gguf_adapter import check_gguf_adapter, write_gguf_adapter
from labkit.exports.gguf_check import check_gguf
from labkit.exports.gguf_model import metadata, new_gguf, write_gguf
from labkit.methods import PrefixTuning

# Half a step between the levels of a block, as shares of its largest number; in 4 bits one end has no level.
STEPS = {"f16": 2**-11, "q8_0": 1 / 254 + 2**-11, "q4_0": 1 / 8 + 2**-11}


def read_by_transformers(path):
    quantization = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, quantization_config=quantization
    ).eval()


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_reads_the_same_model(small, tmp_path, kind, tied):
    model, path = small(tie_word_embeddings=tied), tmp_path / "a.gguf"
    write_gguf(model, path, kind)
    read = read_by_transformers(path)
    ours, theirs = model.module.state_dict(), read.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        if kind == "f16" or weight.ndim == 1:
            expected = weight.half().float() if weight.ndim == 2 else weight
            assert torch.equal(theirs[name], expected), name
        else:
            off, largest = (each.abs().reshape(-1, 32).amax(1) for each in (theirs[name] - weight, weight))
            assert 0 < (off / largest.clamp(min=1e-9)).max() <= STEPS[kind], name  # padding's row is all zeros
    ids = torch.arange(20, 60)[None]
    if kind == "f16":
        assert torch.allclose(model.module(ids).logits, read(ids).logits, atol=0.02)
    here, there = model.module.config, read.config
    for setting in (
        "rope_parameters",
        "rms_norm_eps",
        "eos_token_id",
        "bos_token_id",
        "tie_word_embeddings",
        "head_dim",
    ):
        assert getattr(here, setting) == pytest.approx(getattr(there, setting)), setting
    errors = check_gguf(model, path, kind)
    assert errors["F32"] == 0
    assert max(errors.values()) <= STEPS[kind]


def test_transformers_reads_the_same_tokenizer(small, tmp_path):
    model = small()
    write_gguf(model, tmp_path / "a.gguf", "q4_0")
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    ours, theirs = (tokenizer.get_vocab() for tokenizer in (model.tokenizer, read))
    assert ours.items() <= theirs.items()
    assert read.chat_template == model.tokenizer.chat_template
    assert (read.bos_token, read.eos_token) == (model.tokenizer.bos_token, model.tokenizer.eos_token)
    text = "<|im_start|>the rain in Spain, naïve 🙂"  # no digits: of the rule for these, GGUF stores the name alone
    assert read(text, add_special_tokens=False)["input_ids"] == model.tokenizer(text)["input_ids"]


def test_weight_and_update_are_rounded_once(tuned, tmp_path):
    tuned.module.to(torch.bfloat16)
    write_gguf(tuned, tmp_path / "a.gguf")
    exact = lk.merge(tuned.copy(share_weights=False)).module.state_dict()
    read = read_by_transformers(tmp_path / "a.gguf").state_dict()
    name = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(read[name], exact[name].half().float())
    twice = lk.merge(tuned).module.state_dict()[name].half().float()
    assert not torch.equal(read[name], twice)
    check_gguf(tuned, tmp_path / "a.gguf", "f16")


def test_marks_for_loss_masks_are_left_out_of_the_template(small, few_tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(few_tokens, "chat_template", lk.conversations.templates.CHATML)
    model = small()
    template = metadata(model, "f16")["tokenizer.chat_template"]
    assert "generation %}" not in template
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    written = (few_tokens.apply_chat_template(turns, tokenize=False, chat_template=t) for t in (None, template))
    assert len({*written}) == 1


@pytest.mark.parametrize(
    ("sizes", "cause"),
    [
        ({"attention_bias": True}, "have biases"),
        ({"hidden_act": "gelu"}, "MLP computes gelu"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, r"are scaled \(linear\)"),
        ({"vocab_size": 512}, "has 1024 tokens, and its table of word vectors 512"),
    ],
)
def test_a_llama_of_another_build_is_refused(small, tmp_path, sizes, cause):
    with pytest.raises(ExportError, match=cause):
        write_gguf(small(**sizes), tmp_path / "a.gguf")
    assert not [*tmp_path.iterdir()]


def test_what_no_file_can_hold_is_refused_and_the_old_file_stays(small, tokenizer, few_tokens, tmp_path):
    path = tmp_path / "a.gguf"
    path.write_text("old")
    huge, broken, pieces = small(), small(), small()
    huge.module.model.layers[1].mlp.up_proj.weight.data[0, 0] = 1e5
    broken.module.model.norm.weight.data[0] = torch.nan
    pieces.tokenizer = tokenizer("minilm")
    pieces.module.resize_token_embeddings(len(pieces.tokenizer), mean_resizing=False)
    for model, kind, cause in (
        (tiny_model("gpt2", few_tokens), "f16", "of the architecture gpt2"),
        (small(), "q5_1", "no kind of GGUF called 'q5_1'"),
        (huge, "q8_0", "blk.1.ffn_up.weight cannot be stored as Q8_0: it has numbers above 65504"),
        (broken, "f16", "output_norm.weight cannot be stored as F32: it has numbers that are not finite"),
        (small(hidden_size=48), "q4_0", "rows of 48 numbers"),
        (pieces, "f16", "tokenizer of small cannot be written as GGUF: it is made of WordPiece"),
        (PrefixTuning().apply(small()), "f16", "no weight can hold what its"),
    ):
        with pytest.raises(lk.LabkitError, match=cause):
            write_gguf(model, path, kind)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "old"


@pytest.mark.parametrize(("fault", "tied", "named"), FOUND)
@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_planted_faults_are_named(small, tmp_path, fault, tied, named, kind):
    model, good = small(tie_word_embeddings=tied), tmp_path / "good.gguf"
    write_gguf(model, good, kind)
    check_gguf(model, good, kind)
    with pytest.raises(ExportError, match=named):
        check_gguf(model, plant(fault, good, tmp_path / "bad.gguf"), kind)
    check_gguf(model, good, kind)


def test_a_file_gets_one_of_its_own_faults_alone(small, tmp_path, monkeypatch):
    write_gguf(small(), tmp_path / "a.gguf")
    monkeypatch.setitem(FAULTS, "none", lambda *content: None)
    assert plant("none", tmp_path / "a.gguf", tmp_path / "b.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()
    for fault, cause in ((SCALE, "has no 'adapter.lora.alpha'"), ("wrong tempalte", "no fault called")):
        with pytest.raises(lk.LabkitError, match=cause):
            plant(fault, tmp_path / "a.gguf", tmp_path / "c.gguf")
    assert not (tmp_path / "c.gguf").exists()


def test_other_weights_and_damaged_files_are_named(small, tmp_path):
    model, path = small(), tmp_path / "a.gguf"
    write_gguf(model, path)
    model.module.model.layers[0].mlp.down_proj.weight.data[3, 5] += 0.01
    with pytest.raises(
        ExportError, match=r"blk.0.ffn_down.weight has other values \(correlation with the model's 1.00"
    ):
        check_gguf(model, path, "f16")
    path.write_bytes(path.read_bytes()[:2000])
    for broken in (path, tmp_path / "none.gguf"):
        with pytest.raises(ExportError, match="cannot be read as GGUF"):
            check_gguf(model, broken, "f16")


def test_an_adapter_and_its_scale_are_read_back(tuned, tmp_path):
    path = tmp_path / "adapter.gguf"
    write_gguf_adapter(tuned, path)
    assert check_gguf_adapter(tuned, path) <= 1e-6
    reader = gguf.GGUFReader(path)
    alpha = reader.fields["adapter.lora.alpha"].contents()
    assert alpha == pytest.approx(8 / 2 * 4)  # rslora: alpha/√rank, and llama.cpp divides by the rank
    stored = {tensor.name: tensor.data for tensor in reader.tensors}
    v, q = (tuned.module.model.layers[0].self_attn.get_submodule(name) for name in ("v_proj", "q_proj"))
    update = alpha / 4 * stored["blk.0.attn_v.weight.lora_b"] @ stored["blk.0.attn_v.weight.lora_a"]
    assert np.allclose(update, v.delta().detach(), atol=1e-6)
    B = stored["blk.0.attn_q.weight.lora_b"]
    halves = np.concatenate([np.concatenate([head[0::2], head[1::2]]) for head in np.split(B, 4)])
    assert np.array_equal(halves, q.lora_B.detach())


def test_a_forgotten_scale_of_an_adapter_is_named(tuned, tmp_path, monkeypatch):
    write_gguf_adapter(tuned, tmp_path / "a.gguf")
    plant(SCALE, tmp_path / "a.gguf", tmp_path / "lost.gguf")
    plain = lambda path, made: new_gguf(path, made | {"adapter.lora.alpha": 8.0})  # noqa: E731
    monkeypatch.setattr("labkit.exports.gguf_adapter.new_gguf", plain)
    write_gguf_adapter(tuned, tmp_path / "not rank-stabilized.gguf")
    for name, scale in (("lost", "1 "), ("not rank-stabilized", "2 ")):
        with pytest.raises(ExportError, match=f"is scaled with {scale}instead of 4"):
            check_gguf_adapter(tuned, tmp_path / f"{name}.gguf")


def test_adapters_that_are_no_product_of_two_matrices_are_refused(small, tmp_path):
    for model, cause in (
        (small(), "it has no adapter"),
        (lk.LoRA(rank=2, variant="dora").apply(small()), "its DoRALinear is more than"),
        (lk.LoRA(rank=2, target_modules="lm_head").apply(small()), "changes the head"),
        (lk.IA3().apply(small()), "its IA3Linear is more than"),
    ):
        with pytest.raises(ExportError, match=cause):
            write_gguf_adapter(model, tmp_path / "a.gguf")
