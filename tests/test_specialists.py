"""Several adapters on one base: each row as by its tuned model alone, and as PEFT's mixed batches."""

import copy
import json
import re

import peft
import pytest
import torch
from tiny import CAUSAL, STRONG, tiny_model

import labkit as lk
from labkit.methods import LoRA
from labkit.methods.adapter import adapters_of

PROMPTS = ["The sky", "The sky in the north is blue, and rivers run into", "Item", "Is it a cat or", "Item", "Rivers"]
NAMES = ["hospital", "law", "tiny", "law", "hospital", "tiny"]
METHODS = {
    "hospital": LoRA(rank=4, alpha=8),
    "law": LoRA(rank=3, alpha=6, rslora=True, target_modules=("q_proj", "down_proj")),
}


@pytest.fixture
def base(tokenizer, one_thread):
    reader = tokenizer("smollm2-135m")
    return tiny_model("llama", reader, "tiny", vocab_size=len(reader), **STRONG)


def tuned(base, method, seed):
    """A model whose adapters do something."""
    model = method.apply(base)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.trainable().values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.module.eval()
    return model


@pytest.fixture
def models(base):
    return {name: tuned(base, method, seed) for seed, (name, method) in enumerate(METHODS.items())}


@torch.no_grad()
def logits(module, ids, **others):
    return module(input_ids=ids, **others).logits


def folders(models, tmp_path):
    for name, model in models.items():
        (tmp_path / name).mkdir()
        METHODS[name].save(model, tmp_path / name)
    return {name: tmp_path / name for name in models}


def alone(base, models, prompts=PROMPTS, count=12, **settings):
    """What each prompt's own model says to it in a batch by itself."""
    replies = [None] * len(prompts)
    for name, model in {"tiny": base, **models}.items():
        own = [i for i, each in enumerate(NAMES) if each == name]
        for i, reply in zip(own, lk.generate(model, [prompts[i] for i in own], count, **settings), strict=True):
            replies[i] = reply
    return replies


def test_each_row_is_continued_as_by_its_tuned_model_alone(base, models):
    specialists = lk.Specialists(base, models)
    assert specialists.names == ("tiny", "hospital", "law")
    expected = alone(base, models)
    assert len({reply.ids for reply in expected}) == len(PROMPTS)
    for size in (16, 4, 1):
        assert specialists.generate(PROMPTS, NAMES, 12, batch_size=size) == expected
    assert specialists.generate(PROMPTS, "law", 12) == lk.generate(models["law"], PROMPTS, 12)
    assert specialists.generate([], [], 12) == []


def test_the_choice_follows_the_rows_while_the_batch_shrinks(base, models):
    free = alone(base, models)
    for model in (base, *models.values()):
        model.module.generation_config.eos_token_id = [free[0].ids[3], free[1].ids[1], free[2].ids[6]]
    expected = alone(base, models)
    assert len({reply.tokens for reply in expected}) >= 4
    specialists = lk.Specialists(base, models)
    assert specialists.generate(PROMPTS, NAMES, 12) == expected


def test_drawn_tokens_are_those_of_each_model_alone(base, models):
    settings = {"sampling": lk.Sampling(temperature=0.7, top_p=0.9), "seed": 3}
    specialists = lk.Specialists(base, models)
    replies = specialists.generate(PROMPTS, NAMES, 12, batch_size=4, **settings)
    assert replies == alone(base, models, **settings)


def test_replies_that_grow_side_by_side_can_be_read_and_dropped(base, models):
    specialists = lk.Specialists(base, models)
    expected = alone(base, models, count=6)
    one, other = specialists.start(PROMPTS, NAMES, 6), specialists.start(PROMPTS[:1], "law", 6)
    assert one.step()
    assert [one.text(row) for row in range(6)] == [base.tokenizer.decode(reply.ids[:1]) for reply in expected]
    one.drop(1)
    while other.step() | one.step():
        pass
    assert other.finished() == lk.generate(models["law"], PROMPTS[:1], 6)
    replies = one.finished()
    assert replies[1].ids == expected[1].ids[:2]
    assert [reply for row, reply in enumerate(replies) if row != 1] == [*expected[:1], *expected[2:]]


