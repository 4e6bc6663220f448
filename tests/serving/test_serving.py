"""The endpoint, asked by OpenAI's own client, over a tiny base with two adapters."""

import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny import tiny_model

import labkit as lk
from labkit.process import alone

for package in ("fastapi", "prometheus_client", "uvicorn", "openai", "httpx"):
    pytest.importorskip(package, reason='needs the extras serve and test: pip install -e ".[serve,test]"')

import httpx  # noqa: E402
import openai  # noqa: E402
from asking import ASK, CHAT, TEXT, client, number, post, wait_until  # noqa: E402

from labkit.serving import Serving, running  # noqa: E402
from labkit.serving.batch import Batch, _settled  # noqa: E402


def test_each_name_answers_as_its_own_model(both):
    with running(both) as address:
        ai = client(address)
        assert [model.id for model in ai.models.list()] == ["tiny", "hospital", "law"]
        assert ai.models.retrieve("law").id == "law"
        texts = set()
        for name in both.names:
            (wanted,) = both.generate([ASK], name, 9)
            said = ai.chat.completions.create(model=name, messages=ASK, max_tokens=9, temperature=0)
            assert said.choices[0].message.content == wanted.text
            assert (said.model, said.usage.completion_tokens) == (name, wanted.tokens)
            (wanted,) = both.generate(["The sky"], name, 9)
            said = ai.completions.create(model=name, prompt="The sky", max_tokens=9, temperature=0)
            assert said.choices[0].text == wanted.text
            assert said.choices[0].finish_reason == ("stop" if wanted.stopped else "length")
            prompt = len(both.base.tokenizer("The sky")["input_ids"])
            assert said.usage.prompt_tokens == prompt
            assert said.usage.total_tokens == prompt + wanted.tokens
            texts.add(wanted.text)
        assert len(texts) == 3
        ids = both.base.tokenizer("The sky")["input_ids"]
        assert post(address, prompt=ids, model=name, max_tokens=9, temperature=0).json()["choices"][0]["text"] in texts


