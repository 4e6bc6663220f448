import threading

import pytest
import torch
from letters import make
from moved import trained
from peft import PeftModel

import labkit as lk
from labkit.methods.adapter import adapters_of

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = torch.arange(3, 42).view(3, 13)
MASK = (torch.arange(13) < torch.tensor([[13], [9], [5]])).long()
QUICK = {"steps": 2, "batch_size": 4, "progress": False}
METHODS = {
    "LoRA": lk.LoRA(rank=2, dropout=0.5),
    "rsLoRA": lk.LoRA(rank=2, rslora=True),
    "DoRA": lk.LoRA(rank=2, variant="dora"),
    "PiSSA": lk.LoRA(rank=2, variant="pissa"),
    "QLoRA": lk.QLoRA(rank=2, block_size=32),
    "QLoRA with labkit's layers": lk.QLoRA(rank=2, block_size=32, backend="labkit"),
    "IA3": lk.IA3(),
    "houlsby": lk.BottleneckAdapters(size=4),
    "parallel": lk.BottleneckAdapters(size=4, placement="parallel"),
    "prefix": lk.PrefixTuning(virtual_tokens=3),
    "prompt": lk.PromptTuning(virtual_tokens=3),
}


def outputs(model, **inputs):
    """The output with dropout, which is the same each time."""
    torch.manual_seed(3)
    with model.autocast():
        return model.module(input_ids=IDS, **({"attention_mask": MASK} | inputs))[0]


def state(model):
    """All that the block must leave as it was."""
    return {
        "values": {name: tensor.clone() for name, tensor in model.module.state_dict().items()},
        "trained": [(name, p.requires_grad, p.grad is None) for name, p in model.module.named_parameters()],
        "modes": [part.training for part in model.module.modules()],
        "adapters": [(path, adapter.disabled) for path, adapter in adapters_of(model).items()],
        "model": (model.disabled, model.labels, model.max_length, [*model.trainable()]),
    }


def differing(one, two):
    values = one.pop("values"), two.pop("values")
    same = values[0].keys() == values[1].keys() and all(torch.equal(t, values[1][n]) for n, t in values[0].items())
    return [key for key in one if one[key] != two[key]] + ["values"] * (not same)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_model_computes_what_it_did_before_every_adapter(kind):
    for name, method in METHODS.items():
        model = make(kind)
        base = lk.quantize_model(model, method.quantization) if isinstance(method, lk.QLoRA) else model
        tuned, other = trained(model, method), trained(model, method)
        for precision in (torch.float32, torch.bfloat16) if name in ("LoRA", "prefix") else (torch.float32,):
            base.precision = tuned.precision = other.precision = precision
            for each in (base, tuned, other):
                each.module.train()
            adapted, before = outputs(tuned), state(tuned)

            with lk.disable_adapter(tuned):
                inside = outputs(tuned)
                assert torch.equal(inside, outputs(base)), name
                assert torch.equal(outputs(tuned, return_dict=False), inside), name
                assert torch.equal(outputs(other), adapted), name  # another model over the same weights
                assert not inside.requires_grad
                assert tuned.max_length == base.max_length
                assert [*tuned.trainable()] == before["model"][-1]

            assert torch.equal(outputs(tuned), adapted), name
            assert not torch.equal(adapted, inside), name
            assert differing(before, state(tuned)) == [], name
            outputs(tuned).float().sum().backward()
            unused = {n.split(".")[0] for n, p in tuned.trainable().items() if p.grad is None}
            assert unused <= {"pooler"}, name
            tuned.module.zero_grad(set_to_none=True)


def test_no_gradient_reaches_the_adapter_inside():
    for name, method in METHODS.items():
        model = make("llama")
        tuned = trained(model, method)
        vectors = tuned.module.get_input_embeddings()(IDS).requires_grad_()
        with lk.disable_adapter(tuned):
            logits = tuned.module(inputs_embeds=vectors).logits
            logits.sum().backward()
        if not isinstance(method, lk.QLoRA):
            assert torch.equal(logits, model.module(inputs_embeds=vectors).logits), name
        assert vectors.grad.abs().sum() > 0, name
        assert all(p.grad is None for p in tuned.module.parameters()), name


def test_blocks_may_be_nested_and_end_in_errors():
    tuned = trained(make("llama"), lk.LoRA(rank=2))
    tuned.module.eval()
    before, adapted = state(tuned), outputs(tuned)
    with lk.disable_adapter(tuned):
        inside = outputs(tuned)
        with pytest.raises(KeyboardInterrupt):
            _stop_inside(tuned)
        assert torch.equal(outputs(tuned), inside)
        tuned.module.train()
        tuned.module.eval()
    assert torch.equal(outputs(tuned), adapted)
    assert differing(before, state(tuned)) == []


def _stop_inside(tuned):
    with lk.disable_adapter(tuned):
        raise KeyboardInterrupt


