"""A batch of jobs without a server around it."""

import time

import torch
from tiny import STRONG, tiny_model

import labkit as lk
from labkit.generation.casts import Casts
from labkit.serving.batch import Batch
from labkit.serving.jobs import Job


def test_one_prompt_is_answered_by_each_adapter_that_is_asked(tokenizer, one_thread):
    """Though a network that treats all rows alike reads it only once."""
    reader = tokenizer("smollm2-135m")
    base = tiny_model("llama", reader, "tiny", vocab_size=len(reader), **STRONG)
    tuned = {"hospital": lk.LoRA(rank=4).apply(base), "law": lk.LoRA(rank=2).apply(base)}
    for model in tuned.values():
        for parameter in model.trainable().values():
            parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
    served, texts = lk.Specialists(base, tuned), {}
    ids, later = reader("The sky")["input_ids"], time.monotonic() + 600

    def job(name):
        return Job(name, ids, 6, later, lambda progress: texts.update({name: progress.text}))

    batch = Batch(served, [job(name) for name in served.names], Casts(served.model))
    while batch.step():
        pass
    assert texts == {name: served.generate(["The sky"], name, 6)[0].text for name in served.names}
    assert len({*texts.values()}) == 3
