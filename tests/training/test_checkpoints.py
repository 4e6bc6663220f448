import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import labkit as lk
from labkit.training import checkpoints as module

METHODS = {"full": lk.FullFineTuning(), "lora": lk.LoRA(rank=4, dropout=0.1)}
SETTINGS = {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 2, "progress": False}


class CutError(Exception):
    """Stands for whatever ends a run before its time."""


def cut_after(step):
    def callback(model, record, last):
        if record["step"] == step:
            raise CutError

    return callback


def weights(model):
    named = dict(model.module.named_parameters())
    if model.head is not None:
        named |= dict(model.head.named_parameters())
    return {name: p.detach().clone() for name, p in named.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("cut", [1, 2, 3, 5, 6])
def test_a_resumed_run_ends_like_one_that_never_stopped(tiny, colours, tmp_path, method, cut):
    whole = lk.finetune(tiny, colours, method, **SETTINGS)
    with pytest.raises(CutError):
        lk.finetune(tiny, colours, method, checkpoints=tmp_path, callbacks=[cut_after(cut)], **SETTINGS)
    made = []

    resumed = lk.finetune(
        tiny,
        colours,
        method,
        checkpoints=tmp_path,
        resume=True,
        callbacks=[lambda model, record, last: made.append(record["step"])],
        **SETTINGS,
    )

    # A callback comes before the checkpoint of its step: after a cut at 2, no step had been kept.
    start = (cut - 1) // 2 * 2
    assert made == list(range(start + 1, 7))
    assert equal(weights(resumed.model), weights(whole.model))
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]


def test_an_encoder_resumes_with_its_head(tiny_encoder, colours, tmp_path):
    whole = lk.finetune(tiny_encoder, colours, "full", **SETTINGS)
    with pytest.raises(CutError):
        lk.finetune(tiny_encoder, colours, "full", checkpoints=tmp_path, callbacks=[cut_after(5)], **SETTINGS)
    resumed = lk.finetune(tiny_encoder, colours, "full", checkpoints=tmp_path, resume=True, **SETTINGS)
    assert "bias" in weights(resumed.model)
    assert equal(weights(resumed.model), weights(whole.model))


def test_replay_resumes_too(tiny, colours, tmp_path):
    settings = {**SETTINGS, "replay_every": 3, "replay": ["Cats sleep for most of the day.", "It rained in June."]}
    whole = lk.finetune(tiny, colours, "full", **settings)
    with pytest.raises(CutError):
        lk.finetune(tiny, colours, "full", checkpoints=tmp_path, callbacks=[cut_after(5)], **settings)
    resumed = lk.finetune(tiny, colours, "full", checkpoints=tmp_path, resume=True, **settings)
    assert equal(weights(resumed.model), weights(whole.model))


def test_resuming_a_finished_run_gives_it_back(tiny, colours, tmp_path):
    first = lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, **SETTINGS)
    again = lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, resume=True, **SETTINGS)
    assert equal(weights(again.model), weights(first.model))
    assert again.history == first.history
    assert not again.model.module.training


def test_a_run_stopped_by_a_callback_is_kept_where_it_stopped(tiny, colours, tmp_path):
    def enough(model, record, last):
        return record["step"] == 3

    whole = lk.finetune(tiny, colours, "lora", **SETTINGS)
    stopped = lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, callbacks=[enough], **SETTINGS)
    assert [row["step"] for row in stopped.history] == [1, 2, 3]
    resumed = lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, resume=True, **SETTINGS)
    assert equal(weights(resumed.model), weights(whole.model))


def test_without_a_checkpoint_resume_starts_at_the_beginning(tiny, colours, tmp_path):
    plain = lk.finetune(tiny, colours, "lora", **SETTINGS)
    resumed = lk.finetune(tiny, colours, "lora", checkpoints=tmp_path / "new", resume=True, **SETTINGS)
    assert equal(weights(resumed.model), weights(plain.model))


def test_without_resume_old_checkpoints_are_removed(tiny, colours, tmp_path):
    lk.finetune(tiny, colours, "full", checkpoints=tmp_path, **SETTINGS)
    (tmp_path / ".step-000004.abcdefgh.labkit-new").mkdir()
    with pytest.raises(CutError):
        lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, callbacks=[cut_after(1)], **SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_only_the_newest_checkpoint_is_kept_in_safetensors_and_json(tiny, colours, tmp_path):
    listings = []
    lk.finetune(
        tiny,
        colours,
        "full",
        checkpoints=tmp_path,
        callbacks=[lambda model, record, last: listings.append(files(tmp_path))],
        **SETTINGS,
    )
    listings.append(files(tmp_path))
    kept = [[], [], 2, 2, 4, 4, 6]
    assert listings == [n and [f"step-{n:06d}/run.json", f"step-{n:06d}/state.safetensors"] for n in kept]


