"""Kept runs: what is given back, what is trained again, and what is said of it."""

import json
import os
import shutil
import threading
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from quick_runs import QUICK, equal, outputs, state
from safetensors.torch import load_file, save_file

import labkit as lk
from labkit.cli import main
from labkit.runs import identity, keep, unfinished
from labkit.storage import cache
from labkit.training.loop import Trainer

METHODS = {
    "full": lk.FullFineTuning(),
    "lora": lk.LoRA(rank=2, dropout=0.1, target_modules=("q_proj", "v_proj")),
    "dora": lk.LoRA(rank=2, variant="dora"),
    "pissa": lk.LoRA(rank=2, variant="pissa"),
    "qlora": lk.QLoRA(rank=2, block_size=32),
    "bottleneck": lk.BottleneckAdapters(size=2),
    "ia3": lk.IA3(),
    "prefix": lk.PrefixTuning(virtual_tokens=2),
    "prompt": lk.PromptTuning(virtual_tokens=2),
}
ENCODER = {"full": lk.FullFineTuning(), "lora": lk.LoRA(rank=2), "ia3": lk.IA3(), "head": lk.HeadOnly()}
LORA = lk.LoRA(rank=2)


@pytest.fixture
def ids():
    return torch.arange(200, 239).view(3, 13)


@pytest.fixture
def train(tiny, colours):
    """Trains a quick LoRA that is kept, unless other arguments are given."""

    def run(model=tiny, task=colours, method=LORA, keep="mine", **settings):
        return lk.finetune(model, task, method, keep=keep, **(QUICK | settings))

    return run


def folders(home):
    return sorted(path for path in (home / "kept" / "mine").iterdir() if path.is_dir() and path.name[0] != ".")


def edit(folder, **values):
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(record | values), encoding="utf-8")


