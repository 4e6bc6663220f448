import math
import random
import warnings
from itertools import chain

import pytest
import torch

import labkit as lk
from labkit.memory import Ledger
from labkit.models.precision import store_linear_weights
from labkit.training import loop
from labkit.training.batching import Example, encode
from labkit.training.checkpoints import Checkpoints
from labkit.training.loop import Trainer, TrainingDivergedError

QUIET = {"progress": False}


def made_up(count, seed=0):
    """Examples of random tokens, of unequal lengths and unequally much to learn."""
    rng = random.Random(seed)
    rows = [[rng.randrange(3, 40000) for _ in range(rng.randint(8, 24))] for _ in range(count)]
    return [Example(row, rng.randint(1, 7)) for row in rows]


def weights(model):
    return {name: p.detach().clone() for name, p in model.module.named_parameters()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def distance(a, b):
    assert a.keys() == b.keys()
    return max((tensor - b[name]).abs().max().item() for name, tensor in a.items())


def plain_loop(model, steps, rates, clip, decay):
    """Fine-tuning as a textbook writes it: one example after the other, no padding, no library."""
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=1.0, weight_decay=decay)
    losses, norms = [], []
    for examples, rate in zip(steps, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        learned = sum(example.learned for example in examples)
        total = 0.0
        for example in examples:
            tokens = torch.tensor(example.tokens)
            shares = model.module(tokens[None]).logits[0].log_softmax(dim=-1)
            places = range(len(tokens) - example.learned, len(tokens))
            total = total - sum(shares[place - 1, tokens[place]] for place in places) / learned
        total.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.module.parameters()))
        for parameter in model.module.parameters():
            parameter.grad *= min(1.0, clip / norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total.item())
        norms.append(norm)
    return losses, norms


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_steps_are_those_of_a_plain_loop(tiny, accumulation):
    examples = made_up(20)
    config = lk.TrainingConfig(
        steps=2,
        batch_size=8 // accumulation,
        accumulation=accumulation,
        learning_rate=5e-5,
        warmup=0,
        weight_decay=5,
        max_grad_norm=0.5,
    )
    reference = tiny.copy(share_weights=False)
    trainer = Trainer(tiny, examples, config)
    steps = [list(chain.from_iterable(trainer.schedule.batches(step))) for step in range(2)]
    trainer.run()

    losses, norms = plain_loop(reference, steps, [5e-5, 2.5e-5], clip=0.5, decay=5)

    assert [len(step) for step in steps] == [8, 8]
    assert min(norms) > 0.5  # so that clipping was at work
    assert [row["loss"] for row in trainer.history] == pytest.approx(losses, rel=1e-5)
    assert [row["grad_norm"] for row in trainer.history] == pytest.approx(norms, rel=1e-4)
    assert [row["learning_rate"] for row in trainer.history] == pytest.approx([5e-5, 2.5e-5])
    assert distance(weights(tiny), weights(reference)) < 1e-6