def test_a_plain_name_is_kept_under_the_home_folder(tiny, colours, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    lk.finetune(tiny, colours, "lora", checkpoints="mine", **SETTINGS)
    assert files(tmp_path / "checkpoints") == [f"mine/step-000006/{name}" for name in ("run.json", "state.safetensors")]


def test_leftovers_of_killed_runs_do_not_confuse(tiny, colours, tmp_path):
    whole = lk.finetune(tiny, colours, "lora", **SETTINGS)
    with pytest.raises(CutError):
        lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, callbacks=[cut_after(3)], **SETTINGS)
    half = tmp_path / ".step-000004.abcdefgh.labkit-new"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    empty = tmp_path / "step-000005"
    empty.mkdir()
    (empty / "state.safetensors").write_bytes(b"half")
    (tmp_path / "step-notes.txt").write_text("mine")
    (tmp_path / ".step-notes").mkdir()

    resumed = lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, resume=True, **SETTINGS)

    assert equal(weights(resumed.model), weights(whole.model))
    assert not half.exists()
    assert (tmp_path / "step-notes.txt").read_text() == "mine"
    assert (tmp_path / ".step-notes").is_dir()


def other_model(tiny, colours):
    changed = tiny.copy(share_weights=False)
    with torch.no_grad():
        changed.module.lm_head.weight[0] += 1
    return changed, colours, "lora", SETTINGS


CHANGES = {
    "model": other_model,
    "method": lambda tiny, colours: (tiny, colours, lk.LoRA(rank=4), SETTINGS),
    "settings": lambda tiny, colours: (tiny, colours, "lora", {**SETTINGS, "seed": 7}),
    "data": lambda tiny, colours: (tiny, lk.load_task(colours.train, train=8, test=4), "lora", SETTINGS),
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_checkpoint_of_another_run_is_refused(tiny, colours, tmp_path, key):
    lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, **SETTINGS)
    kept = files(tmp_path)
    model, task, method, settings = CHANGES[key](tiny, colours)

    with pytest.raises(lk.LabkitError, match="belongs to another run") as refusal:
        lk.finetune(model, task, method, checkpoints=tmp_path, resume=True, **settings)

    named = {name for name in CHANGES if f"{name}: " in refusal.value.cause}
    assert named == {key}
    assert files(tmp_path) == kept


def test_a_failed_write_leaves_the_older_checkpoint(tiny, colours, tmp_path, monkeypatch):
    real = module.save_file

    def full_disk(tensors, path):
        if "step-000004" in str(path):
            raise OSError(28, "No space left on device")
        real(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", full_disk)
        with pytest.raises(lk.LabkitError, match="disk is full"):
            lk.finetune(tiny, colours, "full", checkpoints=tmp_path, **SETTINGS)
    assert files(tmp_path) == ["step-000002/run.json", "step-000002/state.safetensors"]
    resumed = lk.finetune(tiny, colours, "full", checkpoints=tmp_path, resume=True, **SETTINGS)
    assert equal(weights(resumed.model), weights(lk.finetune(tiny, colours, "full", **SETTINGS).model))


def checkpoint(folder, done, value=1.0, identity=None):
    """Write a checkpoint of a model that is one number."""
    weight = torch.nn.Parameter(torch.tensor([value]))
    optimizer = torch.optim.AdamW([weight])
    points = module.Checkpoints(folder, identity or {})
    points.save(done, {"w": weight}, optimizer, [{"step": done}], {})
    return folder / f"step-{done:06d}"


def newest(folder, identity=None):
    """Return the step and the weight of the newest checkpoint."""
    weight = torch.nn.Parameter(torch.zeros(1))
    done, _, _ = module.Checkpoints(folder, identity or {}).load({"w": weight}, torch.optim.AdamW([weight]))
    return done, weight.item()


def two(folder):
    """Write two checkpoints, which otherwise only a killed process leaves, and return the newer one."""
    checkpoint(folder / "other", 2, value=2.0).rename(folder / "step-000002")
    (folder / "other").rmdir()
    return checkpoint(folder / "more", 10, value=10.0).rename(folder / "step-000010")


def test_checkpoints_are_sorted_by_their_step_however_long(tmp_path):
    for done in (999_998, 999_999, 1_000_000, 12_345_678):
        checkpoint(tmp_path, done, value=float(done))
        assert [path.name for path in tmp_path.iterdir()] == [f"step-{done:06d}"]
    checkpoint(tmp_path / "other", 999_999).rename(tmp_path / "step-999999")
    assert newest(tmp_path) == (12_345_678, 12_345_678)


def test_what_changes_no_number_may_change_between_two_parts_of_a_run(tiny, colours, tmp_path):
    method = METHODS["lora"]
    whole = lk.finetune(tiny, colours, method, **SETTINGS)
    with pytest.raises(CutError):
        lk.finetune(tiny, colours, method, checkpoints=tmp_path, callbacks=[cut_after(3)], **SETTINGS)
    moved = replace(tiny, name="moved")
    other = {**SETTINGS, "checkpoint_every": 1, "max_length": 300, "gradient_checkpointing": True}
    method = replace(method, learning_rate=0.5)  # a default, which the settings replace
    resumed = lk.finetune(moved, colours, method, checkpoints=tmp_path, resume=True, **other)
    assert equal(weights(resumed.model), weights(whole.model))
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]