def require_same(kept, run, ids):
    assert (run.kept, kept.kept) == (False, True)
    assert torch.equal(outputs(kept.model, ids), outputs(run.model, ids))
    assert equal(state(kept.model), state(run.model))
    assert kept == replace(run, model=kept.model)  # method, config, base, task, labels, history and memory
    assert kept.memory.timeline == run.memory.timeline != ()
    assert kept.model.labels == run.model.labels
    assert {n: p.shape for n, p in kept.model.trainable().items()} == {
        n: p.shape for n, p in run.model.trainable().items()
    }
    assert not any(module.training for module in kept.model.module.modules())
    assert all(p.grad is None for p in kept.model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_kept_run_is_as_it_was_when_it_was_trained(tiny, train, ids, name):
    before, pointers = state(tiny), {p.data_ptr() for p in tiny.module.parameters()}
    run, kept = train(method=METHODS[name]), train(method=METHODS[name])
    require_same(kept, run, ids)
    assert equal(state(tiny), before)
    shared = {p.data_ptr() for p in kept.model.module.parameters()} & pointers
    assert (name == "full") == (not shared)
    assert len(shared) == len({p.data_ptr() for p in run.model.module.parameters()} & pointers)


def test_a_frozen_model_is_no_other(tiny, train, ids):
    tiny.module.requires_grad_(False)
    run, kept = (train(method=lk.FullFineTuning()) for _ in range(2))
    require_same(kept, run, ids)
    assert kept.trained_parameters == run.trained_parameters > 0


@pytest.mark.parametrize("name", ENCODER)
def test_a_kept_encoder_has_its_head(tiny_encoder, colours, train, ids, name):
    run, kept = (train(tiny_encoder, method=ENCODER[name]) for _ in range(2))
    require_same(kept, run, ids)
    assert tiny_encoder.head is None
    assert str(lk.evaluate(kept.model, colours)) == str(lk.evaluate(run.model, colours))
    if name == "lora":
        with lk.disable_adapter(kept.model), lk.disable_adapter(run.model):
            assert str(lk.evaluate(kept.model, colours)) == str(lk.evaluate(run.model, colours))


def nudge(model):
    """The same model, but for the last bit of one weight."""
    other = model.copy(share_weights=False)
    with torch.no_grad():
        weight = other.module.model.norm.weight
        weight[3] = torch.nextafter(weight[3], torch.tensor(9.0))
    return other


def in_bfloat16(model):
    other = model.copy(share_weights=True)
    other.precision = torch.bfloat16
    return other


CHANGES = {
    "weights": lambda tiny, colours: {"model": nudge(tiny)},
    "precision": lambda tiny, colours: {"model": in_bfloat16(tiny)},
    "4 bits": lambda tiny, colours: {"model": lk.quantize_model(tiny, lk.Quantization(block_size=32))},
    "method": lambda tiny, colours: {"method": lk.LoRA(rank=2, alpha=8)},
    "rate": lambda tiny, colours: {"learning_rate": 2e-2},
    "seed": lambda tiny, colours: {"seed": 1},
    "data": lambda tiny, colours: {"task": replace(colours, train=colours.train.select(range(1, 24)))},
    "order": lambda tiny, colours: {"task": replace(colours, train=colours.train.select(range(23, -1, -1)))},
    "replay": lambda tiny, colours: {"replay": ["The sky was blue."]},
    "callbacks": lambda tiny, colours: {"callbacks": [lk.Every(2, lambda model: {"norm": 1.0})]},
}


def test_a_run_of_anything_else_is_trained_and_kept_beside_it(tiny, colours, train, home):
    assert not train().kept
    for number, (name, change) in enumerate(CHANGES.items()):
        changed = change(tiny, colours)
        assert not train(**changed).kept, name
        assert len(folders(home)) == number + 2, name
        assert train(**changed).kept, name
    assert train().kept
    assert not train(keep="other").kept


def test_what_changes_no_number_does_not_matter(tiny, train):
    train()
    tiny.name = "renamed"
    kept = train()
    assert kept.kept
    assert kept.base["name"] == "renamed"


def test_a_head_that_was_trained_already_is_part_of_the_model(tiny_encoder, train):
    one, two = (train(tiny_encoder, method=lk.HeadOnly(), seed=seed).model for seed in (1, 2))
    assert not torch.equal(one.head.weight, two.head.weight)
    assert not train(one, method=LORA).kept
    assert not train(two, method=LORA).kept
    assert train(one, method=LORA).kept


class Limited:
    def __init__(self, limit):
        self.limit = limit

    def __call__(self, model, record, last):
        record["limit"] = self.limit


def test_other_code_of_labkit_or_a_callback_makes_another_run(train, monkeypatch):
    def measure(model):
        return {"found": 1}

    first = measure
    train(callbacks=[lk.Every(1, measure)])

    def measure(model):
        return {"found": 2}

    assert train(callbacks=[lk.Every(1, first)]).history[0]["found"] == 1
    assert not train(callbacks=[lk.Every(2, first)]).kept
    assert train(callbacks=[lk.Every(1, measure)]).history[0]["found"] == 2
    for limit in (1, 2):
        assert not train(callbacks=[Limited(limit)]).kept
    assert train(callbacks=[Limited(2)]).kept
    with pytest.raises(lk.LabkitError, match=r"cannot tell whether the code of the callback .*partial"):
        train(callbacks=[partial(measure)])
    monkeypatch.setattr(identity, "_own_code", lambda: "newer")
    assert not train(callbacks=[lk.Every(1, first)]).kept


def test_measurements_make_no_other_weights(train, ids, home):
    plain = train(keep=None)
    measured = [lk.Every(2, lambda model: {"rise": 1.0}), lk.Every(1, lambda model: {"fall": 2.0})]
    assert not train(callbacks=measured).kept
    kept = train()
    assert kept.kept
    assert torch.equal(outputs(kept.model, ids), outputs(plain.model, ids))
    for row, before in zip(kept.history, plain.history, strict=True):
        assert row | {"seconds": 0} == before | {"seconds": 0}
    assert train(callbacks=measured).history[1]["rise"] == 1.0
    assert not train(callbacks=measured[:1]).kept  # which has no column "fall"
    for folder in folders(home):
        tampered_loss(folder)
    with pytest.warns(UserWarning, match="is not used"):
        assert not train().kept
    assert train().kept


def test_other_callbacks_may_change_the_weights(train):
    train(callbacks=[lambda model, record, last: None])
    assert not train().kept


def tampered_loss(folder):
    history = json.loads((folder / "run.json").read_text(encoding="utf-8"))["history"]
    history[0]["loss"] *= 1 + 1e-4
    edit(folder, history=history)


def tampered_gradient(folder):
    history = json.loads((folder / "run.json").read_text(encoding="utf-8"))["history"]
    history[0]["grad_norm"] *= 1 - 1e-4
    edit(folder, history=history)


def tampered_weights(folder):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0, 0] += 1e-3
    save_file(tensors, path)