@pytest.mark.parametrize("kind", CAUSAL)
def test_logits_are_those_of_each_model_alone(kind, tokenizer, one_thread, ids):
    base = tiny_model(kind, tokenizer("smollm2-135m"), "tiny")
    models = {name: tuned(base, LoRA(rank=rank), rank) for name, rank in (("hospital", 4), ("law", 2))}
    specialists = lk.Specialists(base, models)
    expected = {name: logits(model.module, ids) for name, model in {"tiny": base, **models}.items()}
    assert min((expected["tiny"] - each).abs().max() for name, each in expected.items() if name != "tiny") > 1e-2
    for name, each in expected.items():
        with specialists.using(name) as model:
            assert torch.equal(logits(model.module, ids), each)
    with specialists.using(["law", "tiny", "hospital"]) as model:
        mixed = logits(model.module, ids)
    for row, name in enumerate(["law", "tiny", "hospital"]):
        torch.testing.assert_close(mixed[row], expected[name][row], atol=1e-5, rtol=0)
    assert torch.equal(logits(specialists.model.module, ids), expected["tiny"])


def test_mixed_batches_are_those_of_peft(base, models, ids, tmp_path):
    saved = folders(models, tmp_path)
    twin = peft.PeftModel.from_pretrained(copy.deepcopy(base.module), saved["hospital"], "hospital").eval()
    twin.load_adapter(saved["law"], "law")
    for names in (["law", "hospital", "tiny"], ["hospital", "law", "hospital"], ["tiny", "tiny", "law"]):
        theirs = ["__base__" if name == "tiny" else name for name in names]
        expected = logits(twin, ids, adapter_names=theirs)
        for source in (models, saved):
            with lk.Specialists(base, source).using(names) as model:
                torch.testing.assert_close(logits(model.module, ids), expected, atol=1e-5, rtol=0)


def test_files_that_peft_wrote_are_read(base, ids, tmp_path):
    config = peft.LoraConfig(
        r=3,
        lora_alpha=7,
        use_rslora=True,
        target_modules=["q_proj", "up_proj", "lm_head"],
        rank_pattern={"up_proj": 5},
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    twin = peft.get_peft_model(copy.deepcopy(base.module), config).eval()
    twin.save_pretrained(tmp_path, save_embedding_layers=False)
    with lk.Specialists(base, {"theirs": tmp_path}).using("theirs") as model:
        torch.testing.assert_close(logits(model.module, ids), logits(twin, ids), atol=1e-5, rtol=0)
    assert (logits(twin, ids) - logits(base.module, ids)).abs().max() > 1e-2


def test_an_adapter_that_peft_starts_at_minor_components_leaves_the_base_alone(base, ids, tmp_path):
    config = peft.LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights="mica", task_type="CAUSAL_LM")
    twin = peft.get_peft_model(copy.deepcopy(base.module), config).eval()
    for name, parameter in twin.named_parameters():
        if "lora_A" in name:
            parameter.data.fill_(0.1)
    twin.save_pretrained(tmp_path)
    with lk.Specialists(base, {"theirs": tmp_path}).using("theirs") as model:
        torch.testing.assert_close(logits(model.module, ids), logits(twin, ids), atol=1e-5, rtol=0)


def test_what_measures_a_model_measures_a_chosen_specialist(base, models):
    specialists = lk.Specialists(base, models)
    losses = {}
    for name, model in {"tiny": base, **models}.items():
        with specialists.using(name) as chosen:
            losses[name] = lk.text_loss(chosen, PROMPTS)
            assert losses[name] == lk.text_loss(model, PROMPTS)
            assert lk.generate(chosen, PROMPTS[:2], 3) == lk.generate(model, PROMPTS[:2], 3)
            assert specialists.generate(PROMPTS[:2], "law", 3) == lk.generate(models["law"], PROMPTS[:2], 3)
    assert len({*losses.values()}) == 3


def test_pissa_is_a_lora_of_twice_the_rank(base, ids):
    model = tuned(base, LoRA(rank=3, variant="pissa"), 0)
    with lk.Specialists(base, {"pissa": model}).using("pissa") as mixed:
        assert torch.equal(logits(mixed.module, ids), logits(model.module, ids))


