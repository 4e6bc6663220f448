"""Saved runs: what comes back, and onto which base model."""

import json
from dataclasses import asdict

import peft
import pytest
import torch
from quick_runs import QUICK, outputs

import labkit as lk
from labkit.evaluation import label_probabilities
from labkit.runs import describe


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home folder of the test's own, for what it saves."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "Läufe, alle"))
    return tmp_path / "Läufe, alle"


@pytest.fixture
def ids():
    return torch.arange(200, 239).view(3, 13)


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
