import pytest
from transformers.utils import logging

from labkit.assets.quiet import quiet_transformers


def test_silence_ends_with_the_block():
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet_transformers():
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.ERROR, False)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    with pytest.raises(ValueError, match="loud"), quiet_transformers():
        raise ValueError("loud")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
