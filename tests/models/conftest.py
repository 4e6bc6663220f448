from pathlib import Path

import pytest
from networks import save


@pytest.fixture
def saved(tiny, tmp_path):
    return Path(save(tiny, tmp_path / "saved"))
