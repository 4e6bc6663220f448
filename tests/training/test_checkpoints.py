import json
import os
import signal
import subprocess
import sys

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
    (tmp_path / ".step-000004-x").mkdir()
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
    assert files(tmp_path) == [f"checkpoints/mine/step-000006/{name}" for name in ("run.json", "state.safetensors")]


def test_leftovers_of_killed_runs_do_not_confuse(tiny, colours, tmp_path):
    whole = lk.finetune(tiny, colours, "lora", **SETTINGS)
    with pytest.raises(CutError):
        lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, callbacks=[cut_after(3)], **SETTINGS)
    half = tmp_path / ".step-000004-abc"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    empty = tmp_path / "step-000005"
    empty.mkdir()
    (empty / "state.safetensors").write_bytes(b"half")
    (tmp_path / "step-notes.txt").write_text("mine")

    resumed = lk.finetune(tiny, colours, "lora", checkpoints=tmp_path, resume=True, **SETTINGS)

    assert equal(weights(resumed.model), weights(whole.model))
    assert not half.exists()
    assert (tmp_path / "step-notes.txt").read_text() == "mine"


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
