"""Requests that arrive while others are answered."""

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny import STRONG, tiny_model

for package in ("fastapi", "prometheus_client", "uvicorn", "openai", "httpx"):
    pytest.importorskip(package, reason='needs the extras serve and test: pip install -e ".[serve,test]"')

import httpx  # noqa: E402
from asking import Held, number, post, wait_until  # noqa: E402

import labkit as lk  # noqa: E402
from labkit.serving import Serving, running  # noqa: E402
from labkit.serving.scheduler import Scheduler  # noqa: E402

LONG = "The sky in the north is blue, and rivers run into the sea, and the sea is deep"


def asked_of(address):
    return number(address, "labkit_requests_waiting") + number(address, "labkit_requests_running")


def text(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


def test_who_arrives_joins_and_each_reply_is_as_alone(held):
    """One begins; after 3, 5 and 6 steps others join it, with prompts that are shorter and longer than its row."""
    asked = [("law", "The sky", 40), ("hospital", "Item", 5), ("tiny", LONG, 9), ("law", "Is it a cat or", 12)]
    wanted = [held.served.generate([prompt], name, count)[0] for name, prompt, count in asked]
    assert wanted[0].tokens == 40
    assert len({reply.text for reply in wanted}) == len(asked)
    with running(held) as address, ThreadPoolExecutor() as pool:
        answers, made = [], 0
        for steps, (name, prompt, count) in zip((0, 3, 5, 6), asked, strict=True):
            while made < steps:
                held.steps.release()
                made += 1
                wait_until(lambda made=made: len(held.seen) > made)  # it is about to make the next
            answers.append(pool.submit(post, address, model=name, prompt=prompt, max_tokens=count, temperature=0))
            wait_until(lambda: asked_of(address) == len(answers))
        held.steps.release(14)  # each newcomer reads its prompt in a step of its own; the last one then needs 11 more
        texts = [text(answer.result()) for answer in answers[1:]]
        assert not answers[0].done(), "a long reply delays no short one"
        held.free()
        assert [text(answers[0].result()), *texts] == [reply.text for reply in wanted]
    assert max(len(names) for names in held.seen) == 4


def test_nobody_overtakes_a_large_request(held):
    with running(held, Serving(port=0, batch_tokens=60)) as address, ThreadPoolExecutor() as pool:
        answers = []
        for name, count in (("law", 20), ("tiny", 50), ("hospital", 2)):
            answers.append(pool.submit(post, address, model=name, max_tokens=count))
            wait_until(lambda: asked_of(address) == len(answers))
        held.free()
        assert all(answer.result().status_code == 200 for answer in answers)
    assert ["tiny"] in held.seen, "it had the model for itself"
    assert not any({"law", "hospital"} <= {*names} for names in held.seen)


def test_a_newcomer_that_fails_takes_no_other_with_it(both, monkeypatch, caplog):
    real = type(both.model.module).forward

    def fragile(module, **inputs):
        assert inputs["input_ids"].shape[1] != 7, "seven"
        return real(module, **inputs)

    held = Held(both)
    with running(held) as address, ThreadPoolExecutor() as pool, caplog.at_level(logging.CRITICAL):
        monkeypatch.setattr(type(both.model.module), "forward", fragile)
        first = pool.submit(post, address, max_tokens=9)
        wait_until(lambda: asked_of(address) == 1)
        second = pool.submit(post, address, prompt=[5] * 7)
        wait_until(lambda: asked_of(address) == 2)
        held.free()
        assert second.result().status_code == 500
        assert second.result().json()["error"]["message"] == "The model failed: seven"
        assert first.result().status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_scheduler_that_has_stopped(both, monkeypatch):
    with running(both) as address:
        monkeypatch.setattr(Scheduler, "_fits", lambda *given: 1 / 0)
        assert [post(address).status_code for _ in range(2)] == [503, 503]
        assert httpx.get(f"{address}/health", trust_env=False).status_code == 503


def test_recurrent_networks_answer_one_length_at_a_time(tokenizer, one_thread):
    reader = tokenizer("smollm2-135m")
    model = tiny_model("mamba", reader, "mamba", vocab_size=len(reader), **STRONG)
    prompts = ["The sky", "Item", "The sea", LONG]
    with running(model) as address, ThreadPoolExecutor() as pool:
        answers = pool.map(lambda p: post(address, model="mamba", prompt=p, max_tokens=6, temperature=0), prompts)
        assert list(map(text, answers)) == [reply.text for reply in lk.generate(model, prompts, 6)]