def cut(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def cut_record(folder):
    (folder / "run.json").write_text('{"format": "labkit r', encoding="utf-8")


DAMAGES = {
    "the loss of its first step was": tampered_loss,
    "the grad_norm of its first step was": tampered_gradient,
    "it is not as it was written": tampered_weights,
    "safetensors cannot be used": cut,
    "run.json cannot be used: it is damaged": cut_record,
    "run.json cannot be used: it is missing": lambda folder: (folder / "run.json").unlink(),
    "it is of another run": lambda folder: edit(folder, identity={}),
    "AttributeError": lambda folder: edit(folder, sha256=[]),
    "KeyError": lambda folder: edit(folder, history=[{"step": 1}]),
}


def test_a_kept_run_that_cannot_be_trusted_is_trained_again(train, home, ids):
    run = train()
    (folder,) = folders(home)
    for message, damage in DAMAGES.items():
        damage(folder)
        with pytest.warns(UserWarning, match=rf"{folder.name}.* is not used: .*{message}.*trained again"):
            again = train()
        assert not again.kept, message
        require_same(train(), again, ids)
        assert torch.equal(outputs(again.model, ids), outputs(run.model, ids))
        assert folders(home) == [folder]


def test_rounding_of_other_threads_is_tolerated(train, home):
    train()
    (folder,) = folders(home)
    history = json.loads((folder / "run.json").read_text(encoding="utf-8"))["history"]
    for factor in (1 + 1e-6, 1 - 1e-6):
        edit(folder, history=[row | {"loss": row["loss"] * factor} for row in history])
        assert train().kept


def test_until_the_new_run_is_complete_the_old_one_stays(train, home, monkeypatch):
    train()
    (folder,) = folders(home)
    tampered_loss(folder)
    before = (folder / "run.json").read_bytes()

    def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(Trainer, "run", fail)
    with pytest.warns(UserWarning, match="not used"), pytest.raises(ZeroDivisionError):
        train()
    assert (folder / "run.json").read_bytes() == before


def test_only_what_labkit_wrote_is_replaced(train, home):
    train()
    (folder,) = folders(home)
    (folder / "notes.txt").write_text("mine")
    cut(folder)
    with pytest.raises(lk.LabkitError, match=r"holds notes.txt, which labkit did not write"):
        train()
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_run_that_is_refused_is_refused_at_once(tiny, train, home, monkeypatch):
    with pytest.raises(lk.LabkitError, match=r"inplace=True.*\n.*Leave out keep or inplace"):
        train(inplace=True)
    with pytest.raises(lk.LabkitError, match="not a name for a new folder"):
        train(keep=".")

    class Mine(lk.LoRA):
        pass

    with pytest.raises(lk.LabkitError, match=r"cannot tell whether the code of lora"):
        train(method=Mine())
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    with pytest.raises(lk.LabkitError, match="several processes cannot be kept"):
        train(force=True)
    assert not (home / "kept").exists()


def test_a_full_disk_does_not_lose_the_run(train, home, monkeypatch):
    usage = shutil.disk_usage(home.parent)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    def refuse(run, folder):
        raise lk.LabkitError("The disk is full.", "Free some space.")

    monkeypatch.setattr(lk.Run, "write_weights", refuse)
    with pytest.warns(UserWarning, match=r"no room to keep this run: it takes 0 MB|The run is not kept") as warned:
        run = train()
    assert len(warned) == 2
    assert len(run.history) == 3
    assert folders(home) == []


def test_what_cannot_be_written_does_not_lose_the_run(tiny, train, home, monkeypatch):
    def note(model, record, last):
        record["found"] = {1, 2}

    def spoil(model, record, last):
        with torch.no_grad():
            model.module.model.norm.weight += 0.5 * last

    with pytest.warns(UserWarning, match=r"The run is not kept. .*norm.weight, which lora left as it was, has diff"):
        train(callbacks=[spoil], model=nudge(tiny))
    with pytest.warns(UserWarning, match=r"The run is not kept. .*set is not JSON serializable"):
        assert train(callbacks=[note]).history[2]["found"] == {1, 2}

    def stop(run, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(lk.Run, "write_weights", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train()
    assert len(stopped.value.run.history) == 3
    assert [path.name for path in (home / "kept" / "mine").iterdir()] == []


def test_a_run_that_a_callback_ended_is_not_kept(train):
    def enough(model, record, last):
        return record["step"] == 2

    for _ in range(2):
        with pytest.warns(UserWarning, match="ended after 2 of 3 steps: it is not kept"):
            assert not train(callbacks=[enough]).kept


def test_the_bar_says_which_run_it_is(train, capsys):
    train(progress=True)
    assert "trained, and kept in 0." in capsys.readouterr().err
    train(progress=True)
    shown = capsys.readouterr()
    assert shown.err.startswith("\rtraining:   0%|")  # what a notebook stores, and nbval compares
    assert "a kept run, whose first step came out the same: 100%" in shown.err
    assert "step/s" not in shown.err.splitlines()[-1]
    assert shown.out == ""
    train()
    assert capsys.readouterr() == ("", "")


class KilledError(Exception):
    """Stands for a dead kernel."""


def kill_at(step):
    def kill(model, record, last):
        if os.environ.get("KILL") and record["step"] == step:
            raise KilledError

    return kill


LONG = {"steps": 6, "checkpoint_every": 2, "learning_rate": 1e-2}


def test_a_run_that_was_stopped_goes_on_where_it_was(train, home, ids, monkeypatch):
    whole = train(keep=None, **LONG)
    seen = []
    callbacks = [lambda model, record, last: seen.append(record["step"]), kill_at(5)]
    monkeypatch.setenv("KILL", "yes")
    with pytest.raises(KilledError):
        train(callbacks=callbacks, **LONG)
    monkeypatch.delenv("KILL")
    run = train(callbacks=callbacks, **LONG)
    assert seen == [1, 2, 3, 4, 5, 5, 6]
    assert torch.equal(outputs(run.model, ids), outputs(whole.model, ids))
    assert len(folders(home)) == 1  # and nothing unfinished
    assert train(callbacks=callbacks, **LONG).kept


def test_a_damaged_checkpoint_costs_the_steps_and_no_more(train, home, ids, monkeypatch):
    callbacks = [kill_at(5)]
    monkeypatch.setenv("KILL", "yes")
    with pytest.raises(KilledError):
        train(callbacks=callbacks, **LONG)
    monkeypatch.delenv("KILL")
    (weights,) = (home / "kept" / "mine").glob("*-unfinished/step-000004/state.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.warns(UserWarning, match="state.safetensors cannot be used: .* begins anew"):
        run = train(callbacks=callbacks, **LONG)
    assert torch.equal(outputs(run.model, ids), outputs(train(keep=None, **LONG).model, ids))


def test_large_states_are_saved_on_request_only(train, home, tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "LARGE", 1000)
    monkeypatch.setenv("KILL", "yes")
    callbacks = [kill_at(5)]
    with pytest.raises(KilledError):
        train(callbacks=callbacks, **LONG)
    assert not (home / "kept").exists()
    more = {"checkpoints": tmp_path / "points", "resume": True}
    with pytest.raises(KilledError):
        train(callbacks=callbacks, **more, **LONG)
    monkeypatch.delenv("KILL")
    assert [row["step"] for row in train(callbacks=callbacks, **more, **LONG).history] == [1, 2, 3, 4, 5, 6]
    assert train(callbacks=callbacks, **more, **LONG).kept
    assert (tmp_path / "points" / "step-000006").is_dir()  # they are the caller's


def test_an_unfinished_run_does_not_disturb_checkpoints_of_ones_own(train, tmp_path, ids, monkeypatch):
    monkeypatch.setenv("KILL", "yes")
    with pytest.raises(KilledError):
        train(callbacks=[kill_at(5)], **LONG)
    monkeypatch.delenv("KILL")
    run = train(callbacks=[kill_at(5)], checkpoints=tmp_path / "points", **LONG)
    assert torch.equal(outputs(run.model, ids), outputs(train(keep=None, **LONG).model, ids))


def test_who_comes_second_waits_and_finds_the_run(train, home, tmp_path, monkeypatch):
    """Another process, here a thread, is training the same run: it holds the lock, and keeps the run at its end."""
    train()
    (folder,) = folders(home)
    folder.rename(tmp_path / "not kept yet")
    monkeypatch.setattr(cache, "PATIENCE", 0.05)
    place = keep.Kept("mine", {})
    place.folder = folder
    holds = threading.Event()

    def other():
        with place.alone():
            holds.set()
            time.sleep(0.3)
            (tmp_path / "not kept yet").rename(folder)

    thread = threading.Thread(target=other)
    thread.start()
    holds.wait()
    with pytest.warns(UserWarning, match=f"Another process is training .*{folder.name}; this one waits"):
        assert train().kept
    thread.join()


def test_kept_runs_are_listed_and_removed(train, home, monkeypatch, capsys):
    assert main(["kept"]) == 0
    assert capsys.readouterr().out == ""
    train()
    train(keep="other", seed=1)
    monkeypatch.setenv("KILL", "yes")
    with pytest.raises(KilledError):
        train(callbacks=[kill_at(5)], **LONG)
    main(["kept"])
    listed = sorted(line.split(" MB  ")[1][:45] for line in capsys.readouterr().out.splitlines())
    finished = "lora on tiny, your dataset, 3 steps"
    assert [line.split("  (")[0] for line in listed] == [finished, finished, "stopped before its end"]
    (home / "kept" / "mine" / "notes.txt").write_text("mine")
    size = sum(path.stat().st_size for path in (home / "kept" / "mine").glob("*/**/*") if path.is_file())
    assert main(["kept", "--remove", "mine"]) == 0
    assert capsys.readouterr().out == f"removed {size / 1e6:.1f} MB\n"
    assert [path.name for path in (home / "kept" / "mine").iterdir()] == ["notes.txt"]
    assert train(keep="other", seed=1).kept
    assert main(["kept", "--remove", "mine"]) == 1
    assert "no name of kept runs called 'mine'" in capsys.readouterr().err
