import json
from dataclasses import asdict, replace

import peft
import pytest
import torch
from datasets import Dataset

import labkit as lk
from labkit.evaluation import label_probabilities
from labkit.runs import describe

QUICK = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "progress": False}


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home folder of the test's own, for what it saves."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "Läufe, alle"))
    return tmp_path / "Läufe, alle"


@pytest.fixture
def ids():
    return torch.arange(200, 239).view(3, 13)


@torch.no_grad()
def outputs(model, ids):
    module = model.module.eval()
    if model.kind == "causal":
        return module(input_ids=ids).logits
    return model.head(module(input_ids=ids).last_hidden_state)


def state(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize("method", ["full", "lora", lk.QLoRA(block_size=32)])
def test_the_model_it_starts_from_is_left_as_it_was(tiny, colours, ids, method):
    before, logits = state(tiny), outputs(tiny, ids)
    run = lk.finetune(tiny, colours, method, **QUICK)
    assert equal(state(tiny), before)
    assert torch.equal(outputs(tiny, ids), logits)
    assert not torch.equal(outputs(run.model, ids), logits)
    assert tiny.head is None
    assert all(p.requires_grad and p.grad is None for p in tiny.module.parameters())


@pytest.mark.parametrize("method", ["full", "lora", lk.QLoRA(block_size=32)])
def test_an_encoder_is_left_as_it_was(tiny_encoder, colours, ids, method):
    before = state(tiny_encoder)
    run = lk.finetune(tiny_encoder, colours, method, **QUICK)
    assert equal(state(tiny_encoder), before)
    assert tiny_encoder.head is None
    assert run.model.head.weight.shape == (4, 32)
    assert run.labels == colours.labels == (" black", " blue", " green", " white")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_trained_head_is_not_changed_by_the_next_run(tiny_encoder, colours, method):
    first = lk.finetune(tiny_encoder, colours, "full", **QUICK).model
    kept = first.head.weight.detach().clone()
    second = lk.finetune(first, colours, method, **QUICK).model
    assert torch.equal(first.head.weight, kept)
    assert not torch.equal(second.head.weight, kept)


def test_the_run_says_what_was_done(tiny, colours):
    run = lk.finetune(tiny, colours, lk.LoRA(rank=2), steps=3, batch_size=4, seed=5, progress=False)
    assert run.method == lk.LoRA(rank=2)
    assert run.config == lk.TrainingConfig(steps=3, batch_size=4, seed=5, learning_rate=lk.LoRA().learning_rate)
    assert run.base == describe(tiny)
    assert run.task == "your dataset"
    assert run.labels == ()  # a causal model writes its answers and has no list of classes
    assert len(run.history) == 3


def test_trained_parameters_are_counted(tiny, tiny_encoder, colours):
    full = lk.finetune(tiny, colours, "full", **QUICK)
    assert full.trained_parameters == sum(p.numel() for p in tiny.parameters())
    # Two blocks of q (32×32), k and v (32×16), o (32×32), gate and up (32×64) and down (64×32).
    sides = 2 * (64 + 48 + 48 + 64 + 96 + 96 + 96)
    assert lk.finetune(tiny, colours, lk.LoRA(rank=2), **QUICK).trained_parameters == 2 * sides
    method = lk.LoRA(rank=2, target_modules=("query",))
    assert lk.finetune(tiny_encoder, colours, method, **QUICK).trained_parameters == 2 * 2 * 64 + 4 * 32 + 4


@pytest.mark.parametrize("method", ["full", "lora"])
def test_inplace_changes_the_model_itself(tiny, colours, ids, method):
    pointers = {p.data_ptr() for p in tiny.module.parameters()}
    reference = lk.finetune(tiny, colours, method, **QUICK).model
    before = outputs(tiny, ids)
    run = lk.finetune(tiny, colours, method, inplace=True, **QUICK)
    assert run.model is tiny
    assert pointers <= {p.data_ptr() for p in tiny.module.parameters()}
    assert not torch.equal(outputs(tiny, ids), before)
    assert torch.equal(outputs(tiny, ids), outputs(reference, ids))


def test_two_adapters_live_on_one_base(tiny, colours, ids):
    base = outputs(tiny, ids)
    first = lk.finetune(tiny, colours, "lora", seed=1, **QUICK)
    alone = outputs(first.model, ids)
    second = lk.finetune(tiny, colours, lk.LoRA(rank=2), seed=2, **QUICK)

    assert torch.equal(outputs(first.model, ids), alone)
    assert torch.equal(outputs(tiny, ids), base)
    assert len({outputs(model, ids).sum().item() for model in (tiny, first.model, second.model)}) == 3
    shared = {p.data_ptr() for p in tiny.module.parameters()}
    for run in (first, second):
        mine = {p.data_ptr() for name, p in run.model.module.named_parameters() if "lora_" not in name}
        assert mine == shared


@pytest.mark.parametrize(
    "method",
    [
        "full",
        lk.LoRA(rank=4, alpha=7.5, dropout=0.1, target_modules=["q_proj"]),
        lk.LoRA(rank=4, variant="dora"),
        lk.LoRA(rank=4, variant="pissa", rslora=True),
        lk.QLoRA(block_size=32),
        lk.QLoRA(block_size=32, backend="labkit", format="int4", double=False, target_modules=["v_proj"]),
    ],
    ids=["full", "lora", "dora", "pissa", "qlora", "qlora labkit"],
)
def test_a_saved_run_comes_back_bit_for_bit(tiny, colours, ids, home, method):
    run = lk.finetune(tiny, colours, method, **QUICK)
    folder = run.save("mine")
    loaded = lk.load_run("mine", tiny)

    assert folder == home / "runs" / "mine"
    assert torch.equal(outputs(loaded.model, ids), outputs(run.model, ids))
    assert loaded.method.to_dict() == json.loads(json.dumps(run.method.to_dict()))
    assert loaded.trained_parameters == run.trained_parameters
    for name in ("config", "base", "task", "labels", "history"):
        assert getattr(loaded, name) == getattr(run, name)
    assert loaded.memory.megabytes() == run.memory.megabytes()
    assert {path.suffix for path in folder.iterdir()} <= {".safetensors", ".json", ".md"}


@pytest.mark.parametrize("method", ["full", "lora", lk.QLoRA(block_size=32)])
def test_a_saved_encoder_comes_back_with_its_head(tiny_encoder, colours, ids, home, method):
    run = lk.finetune(tiny_encoder, colours, method, **QUICK)
    run.save("mine")
    loaded = lk.load_run("mine", tiny_encoder)

    assert torch.equal(outputs(loaded.model, ids), outputs(run.model, ids))
    assert torch.equal(loaded.model.head.bias, run.model.head.bias)
    assert loaded.labels == run.labels
    assert loaded.trained_parameters == run.trained_parameters
    prompts = colours.test["prompt"]
    one, two = (label_probabilities(model, prompts, colours.labels) for model in (run.model, loaded.model))
    assert torch.equal(one, two)


def test_a_loaded_run_can_be_trained_on(tiny, colours, ids, home):
    lk.finetune(tiny, colours, "full", **QUICK).save("mine")
    loaded = lk.load_run("mine", tiny)
    before = outputs(loaded.model, ids)
    more = lk.finetune(loaded.model, colours, "lora", **QUICK)
    assert torch.equal(outputs(loaded.model, ids), before)
    assert not torch.equal(outputs(more.model, ids), before)


def test_peft_reads_a_saved_adapter(tiny, colours, ids, home):
    run = lk.finetune(tiny, colours, "lora", **QUICK)
    folder = run.save("mine")
    expected = outputs(run.model, ids)
    theirs = peft.PeftModel.from_pretrained(tiny.copy(share_weights=False).module, folder).eval()
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=ids).logits, expected)