def test_a_stream_brings_the_same_text_in_pieces(both):
    with running(both) as address:
        ai = client(address)
        asked = {"model": "law", "messages": ASK, "max_tokens": 12, "temperature": 0}
        whole = ai.chat.completions.create(**asked)
        chunks = list(ai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        assert chunks[0].choices[0].delta.role == "assistant"
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
        assert "".join(pieces) == whole.choices[0].message.content
        assert sum(map(bool, pieces)) > 3
        assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
        assert chunks[-1].usage == whole.usage
        asked = {"model": "law", "prompt": "The sky", "max_tokens": 12, "temperature": 0}
        chunks = list(ai.completions.create(**asked, stream=True))
        assert "".join(c.choices[0].text for c in chunks) == ai.completions.create(**asked).choices[0].text
        lines = post(address, **asked, stream=True).text.strip().split("\n\n")
        assert all(json.loads(line.removeprefix("data: "))["object"] == "text_completion" for line in lines[:-1])
        assert lines[-1] == "data: [DONE]"


def test_requests_for_several_models_share_a_batch(both):
    names, prompts = ["tiny", "law", "hospital", "law", "tiny"], ["The sky", "Item", "Is it a cat or", "Rivers", "Item"]
    limits = [9, 3, 7, 9, 5]
    wanted = [both.generate([p], n, c)[0].text for p, n, c in zip(prompts, names, limits, strict=True)]
    with running(both) as address, ThreadPoolExecutor() as pool:
        with alone():  # the first request waits for the model, and the others wait in the queue
            asked = [
                pool.submit(post, address, prompt=p, model=n, max_tokens=c, temperature=0)
                for p, n, c in zip(prompts, names, limits, strict=True)
            ]
            wait_until(
                lambda: (
                    number(address, "labkit_requests_waiting") + number(address, "labkit_requests_running")
                    == len(names)
                )
            )
        assert [each.result().json()["choices"][0]["text"] for each in asked] == wanted
        assert number(address, "labkit_steps_total") <= 11 < sum(limits), "the first waited alone for one step at most"


def test_drawing_is_as_asked(both):
    (wanted,) = both.generate(["The sky"], "law", 9, sampling=lk.Sampling(0.7, top_p=0.9), seed=5)
    with running(both) as address:
        asked = {"model": "law", "max_tokens": 9, "temperature": 0.7, "top_p": 0.9}
        texts = [post(address, **asked, seed=seed).json()["choices"][0]["text"] for seed in (5, 5, 6)]
        assert texts[0] == texts[1] == wanted.text != texts[2]
        free = {post(address, max_tokens=9).json()["choices"][0]["text"] for _ in range(4)}
        assert len(free) > 1, "without a seed, replies differ"


def test_a_stop_text_ends_the_reply_and_is_never_sent(both):
    with running(both) as address:
        ai = client(address)
        asked = {"model": "tiny", "prompt": "The sky", "temperature": 0, "max_tokens": 12}
        whole = ai.completions.create(**asked).choices[0].text
        end = whole[len(whole) // 2 :][:5]
        said = ai.completions.create(**asked, stop=["never", end])
        assert said.choices[0].text == whole[: whole.index(end)]
        assert said.choices[0].finish_reason == "stop"
        assert said.usage.completion_tokens <= 12
        pieces = [c.choices[0].text for c in ai.completions.create(**asked, stop=end, stream=True)]
        assert "".join(pieces) == said.choices[0].text


def test_what_may_still_change_is_held_back():
    assert _settled("abcEN", ["END", "x"]) == 3
    assert _settled("abcE", ["END", "CEX"]) == 3
    assert _settled("abc", ["END"]) == 3
    assert _settled("ab\ufffd", []) == 2
    assert _settled("abEN\ufffd", ["ENé"]) == 2, "the character that isn't whole may complete the text that ends it"


def force(monkeypatch, tokens):
    """Have the model say these tokens."""
    said = lambda batch, logits, alive: torch.tensor([tokens[len(batch.ids[row])] for row in alive])  # noqa: E731
    monkeypatch.setattr(Batch, "next_tokens", said)


def test_characters_of_several_tokens_are_sent_whole(both, monkeypatch):
    text = "Oh 日本é ND 語 𝄞 x"
    tokens = both.base.tokenizer(text)["input_ids"]
    starts = [both.base.tokenizer.decode(tokens[:count]) for count in range(len(tokens))]
    assert any(start.endswith("ND \ufffd") for start in starts), "half a character stands behind half a stop text"
    force(monkeypatch, tokens)
    asked = {"model": "tiny", "prompt": "a", "max_tokens": len(tokens)}
    with running(both) as address:
        ai = client(address)
        for stop, wanted in ((None, text), ("ND 語", "Oh 日本é "), ("𝄞", "Oh 日本é ND 語 ")):
            pieces = [chunk.choices[0].text for chunk in ai.completions.create(**asked, stop=stop, stream=True)]
            assert "".join(pieces) == wanted
            assert not any("\ufffd" in piece for piece in pieces)
            assert ai.completions.create(**asked, stop=stop).choices[0].text == wanted


def test_nothing_is_lost_where_a_later_token_changes_the_text(both, monkeypatch):
    """Some tokenizers take the space before a full stop away again."""
    monkeypatch.setattr(Batch, "text", lambda batch, row: ["", "So ", "So.", "So. Yes", "So. Yes"][len(batch.ids[row])])
    with running(both) as address:
        asked = {"model": "tiny", "prompt": "a", "max_tokens": 4, "temperature": 0}
        pieces = [chunk.choices[0].text for chunk in client(address).completions.create(**asked, stream=True)]
        assert "".join(pieces) == "So  Yes"


REFUSED = [
    ({"n": 2}, "'n' is not supported"),
    ({"logit_bias": {"5": 1}}, "'logit_bias' is not supported"),
    ({"frequency_penalty": 0.5}, "'frequency_penalty' is not supported"),
    ({"tempature": 0.5}, "'tempature' is not supported"),
    ({"temperature": 3}, "temperature: "),
    ({"temperature": "1"}, "temperature: "),
    ({"top_p": 0}, "top_p: "),
    ({"max_tokens": 0}, "max_tokens: "),
    ({"max_tokens": True}, "max_tokens: "),
    ({"max_tokens": 257}, "max_tokens is 257; behind a prompt of 2 tokens it may be 256"),
    ({"seed": -1}, "seed: "),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": ""}, "stop"),
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": [10**6]}, "There is no token 1000000"),
    ({"prompt": "word " * 1500}, "tokens; it may have 1024"),
    ({"stream_options": {"chunks": 1}}, "'chunks' is not supported"),
]
REFUSED_CHATS = [
    ({"tools": [{"type": "function"}]}, "'tools' is not supported"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "judge", "content": "a"}]}, "unknown role"),
    ({"messages": [*ASK, {"role": "assistant", "content": "Paris"}]}, "ends with a reply"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens and max_completion_tokens differ"),
    ({"max_completion_tokens": 999}, "max_completion_tokens is 999"),
]


