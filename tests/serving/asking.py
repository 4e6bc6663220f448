"""Ask an endpoint, and hold its steps back."""

import threading
import time
from contextlib import contextmanager

import httpx
import openai
from prometheus_client.parser import text_string_to_metric_families

ASK = [{"role": "user", "content": "What is the capital of France?"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


class Held:
    """What is served, but each step waits until the test lets it go; afterwards the steps run freely."""

    def __init__(self, served):
        self.names, self.model, self.served = served.names, served.model, served
        self.steps, self.seen = threading.Semaphore(0), []

    @contextmanager
    def using(self, names):
        self.seen.append(list(names))
        assert self.steps.acquire(timeout=120)
        with self.served.using(names):
            yield

    def free(self):
        self.steps.release(100_000)


def client(address, key="none", **options):
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(
        base_url=f"{address}/v1", api_key=key, http_client=http, **{"max_retries": 0, "timeout": 120} | options
    )


def post(address, path=TEXT, **parameters):
    given = {"model": "tiny", **({"messages": ASK} if path == CHAT else {"prompt": "The sky"})} | parameters
    return httpx.post(f"{address}{path}", json=given, timeout=120, trust_env=False)


def number(address, name, **labels):
    page = httpx.get(f"{address}/metrics", trust_env=False).text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def wait_until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
