"""Try every method on every architecture, with tiny random models, and write docs/architectures.md.

Run it as ``python tests/table.py`` after a change of the methods or of the architectures.
"""

import tempfile
from pathlib import Path

import torch
from tiny import ENCODERS, STRONG, tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import AutoConfig, PreTrainedTokenizerFast

import labkit as lk
from labkit.methods import METHODS
from labkit.models.architectures import ARCHITECTURES
from labkit.models.supported import require_supported
from labkit.training.batching import Example, collate
from labkit.training.objectives import classification_loss, completion_loss

PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
ROWS = [(known.title, kind, {}) for kind, known in ARCHITECTURES.items() if kind != "falcon"]
ROWS[:0] = [
    ("Falcon (7B)", "falcon", {"new_decoder_architecture": False}),
    ("Falcon (40B, 180B)", "falcon", {"new_decoder_architecture": True}),
    (
        "Falcon (RW)",
        "falcon",
        {"new_decoder_architecture": False, "multi_query": False, "num_kv_heads": 4, "alibi": True},
    ),
]
SMALL = {"qlora": {"block_size": 32}, "prefix": {"virtual_tokens": 4}, "prompt": {"virtual_tokens": 4}}
COLUMNS = [
    *((name, METHODS[name](**SMALL.get(name, {}))) for name in METHODS),
    *((variant, lk.LoRA(variant=variant)) for variant in ("dora", "pissa")),
]
WORDS = ["Read", "the", "text", "and", "answer", "with", "label", "that", "fits", "it", "best", ".", "yes", "no"]
REFUSED = {
    "t5": {},
    "bart": {},
    "gemma3": {},
    "mixtral": {},
    "qwen3_moe": {},
    "mamba": {},
    "llama": {"architectures": ["LlamaForSequenceClassification"]},
    "bert": {"architectures": ["BertForSequenceClassification"]},
    "mistral": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
}


def words():
    """A tokenizer of a dozen words."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def saved(folder, kind="llama", tokenizer=None, **sizes):
    """Write a tiny model and a tokenizer into a folder, and return its name."""
    tiny_model(kind, **(STRONG | sizes)).module.save_pretrained(folder)
    (tokenizer or words()).save_pretrained(folder)
    return str(folder)


def loss_of(model):
    """The loss of a batch of two texts of unlike length."""
    examples = [Example([1, 5, 9, 4, 7, 2], 3, 0), Example([1, 8, 2], 1, 1)]
    batch = collate(examples, 0, torch.device("cpu"))
    with model.autocast():
        return (completion_loss if model.kind == "causal" else classification_loss)(model, batch)[0]


@torch.no_grad()
def answer(model):
    ids = torch.tensor([[1, 5, 9, 4, 7]])
    with model.autocast():
        return model.module.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))[0]


def tried(model, method):
    """Why a method refuses a model, or "" where it trains two steps, and is saved and loaded to the same answers."""
    torch.manual_seed(0)
    try:
        tuned = method.apply(model)
    except lk.LabkitError as refusal:
        return refusal.cause.replace(model.name, "The model")
    if model.kind == "encoder":
        tuned.head = nn.Linear(model.module.config.hidden_size, 2)
    trained = tuned.trainable()
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    for _ in range(2):  # LoRA's A and the like get no gradient at the first step, where B is zero
        optimizer.zero_grad()
        loss = loss_of(tuned)
        loss.backward()
        optimizer.step()
    assert loss.isfinite(), (model, method)
    idle = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    assert all("pooler" in name for name in idle), (model, method, idle)  # which no loss here reads
    with tempfile.TemporaryDirectory() as folder:
        method.save(tuned, Path(folder))
        loaded = method.load(model, Path(folder))
    assert torch.equal(answer(loaded), answer(tuned)), (model, method)
    assert method.name == "head" or not torch.equal(answer(tuned), answer(model)), (model, method)
    return ""


def results():
    """What came of each method, by architecture, then by method: "" where it works, else the reason."""
    table = {}
    for name, kind, sizes in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            model = lk.load_model(saved(folder, kind, **sizes), device="cpu", precision="float32")
        assert model.kind == ("encoder" if kind in ENCODERS else "causal")
        table[name] = {column: tried(model, method) for column, method in COLUMNS}
    return table


def refusal(kind, settings):
    """Why a model of this configuration is not loaded."""
    try:
        require_supported(AutoConfig.for_model(kind, **settings), "It")
    except lk.LabkitError as reason:
        return reason.cause.removeprefix("It is ")
    raise AssertionError(f"{kind} is not refused")


def page():
    """The text of docs/architectures.md."""
    table = results()
    reasons = sorted({reason for row in table.values() for reason in row.values()} - {""})
    mark = {reason: f"[{number}]" for number, reason in enumerate(reasons, 1)} | {"": "✓"}
    columns = [name for name, _ in COLUMNS]
    lines = [
        "# Which method works on which model",
        "",
        "Written by `python tests/table.py`, which trains each method (✓) for two steps on a tiny random model of each",
        "architecture, saves it, loads it, and compares the answers. A number stands for the reason of a refusal.",
        "",
        f"| | {' | '.join(columns)} |",
        f"|---{'|:-:' * len(columns)}|",
        *(f"| {name} | {' | '.join(mark[row[column]] for column in columns)} |" for name, row in table.items()),
        "",
        *(f"- {mark[reason]} {reason}" for reason in reasons),
        "",
        "What labkit cannot do right, it refuses when it is loaded. For example, a model that is",
        "",
        *(f"- {refusal(kind, settings)}" for kind, settings in REFUSED.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