@pytest.mark.parametrize("backend", ["bitsandbytes", "labkit"])
def test_adapters_share_a_base_in_4_bits(backend, base, ids):
    if backend == "bitsandbytes":
        pytest.importorskip("bitsandbytes")
    four = lk.quantize_model(base, lk.Quantization(block_size=32, backend=backend))
    model = tuned(four, lk.QLoRA(block_size=32, backend=backend), 0)
    with lk.Specialists(four, {"law": model}).using("law") as mixed:
        assert torch.equal(logits(mixed.module, ids), logits(model.module, ids))
    with pytest.raises(lk.LabkitError, match=r"trained on tiny .*nf4.*base here is tiny .*in floats"):
        lk.Specialists(base, {"law": model})
    single = lk.quantize_model(base, lk.Quantization(block_size=32, backend=backend, double=False))
    with pytest.raises(lk.LabkitError, match=r"trained on tiny .*double True.*base here is tiny .*double False"):
        lk.Specialists(single, {"law": model})


def test_a_saved_qlora_is_one_of_the_4_bit_weights(base, colours, tmp_path, ids):
    """Its run began with floats, which it quantized by itself."""
    method = lk.QLoRA(block_size=32, backend="labkit")
    run = lk.finetune(base, colours, method, steps=2, batch_size=4, progress=False)
    run.save(tmp_path / "run")
    four = lk.quantize_model(base, method.quantization)
    for source in (run, tmp_path / "run"):
        with lk.Specialists(four, {"law": source}).using("law") as mixed:
            assert torch.equal(logits(mixed.module, ids), logits(run.model.module, ids))
        with pytest.raises(lk.LabkitError, match=r"trained on tiny .*nf4.*base here is tiny .*in floats"):
            lk.Specialists(base, {"law": source})


def test_products_in_16_bits_are_those_of_each_model_alone(base, models, ids):
    base.precision = torch.bfloat16
    for model in models.values():
        model.precision = torch.bfloat16
    specialists = lk.Specialists(base, models)
    for name, model in models.items():
        assert specialists.generate(PROMPTS, name, 6) == lk.generate(model, PROMPTS, 6)
    assert len(specialists.generate(PROMPTS, NAMES, 6)) == 6


def test_the_base_weights_are_in_memory_once(base, models):
    """The base's are those of the specialists, and so are the adapters': nothing is copied."""
    before = {name: (p.data_ptr(), p.requires_grad, p.clone()) for name, p in base.module.named_parameters()}
    state, modules = torch.get_rng_state(), [name for name, _ in base.module.named_modules()]
    specialists = lk.Specialists(base, models)
    assert torch.equal(torch.get_rng_state(), state)

    places = {p.data_ptr() for p in specialists.model.parameters()}
    factors = {p.data_ptr() for model in models.values() for p in model.trainable().values()}
    assert places == {p.data_ptr() for p in base.parameters()} | factors
    sizes = sum(p.nbytes for model in models.values() for p in model.trainable().values())
    assert specialists.model.nbytes == base.nbytes + sizes

    specialists.generate(PROMPTS, NAMES, 4)
    assert [name for name, _ in base.module.named_modules()] == modules
    for name, p in base.module.named_parameters():
        assert (p.data_ptr(), p.requires_grad) == before[name][:2]
        assert torch.equal(p, before[name][2])
    assert not specialists.model.trainable()


def test_only_adapters_of_rows_in_the_batch_compute(base, models, ids, monkeypatch):
    specialists, seen = lk.Specialists(base, models), []
    for layer in adapters_of(specialists.model).values():
        for number, update in getattr(layer, "updates", {}).items():
            ours = update.update
            monkeypatch.setattr(
                update, "update", lambda x, n=int(number), ours=ours: seen.append((n, len(x))) or ours(x)
            )
    for names, expected in (("tiny", set()), ("law", {(1, 3)}), (["law", "tiny", "law"], {(1, 2)})):
        with specialists.using(names) as model:
            logits(model.module, ids)
        assert {*seen} == expected
        seen.clear()