def test_a_run_loads_its_base_by_name(tiny, colours, ids, home, tmp_path):
    tiny.module.save_pretrained(tmp_path / "base")
    tiny.tokenizer.save_pretrained(tmp_path / "base")
    base = lk.load_model(str(tmp_path / "base"), device="cpu", precision="float32")
    run = lk.finetune(base, colours, "lora", **QUICK)
    run.save("mine")
    loaded = lk.load_run("mine")
    assert loaded.model.name == str(tmp_path / "base")
    prompts = colours.test["prompt"]
    ours, theirs = (label_probabilities(model, prompts, colours.labels) for model in (run.model, loaded.model))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("backend", ["labkit", "bitsandbytes"])
@pytest.mark.parametrize("method", [lk.LoRA(rank=4), lk.QLoRA(block_size=32)], ids=["lora", "qlora"])
@pytest.mark.parametrize("given", [True, False])
def test_an_adapter_on_a_4_bit_model_comes_back_bit_for_bit(tiny, colours, ids, home, tmp_path, backend, method, given):
    tiny.module.save_pretrained(tmp_path / "base")
    tiny.tokenizer.save_pretrained(tmp_path / "base")
    floats = lk.load_model(str(tmp_path / "base"), device="cpu", precision="float32")
    base = lk.quantize_model(floats, lk.Quantization(block_size=32, backend=backend))
    if isinstance(method, lk.QLoRA):
        method = lk.QLoRA(block_size=32, backend=backend)
    run = lk.finetune(base, colours, method, **QUICK)
    run.save("mine")

    loaded = lk.load_run("mine", base) if given else lk.load_run("mine")

    assert torch.equal(outputs(loaded.model, ids), outputs(run.model, ids))
    assert not torch.equal(outputs(loaded.model, ids), outputs(base, ids))
    assert loaded.model.quantization == base.quantization
    assert loaded.base == run.base == describe(base)
    assert loaded.trained_parameters == run.trained_parameters


