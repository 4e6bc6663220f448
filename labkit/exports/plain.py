"""Read exports as anybody would, with plain transformers and PEFT, and say what came out.

This is a program of its own: ``labkit.exports.child`` runs its text in an isolated process that cannot import labkit.
It reads a question from a JSON file and writes its answers beside it.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

THREADS = 1  # sums are rounded in the same order in every process


def main(folder: Path) -> None:
    """Answer ``question.json`` in ``folder``: the answers to all jobs, or why one has none, and the logits."""
    sys.modules["labkit"] = None  # type: ignore[assignment]  # whoever imports it now fails
    import torch
    from transformers.utils import logging

    torch.set_num_threads(THREADS)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    question = json.loads((folder / "question.json").read_text(encoding="utf-8"))
    answers = {}
    for name, job in question["jobs"].items():
        try:
            answers[name] = answer(job, question, folder / name)
        except Exception as problem:  # whatever it is, it is the answer: the export cannot be used
            first = next(iter(str(problem).strip().splitlines()), "")
            answers[name] = {"error": f"{type(problem).__name__}: {first}"}
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


def answer(job: dict[str, Any], question: dict[str, Any], place: Path) -> dict[str, Any]:
    """Return all that is asked of one export, and write its logits to ``place``.safetensors."""
    from safetensors.torch import save_file

    model, missing = load(job)
    # Sums may be rounded otherwise where a file put the weights: torch puts them at round addresses.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    outputs = logits(model, question["prompts"])
    save_file({str(number): rows for number, rows in enumerate(outputs)}, f"{place}.safetensors")
    heads = model.get_input_embeddings().weight, getattr(model.get_output_embeddings(), "weight", None)
    return {
        "missing": missing,
        "tied": heads[0] is heads[1],
        "config": json.loads(model.config.to_json_string(use_diff=False)),
        "weights": weights(model),
        "scales": scales(model),
        **read_files(job["folder"], question),
    }


def load(job: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the model in float32, with its adapter where it has one, and the weights that its files lack."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        job["base"] or job["folder"],
        dtype=torch.float32,
        attn_implementation=job["attention"],
        local_files_only=True,
        output_loading_info=True,
    )
    model, report = loaded
    if job["base"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job["folder"])
    return model.eval(), sorted(report["missing_keys"])


def read_files(folder: str, question: dict[str, Any]) -> dict[str, Any]:
    """Return what the tokenizer and the generation config in a folder say."""
    from transformers import AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ends = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    return {
        "ends": sorted(ends) if isinstance(ends, list) else [ends] if ends is not None else [],
        "special": special(tokenizer),
        "ids": [tokenizer(text, verbose=False)["input_ids"] for text in question["texts"]],
        "rendered": rendered(tokenizer, question["conversations"]),
    }


def special(tokenizer: Any) -> dict[str, Any]:
    """Return the tokens of a tokenizer that have a role."""
    roles = ("bos_token", "eos_token", "unk_token", "pad_token")
    return {role: str(token) if (token := getattr(tokenizer, role)) is not None else None for role in roles}


def rendered(tokenizer: Any, conversations: list[list[dict[str, str]]]) -> list[str | None]:
    """Return each conversation as the chat template writes it, closed and up to a reply; None where it refuses."""
    texts: list[str | None] = []
    for turns in conversations:
        for reply in (False, True):
            try:
                texts.append(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=reply))
            except Exception:  # templates raise what they like
                texts.append(None)
    return texts


def logits(module: Any, prompts: list[list[int]]) -> list[Any]:
    """Return the logits of each prompt, shape (tokens, vocabulary)."""
    import torch

    with torch.no_grad():
        return [module(input_ids=torch.tensor([ids]), use_cache=False).logits[0].contiguous() for ids in prompts]


def weights(module: Any) -> dict[str, str]:
    """Return a digest of each tensor in float32, buffers such as those of the rotary embedding included, by name.

    PEFT's own parts of a name are left out.
    """
    found = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".default", "")
        values = tensor.detach().float().cpu().contiguous().numpy()
        found[plain] = hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()[:16]
    return found


def scales(module: Any) -> dict[str, float]:
    """Return the factor before each update of LoRA, by the path of its layer."""
    found = {name: getattr(part, "scaling", None) for name, part in module.named_modules()}
    return {
        name.removeprefix("base_model.model."): scale["default"]
        for name, scale in found.items()
        if isinstance(scale, dict) and "default" in scale
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
