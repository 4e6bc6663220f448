"""Runs that learn from rewards: killed, they go on to the same bits; what is the same run, and what is another."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from quick_runs import equal, state
from tiny import STRONG, tiny_model

import labkit as lk
from labkit import reinforcement
from labkit.runs.same import code_of
from labkit.training.policy import PolicyTrainer
from labkit.training.reward_model import LABELS, learned_reward
from labkit.training.rewards import RewardError
from labkit.training.state import tensors_of

PROMPTS = [[5, 6], [7, 8, 9, 10], [14], [15, 16, 17]]
CONFIGS = {
    "grpo": lk.RL("grpo", group=4, prompts=2, max_new_tokens=4, beta=0.1),
    "ppo": lk.RL(
        "ppo", group=3, prompts=2, max_new_tokens=4, beta=0.1, updates=2, sampling=lk.Sampling(0.9, top_k=40, top_p=0.9)
    ),
}
RUN = {"steps": 6, "learning_rate": 2e-2, "batch_size": 8, "checkpoint_every": 2, "progress": False}
SEEN = []  # what the reward was told: the prompts, and the replies that were drawn to them


@pytest.fixture
def small(tokenizer, one_thread):
    """A tiny model of 128 tokens."""
    return tiny_model("llama", tokenizer("smollm2-135m"), "small", vocab_size=128, **STRONG)


@pytest.fixture
def trainers(monkeypatch):
    """The trainers of the runs, which hold the optimizer and the value head."""
    made = []

    def make(*args):
        made.append(PolicyTrainer(*args))
        return made[-1]

    monkeypatch.setattr(reinforcement, "PolicyTrainer", make)
    return made


def even(rows, replies):
    """The share of even tokens, and a random number; the third prompt has no reward."""
    SEEN.append([(row["prompt"], reply.ids) for row, reply in zip(rows, replies, strict=True)])
    if any(row["prompt"] == [14] for row in rows):
        raise ZeroDivisionError("no reward")
    noise = 0.1 * random.random() + 0.1 * torch.rand(1).item()
    return [sum(token % 2 == 0 for token in reply.ids) / reply.tokens + noise * i for i, reply in enumerate(replies)]


def long(rows, replies):
    return [float(reply.tokens) for reply in replies]


class KilledError(Exception):
    """Stands for a dead kernel."""


def kill(model, record, last):
    if record["step"] == int(os.environ.get("KILL", "0")):
        raise KilledError


def learn(model, rewards=even, rl=CONFIGS["grpo"], asked=PROMPTS, method="lora", keep="mine", callbacks=(), **settings):
    SEEN.clear()
    chosen = {"rl": rl, "keep": keep, "callbacks": callbacks}
    return lk.reinforce(model, asked, rewards, method, **chosen, **RUN | settings)


def history(run):
    """The history without times, in a text: a number that is none is equal to itself there."""
    return json.dumps([row | {"seconds": 0} for row in run.history])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_that_was_killed_at_any_step_goes_on_to_the_same_bits(small, home, trainers, monkeypatch, name):
    rl = replace(CONFIGS[name], max_failures=3)
    whole = learn(small, rl=rl, keep=None)
    told, reached = list(SEEN), tensors_of(trainers[0].named, trainers[0].adamw)
    assert sum("skipped" in row for row in whole.history) == 3
    assert name != "ppo" or {"weight.value.weight", "exp_avg_sq.value.bias"} < reached.keys()
    for step in (1, 2, 5, 6):
        monkeypatch.setenv("KILL", str(step))
        with pytest.raises(KilledError):
            learn(small, rl=rl, keep=str(step), callbacks=[kill])
        monkeypatch.delenv("KILL")
        torch.manual_seed(random.randrange(9))  # the caller's random numbers don't matter
        run = learn(small, rl=rl, keep=str(step), callbacks=[kill])
        start = (step - 1) // 2 * 2  # a callback comes before the checkpoint of its step
        assert told[start:] == SEEN
        assert equal(state(run.model), state(whole.model))
        assert equal(tensors_of(trainers[-1].named, trainers[-1].adamw), reached)
        assert history(run) == history(whole)
        assert not list((home / "kept" / str(step)).glob("*-unfinished"))


def test_failures_before_a_stop_count(small, monkeypatch):
    rl = replace(CONFIGS["grpo"], max_failures=2)
    with pytest.raises(RewardError) as whole:
        learn(small, rl=rl, keep=None)
    monkeypatch.setenv("KILL", "3")
    with pytest.raises(KilledError):
        learn(small, rl=rl, callbacks=[kill])
    monkeypatch.delenv("KILL")
    with pytest.raises(RewardError) as resumed:
        learn(small, rl=rl, callbacks=[kill])
    assert str(resumed.value) == str(whole.value)
    assert history(resumed.value.run) == history(whole.value.run)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_kept_run_is_given_back_once_its_first_step_came_out_the_same(small, home, name, capsys):
    before, rl = state(small), replace(CONFIGS[name], max_failures=3)
    run = learn(small, rl=rl)
    kept = learn(small, rl=rl, progress=True)
    assert "a kept run, whose first step came out the same" in capsys.readouterr().err
    assert (run.kept, kept.kept, len(SEEN)) == (False, True, 1)
    assert equal(state(kept.model), state(run.model))
    assert equal(state(small), before)
    assert history(kept) == history(run)
    assert (kept.rl, kept.config, kept.task, kept.base) == (run.rl, run.config, run.task, run.base)
    (file,) = (home / "kept" / "mine").glob("*/run.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    learned = next(row for row in record["history"] if "skipped" not in row)
    for key in ("reward", "tokens", "grad_norm"):
        right = learned[key]
        learned[key] *= 1.01
        file.write_text(json.dumps(record), encoding="utf-8")
        with pytest.warns(UserWarning, match=f"is not used: the {key} of its first step was .* trained again"):
            assert not learn(small, rl=rl).kept
        learned[key] = right


def nudged(model):
    other = model.copy(share_weights=False)
    with torch.no_grad():
        other.module.model.norm.weight[3] *= 2
    return other


def of_tokens(divisor):
    def share(rows, replies):
        return [sum(token % divisor == 0 for token in reply.ids) / reply.tokens for reply in replies]

    return share


# What makes another run, and what is said where it should go on from a checkpoint of the first.
GRPO = CONFIGS["grpo"]
CHANGES = {
    "rl: beta 0.1 there and 0.2 here": {"rl": replace(GRPO, beta=0.2)},
    "rl: sampling .* there": {"rl": replace(GRPO, sampling=lk.Sampling(0.9))},
    "rewards: share 1.0 there and None here, long None": {"rewards": long},
    "rewards: share 1.0 there and 2.0 here": {"rewards": {of_tokens(2): 2.0}},
    "rewards: long None there and 1.0 here": {"rewards": [of_tokens(2), long]},
    "data: ": {"asked": [*PROMPTS[:3], [15, 16, 18]]},
    "method: rank 8 there and 2 here": {"method": lk.LoRA(rank=2)},
    "settings: seed 0 there and 1 here": {"seed": 1},
    "model: fingerprint": {},
}


def test_another_run_is_kept_beside_it_and_refused_its_checkpoints(small, home, tmp_path):
    first = {"rewards": of_tokens(2), "steps": 1, "checkpoints": tmp_path / "points"}
    learn(small, **first)
    for number, (said, change) in enumerate(CHANGES.items()):
        model = small if change else nudged(small)
        with pytest.raises(lk.LabkitError, match=rf"belongs to another run \({said}"):
            learn(model, **first | change, resume=True, keep=None)
        assert not learn(model, **first | change | {"checkpoints": None}).kept, said
        assert len(list((home / "kept" / "mine").iterdir())) == number + 2
    assert learn(small, **first | {"checkpoints": None}).kept


class Judge:
    def __init__(self, model, limit=1):
        self.model, self.limit = model, limit

    def __call__(self, rows, replies):
        return [float(self.limit)] * len(replies)

    def score(self, rows, replies):
        return [float(self.limit)] * len(replies)


def test_rewards_are_the_same_if_their_code_is_and_what_they_hold(small, tiny_encoder):
    judges = [replace(tiny_encoder, head=torch.nn.Linear(32, 1), labels=LABELS) for _ in range(2)]
    renamed = replace(judges[0], name="renamed")
    for one, same, other in (
        (of_tokens(2), of_tokens(2), of_tokens(3)),
        (Judge(judges[0]), Judge(renamed), Judge(judges[0], 2)),
        (Judge(judges[0]).score, Judge(renamed).score, Judge(judges[1]).score),
        (learned_reward(judges[0]), learned_reward(renamed), learned_reward(judges[1])),
        (even, even, long),
    ):
        assert code_of(one, "reward") == code_of(same, "reward") != code_of(other, "reward")

    def counts(number):
        return 0 if number == 0 else counts(number - 1)  # it holds itself

    assert code_of(counts, "reward") == code_of(counts, "reward")
    assert not learn(small, of_tokens(2), steps=1).kept
    assert learn(small, of_tokens(2), steps=1).kept
    assert not learn(small, of_tokens(3), steps=1).kept
    with pytest.raises(lk.LabkitError, match=r"cannot tell whether the code of the reward .*partial"):
        learn(small, partial(long))


def test_measurements_make_no_other_run(small):
    rl = replace(GRPO, max_failures=3)
    plain = learn(small, rl=rl, keep=None)
    assert not learn(small, rl=rl, callbacks=[lk.Every(1, lambda model: {"norm": 1.0})]).kept
    kept = learn(small, rl=rl)
    assert kept.kept
    assert history(kept) == history(plain)


def test_rewards_that_fail_where_they_did_not_before(small, tmp_path):
    broken = tmp_path / "broken"

    def fragile(rows, replies):
        if broken.exists():
            raise OSError("no network")
        return long(rows, replies)

    rl = replace(GRPO, max_failures=2)
    broken.touch()
    learn(small, fragile, rl, steps=2)
    with pytest.warns(UserWarning, match="is not used: rewards failed at all of its steps"):
        learn(small, fragile, rl, steps=2)
    broken.unlink()
    with pytest.warns(UserWarning, match="is not used: rewards failed at all of its steps"):
        assert not learn(small, fragile, rl, steps=2).kept
    broken.touch()
    with pytest.warns(UserWarning, match="is not used: its rewards fail now .OSError: no network.*trained again"):
        learn(small, fragile, rl, steps=2)


def test_several_processes_and_methods_of_ones_own_are_refused(small, home, monkeypatch):
    class Mine(lk.LoRA):
        pass

    with pytest.raises(lk.LabkitError, match=r"cannot tell whether the code of lora"):
        learn(small, method=Mine())
    monkeypatch.setattr(reinforcement, "count_processes", lambda: 2)
    with pytest.raises(lk.LabkitError, match=r"by one process alone, and a launcher has started 2"):
        learn(small)
    assert not (home / "kept").exists()


# A process is killed in the middle of its fifth step. It is forked, so that importing labkit is paid for once.
SCRIPT = """
import json, os, signal, sys, traceback
from pathlib import Path
import torch
import labkit as lk
from labkit import reinforcement
from labkit.runs.same import code_of
from labkit.training.policy import PolicyTrainer
from labkit.training.state import tensors_of
from safetensors.torch import save_file