@pytest.mark.parametrize("kind", ["tiny", "tiny_encoder"])
def test_a_qlora_run_holds_little_and_loads_its_base_by_name(request, colours, ids, home, tmp_path, kind):
    model = request.getfixturevalue(kind)
    model.module.save_pretrained(tmp_path / "base")
    model.tokenizer.save_pretrained(tmp_path / "base")
    base = lk.load_model(str(tmp_path / "base"), device="cpu", precision="float32")
    run = lk.finetune(base, colours, lk.QLoRA(rank=2, block_size=32), **QUICK)
    folder = run.save("mine")
    loaded = lk.load_run("mine")
    assert torch.equal(outputs(loaded.model, ids), outputs(run.model, ids))
    assert loaded.model.quantization == run.method.quantization
    assert loaded.base["quantization"] is None  # it was the method that quantized
    written = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert written < 4 * run.trained_parameters + 10_000


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_base_is_loaded_in_the_precision_of_the_training(tiny, colours, ids, home, tmp_path, precision):
    tiny.module.save_pretrained(tmp_path / "base")
    tiny.tokenizer.save_pretrained(tmp_path / "base")
    base = lk.load_model(str(tmp_path / "base"), device="cpu", precision=precision)
    run = lk.finetune(base, colours, "lora", **QUICK)
    run.save("mine")
    loaded = lk.load_run("mine").model
    assert str(loaded.precision) == f"torch.{precision}"
    with loaded.autocast():
        assert torch.equal(outputs(loaded, ids), outputs(run.model, ids))


def test_a_base_is_described_by_all_that_changes_its_answers(tiny):
    described = describe(tiny)
    assert described == {
        "name": "tiny",
        "fingerprint": tiny.fingerprint(),
        "precision": "float32",
        "quantization": None,
    }
    tiny.precision = torch.bfloat16
    assert describe(tiny) == described | {"precision": "bfloat16"}
    quantized = lk.quantize_model(tiny, lk.Quantization("fp4", 32, False, "labkit"))
    stored = {"format": "fp4", "block_size": 32, "double": False, "backend": "labkit"}
    assert describe(quantized) == described | {"precision": "bfloat16", "quantization": stored}
    assert json.loads(json.dumps(describe(quantized))) == describe(quantized)


def other_weights(base):
    other = base.copy(share_weights=False)
    with torch.no_grad():
        other.module.model.norm.weight += 0.5
    return other


def other_precision(base):
    other = base.copy(share_weights=True)
    other.precision = torch.bfloat16
    return other


def in_4_bits(base, **settings):
    return lk.quantize_model(base, lk.Quantization(**{"block_size": 32, **settings}))


