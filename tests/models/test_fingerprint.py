"""The digits that stand for a network's weights: they change with every value, and are computed once."""

import json

import pytest
import torch
from tiny import tiny_model

import labkit as lk
from labkit.models import fingerprint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def computed(monkeypatch):
    """How often the values were read."""
    calls, real = [], fingerprint.fingerprint
    monkeypatch.setattr(fingerprint, "fingerprint", lambda module: calls.append(1) or real(module))
    return calls


def test_it_changes_with_every_value():
    model = tiny_model(num_hidden_layers=1)
    start = model.fingerprint()
    digits = {start}
    for parameter in model.parameters():
        for place in (0, parameter.numel() // 2 + 1, parameter.numel() - 1):
            old = parameter.detach().flatten()[place].item()
            with torch.no_grad():
                parameter.view(-1)[place] += 1
            digits.add(model.fingerprint())
            with torch.no_grad():
                parameter.view(-1)[place] = old
    assert len(digits) == 1 + 3 * len(model.parameters())
    assert model.fingerprint() == start


def test_two_values_that_change_places_change_it(model):
    start = model.fingerprint()
    with torch.no_grad():
        weight = model.module.lm_head.weight
        weight[:, [3, 4]] = weight[:, [4, 3]]
    assert model.fingerprint() != start


def test_it_is_computed_once_for_a_model_and_its_copies(model, computed):
    start = model.fingerprint()
    copies = [model.copy(share_weights=True), model.copy(share_weights=True).copy(share_weights=True)]
    assert {each.fingerprint() for each in (model, *copies)} == {start}
    assert lk.quantize_model(model, lk.Quantization(block_size=32, backend="labkit")).fingerprint() == start
    assert len(computed) == 1
    apart = model.copy(share_weights=False)
    assert apart.fingerprint() == start
    assert len(computed) == 2


def test_it_is_not_that_of_weights_from_before_a_change(model):
    """Each way in which weights may change, in place or not."""
    weight = model.module.model.layers[0].mlp.up_proj.weight
    state = {name: tensor + 1 for name, tensor in model.module.state_dict().items()}

    def step():
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        model.module(input_ids=torch.ones(1, 3, dtype=torch.long)).logits.sum().backward()
        optimizer.step()

    def other_parameter():
        model.module.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(weight.detach() * 3)

    seen = [model.fingerprint()]
    for change in (
        step,
        lambda: weight.data.mul_(2),
        lambda: weight.detach().numpy().__imul__(2),
        lambda: setattr(weight, "data", weight.data * 2),
        lambda: model.module.load_state_dict(state),
        other_parameter,
    ):
        change()
        seen.append(model.fingerprint())
        fresh = model.copy(share_weights=False)
        assert fresh.fingerprint() == seen[-1]
    assert len(set(seen)) == len(seen)


def test_a_copy_is_not_given_what_was_computed_before_a_change(model):
    start = model.fingerprint()
    with torch.no_grad():
        model.module.lm_head.weight[5, 7] += 1
    assert model.copy(share_weights=True).fingerprint() == model.fingerprint() != start


def test_runs_saved_before_files_had_versions_are_still_loaded(tiny, colours, tmp_path):
    stored = lk.quantize_model(tiny, lk.Quantization(block_size=32, backend="labkit"))
    assert stored.old_fingerprint() == tiny.old_fingerprint()
    for name, base in {"floats": tiny, "bits": stored}.items():
        run = lk.finetune(base, colours, "lora", steps=1, batch_size=4, progress=False)
        folder = run.save(tmp_path / name)
        path = folder / "run.json"
        record = json.loads(path.read_text())
        del record["version"], record["format"]
        record["base"]["fingerprint"] = tiny.old_fingerprint()
        path.write_text(json.dumps(record))
        assert lk.load_run(folder, base).base["fingerprint"] == tiny.old_fingerprint() != tiny.fingerprint()
        record["base"]["fingerprint"] = "0" * 16
        path.write_text(json.dumps(record))
        with pytest.raises(lk.LabkitError, match="fingerprint"):
            lk.load_run(folder, base)


def test_checkpoints_saved_before_files_had_versions_are_still_resumed(tiny, colours, tmp_path):
    settings = {"batch_size": 4, "checkpoints": tmp_path, "checkpoint_every": 1, "progress": False}
    whole = lk.finetune(tiny, colours, "lora", steps=2, **settings)
    lk.finetune(tiny, colours, "lora", steps=2, callbacks=[lambda model, record, last: True], **settings)
    (path,) = tmp_path.glob("step-*/run.json")
    record = json.loads(path.read_text())
    del record["version"], record["format"]
    for digits, fits in (("0" * 16, False), (tiny.old_fingerprint(), True)):
        record["identity"]["model"]["fingerprint"] = digits
        path.write_text(json.dumps(record))
        if fits:
            resumed = lk.finetune(tiny, colours, "lora", steps=2, resume=True, **settings)
            assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
        else:
            with pytest.raises(lk.LabkitError, match="belongs to another run"):
                lk.finetune(tiny, colours, "lora", steps=2, resume=True, **settings)


def test_tensors_made_in_inference_mode_are_hashed_each_time():
    net = torch.nn.Module()
    with torch.inference_mode():
        net.register_buffer("table", torch.ones(4))
    assert fingerprint.state_of(net) is None  # torch counts no changes of such tensors
    before = fingerprint.fingerprint(net)
    with torch.inference_mode():
        net.table[3] = 2
    assert fingerprint.fingerprint(net) != before


def test_the_exact_one_changes_with_the_last_bit_and_the_precision():
    module = tiny_model(num_hidden_layers=1).module
    weight = module.model.norm.weight
    rounded, exact = fingerprint.fingerprint(module), fingerprint.fingerprint(module, exact=True)
    assert fingerprint.fingerprint(module, exact=True) == exact
    with torch.no_grad():
        weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    assert fingerprint.fingerprint(module) == rounded
    changed = fingerprint.fingerprint(module, exact=True)
    module.to(torch.bfloat16).to(torch.float32)
    stored = fingerprint.fingerprint(module, exact=True)
    module.to(torch.bfloat16)
    assert len({exact, changed, stored, fingerprint.fingerprint(module, exact=True)}) == 4
    assert fingerprint.fingerprint(module) == rounded
