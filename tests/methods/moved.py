"""A model whose adapter does something."""

import torch


def trained(model, method):
    """A model as training might leave it: every number that is trained has moved."""
    torch.manual_seed(1)
    tuned = method.apply(model)
    with torch.no_grad():
        for parameter in tuned.trainable().values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return tuned
