import importlib
import sys

import pytest
import torch

from labkit.planning import operators


@pytest.mark.parametrize("part", ["_storage_Use_Count", "_current_graph_task_id"])
def test_a_torch_without_its_private_parts_cannot_import_it(monkeypatch, part):
    """``labkit.planning.predict`` takes that as the sign to estimate."""
    monkeypatch.delattr(torch._C, part)
    monkeypatch.delitem(sys.modules, operators.__name__)
    with pytest.raises(AttributeError, match=part):
        importlib.import_module("labkit.planning.operators")
