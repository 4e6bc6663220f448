import pytest
import torch
from torch.nn import functional as F

import labkit as lk
from labkit.evaluation import head_for

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = {"steps": 6, "batch_size": 8, "progress": False}


def state(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def probabilities(model, task):
    return lk.evaluation.label_probabilities(model, task.test["prompt"], task.labels)


@pytest.fixture
def run(tiny_encoder, colours):
    return lk.finetune(tiny_encoder, colours, "head", **QUICK)


def test_no_bit_of_the_network_is_changed(tiny_encoder, colours):
    before = state(tiny_encoder)
    run = lk.finetune(tiny_encoder, colours, "head", **QUICK)
    assert equal(state(run.model), before)
    assert equal(state(tiny_encoder), before)
    theirs = {p.data_ptr() for p in tiny_encoder.module.parameters()}
    assert {p.data_ptr() for p in run.model.module.parameters()} == theirs


def test_the_base_stays_trainable_and_has_no_head(tiny_encoder, run):
    assert tiny_encoder.head is None
    assert all(p.requires_grad and p.grad is None for p in tiny_encoder.module.parameters())


def test_the_head_alone_is_trained(tiny_encoder, colours, run):
    assert run.model.trainable().keys() == {"head.weight", "head.bias"}
    assert run.trained_parameters == 4 * 32 + 4  # classes × hidden size, and a bias for each class
    assert not torch.equal(run.model.head.weight, head_for(tiny_encoder, colours.labels).weight)
    assert run.model.head.bias.all()


def test_a_task_that_the_vectors_tell_apart_is_learned(tiny_encoder, colours):
    run = lk.finetune(tiny_encoder, colours, "head", steps=40, batch_size=24, learning_rate=0.3, progress=False)
    assert run.history[-1]["loss"] < 0.5 * run.history[0]["loss"]
    assert lk.evaluate(run.model, colours).accuracy > max(0.5, lk.evaluate(tiny_encoder, colours).accuracy)


def test_a_step_is_one_of_softmax_regression_on_the_networks_vectors(tiny_encoder, colours):
    for layer in tiny_encoder.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    start = head_for(tiny_encoder, colours.labels)
    one = {"steps": 1, "batch_size": 24, "warmup": 0, "learning_rate": 0.01, "max_grad_norm": 1e9}
    run = lk.finetune(tiny_encoder, colours, "head", progress=False, **one)

    inputs = tiny_encoder.tokenizer(list(colours.train["prompt"]), padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = tiny_encoder.module.eval()(**inputs).last_hidden_state
        x = torch.stack(
            [row[seen.bool()].mean(dim=0) for row, seen in zip(hidden, inputs["attention_mask"], strict=True)]
        )
        x = x / x.norm(dim=1, keepdim=True)
        truth = F.one_hot(torch.tensor([colours.labels.index(c) for c in colours.train["completion"]]), 4)
        off = start(x).softmax(dim=1) - truth
    # The gradient of the mean cross-entropy; AdamW's first step goes as far as the rate against its sign.
    for gradient, before, after in (
        (off.T @ x / 24, start.weight, run.model.head.weight),
        (off.mean(dim=0), start.bias, run.model.head.bias),
    ):
        sure = gradient.abs() > 1e-5
        assert sure.float().mean() > 0.9
        torch.testing.assert_close((after - before)[sure], -0.01 * gradient.sign()[sure], atol=1e-4, rtol=0)


def test_it_trains_over_4_bits(tiny_encoder, colours):
    for backend in ["labkit", "bitsandbytes"]:
        base = lk.quantize_model(tiny_encoder, lk.Quantization(block_size=32, backend=backend))
        before = state(base)
        run = lk.finetune(base, colours, "head", **QUICK)
        assert equal(state(run.model), before)
        assert run.trained_parameters == 4 * 32 + 4
        assert run.memory.quantized > 0


def test_inplace_trains_the_model_itself(tiny_encoder, colours, run):
    again = lk.finetune(tiny_encoder, colours, "head", inplace=True, **QUICK)
    assert again.model is tiny_encoder
    assert torch.equal(tiny_encoder.head.weight, run.model.head.weight)


def test_a_trained_head_is_where_the_next_run_starts_and_is_not_changed_by_it(colours, run):
    kept = run.model.head.weight.detach().clone()
    short = {"steps": 1, "batch_size": 8, "learning_rate": 1e-6, "progress": False}
    second = lk.finetune(run.model, colours, "head", **short)
    assert torch.equal(run.model.head.weight, kept)
    assert 0 < (second.model.head.weight - kept).abs().max() < 1e-5


def test_a_head_can_be_trained_on_after_full_fine_tuning(tiny_encoder, colours):
    full = lk.finetune(tiny_encoder, colours, "full", **QUICK).model
    tuned = state(full)
    assert not equal(tuned, state(tiny_encoder))
    assert equal(state(lk.finetune(full, colours, "head", **QUICK).model), tuned)


# On disk


def test_a_saved_run_predicts_the_same(tiny_encoder, colours, run, tmp_path):
    folder = run.save(tmp_path / "mine")
    loaded = lk.load_run(folder, tiny_encoder)

    assert torch.equal(probabilities(loaded.model, colours), probabilities(run.model, colours))
    assert lk.evaluate(loaded.model, colours).predictions == lk.evaluate(run.model, colours).predictions
    assert not torch.equal(probabilities(loaded.model, colours), probabilities(tiny_encoder, colours))
    assert loaded.method == run.method == lk.HeadOnly()
    assert loaded.labels == colours.labels
    assert loaded.trained_parameters == run.trained_parameters
    assert tiny_encoder.head is None


def test_the_head_alone_is_kept(run, tmp_path):
    folder = run.save(tmp_path / "mine")
    weights = {path.name for path in folder.iterdir() if path.suffix == ".safetensors"}
    assert weights == {"head.safetensors"}
    assert (folder / "head.safetensors").stat().st_size < 4 * (4 * 32 + 4) + 200


def test_a_head_is_not_loaded_onto_another_model(tiny_encoder, run, tmp_path):
    folder = run.save(tmp_path / "mine")
    with torch.no_grad():
        tiny_encoder.module.embeddings.word_embeddings.weight[0] += 1
    with pytest.raises(lk.LabkitError, match="is not that model as it was"):
        lk.load_run(folder, tiny_encoder)


# What is refused


def test_a_causal_model_has_no_classifier(tiny, colours):
    for start in [lk.finetune, lk.predict_memory]:
        with pytest.raises(lk.LabkitError, match=r"has no classifier of its own.*\n.*Use an encoder such as minilm"):
            start(tiny, colours, "head", steps=1)


def test_a_causal_model_is_left_as_it_was(tiny):
    with pytest.raises(lk.LabkitError, match="tiny has no classifier"):
        lk.HeadOnly().apply(tiny, inplace=True)
    assert all(p.requires_grad for p in tiny.module.parameters())


def test_a_model_with_an_adapter_is_refused(tiny_encoder):
    for method in [lk.LoRA(), lk.PromptTuning()]:
        with pytest.raises(lk.LabkitError, match="tiny-encoder has an adapter already"):
            lk.HeadOnly().apply(method.apply(tiny_encoder))


def test_a_head_cannot_be_merged(run):
    with pytest.raises(lk.LabkitError, match="has no adapter to merge"):
        lk.merge(run.model)