@pytest.mark.parametrize("make", [other_weights, other_precision, in_4_bits], ids=lambda make: make.__name__)
def test_a_run_is_not_loaded_onto_another_base(tiny, colours, ids, home, make):
    run = lk.finetune(tiny, colours, "lora", **QUICK)
    run.save("mine")
    other = make(tiny)
    (key,) = (key for key, value in describe(tiny).items() if value != describe(other)[key])

    message = f"mine was trained on tiny, .*{key} {describe(tiny)[key]} there, {describe(other)[key]} here"
    message = message.replace("{", "[{]")
    with pytest.raises(lk.LabkitError, match=message) as caught:
        lk.load_run("mine", other)
    assert "force=True" in caught.value.remedy

    forced = lk.load_run("mine", other, force=True)
    for name, tensor in forced.model.trainable().items():
        assert torch.equal(tensor, run.model.module.get_parameter(name))
    assert describe(other) == describe(make(tiny))
    assert forced.base == run.base == describe(tiny)


@pytest.mark.parametrize(
    ("settings", "here"),
    [({"format": "fp4"}, "'format': 'fp4'"), ({"double": False}, "'double': False"), ({"backend": "labkit"}, "labkit")],
)
def test_a_run_in_4_bits_is_not_loaded_onto_other_4_bits(tiny, colours, home, settings, here):
    base = in_4_bits(tiny)
    lk.finetune(base, colours, "lora", **QUICK).save("mine")
    there = "'format': 'nf4', 'block_size': 32, 'double': True, 'backend': 'bitsandbytes'"
    with pytest.raises(lk.LabkitError, match=rf"\(quantization [{{]{there}[}}] there, .*{here}.* here\)"):
        lk.load_run("mine", in_4_bits(tiny, **settings))
    with pytest.raises(lk.LabkitError, match="there, None here"):
        lk.load_run("mine", tiny)
    assert lk.load_run("mine", base).model.quantization == base.quantization


def test_all_that_differs_is_told(tiny, colours, home):
    lk.finetune(tiny, colours, "lora", **QUICK).save("mine")
    with pytest.raises(
        lk.LabkitError, match=r"fingerprint .* there, .*; precision float32 there, bfloat16 here; quant"
    ):
        lk.load_run("mine", in_4_bits(other_precision(other_weights(tiny))))


def test_a_renamed_base_is_the_same_base(tiny, colours, ids, home):
    run = lk.finetune(tiny, colours, "lora", **QUICK)
    run.save("mine")
    tiny.name = "renamed"
    assert torch.equal(outputs(lk.load_run("mine", tiny).model, ids), outputs(run.model, ids))


def test_a_run_that_was_saved_without_precision_is_still_loaded(tiny, colours, ids, home):
    run = lk.finetune(tiny, colours, "lora", **QUICK)
    path = run.save("mine") / "run.json"
    record = json.loads(path.read_text())
    del record["base"]["precision"], record["base"]["quantization"]
    path.write_text(json.dumps(record))
    assert torch.equal(outputs(lk.load_run("mine", tiny).model, ids), outputs(run.model, ids))
    with pytest.raises(lk.LabkitError, match="fingerprint"):
        lk.load_run("mine", other_weights(tiny))


@pytest.mark.parametrize("quantized", [False, True])
def test_a_run_is_not_loaded_onto_a_model_with_another_adapter(tiny, colours, home, quantized):
    base = in_4_bits(tiny) if quantized else tiny
    other = lk.finetune(base, colours, "lora", seed=2, **QUICK).model
    lk.finetune(base, colours, "lora", seed=1, **QUICK).save("mine")
    with pytest.raises(lk.LabkitError, match="adapter already"):
        lk.load_run("mine", other, force=True)


def test_an_unknown_run_lists_those_there_are(tiny, colours, home):
    with pytest.raises(lk.LabkitError, match="no saved run called 'mine'"):
        lk.load_run("mine", tiny)
    run = lk.finetune(tiny, colours, "lora", **QUICK)
    run.save("first-try")
    run.save("second-try")
    with pytest.raises(lk.LabkitError, match=r"called 'fist-try'.*\n.*'first-try'.*first-try, second-try"):
        lk.load_run("fist-try", tiny)


