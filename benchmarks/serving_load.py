"""Put a load on the endpoint: many clients at once, each of which must get 200 or 503, and none may hang.

The server runs in this process, over a base and two LoRAs with random weights; clients ask the three in turn, in chats
and completions, streaming or not, for a few tokens. The first table has a queue as long as there are clients, so all
get a reply; the second has the default queue, which turns the rest away at once. The exit status is 1 where an answer
is neither 200 nor 503, has not all its tokens, or takes longer than ``--limit``.

    python benchmarks/serving_load.py [--clients 200] [--tokens 8] [--limit 120] [--model smollm2-135m]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import re
import sys
import time
from collections import Counter

import httpx
import numpy as np
import torch

import labkit as lk
from labkit.models.model import Model
from labkit.serving import Serving, running

NAMES = ("hospital", "law")
LONG = 200


def adapter(base: Model, seed: int) -> Model:
    """Return a LoRA whose update isn't zero, so that it is computed."""
    tuned = lk.LoRA(rank=8).apply(base)
    generator = torch.Generator().manual_seed(seed)
    for parameter in tuned.trainable().values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.01)
    return tuned


async def ask(client: httpx.AsyncClient, number: int, model: str, tokens: int) -> tuple[int, int, float]:
    """Return an answer's status, the tokens it counts, and the seconds it took."""
    body = {"model": model, "max_tokens": tokens, "seed": number}
    question = f"{number}. What should I bring to my first visit?"
    if number % 2:
        path, body = "chat/completions", body | {"messages": [{"role": "user", "content": question}]}
    else:
        path, body = "completions", body | {"prompt": question}
    if stream := number % 4 >= 2:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    begun = time.perf_counter()
    answer = await client.post(f"/v1/{path}", json=body)
    seconds = time.perf_counter() - begun
    if answer.status_code != 200:
        return answer.status_code, 0, seconds
    if stream:
        *_, last, done = answer.text.strip().split("\n\n")
        assert done == "data: [DONE]", answer.text
        counted = json.loads(last.removeprefix("data: "))
    else:
        counted = answer.json()
    return 200, counted["usage"]["completion_tokens"], seconds


async def load(address: str, clients: int, tokens: int, limit: float) -> list[tuple[int, int, float]]:
    """Return what all clients got, which start at once."""
    pool = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=limit, limits=pool, trust_env=False) as client:
        names = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        return await asyncio.gather(*(ask(client, i, names[i % len(names)], tokens) for i in range(clients)))


async def behind(address: str, tokens: int, limit: float) -> tuple[float, float, float]:
    """Return the seconds that a short request took alone, that it took beside a long one, and that this one took."""
    async with httpx.AsyncClient(base_url=address, timeout=limit, trust_env=False) as client:
        _, _, alone = await ask(client, 0, NAMES[0], tokens)
        long = asyncio.create_task(ask(client, 1, NAMES[1], LONG))
        await asyncio.sleep(1)  # it has begun
        _, _, beside = await ask(client, 0, NAMES[0], tokens)
        _, _, whole = await long
    return alone, beside, whole


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clients", type=int, default=200)
    options.add_argument("--tokens", type=int, default=8)
    options.add_argument("--limit", type=float, default=120.0, help="seconds")
    options.add_argument("--model", default="smollm2-135m")
    given = options.parse_args()
    base = lk.load_model(given.model)
    served = lk.Specialists(base, {name: adapter(base, seed) for seed, name in enumerate(NAMES)})
    print(f"{base.name} in {base.precision}, {torch.get_num_threads()} threads, {platform.machine()}")
    print(f"{given.clients} clients at once, {given.tokens} new tokens each, {', '.join(served.names)} in turn")
    fine = True
    for queue in (given.clients, Serving().queue):
        begun = time.perf_counter()
        with running(served, Serving(port=0, queue=queue, timeout=given.limit * 0.9)) as address:
            answers = asyncio.run(load(address, given.clients, given.tokens, given.limit))
            seconds = time.perf_counter() - begun
            metrics = httpx.get(f"{address}/metrics", trust_env=False).text
        (steps,) = re.findall(r"^labkit_steps_total (\S+)$", metrics, re.MULTILINE)
        counts = Counter(status for status, _, _ in answers)
        print(f"\nqueue of {queue}: {dict(sorted(counts.items()))} in {seconds:.1f} s, {float(steps):.0f} steps")
        for status in sorted(counts):
            took = [taken for other, _, taken in answers if other == status]
            p50, p95 = np.percentile(took, (50, 95))
            print(f"  {status}: p50 {p50:.2f} s, p95 {p95:.2f} s, longest {max(took):.2f} s")
        written = sum(tokens for _, tokens, _ in answers)
        print(f"  {written / seconds:.0f} new tokens a second")
        fine &= counts.keys() <= {200, 503} and max(taken for _, _, taken in answers) < given.limit
        fine &= all(0 < tokens <= given.tokens for status, tokens, _ in answers if status == 200)
    with running(served, Serving(port=0, timeout=given.limit)) as address:
        alone, beside, whole = asyncio.run(behind(address, given.tokens, given.limit))
    print(f"\n{given.tokens} tokens: {alone:.2f} s alone, {beside:.2f} s beside a request for {LONG}, {whole:.2f} s")
    print("\nEach client got 200 or 503 in time." if fine else "\nNot what was promised.")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