def test_runs_and_their_folders_are_taken(tokenizer, one_thread, colours, tmp_path, ids):
    reader = tokenizer("smollm2-135m")
    base = tiny_model("llama", reader, "tiny", vocab_size=len(reader), **STRONG)
    run = lk.finetune(base, colours, lk.LoRA(rank=2), steps=3, batch_size=4, learning_rate=0.01, progress=False)
    run.save(tmp_path / "colours")
    for source in (run, run.model, tmp_path / "colours", str(tmp_path / "colours")):
        with lk.Specialists(base, {"colours": source}).using("colours") as model:
            assert torch.equal(logits(model.module, ids), logits(run.model.module, ids))
    other = copy.deepcopy(base)  # a base of the same numbers elsewhere in memory
    with lk.Specialists(other, {"colours": run}).using("colours") as model:
        assert torch.equal(logits(model.module, ids), logits(run.model.module, ids))
    other.module.model.norm.weight.data[0] += 1
    other.name = "changed"
    for source in (run, tmp_path / "colours"):
        with pytest.raises(lk.LabkitError, match=r"'colours' was trained on tiny .*base here is changed"):
            lk.Specialists(other, {"colours": source})
    record = json.loads((tmp_path / "colours" / "run.json").read_text())
    for wrong in ("x", None, {}, [1], {"name": "tiny", "fingerprint": "0", "quantization": "x"}):
        (tmp_path / "colours" / "run.json").write_text(json.dumps(record | {"base": wrong}))
        with pytest.raises(lk.LabkitError, match=r"run.json cannot be used: it is damaged"):
            lk.Specialists(base, {"colours": tmp_path / "colours"})


# Bad input


def test_a_batch_must_fit_its_names(base, models, ids):
    specialists = lk.Specialists(base, models)
    with pytest.raises(lk.LabkitError, match=r"no specialist called 'lwa'.*\n.*'law'.*hospital, law, tiny"):
        specialists.generate(PROMPTS[:1], ["lwa"], 2)
    with pytest.raises(lk.LabkitError, match="2 prompts have 1 names"):
        specialists.generate(PROMPTS[:2], ["law"], 2)
    for names in (None, 3, [3], [None]):
        with pytest.raises(lk.LabkitError, match=r"is needed|no specialist called"):
            specialists.generate(PROMPTS[:1], names, 2)
    for names in ([], ()):
        with pytest.raises(lk.LabkitError, match="batch is empty"), specialists.using(names):
            pass
    with pytest.raises(lk.LabkitError, match="batch is empty"):
        specialists.start([], [], 2)
    with specialists.using(["law", "tiny"]) as model:
        for rows in (ids, ids[[0, 1, 0, 1]], ids[:1]):
            with pytest.raises(lk.LabkitError, match=f"2 rows, and the batch has {len(rows)}"):
                logits(model.module, rows)
        with pytest.raises(lk.LabkitError, match="batch has 4"):
            lk.generate(model, PROMPTS[:4], 2)
        layer = next(iter(adapters_of(model).values()))
        with pytest.raises(lk.LabkitError, match="2 rows, and a layer got 3"):
            layer(torch.ones(3, 1, 32))
    with specialists.using(["law", "law"]) as model:
        assert lk.generate(model, PROMPTS, 2) == lk.generate(models["law"], PROMPTS, 2)
    with pytest.raises(lk.LabkitError, match="stop is no list"):
        specialists.generate(PROMPTS, "law", 2, stop="text")
    assert not specialists._selection.groups


@pytest.mark.parametrize(
    ("method", "reason"),
    [(lk.LoRA(variant="dora"), "DoRALinear"), (lk.IA3(), "IA3Linear"), (lk.PrefixTuning(virtual_tokens=2), "Prefix")],
)
def test_other_adapters_are_refused(base, method, reason, tmp_path):
    model = method.apply(base)
    with pytest.raises(lk.LabkitError, match=f"'law' is no plain LoRA: it has a .*{reason}"):
        lk.Specialists(base, {"law": model})
    method.save(model, tmp_path)
    with pytest.raises(lk.LabkitError, match="'law' is no plain LoRA"):
        lk.Specialists(base, {"law": tmp_path})