def test_a_saved_run_is_replaced_on_request_only(tiny, colours, ids, home):
    first = lk.finetune(tiny, colours, "full", **QUICK)
    second = lk.finetune(tiny, colours, "lora", **QUICK)
    folder = first.save("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    with pytest.raises(lk.LabkitError, match=r"mine exists already.*\n.*overwrite=True"):
        second.save("mine")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    second.save("mine", overwrite=True)
    assert not (folder / "model.safetensors").exists()
    assert torch.equal(outputs(lk.load_run("mine", tiny).model, ids), outputs(second.model, ids))
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_a_path_is_taken_as_it_is(tiny, colours, home, tmp_path, monkeypatch):
    run = lk.finetune(tiny, colours, "lora", **QUICK)
    monkeypatch.chdir(tmp_path)
    assert run.save(tmp_path / "one") == tmp_path / "one"
    run.save("two/deep")
    run.save("./three")
    folders = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("run.json")}
    assert folders == {"one", "two/deep", "three"}
    assert lk.load_run("./three", tiny).history == run.history


def test_saved_settings_can_be_read_without_labkit(tiny, colours, home):
    run = lk.finetune(tiny, colours, "lora", **QUICK)
    record = json.loads((run.save("mine") / "run.json").read_text())
    assert record["config"] == asdict(run.config)
    assert record["method"]["name"] == "lora"
    assert [row["loss"] for row in record["history"]] == [row["loss"] for row in run.history]


def test_an_unknown_setting_gets_the_nearest_name(tiny, colours):
    with pytest.raises(lk.LabkitError, match=r"no setting called 'learning_rat'.*\n.*'learning_rate'.*batch_size"):
        lk.finetune(tiny, colours, learning_rat=1e-3)


def test_an_unknown_method_lists_those_there_are(tiny, colours):
    names = "bottleneck, full, head, ia3, lora, prefix, prompt, qlora"
    with pytest.raises(lk.LabkitError, match=rf"no method called 'qlorra'.*\n.*'qlora'.*Valid names: {names}"):
        lk.finetune(tiny, colours, "qlorra")


def test_a_bad_setting_is_named_before_anything_is_done(tiny, colours, tmp_path):
    with pytest.raises(lk.LabkitError, match="steps must be a whole number"):
        lk.finetune(tiny, colours, steps=0, checkpoints=tmp_path / "points")
    assert not (tmp_path / "points").exists()


WORDS = {"animal": "cat dog cow pig hen fox bee ant owl rat", "tool": "saw axe hoe pen nut jack file drill lamp rope"}
ROWS = [{"prompt": f"{word}:", "completion": kind} for kind, words in WORDS.items() for word in words.split()]


@pytest.mark.parametrize("kind", ["Dataset", "jsonl"])
def test_data_of_ones_own_goes_all_the_way(tiny, tmp_path, kind):
    if kind == "Dataset":
        data = Dataset.from_list(ROWS)
    else:
        data = tmp_path / "mine.jsonl"
        data.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    task = lk.load_task(data, train=10, test=4)
    run = lk.finetune(tiny, task, "full", **{**QUICK, "steps": 15})
    result = lk.evaluate(run.model, task)
    assert result.total == 4
    assert set(result.per_class) == {"animal", "tool"}
    assert run.history[-1]["loss"] < 0.6 * run.history[0]["loss"]


def test_an_encoder_cannot_learn_free_text(tiny_encoder):
    rows = [{"prompt": f"{a * 3} {a * 4}:", "completion": f"{a * 5} {a * 6}"} for a in "abcdefghijklmnopqrst"]
    task = lk.load_task(Dataset.from_list(rows), train=8, test=4)
    with pytest.raises(lk.LabkitError, match="tiny-encoder is an encoder: it learns classes, not text"):
        lk.finetune(tiny_encoder, task, **QUICK)


def test_an_encoder_cannot_rehearse_text(tiny_encoder, colours):
    with pytest.raises(lk.LabkitError, match="it learns classes, not text"):
        lk.finetune(tiny_encoder, colours, replay=["Cats sleep for most of the day."], **QUICK)


def test_an_untrained_head_starts_as_the_zero_shot_classifier(tiny_encoder, colours):
    before = label_probabilities(tiny_encoder, colours.test["prompt"], colours.labels)
    run = lk.finetune(tiny_encoder, colours, "lora", **{**QUICK, "steps": 1, "learning_rate": 1e-12})
    after = label_probabilities(run.model, colours.test["prompt"], colours.labels)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)


