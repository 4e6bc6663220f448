"""The page that Prometheus reads, by its text format's own rules."""

import re
from collections import defaultdict

import pytest

for package in ("fastapi", "prometheus_client", "uvicorn", "openai", "httpx"):
    pytest.importorskip(package, reason='needs the extras serve and test: pip install -e ".[serve,test]"')

import httpx  # noqa: E402
from asking import TEXT, post  # noqa: E402

from labkit.serving import running  # noqa: E402

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+)\}})? (\S+)')


def read(page):
    """The samples of each family by its kind and name; a line that breaks the format fails."""
    families, kind, name = defaultdict(list), None, None
    assert page.endswith("\n")
    for line in page.splitlines():
        if line.startswith("# HELP "):
            name, meaning = line[7:].split(" ", 1)
            assert meaning.endswith(".")
        elif line.startswith("# TYPE "):
            assert line[7:].split(" ")[0] == name
            kind = line.split(" ")[-1]
            assert (kind, name) not in families
            families[kind, name] = []
        else:
            found, labels, value = SAMPLE.fullmatch(line).groups()
            ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert found in {name + end for end in ends}
            families[kind, name].append((found, labels or "", float(value)))
    return families


def test_the_page_is_in_the_text_format_and_counts_right(both):
    with running(both) as address:
        asked = post(address, model="law", prompt=[5, 6, 7], max_tokens=4, temperature=0).json()["usage"]
        post(address, model="nosuch")
        answer = httpx.get(f"{address}/metrics", trust_env=False)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = read(answer.text)
    assert all(name.startswith("labkit_") for _, name in families)
    assert all(name.endswith("_total") for kind, name in families if kind == "counter")
    counted = {(name, labels): value for found in families.values() for name, labels, value in found}
    assert counted["labkit_requests_total", f'path="{TEXT}",status="200"'] == 1
    assert counted["labkit_requests_total", f'path="{TEXT}",status="404"'] == 1
    assert counted["labkit_tokens_total", 'kind="read",model="law"'] == 3
    assert counted["labkit_tokens_total", 'kind="written",model="law"'] == asked["completion_tokens"]
    assert counted["labkit_steps_total", ""] == asked["completion_tokens"], "one request: a token a step"
    assert counted["labkit_requests_waiting", ""] == counted["labkit_requests_running", ""] == 0
    buckets = [value for name, labels, value in families["histogram", "labkit_request_seconds"] if "le=" in labels]
    assert buckets == sorted(buckets)
    assert buckets[-1] == counted["labkit_request_seconds_count", f'path="{TEXT}"'] == 2