def test_two_batches_of_4_make_the_update_of_one_of_8(tiny):
    examples = made_up(16)
    other = tiny.copy(share_weights=False)
    whole = Trainer(tiny, examples, lk.TrainingConfig(steps=2, batch_size=8, learning_rate=5e-5))
    split = Trainer(other, examples, lk.TrainingConfig(steps=2, batch_size=4, accumulation=2, learning_rate=5e-5))
    split.schedule.batches = lambda step: [whole.schedule.batches(step)[0][half : half + 4] for half in (0, 4)]
    halves = [sum(example.learned for example in batch) for batch in split.schedule.batches(0)]
    assert halves[0] != halves[1]  # a mean of the two means would be another number

    whole.run()
    split.run()

    assert distance(weights(tiny), weights(other)) < 1e-6
    for one, two in zip(whole.history, split.history, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["tokens"] == one["tokens"]


def test_the_history_holds_one_record_a_step(tiny, colours):
    run = lk.finetune(tiny, colours, steps=5, batch_size=24, **QUIET)
    assert [row["step"] for row in run.history] == [1, 2, 3, 4, 5]
    tokens = tiny.tokenizer([p + c for p, c in zip(colours.train["prompt"], colours.train["completion"], strict=True)])
    for row in run.history:
        assert row.keys() == {"step", "loss", "learning_rate", "grad_norm", "tokens", "seconds"}
        assert row["tokens"] == sum(len(ids) + 1 for ids in tokens["input_ids"])  # all 24, with their ends
        assert row["learning_rate"] == run.config.rate_at(row["step"] - 1)


@pytest.mark.parametrize("method", [lk.FullFineTuning(), lk.LoRA(rank=4, dropout=0.1)])
def test_the_seed_decides_everything(tiny, colours, method):
    def train(seed, noise):
        torch.manual_seed(noise)
        random.seed(noise)
        return weights(lk.finetune(tiny, colours, method, steps=3, batch_size=4, seed=seed, **QUIET).model)

    first = train(seed=1, noise=5)
    assert equal(train(seed=1, noise=6), first)
    assert not equal(train(seed=2, noise=5), first)


def test_the_loss_falls_and_the_task_is_learned(tiny, colours):
    before = lk.text_loss(tiny, colours)
    run = lk.finetune(tiny, colours, "full", steps=40, batch_size=8, learning_rate=1e-2, **QUIET)
    losses = [row["loss"] for row in run.history]
    assert sum(losses[-5:]) < 0.1 * sum(losses[:5])
    assert lk.text_loss(run.model, colours) < 0.1 * before
    assert lk.evaluate(run.model, colours).accuracy > 0.75  # guessing: 0.25


def test_an_encoder_learns_too(tiny_encoder, colours):
    run = lk.finetune(tiny_encoder, colours, "full", steps=40, batch_size=8, learning_rate=3e-3, **QUIET)
    losses = [row["loss"] for row in run.history]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert lk.evaluate(run.model, colours).accuracy > 0.75


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lora_trains_adapters_and_nothing_else(tiny, colours, dtype):
    store_linear_weights(tiny.module, dtype)
    tiny.precision = dtype
    base = weights(tiny)
    fresh = lk.LoRA().apply(tiny)
    run = lk.finetune(tiny, colours, "lora", steps=4, batch_size=4, **QUIET)

    start = weights(fresh)
    for name, parameter in run.model.module.named_parameters():
        assert torch.equal(parameter, start[name]) == ("lora_" not in name)
        assert (parameter.grad is None) or "lora_" in name
    assert equal(weights(tiny), base)


def test_dropout_acts_in_training(tiny, colours):
    def losses(dropout):
        run = lk.finetune(tiny, colours, lk.LoRA(dropout=dropout), steps=3, batch_size=4, learning_rate=1e-2, **QUIET)
        assert not run.model.module.training
        return [row["loss"] for row in run.history]

    without, with_dropout = losses(0.0), losses(0.5)
    assert with_dropout[0] == without[0]  # B is still zero: what A gets makes no difference
    assert with_dropout[2] != without[2]


def test_dropout_draws_new_numbers_at_each_step(tiny):
    # One example, a rate that moves no weight: only the dropout mask can change the loss from step to step.
    method = lk.LoRA(dropout=0.5)
    tuned = method.apply(tiny)
    with torch.no_grad():
        for name, parameter in tuned.module.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    trainer = Trainer(tuned, made_up(1), lk.TrainingConfig(steps=5, batch_size=1, learning_rate=1e-30))
    trainer.run()
    assert len({row["loss"] for row in trainer.history}) == 5


def test_replay_comes_at_every_third_step_only(tiny):
    task = [Example([5, 6, 7, token], 1) for token in range(100, 120)]
    general = [Example([8, 9, token], 2) for token in range(200, 220)]
    trainer = Trainer(tiny, task, lk.TrainingConfig(steps=8, batch_size=4, replay_every=3), general)
    objective, seen = trainer.objective, []

    def spy(model, batch):
        seen.append(batch.input_ids[:, 0].tolist())
        return objective(model, batch)

    trainer.objective = spy
    trainer.run()
    assert seen == [[8] * 4 if step in (3, 6) else [5] * 4 for step in range(1, 9)]


def test_replay_keeps_the_other_steps_as_they_were(tiny, colours):
    texts = ["Cats sleep for most of the day.", "The bridge over the river was closed in June."]
    with_replay = lk.finetune(tiny, colours, steps=4, batch_size=4, replay_every=3, replay=texts, **QUIET)
    without = lk.finetune(tiny, colours, steps=4, batch_size=4, **QUIET)
    pairs = list(zip(with_replay.history, without.history, strict=True))
    assert all(a["loss"] == b["loss"] for a, b in pairs[:2])
    assert pairs[2][0]["tokens"] != pairs[2][1]["tokens"]
    assert pairs[3][0]["tokens"] == pairs[3][1]["tokens"]


def test_runs_of_two_precisions_follow_each_other_in_one_process(tiny, colours):
    computed = []

    def watch(model, record, last):
        layer = model.module.get_submodule("model.layers.0.mlp.up_proj")
        layer.register_forward_hook(lambda module, args, output: computed.append(output.dtype))

    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        tiny.precision = dtype
        computed.clear()
        run = lk.finetune(tiny, colours, "full", steps=2, batch_size=4, callbacks=[watch], **QUIET)
        assert computed == [dtype]  # hooked after the first step, so seen at the second
        assert {p.dtype for p in run.model.parameters()} == {torch.float32}


def test_measuring_between_steps_changes_nothing(tiny, colours):
    watched = lk.Every(1, lambda model: {"accuracy": lk.evaluate(model, colours).accuracy})
    method = lk.LoRA(dropout=0.2)
    run = lk.finetune(tiny, colours, method, steps=4, batch_size=4, callbacks=[watched], **QUIET)
    plain = lk.finetune(tiny, colours, method, steps=4, batch_size=4, **QUIET)
    assert equal(weights(run.model), weights(plain.model))


def test_the_memory_of_a_step_is_reported(tiny, colours):
    run = lk.finetune(tiny, colours, "full", steps=3, batch_size=4, **QUIET)
    count = sum(p.numel() for p in tiny.parameters())
    assert run.memory.optimizer == pytest.approx(2 * 4 * count, rel=1e-4)
    assert run.memory.parameters == pytest.approx(4 * count, rel=1e-4)


def measured_steps(trainer, monkeypatch):
    """The steps of a run that are measured, counted from 0; the list is filled while it runs."""
    steps = []

    class Spy(Ledger):
        def __enter__(self):
            steps.append(len(trainer.history))
            return super().__enter__()

    monkeypatch.setattr(loop, "Ledger", Spy)
    return steps


@pytest.mark.parametrize("settings", [{}, {"accumulation": 2}, {"replay_every": 2}])
def test_the_step_with_the_largest_batch_is_measured(tiny, monkeypatch, settings):
    config = lk.TrainingConfig(steps=6, batch_size=2, **settings)
    trainer = Trainer(tiny, made_up(30), config, made_up(5, seed=1) if "replay_every" in settings else ())
    objective, step, sizes, learned = trainer.objective, trainer.step, [], []

    def spy_objective(model, batch):
        sizes[-1] = max(sizes[-1], batch.input_ids.numel())
        positions = len(batch.targets) * int((batch.targets != -100).any(dim=0).sum())
        learned[-1] = max(learned[-1], (positions, batch.input_ids.numel()))
        return objective(model, batch)

    def spy_step(*arguments):
        sizes.append(0)
        learned.append((0, 0))
        return step(*arguments)

    trainer.objective, trainer.step = spy_objective, spy_step
    measured = measured_steps(trainer, monkeypatch)
    trainer.run()
    # The first step makes the optimizer's states; the second is measured in any case.
    assert measured == sorted({1, *(numbers.index(max(numbers[1:]), 1) for numbers in (sizes, learned))})
    assert len(sizes) == 6


def test_no_later_step_takes_more_memory_than_the_measured_one(tiny):
    config = lk.TrainingConfig(steps=4, batch_size=3)
    other = tiny.copy(share_weights=False)
    trainer, plain = (Trainer(model, made_up(30), config) for model in (tiny, other))
    trainer.run()
    peaks = []
    for step in range(config.steps):
        with Ledger(other.module, plain.adamw) as ledger:
            plain.step(step)
        peaks.append(ledger.report.peak)
    assert trainer.memory.peak == pytest.approx(max(peaks[1:]), rel=1e-4)
    assert max(peaks[1:]) > min(peaks[1:])


def test_a_run_of_one_step_is_measured_too(tiny):
    trainer = Trainer(tiny, made_up(4), lk.TrainingConfig(steps=1, batch_size=4))
    trainer.run()
    assert trainer.memory.peak > trainer.memory.parameters > 0


def test_a_resumed_run_is_measured_from_its_second_step_on(tiny, tmp_path, monkeypatch):
    def train(steps):
        config = lk.TrainingConfig(steps=steps, batch_size=4, checkpoint_every=5, schedule="constant", warmup=0)
        trainer = Trainer(tiny.copy(share_weights=False), made_up(4), config)  # batches that are all alike
        measured = measured_steps(trainer, monkeypatch)
        trainer.run(checkpoints=Checkpoints(tmp_path / "points", {}))
        return measured

    assert train(5) == [1]
    assert train(9) == [6]


class Poison:
    """After some steps, makes the loss or its gradients not a number, and remembers the weights until then."""

    def __init__(self, after, what):
        self.after, self.what, self.seen = after, what, {}

    def __call__(self, model, record, last):
        self.seen[record["step"]] = weights(model)
        if record["step"] == self.after:
            model.module.register_forward_hook(self.spoil)

    def spoil(self, module, args, output):
        if self.what == "loss":
            output.logits = output.logits * math.nan
        else:
            output.logits.register_hook(lambda gradient: gradient * math.nan)
        return output


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_run_that_diverges_stops_with_the_last_good_weights(tiny, colours, what, method, after):
    base, poison = weights(tiny), Poison(after, what)
    message = rf"stopped at step {after + 1}: the {what}.* nan\. .*weights after step {after}\."
    with pytest.raises(TrainingDivergedError, match=message) as stop:
        lk.finetune(tiny, colours, method, steps=8, batch_size=4, callbacks=[poison], **QUIET)

    run = stop.value.run
    kept = weights(run.model)
    assert equal(kept, poison.seen[after])
    assert all(tensor.isfinite().all() for tensor in kept.values())
    assert [row["step"] for row in run.history] == list(range(1, after + 1))
    assert not run.model.module.training
    assert all(p.grad is None for p in run.model.parameters())
    assert equal(weights(tiny), base)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_with_checkpoints_a_diverged_run_goes_back_to_the_newest(tiny, colours, tmp_path, method):
    poison = Poison(5, "loss")
    with pytest.raises(TrainingDivergedError, match=r"stopped at step 6: .*weights after step 4\.") as stop:
        lk.finetune(
            tiny,
            colours,
            method,
            steps=8,
            batch_size=4,
            callbacks=[poison],
            checkpoints=tmp_path / "points",
            checkpoint_every=2,
            **QUIET,
        )
    assert equal(weights(stop.value.run.model), poison.seen[4])
    assert not equal(poison.seen[5], poison.seen[4])


def test_a_rate_far_too_high_is_told_as_such(tiny, colours):
    with pytest.raises(TrainingDivergedError, match=r"stopped at step 2: .*\n.*Lower the learning rate \(1e\+30\)"):
        lk.finetune(tiny, colours, "full", steps=4, batch_size=4, learning_rate=1e30, **QUIET)


def test_infinite_losses_count_as_diverged(tiny, colours):
    with torch.no_grad():
        tiny.module.lm_head.weight[5] = math.inf
    with pytest.raises(TrainingDivergedError, match="step 1"):
        lk.finetune(tiny, colours, "lora", steps=2, batch_size=4, **QUIET)


def test_only_completions_and_ends_are_learned(tiny, colours):
    examples = encode(tiny, colours.train["prompt"], colours.train["completion"], 64)
    trainer = Trainer(tiny, examples, lk.TrainingConfig(steps=3, batch_size=8))
    batches, share = trainer._batches(0)
    learned = torch.cat([batch.targets[batch.targets >= 0] for batch in batches])
    allowed = set(chain.from_iterable(tiny.tokenizer(colours.train["completion"][:])["input_ids"]))
    assert set(learned.tolist()) == allowed | {tiny.tokenizer.eos_token_id}
    assert share == 1 / len(learned)


# Gradient checkpointing


def long_examples(model, count=12):
    """Examples long enough for what the blocks keep to be most of the activations."""
    rng = random.Random(0)
    size = model.module.config.vocab_size
    if model.kind == "encoder":
        return [Example([rng.randrange(3, size) for _ in range(60)], 0, label=i % 2) for i in range(count)]
    return [Example([rng.randrange(3, size) for _ in range(100)], 1) for _ in range(count)]


def train(model, method, **settings):
    """Train a model of the method's for three steps; return the trainer and the gradients of each step."""
    torch.manual_seed(0)
    tuned = method.apply(model)
    if model.kind == "encoder":
        tuned.head = torch.nn.Linear(32, 2)
    trainer = Trainer(tuned, long_examples(model), lk.TrainingConfig(steps=3, batch_size=4, **settings))
    seen, make_step = [], trainer.optimizer.step

    def step(*args):
        seen.append({name: p.grad.clone() for name, p in trainer.named.items() if p.grad is not None})
        make_step(*args)

    trainer.optimizer.step = step
    trainer.run()
    return trainer, seen


def checkpointed(model):
    return {name for name, part in model.module.named_modules() if getattr(part, "gradient_checkpointing", False)}


METHODS = [lk.FullFineTuning(), lk.LoRA(dropout=0.1), lk.QLoRA(block_size=32), lk.LoRA(variant="dora")]


@pytest.mark.parametrize("method", METHODS, ids=["full", "lora", "qlora", "dora"])
@pytest.mark.parametrize("fixture", ["tiny", "tiny_encoder"])
def test_gradient_checkpointing_changes_no_gradient_and_no_weight(request, fixture, method):
    model = request.getfixturevalue(fixture)
    without, expected = train(model, method)
    with_it, found = train(model, method, gradient_checkpointing=True)

    assert len(found) == 3
    assert all(any(gradient.any() for gradient in step.values()) for step in found)
    for step, other in zip(found, expected, strict=True):
        assert distance(step, other) < 1e-6
    assert distance(weights(with_it.model), weights(without.model)) < 1e-6
    assert [row["loss"] for row in with_it.history] == pytest.approx([row["loss"] for row in without.history])


@pytest.mark.parametrize("method", METHODS[1:], ids=["lora", "qlora", "dora"])
@pytest.mark.parametrize("fixture", ["tiny", "tiny_encoder"])
def test_gradient_checkpointing_keeps_fewer_activations(request, fixture, method):
    model = request.getfixturevalue(fixture)
    without, _ = train(model, method)
    with_it, _ = train(model, method, gradient_checkpointing=True)
    assert with_it.memory.activations < 0.7 * without.memory.activations
    assert with_it.memory.parameters == without.memory.parameters
    assert with_it.memory.optimizer == without.memory.optimizer


def test_gradient_checkpointing_is_on_in_the_run_and_off_after_it(tiny, colours):
    seen = []
    settings = {"steps": 2, "batch_size": 4, "gradient_checkpointing": True, **QUIET}
    run = lk.finetune(
        tiny, colours, "lora", callbacks=[lambda model, record, last: seen.append(checkpointed(model))], **settings
    )
    assert all(len(parts) >= 2 for parts in seen)  # both blocks
    assert len(seen) == 2
    assert not checkpointed(run.model)
    assert not checkpointed(tiny)
    after = lk.finetune(
        lk.merge(run.model),
        colours,
        "full",
        steps=1,
        batch_size=4,
        callbacks=[lambda model, *_: seen.append(checkpointed(model))],
        **QUIET,
    )
    assert not seen[-1]
    assert not checkpointed(after.model)


def test_gradient_checkpointing_is_off_after_a_run_that_diverged(tiny, colours):
    with pytest.raises(TrainingDivergedError) as stop:
        lk.finetune(
            tiny, colours, steps=4, batch_size=4, gradient_checkpointing=True, callbacks=[Poison(1, "loss")], **QUIET
        )
    assert not checkpointed(stop.value.run.model)


def test_a_model_without_gradient_checkpointing_is_refused(tiny, colours):
    tiny.module.supports_gradient_checkpointing = False
    with pytest.raises(lk.LabkitError, match=r"tiny has no gradient checkpointing\.\n.*gradient_checkpointing=False"):
        lk.finetune(tiny, colours, steps=1, batch_size=4, gradient_checkpointing=True, **QUIET)
    lk.finetune(tiny, colours, steps=1, batch_size=4, **QUIET)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_run_warns_of_nothing(tiny, colours, checkpointing):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lk.finetune(tiny, colours, steps=2, batch_size=4, gradient_checkpointing=checkpointing, **QUIET)