def test_what_cannot_be_honoured_is_refused_by_name(both):
    with running(both) as address:
        for path, cases in ((TEXT, REFUSED), (CHAT, REFUSED_CHATS)):
            for parameters, reason in cases:
                answer = post(address, path, **parameters)
                assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json"), parameters
                error = answer.json()["error"]
                assert reason in error["message"], parameters
                assert error["type"] == "invalid_request_error"
        neutral = {"n": 1, "logit_bias": {}, "presence_penalty": 0, "logprobs": None, "user": "me", "tools": None}
        assert post(address, CHAT, max_tokens=1, **neutral).status_code == 200
        for content in (
            b"{",
            b"[]",
            b"\xff",
            b'{"model": "tiny", "prompt": "a", "temperature": NaN}',
            b"null",
            b"",
            b'{"model": "tiny", "prompt": "\\ud800"}',
            b"[" * 50_000,
        ):
            json_type = {"Content-Type": "application/json"}
            answer = httpx.post(f"{address}{TEXT}", content=content, headers=json_type, trust_env=False)
            assert answer.status_code == 400, content
            assert answer.json()["error"]["message"]
            assert answer.json()["error"]["param"] in (None, "prompt", "temperature"), content
        plain = httpx.post(f"{address}{TEXT}", content='{"model": "tiny", "prompt": "a"}', trust_env=False)
        assert "Content-Type: application/json" in plain.json()["error"]["message"]
        for method, path, status in (("GET", TEXT, 405), ("GET", "/v1/nothing", 404), ("GET", "/v1/models/x", 404)):
            answer = httpx.request(method, f"{address}{path}", trust_env=False)
            assert answer.status_code == status
            assert answer.json()["error"]["message"]


def test_tokens_that_the_model_does_not_know_are_refused(tokenizer, one_thread):
    reader = tokenizer("smollm2-135m")
    model = tiny_model("llama", reader, "tiny", vocab_size=300)
    with running(model) as address:
        for path in (CHAT, TEXT):
            answer = post(address, path)
            assert answer.status_code == 400
            assert "knows 300 only" in answer.json()["error"]["message"]


def test_an_unknown_model_is_a_404_with_the_list(both):
    with running(both) as address:
        with pytest.raises(openai.NotFoundError, match=r"Did you mean 'law'.*hospital, law, tiny"):
            client(address).completions.create(model="lav", prompt="a")
        for name in ("../law", 'la"w\n', "law\x00", "\u202elaw", "l" * 5000):
            answer = post(address, model=name)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_gets_a_413(both, chunked):
    with running(both, Serving(port=0, max_body=10_000)) as address:
        content = json.dumps({"model": "tiny", "prompt": "a" * 300_000}).encode()
        sent = iter([content[:200_000], content[200_000:]]) if chunked else content
        json_type = {"Content-Type": "application/json"}
        answer = httpx.post(f"{address}{TEXT}", content=sent, headers=json_type, trust_env=False)
        assert answer.status_code == 413
        assert answer.json()["error"]["message"] == "The body has more than 10000 bytes."
        assert post(address, max_tokens=1).status_code == 200


