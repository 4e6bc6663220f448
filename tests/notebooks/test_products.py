"""Nothing that a notebook does multiplies in bfloat16 on a processor that has no such arithmetic.

There such a product takes a hundred times as long as one in float32.
"""

from functools import partial

import pytest
import torch
from datasets import Dataset
from products import Products16
from test_contract import NOTEBOOKS, calls

import labkit as lk
from labkit.evaluation import embed, latency_ratio
from labkit.methods.method import METHODS

# What notebooks call and what multiplies nothing: it draws, lists, compares or describes.
IDLE = {"KINDS", "LabkitError", "TrainingConfig", "MemoryPlanner", "blueprint", "doctor"}
IDLE |= {"general_english", "load_task", "methods.get_method", "plan", "relative_error"}
IDLE |= {"results", "spread", "load_model", "Model", "Every"}
IDLE |= {"check_masks", "score_replies", "show_masks", "show_replies", "Sampling"}
IDLE |= {"Preference", "disable_adapter"}
IDLE |= {"compare", "evaluation.bootstrap_interval", "evaluation.wilson", "guess", "inspect"}
IDLE |= {"RL", "show_episodes"}
IDLE |= {"export", "exports.find_faults"}  # they compare in float32 on purpose
# Each of these only calls what is run below.
COMPOSED = {"repeat", "Ledger", "serving.running"}
# These are run in a test of their own.
REWARDED = {"reinforce", "reward_model", "sample_episodes", "score_pairs"}
SEVERAL = {"SideBySide", "Specialists", "combine", "evaluation.logit_difference"}
METHOD_CLASSES = {"FullFineTuning", "LoRA", "QLoRA", "BottleneckAdapters", "IA3", "PrefixTuning", "PromptTuning"}
METHOD_CLASSES |= {"HeadOnly"}


def called_in_notebooks() -> set[str]:
    """Return the names x of all ``lk.x(…)`` and x.y of all ``lk.x.y(…)`` in the notebooks."""
    found = {name.partition(".") for path in NOTEBOOKS for name, _ in calls(path)}
    return {name for owner, _, name in found if owner == "lk"}


@pytest.fixture
def models(llama, smollm, minilm, tiny_encoder, tmp_path, monkeypatch, one_thread):
    """A causal model and an encoder, stored in bfloat16 as the course's are, loaded as on an old processor."""
    monkeypatch.setenv("LABKIT_PRECISION", "float32")
    modules = {"causal": (llama(len(smollm.tokenizer)), smollm), "encoder": (tiny_encoder.module, minilm)}
    loaded = {}
    for kind, (module, real) in modules.items():
        module.to(torch.bfloat16).save_pretrained(tmp_path / kind)
        real.tokenizer.save_pretrained(tmp_path / kind)
        loaded[kind] = lk.load_model(str(tmp_path / kind))
    return loaded


def vowels(reply: str, row: dict) -> int:
    """Score a reply for sample_pairs."""
    return sum(map(reply.count, "aeiou"))


def test_the_counter_counts():
    x, half = torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bfloat16)
    with Products16() as seen:
        x @ x
        torch.nn.functional.linear(x, x)
        assert seen.counts == {}
        half @ half
        torch.nn.functional.linear(half, half)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.matmul(x, x)
        torch.empty(2, 2, device="meta", dtype=torch.bfloat16) @ torch.empty(2, 2, device="meta", dtype=torch.bfloat16)
    assert sum(seen.counts.values()) == 3


