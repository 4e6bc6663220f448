import gc

import pytest


@pytest.fixture(scope="package", autouse=True)
def quick_collections():
    """Has the garbage collector pass over what was there before: its rounds then take no time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