def test_a_body_that_never_comes_gets_a_408(both):
    with running(both, Serving(port=0, timeout=0.2)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as line:
            head = (
                f"POST {TEXT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            )
            line.sendall(head.encode() + b"{")
            assert line.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_only_who_has_the_key_gets_answers(both):
    with running(both, Serving(port=0, api_key="sesame")) as address:
        for key in ("none", "sesam", "sesame2"):
            with pytest.raises(openai.AuthenticationError, match="API key is missing or wrong"):
                client(address, key).models.list()
        assert post(address).status_code == 401
        for given, status in (("sesame", 401), ("Basic sesame", 401), ("bearer sesame", 200)):
            answer = httpx.get(f"{address}/v1/models", headers={"Authorization": given}, trust_env=False)
            assert answer.status_code == status
        assert httpx.get(f"{address}/metrics", trust_env=False).status_code == 401
        assert httpx.get(f"{address}/health", trust_env=False).json() == {"status": "ok"}
        assert client(address, "sesame").completions.create(model="law", prompt="a", max_tokens=1).choices


def test_a_web_page_under_another_name_is_turned_away(both):
    with running(both) as address:
        answer = httpx.get(f"{address}/v1/models", headers={"Host": "rebound.example"}, trust_env=False)
        assert answer.status_code == 400


def test_a_full_queue_says_503_and_when_to_come_back(held):
    with running(held, Serving(port=0, queue=2)) as address, ThreadPoolExecutor() as pool:
        first = pool.submit(post, address, max_tokens=2)
        wait_until(lambda: number(address, "labkit_requests_running") == 1)
        waiting = [pool.submit(post, address, max_tokens=2) for _ in range(2)]
        wait_until(lambda: number(address, "labkit_requests_waiting") == 2)
        for stream in (False, True):
            refused = post(address, stream=stream)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert int(refused.headers["retry-after"]) > 0
        held.free()
        assert [each.result().status_code for each in (first, *waiting)] == [200] * 3


def test_a_client_that_hangs_up_frees_its_place(held):
    held.steps.release(5)
    with running(held, Serving(port=0, batch_size=1)) as address:
        streaming = client(address).completions.create(model="law", prompt="a", max_tokens=200, stream=True)
        next(iter(streaming))
        wait_until(lambda: len(held.seen) == 6)
        with pytest.raises(openai.APITimeoutError):  # it waits behind the other
            client(address, timeout=0.5).completions.create(model="tiny", prompt="a")
        wait_until(lambda: number(address, "labkit_requests_waiting") == 0)
        streaming.close()
        wait_until(lambda: number(address, "labkit_requests_total", path=TEXT) == 2)
        held.steps.release(1)
        wait_until(lambda: number(address, "labkit_requests_running") == 0)
    assert held.seen == [["law"]] * 6, "no other step was made for them"


def test_what_takes_too_long_ends(held):
    with running(held, Serving(port=0, timeout=1, batch_size=1)) as address, ThreadPoolExecutor() as pool:
        started = pool.submit(post, address)
        wait_until(lambda: number(address, "labkit_requests_running") == 1)
        waiting = pool.submit(post, address)
        assert (started.result().status_code, waiting.result().status_code) == (504, 503)
        assert started.result().headers["x-should-retry"] == "false", "OpenAI's client would ask twice more"
        held.free()


def test_a_stream_that_takes_too_long_ends_with_an_error(held):
    held.steps.release(4)
    with running(held, Serving(port=0, timeout=2)) as address:
        chunks = []
        with pytest.raises(openai.APIError, match="took too long"):
            chunks.extend(client(address).completions.create(model="law", prompt="a", max_tokens=99, stream=True))
        assert chunks
        held.free()


def test_a_batch_that_fails_is_a_500_and_the_next_one_goes_well(both, monkeypatch, caplog):
    with running(both) as address, caplog.at_level(logging.CRITICAL):
        with monkeypatch.context() as patch:
            patch.setattr(type(both.model.module), "forward", lambda *given, **named: 1 / 0)
            answer = post(address)
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert post(address, max_tokens=1).status_code == 200
        assert number(address, "labkit_requests_total", path=TEXT, status="500") == 1
        assert number(address, "labkit_tokens_total", model="tiny", kind="written") == 1


def test_a_server_that_is_told_to_end_doesnt_wait_for_long_replies(held):
    with ThreadPoolExecutor() as pool:
        with running(held) as address:
            long = pool.submit(post, address, max_tokens=200)
            wait_until(lambda: number(address, "labkit_requests_running") == 1)
            threading.Timer(1, held.free).start()
        assert long.result().status_code in (200, 503)


def test_a_port_that_is_taken_and_a_model_that_cannot_write_are_named(both, tiny_encoder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(lk.LabkitError, match=f"Nothing can listen at 127.0.0.1:{port}: ."):
            running(both, Serving(port=port)).__enter__()
    with pytest.raises(lk.LabkitError, match="is an encoder"):
        running(tiny_encoder).__enter__()