def test_no_product_is_in_16_bits_on_a_processor_without(models, colours, tmp_path):
    causal, encoder = models["causal"], models["encoder"]
    text = "The sky in the north is"
    sizes = {"steps": 2, "batch_size": 4}
    settings = sizes | {"progress": False}
    ran = {}

    def count(name, call):
        with Products16() as seen:
            result = call()
        ran[name] = seen.counts
        return result

    # bitsandbytes takes rows of 32, those of the tiny model, in blocks of 32 on every processor.
    blocks = {"block_size": 32}
    for name in METHODS:
        method = lk.QLoRA(**blocks) if name == "qlora" else name
        for model in (encoder,) if name == "head" else (causal, encoder):
            run = count(f"finetune {name} {model.kind}", partial(lk.finetune, model, colours, method, **settings))
            count(f"evaluate {name} {model.kind}", partial(lk.evaluate, run.model, colours))
            count(
                f"evaluation.latency_ratio {name}",
                partial(latency_ratio, model, run.model, text, repeats=1),
            )
            count(f"predict_memory {name}", partial(lk.predict_memory, model, colours, method, **sizes))
            if name in ("lora", "ia3"):
                count(f"merge {name}", partial(lk.merge, run.model))
            if name == "qlora":
                merged = count("merge qlora", partial(lk.merge, run.model, dequantize=True))
                count("evaluate merged", partial(lk.evaluate, merged, colours))
            if model is causal:
                count(f"generate {name}", partial(run.model.generate, text, 3))
        run.save(tmp_path / name)
        count(f"load_run {name}", partial(lk.load_run, tmp_path / name))
    for variant in ("dora", "pissa"):
        count(f"LoRA {variant}", partial(lk.finetune, causal, colours, lk.LoRA(variant=variant), **settings))
    count("QLoRA labkit", partial(lk.finetune, causal, colours, lk.QLoRA(backend="labkit"), **settings))
    saving = settings | {"gradient_checkpointing": True}
    count("checkpointing", partial(lk.finetune, causal, colours, lk.QLoRA(**blocks), **saving))
    count("replay", partial(lk.finetune, causal, colours, "full", **settings, replay=[text] * 4, replay_every=2))
    four = count("quantize_model", partial(lk.quantize_model, causal, lk.Quantization(**blocks)))
    count("evaluate in 4 bits", partial(lk.evaluate, four, colours))
    count("evaluation.embed", partial(embed, encoder, [text]))
    for name in ("text_loss", "perplexity"):
        count(name, partial(getattr(lk, name), causal, [text]))
    count("knowledge", partial(lk.knowledge, causal))
    count("generate many", partial(lk.generate, causal, [text], 3))
    count("chat", partial(lk.chat, causal, [{"role": "user", "content": text}], max_new_tokens=3))
    count("sample_pairs", partial(lk.sample_pairs, causal, [{"prompt": text}], vowels, max_new_tokens=3))
    count("ChatWidget", partial(lk.ChatWidget, causal))
    count("forgetting", partial(lk.forgetting, causal, four, [text]))
    weight = causal.module.model.layers[0].mlp.up_proj.weight
    count("quantize", lambda: lk.quantize(weight, "nf4", 64, double=True).dequantize())
    count("quantize_absmax", partial(lk.quantize_absmax, weight))
    count("QuantizationExplorer", partial(lk.QuantizationExplorer, causal))
    layer = lk.methods.LoRALinear(torch.nn.Linear(8, 8), rank=2, scale=1.0)
    count("methods.LoRALinear", partial(layer, torch.ones(1, 8)))

    assert not {name: counts for name, counts in ran.items() if counts}
    covered = {word for name in ran for word in name.split()} | IDLE | COMPOSED | REWARDED | SEVERAL | METHOD_CLASSES
    missing = {name for name in called_in_notebooks() - covered if not name.startswith(("plots.", "KINDS."))}
    assert not missing, "notebooks call what is not counted here"


def test_nor_where_models_learn_from_rewards(models):
    text, settings = "The sky in the north is", {"steps": 2, "batch_size": 4, "progress": False}
    rl = lk.RL(group=2, prompts=2, max_new_tokens=3, beta=0.1)
    rows = Dataset.from_list([{"prompt": text, "chosen": " blue", "rejected": " a fish"}] * 4)
    pairs = lk.Task("pairs", rows, rows, (), "made up")
    with Products16() as seen:
        lk.reinforce(models["causal"], [text], lambda rows, replies: [0, 1, 2, 3], rl=rl, **settings)
        lk.sample_episodes(models["causal"], [text], lambda rows, replies: [0, 1, 2, 3], rl=rl)
        run = lk.reward_model(models["encoder"], pairs, **settings)
        lk.score_pairs(run.model, pairs)
    assert not seen.counts


def test_nor_where_several_adapters_share_a_model(models):
    text, causal = "The sky in the north is", models["causal"]
    adapters = {"a": lk.LoRA().apply(causal), "b": lk.LoRA(variant="pissa", rank=4).apply(causal)}
    with Products16() as seen:
        specialists = lk.Specialists(causal, adapters)
        assert len(specialists.generate([text] * 3, ["a", causal.name, "b"], 3)) == 3
        widget = lk.SideBySide(specialists, [text], max_new_tokens=3)
        widget.ask.click()
        assert len(widget.replies) == 3
        for how in ("ties", "dare", "cat"):
            lk.generate(lk.combine(adapters, [0.5, 1], how=how), [text], 3)
        lk.evaluation.logit_difference(adapters["a"], lk.merge(adapters["a"]), [text])
    assert not seen.counts
