"""llama.cpp in this process, through the package xllamacpp: how it reads texts and what it says comes next."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from labkit.errors import first_line
from labkit.exports.errors import ExportError
from labkit.extras import unusable

THREADS = 1  # as many as the proofs need; more would make the sums of logits depend on the computer


class LlamaCpp:
    """A GGUF file in llama.cpp, asked over a port of this computer that nobody else can use.

    Args:
        path: the GGUF file.
        adapter: a GGUF file with a LoRA adapter for it.
        context: the most tokens of a text with its answer.

    Raises:
        ExportError: llama.cpp cannot load the files.
        MissingPackageError: xllamacpp is not installed.
    """

    def __init__(self, path: str | Path, adapter: str | Path | None = None, context: int = 1024):
        try:
            import xllamacpp
        except ImportError as problem:
            raise unusable("xllamacpp", problem) from problem
        self.name, self._key = Path(path).name, secrets.token_hex()
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx, settings.n_parallel, settings.n_gpu_layers = context, 1, 0
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = THREADS
        settings.warmup = settings.ui = settings.prefill_assistant = False
        settings.verbosity, settings.port, settings.api_keys = -1, 0, [self._key]  # silent; any free port
        if adapter is not None:
            settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        try:
            self._server = xllamacpp.Server(settings)
        except (RuntimeError, ValueError, OSError) as problem:
            raise ExportError(
                f"llama.cpp cannot load {self.name}: {first_line(problem)}.", "Export the model again."
            ) from problem
        self._open = build_opener(ProxyHandler({})).open  # a proxy would not find this computer
        self._letter = self.ids("a")[0]

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        """Return the tokens of a text; with ``special``, with those that belong before and behind every text."""
        return self._ask("tokenize", content=text, add_special=special, parse_special=True)["tokens"]

    def rendered(self, messages: Sequence[dict]) -> str:
        """Return a conversation as text, up to where the assistant begins to speak."""
        return self._ask("apply-template", messages=list(messages))["prompt"]

    def next(self, ids: Sequence[int], count: int) -> dict[int, float]:
        """Return the log-probabilities of the ``count`` likeliest tokens after ``ids``, the likeliest first."""
        # llama.cpp says nothing about a token that ends the text, so that it has to write another one.
        reply = self._complete(ids, 1, n_probs=count, logit_bias=[[self._letter, 1e6]])
        return {each["id"]: each["logprob"] for each in reply["completion_probabilities"][0]["top_logprobs"]}

    def continued(self, ids: Sequence[int], count: int) -> tuple[list[int], bool]:
        """Return what follows ``ids`` with the likeliest token each time, and whether a token that ends a text came."""
        reply = self._complete(ids, count, return_tokens=True)
        return reply["tokens"], reply["stop_type"] == "eos"

    def stops_at(self, token: int) -> bool:
        """Return whether a text ends where this token is written: here it is written for certain."""
        reply = self._complete([token], 2, logit_bias=[[token, 1e6]])
        return reply["stop_type"] == "eos"

    def _complete(self, ids: Sequence[int], count: int, **options: Any) -> dict[str, Any]:
        greedy = {"temperature": 0, "n_predict": count, "cache_prompt": True}
        return self._ask("completion", prompt=list(ids), **greedy, **options)

    def _ask(self, what: str, **body: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = Request(f"{self._server.listening_address}/{what}", json.dumps(body).encode(), headers)
        try:
            with self._open(request, timeout=120) as reply:
                return json.load(reply)
        except HTTPError as problem:
            said = problem.read().decode(errors="replace")[:300]
            raise ExportError(f"llama.cpp refuses to {what} with {self.name}: {said}", "Report this.") from problem