def test_a_checkpoint_without_a_version_is_read_and_a_newer_one_refused(tiny, colours, tmp_path):
    whole = lk.finetune(tiny, colours, "lora", **SETTINGS)
    with pytest.raises(CutError):
        lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, callbacks=[cut_after(3)], **SETTINGS)
    path = tmp_path / "step-000002" / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["version"] == 1
    path.write_text(json.dumps(record | {"version": 2}), encoding="utf-8")
    with pytest.raises(lk.LabkitError, match=r"newer labkit: its format has version 2.*up to 1"):
        lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, resume=True, **SETTINGS)
    old = {key: record[key] for key in ("done", "identity", "history", "scaler")}
    path.write_text(json.dumps(old), encoding="utf-8")
    resumed = lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, resume=True, **SETTINGS)
    assert equal(weights(resumed.model), weights(whole.model))


def cut_file(name):
    def cut(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return cut


def without_a_weight(folder):
    module.save_file({"weight.other": torch.zeros(1)}, folder / "state.safetensors")


def of_another_shape(folder):
    module.save_file({"weight.w": torch.zeros(2)}, folder / "state.safetensors")


def half_the_optimizer(folder):
    module.save_file({"weight.w": torch.zeros(1), "exp_avg.w": torch.zeros(1)}, folder / "state.safetensors")


DAMAGE = {
    "run.json cannot be used: it is damaged": cut_file("run.json"),
    "run.json cannot be used: it is missing": lambda folder: (folder / "run.json").unlink(),
    "run.json cannot be used: it lacks history": lambda folder: (folder / "run.json").write_text(
        '{"format": "labkit checkpoint", "done": 10, "identity": {}, "scaler": {}}'
    ),
    "state.safetensors cannot be used: it is damaged": cut_file("state.safetensors"),
    "state.safetensors cannot be used: it is missing": lambda folder: (folder / "state.safetensors").unlink(),
    "does not hold w as": without_a_weight,
    "it does not hold w as": of_another_shape,
    "not hold w as this run has it": half_the_optimizer,
}


def test_a_damaged_checkpoint_is_named_and_an_older_one_taken_where_there_is_one(tmp_path):
    for number, (message, damage) in enumerate(DAMAGE.items()):
        folder = tmp_path / str(number)
        damage(two(folder))
        with pytest.warns(UserWarning, match=f"{message}.*Going on from step-000002"):
            assert newest(folder) == (2, 2.0)
        shutil.rmtree(folder / "step-000002")
        with pytest.raises(lk.LabkitError, match=message) as caught:
            newest(folder)
        assert "step-000010" in caught.value.cause
        checkpoint(folder, 4)  # the run began again: the damaged one must not be found as the newest
        assert newest(folder) == (4, 1.0)


def foreign_record(path):
    path.mkdir()
    (path / "run.json").write_text('{"distance": "5 km"}')


def foreign_file(path):
    checkpoint(path.parent / "other", 10).rename(path)
    (path.parent / "other").rmdir()
    (path / "notes.txt").write_text("mine")


def test_only_checkpoints_are_removed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.txt").write_text("mine")
    kinds = [foreign_record, foreign_file, lambda path: path.write_text("mine")]
    kinds += [lambda path: path.symlink_to(tmp_path / "elsewhere")]
    for number, put in enumerate(kinds):
        folder = tmp_path / str(number)
        folder.mkdir()
        put(folder / "step-000010")
        before = files(folder)
        points = module.Checkpoints(folder, {})
        for call in (points.clear, lambda points=points: points.load({}, None)):
            with pytest.raises(lk.LabkitError, match="step-000010"):
                call()
        checkpoint(folder, 12)
        assert set(files(folder)) == {*before, "step-000012/run.json", "step-000012/state.safetensors"}
        assert (folder / "step-000010").exists()
    assert (tmp_path / "elsewhere" / "thesis.txt").read_text() == "mine"
    with pytest.raises(lk.LabkitError, match="is a file"):
        module.Checkpoints(tmp_path / "elsewhere" / "thesis.txt", {}).clear()


# The rest kills real processes. One script does it for all cases: it imports labkit once and trains in
# children that it forks, so that each run has a process of its own and none pays for the import.
SCRIPT = """
import hashlib, json, os, signal, sys, traceback
from pathlib import Path
import torch
import labkit as lk
from labkit.training import checkpoints

folder = Path(sys.argv[1])
METHODS = {"full": lk.FullFineTuning(), "lora": lk.LoRA(rank=4, dropout=0.1)}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def at_step_5(model, record, last):
    if record["step"] == 5:
        die()


def half_a_file(tensors, path):
    real_save_file(tensors, path)
    if "step-000004" in str(path):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        die()


real_save_file = checkpoints.save_file


def train(method, name, checkpoints_name=None, resume=False, callbacks=()):
    torch.set_num_threads(1)
    steps = []
    model = lk.load_model(str(folder / "model"), device="cpu", precision="float32")
    task = lk.load_task(folder / "task.jsonl", train=24, test=12)
    run = lk.finetune(
        model, task, METHODS[method], steps=7, batch_size=4, learning_rate=1e-3, checkpoint_every=2, progress=False,
        checkpoints=checkpoints_name and folder / checkpoints_name, resume=resume,
        callbacks=[*callbacks, lambda model, record, last: steps.append(record["step"])],
    )
    run.save(folder / name)
    (folder / f"{name}.json").write_text(json.dumps(steps))


def child(*args, **kwargs):
    number = os.fork()
    if number == 0:
        try:
            train(*args, **kwargs)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


train("full", "warm-up")  # what is imported late is there for all children then
result = {}
for method in METHODS:
    result[f"{method}-whole"] = child(method, f"{method}-whole")
    for death in ("step", "write"):
        name = f"{method}-{death}"
        if death == "write":
            checkpoints.save_file = half_a_file
        result[f"{name}-killed"] = child(method, name, name + "-c", callbacks=[at_step_5] if death == "step" else [])
        checkpoints.save_file = real_save_file
        result[f"{name}-left"] = sorted(p.name.split("-000")[1][:3] for p in (folder / f"{name}-c").glob("*step-*"))
        result[f"{name}-resumed"] = child(method, name, name + "-c", resume=True)
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def killed(llama, smollm, tmp_path_factory):
    """The folder in which runs were killed and resumed, and how their processes ended."""
    folder = tmp_path_factory.mktemp("killed")
    llama(len(smollm.tokenizer)).save_pretrained(folder / "model")
    smollm.tokenizer.save_pretrained(folder / "model")
    rows = [
        {"prompt": f"The {thing} in the {place} is", "completion": f" {colour}"}
        for place in ("north", "south", "east", "west", "high", "low", "old", "new", "far")
        for thing, colour in (("sky", "blue"), ("grass", "green"), ("snow", "white"), ("coal", "black"))
    ]
    (folder / "task.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, folder / "script.py", folder],
        env={**os.environ, "OMP_NUM_THREADS": "1", "LABKIT_HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="forks after importing torch, which is safe on Linux only")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("death", "left", "start"), [("step", ["004"], 5), ("write", ["002", "004"], 3)])
def test_a_killed_run_resumes_to_the_same_bits(killed, method, death, left, start):
    folder, result, errors = killed
    name = f"{method}-{death}"
    assert result[f"{method}-whole"] == 0, errors
    assert result[f"{name}-killed"] == -signal.SIGKILL
    assert result[f"{name}-left"] == left
    assert result[f"{name}-resumed"] == 0, errors
    assert json.loads((folder / f"{name}.json").read_text()) == list(range(start, 8))

    file = {"full": "model.safetensors", "lora": "adapter_model.safetensors"}[method]
    assert (folder / name / file).read_bytes() == (folder / f"{method}-whole" / file).read_bytes()
    records = [json.loads((folder / run / "run.json").read_text()) for run in (name, f"{method}-whole")]
    losses = [[row["loss"] for row in record["history"]] for record in records]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 7
    assert files(folder / f"{name}-c") == [f"step-000007/{f}" for f in ("run.json", "state.safetensors")]