def test_a_head_for_other_classes_is_refused(tiny_encoder, colours):
    rows = [{"prompt": f"{a * 3} {a * 4}:", "completion": "yes" if a < "k" else "no"} for a in "abcdefghijklmnopqrst"]
    task = lk.load_task(Dataset.from_list(rows), train=8, test=4)
    tuned = lk.finetune(tiny_encoder, colours, "lora", **QUICK).model
    for use in (lambda: lk.evaluate(tuned, task), lambda: lk.finetune(tuned, task, "lora", **QUICK)):
        with pytest.raises(lk.LabkitError, match=r"tell 4 classes apart; here there are 2"):
            use()


def test_resuming_needs_the_folder_of_the_checkpoints(tiny, colours):
    with pytest.raises(lk.LabkitError, match="resume=True needs"):
        lk.finetune(tiny, colours, steps=1, resume=True, progress=False)


# Memory


@pytest.mark.parametrize(
    ("name", "method", "settings"),
    [
        ("tiny", "full", {}),
        ("tiny", lk.QLoRA(rank=2, block_size=32), {"accumulation": 2}),
        ("tiny", "lora", {"gradient_checkpointing": True}),
        ("tiny_encoder", "full", {}),
        ("tiny_encoder", lk.LoRA(rank=2), {"batch_size": 12}),
    ],
)
def test_the_memory_of_a_run_is_predicted_from_the_same_arguments(request, colours, name, method, settings):
    model = request.getfixturevalue(name)
    settings = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2} | settings
    report = lk.predict_memory(model, colours, method, **settings)
    run = lk.finetune(model, colours, method, progress=False, **settings)
    assert report.peak == pytest.approx(run.memory.peak, rel=5e-3)
    for kind in ("trainable", "frozen", "quantized", "optimizer"):
        assert getattr(report, kind) == getattr(run.memory, kind)


def test_replay_that_is_longer_decides_on_the_memory(tiny, colours):
    settings = {"steps": 4, "batch_size": 2, "replay_every": 2}
    replay = ["The quick brown fox jumps over the lazy dog and runs away. " * 4] * 4
    alone = lk.predict_memory(tiny, colours, **settings)
    report = lk.predict_memory(tiny, colours, replay=replay, **settings)
    run = lk.finetune(tiny, colours, replay=replay, progress=False, **settings)
    assert report.peak > 1.5 * alone.peak
    assert report.peak == pytest.approx(run.memory.peak, rel=5e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batchsize": 3}, "no setting called 'batchsize'"),
        ({"method": "qlorra"}, "no method called 'qlorra'"),
        ({"max_length": 2}, "has nothing to learn"),
    ],
)
def test_a_prediction_finds_the_mistakes_that_a_run_would(tiny, colours, settings, message):
    with pytest.raises(lk.LabkitError, match=message):
        lk.predict_memory(tiny, colours, **settings)


def test_an_encoder_is_not_predicted_on_text(tiny_encoder, colours):
    with pytest.raises(lk.LabkitError, match="learns classes, not text"):
        lk.predict_memory(tiny_encoder, colours, replay=["some text"])


def test_an_unknown_architecture_is_not_predicted(tiny, colours):
    tiny.module.config.model_type = "mamba"
    with pytest.raises(lk.LabkitError, match="no model type called 'mamba'"):
        lk.predict_memory(tiny, colours)


def test_an_empty_task_is_refused_at_once(tiny, tiny_encoder, colours):
    nothing = replace(colours, train=colours.train.select([]), test=colours.test.select([]))
    for model in (tiny, tiny_encoder):
        for call in (lk.finetune, lk.predict_memory):
            with pytest.raises(lk.LabkitError, match="your dataset has no training examples"):
                call(model, nothing)
        with pytest.raises(lk.LabkitError, match="your dataset has no test examples"):
            lk.evaluate(model, nothing)
    with pytest.raises(lk.LabkitError, match="texts in replay has two tokens"):
        lk.finetune(tiny, colours, replay=[""], **QUICK)


def test_what_was_learned_before_an_error_is_not_lost(tiny, colours):
    def fail(model, record, last):
        if record["step"] == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as stopped:
        lk.finetune(tiny, colours, callbacks=[fail], **QUICK)
    assert [row["step"] for row in stopped.value.run.history] == [1, 2]
    assert lk.evaluate(stopped.value.run.model, colours).total == 12