def test_it_is_what_peft_does(tmp_path):
    model = make("llama")
    method = lk.LoRA(rank=2)
    tuned = trained(model, method)
    tuned.module.config.save_pretrained(tmp_path)
    method.save(tuned, tmp_path)
    theirs = PeftModel.from_pretrained(model.copy(share_weights=False).module, str(tmp_path)).eval()
    tuned.module.eval()
    torch.testing.assert_close(outputs(tuned), theirs(input_ids=IDS, attention_mask=MASK).logits)
    with lk.disable_adapter(tuned), theirs.disable_adapter():
        assert torch.equal(outputs(tuned), theirs(input_ids=IDS, attention_mask=MASK).logits)


def test_labkits_own_measures_see_the_base_model(tiny, tiny_encoder, colours):
    texts = ["The sky is blue. " * 40, "Grass is green."]
    losses, says = lk.text_loss(tiny, texts), tiny.generate("The sky", 4)
    for method in (lk.LoRA(rank=2), lk.PrefixTuning(virtual_tokens=4), lk.PromptTuning(virtual_tokens=4)):
        tuned = trained(tiny, method)
        assert lk.text_loss(tuned, texts) != losses
        with lk.disable_adapter(tuned):
            assert lk.text_loss(tuned, texts) == losses
            assert tuned.generate("The sky", 4) == says

    prompts, classes = list(colours.test["prompt"]), colours.labels
    classifier = lk.finetune(tiny_encoder, colours, "head", **QUICK).model
    for method in ("lora", "head"):
        for base in (tiny_encoder, classifier):  # which has a head of its own
            tuned = lk.finetune(base, colours, method, learning_rate=0.1, **QUICK).model
            before, after = (lk.evaluation.label_probabilities(each, prompts, classes) for each in (base, tuned))
            with lk.disable_adapter(tuned):
                assert torch.equal(lk.evaluation.label_probabilities(tuned, prompts, classes), before)
            assert torch.equal(lk.evaluation.label_probabilities(tuned, prompts, classes), after)
            assert not torch.equal(before, after)
            assert tuned.trainable().keys() >= {"head.weight", "head.bias"}


def test_a_loaded_run_and_one_in_place_can_be_disabled_too(tiny_encoder, colours, tmp_path):
    prompts = list(colours.test["prompt"])
    before = lk.evaluation.label_probabilities(tiny_encoder, prompts, colours.labels)
    run = lk.finetune(tiny_encoder, colours, "ia3", **QUICK)
    run.save(tmp_path / "run")
    loaded = lk.load_run(tmp_path / "run", tiny_encoder)
    inplace = lk.finetune(tiny_encoder.copy(share_weights=False), colours, "ia3", inplace=True, **QUICK)
    for each in (run, loaded, inplace):
        with lk.disable_adapter(each.model):
            assert torch.equal(lk.evaluation.label_probabilities(each.model, prompts, colours.labels), before)


def test_nothing_is_copied_or_saved_while_the_adapter_is_disabled(tiny_encoder, colours, tmp_path):
    for method in ("lora", "head"):
        run = lk.finetune(tiny_encoder, colours, method, **QUICK)
        with lk.disable_adapter(run.model):
            for call in (lambda r=run: r.save(tmp_path / "run"), lambda r=run: r.model.copy(share_weights=True)):
                with pytest.raises(lk.LabkitError, match="disabled"):
                    call()
        assert not (tmp_path / "run").exists()
        run.save(tmp_path / "run", overwrite=True)
        lk.load_run(tmp_path / "run", tiny_encoder)
        run.model.copy(share_weights=True)
        (tmp_path / "run").rename(tmp_path / method)


def test_a_model_without_an_adapter_of_its_own_is_refused(tiny, tiny_encoder, colours):
    full = lk.finetune(lk.finetune(tiny_encoder, colours, "head", **QUICK).model, colours, "full", **QUICK).model
    for model in (tiny, full, lk.merge(lk.finetune(tiny_encoder, colours, "lora", **QUICK).model)):
        with pytest.raises(lk.LabkitError, match="has no adapter to disable"), lk.disable_adapter(model):
            pass
    tuned = trained(tiny, lk.LoRA(rank=2))
    layers = list(adapters_of(tuned).values())
    for layer in layers[:3]:
        layer.merge()
    with pytest.raises(lk.LabkitError, match=r"3 of the 14 adapters in tiny are merged.*\n.*unmerge"):
        lk.disable_adapter(tuned).__enter__()
    for layer in layers[:3]:
        layer.unmerge()
    with lk.disable_adapter(tuned):
        assert torch.equal(tuned.module(IDS).logits, tiny.module(IDS).logits)


def test_measures_in_other_threads_wait_for_the_end(tiny, colours):
    tuned = lk.finetune(tiny, colours, lk.LoRA(rank=2), **QUICK).model
    texts, found = ["The sky is blue."], []
    expected = lk.text_loss(tuned, texts)
    thread = threading.Thread(target=lambda: found.append(lk.text_loss(tuned, texts)))
    with lk.disable_adapter(tuned):
        thread.start()
        thread.join(0.2)
        assert not found
    thread.join()
    assert found == [expected]