def test_what_is_no_adapter_is_refused(base, models, tiny_encoder, tmp_path):
    for adapters in (None, {}, [], *({name: models["law"]} for name in ("tiny", "", 3, " law", "a\nb", "\x1b[31m"))):
        with pytest.raises(lk.LabkitError, match=r"are needed by name|cannot name an adapter"):
            lk.Specialists(base, adapters)
    for source, reason in ((3, "is 3"), (base, "has no adapter"), (lk.merge(models["law"]), "has no adapter")):
        with pytest.raises(lk.LabkitError, match=f"'law' {reason}"):
            lk.Specialists(base, {"law": source})
    with pytest.raises(lk.LabkitError, match="holds no adapter"):
        lk.Specialists(base, {"law": tmp_path})
    with pytest.raises(lk.LabkitError, match="has an adapter already"):
        lk.Specialists(models["law"], models)
    with pytest.raises(lk.LabkitError, match=r"The base is 'tiny'.\n.*lk.load_model"):
        lk.Specialists("tiny", models)
    with pytest.raises(lk.LabkitError, match="is an encoder"):
        lk.Specialists(tiny_encoder, models)
    specialists = lk.Specialists(base, models)
    with pytest.raises(lk.LabkitError, match="cannot be merged"):
        lk.merge(specialists.model)
    with pytest.raises(lk.LabkitError, match="a file holds one"):
        METHODS["law"].save(specialists.model, tmp_path)


def test_files_that_are_more_or_less_than_a_lora_are_refused(base, models, tmp_path, tokenizer):
    folder = folders(models, tmp_path)["law"]
    config = json.loads((folder / "adapter_config.json").read_text())
    for change, reason in (
        ({"init_lora_weights": "pissa"}, "changed the weights"),
        ({"use_dora": True}, "sets use_dora"),
        ({"use_bdlora": {"nblocks": 2}}, "sets use_bdlora"),
        ({"kasa_config": {"beta": 0.1}}, "sets kasa_config"),
        ({"monteclora_config": {"num_samples": 2}}, "sets monteclora_config"),
        ({"alpha_pattern": {"q_proj": 3}}, "sets alpha_pattern"),
        ({"peft_type": "IA3"}, "says IA3"),
        ({"lora_alpha": "x"}, "lora_alpha must be"),
        ({"use_rslora": "false"}, "use_rslora is 'false'"),
    ):
        (folder / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(lk.LabkitError, match=reason):
            lk.Specialists(base, {"law": folder})
    for text in ("{", "[]", "3"):
        (folder / "adapter_config.json").write_text(text)
        with pytest.raises(lk.LabkitError, match=r"adapter_config.json cannot be used"):
            lk.Specialists(base, {"law": folder})
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "you/elsewhere"}))
    with pytest.warns(UserWarning, match=r"says that its base is 'you/elsewhere'. It is put on tiny"):
        lk.Specialists(base, {"law": folder})
    wide = tiny_model("llama", tokenizer("smollm2-135m"), "wide", hidden_size=64)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(lk.LabkitError, match=r"trained on tiny, does not fit wide: .*32.*64"):
        lk.Specialists(wide, {"law": folder})
    with pytest.raises(lk.LabkitError, match="holds no adapter"):
        lk.Specialists(base, {"law": folder / "adapter_config.json"})
    (folder / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(lk.LabkitError, match=re.escape("adapter_model.safetensors cannot be used")):
        lk.Specialists(base, {"law": folder})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_factors_that_are_not_finite_are_refused(value, base, models, tmp_path):
    """Their replies would be empty, without a word."""
    next(iter(models["law"].trainable().values())).data[0, 0] = value
    for source in (models["law"], folders(models, tmp_path)["law"]):
        with pytest.raises(lk.LabkitError, match=r"'law' holds numbers that are not finite, in model.layers.0"):
            lk.Specialists(base, {"law": source})
        with pytest.raises(lk.LabkitError, match="'law' holds numbers that are not finite"):
            lk.combine({"law": source}, [1], base=base)