folder = Path(sys.argv[1])
SEEN, TRAINERS = [], []
RL = lk.RL("ppo", group=3, prompts=2, max_new_tokens=4, beta=0.1, updates=2, sampling=lk.Sampling(0.9, top_p=0.9))
PROMPTS = [[5, 6], [7, 8, 9, 10], [14], [15, 16, 17]]


def reward(rows, replies):
    if os.environ.get("KILL") and len(SEEN) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    SEEN.append([(row["prompt"], reply.ids) for row, reply in zip(rows, replies)])
    if any(row["prompt"] == [14] for row in rows):
        raise ZeroDivisionError
    return (torch.rand(len(replies)) + torch.tensor([reply.tokens for reply in replies])).tolist()


def make(*args):
    TRAINERS.append(PolicyTrainer(*args))
    return TRAINERS[-1]


def train(name, keep):
    torch.set_num_threads(1)
    reinforcement.PolicyTrainer = make
    model = lk.load_model(str(folder / "model"), device="cpu", precision="float32")
    run = lk.reinforce(
        model, PROMPTS, reward, rl=RL, steps=6, learning_rate=2e-2, batch_size=4, checkpoint_every=2, keep=keep,
        progress=False,
    )
    save_file(tensors_of(TRAINERS[-1].named, TRAINERS[-1].adamw), folder / f"{name}.safetensors")
    rows = [row | {"seconds": 0} for row in run.history]
    (folder / f"{name}.json").write_text(json.dumps({"history": rows, "seen": SEEN}))


def child(*args):
    number = os.fork()
    if number == 0:
        try:
            train(*args)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


codes = [child("whole", None)]
os.environ["KILL"] = "yes"
codes.append(child("killed", "mine"))
left = sorted(path.parent.name for path in (folder / "kept" / "mine").glob("*-unfinished/*/run.json"))
del os.environ["KILL"]
codes.append(child("resumed", "mine"))
print(json.dumps([codes, left]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks after importing torch, which is safe on Linux only")
def test_a_process_that_was_killed_leaves_a_run_that_goes_on_to_the_same_bits(tiny, tmp_path):
    tiny.module.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = {"LABKIT_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, tmp_path / "script.py", tmp_path]
    done = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    codes, left = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0, -signal.SIGKILL, 0], done.stderr
    assert left == ["step-000004"]
    files = [tmp_path / f"{name}.safetensors" for name in ("whole", "resumed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    whole, resumed = [json.loads(file.with_suffix(".json").read_text()) for file in files]
    assert json.dumps(resumed["history"]) == json.dumps(whole["history"])
    assert sum("skipped" in row for row in whole["history"]) == 3
    assert resumed["seen"] == whole["seen"][4:]
