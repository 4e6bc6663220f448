import math

import pytest

import labkit as lk

pytest.importorskip("fastapi", reason='needs the extra serve: pip install -e ".[serve]"')
for package in ("prometheus_client", "uvicorn"):
    pytest.importorskip(package, reason='needs the extra serve: pip install -e ".[serve]"')

from labkit.serving import Serving  # noqa: E402
from labkit.serving.settings import LIMITS  # noqa: E402


def test_what_is_no_number_is_refused():
    for name in (*LIMITS, "port"):
        for value in ("3", None, True, math.nan, math.inf, -1, [3]):
            with pytest.raises(lk.LabkitError, match=f"{name} must be"):
                Serving(**{name: value})


def test_other_computers_are_let_in_with_a_key_alone():
    assert Serving().host == "127.0.0.1"
    with pytest.raises(lk.LabkitError, match="no API key is set"):
        Serving(host="0.0.0.0")
    assert "sesame" not in repr(Serving(host="0.0.0.0", api_key="sesame"))
    for key in ("", " ", "two words", "schlüssel", "line\n", 3):
        with pytest.raises(lk.LabkitError, match="API key"):
            Serving(api_key=key)
