"""A server inside a block, as notebooks have it."""

import asyncio
import socket
import threading
from contextlib import nullcontext

import pytest

for package in ("fastapi", "prometheus_client", "uvicorn", "openai", "httpx"):
    pytest.importorskip(package, reason='needs the extras serve and test: pip install -e ".[serve,test]"')

import httpx  # noqa: E402
from asking import post  # noqa: E402

import labkit as lk  # noqa: E402


def threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("labkit")}


@pytest.mark.parametrize("problem", [None, ZeroDivisionError, KeyboardInterrupt])
def test_nothing_stays_however_the_block_ends(both, problem):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(2):  # the same port again: nobody holds it
        ends = pytest.raises(problem) if problem else nullcontext()
        with ends, lk.serving.running(both, lk.serving.Serving(port=port)) as address:
            assert post(address, max_tokens=1).status_code == 200
            assert threads() == {"labkit-server", "labkit-serving"}
            if problem:
                raise problem
        assert not threads()
    with pytest.raises(httpx.ConnectError):
        post(address)


def test_it_runs_beside_the_loop_of_a_notebook(both):
    async def cell():
        with lk.serving.running(both) as address:
            async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
                return post(address, max_tokens=1).status_code, (await client.get("/v1/models")).status_code

    assert asyncio.run(cell()) == (200, 200)


def test_an_address_of_ipv6_is_written_in_brackets(both):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with lk.serving.running(both, lk.serving.Serving("::1", port=0, api_key="sesame")) as address:
        assert address.startswith("http://[::1]:")
        assert httpx.get(f"{address}/health", trust_env=False).status_code == 200
