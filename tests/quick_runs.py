"""Short runs of tiny models, and what tells their results apart."""

import torch

QUICK = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "progress": False}


@torch.no_grad()
def outputs(model, ids):
    module = model.module.eval()
    if model.kind == "causal":
        return module(input_ids=ids).logits
    return model.head(module(input_ids=ids).last_hidden_state)


def state(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())
