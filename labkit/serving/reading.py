"""From a request to a job: the prompt's tokens, checked against the limits, and how to continue them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence

from labkit.conversations.templates import chat_ids
from labkit.errors import MOST, LabkitError, unknown
from labkit.generation.prompts import asked
from labkit.generation.sampling import Sampling, random_numbers
from labkit.models.encoding import known_ids, prompt_ids
from labkit.models.model import Model
from labkit.serving.batch import Served
from labkit.serving.jobs import Job, Progress
from labkit.serving.problems import refusal
from labkit.serving.schemas import GREEDY, ChatRequest, CompletionRequest
from labkit.serving.settings import Serving

USUAL = 16  # new tokens of a completion that names no limit, as OpenAI has it
_READING = threading.Lock()  # a fast tokenizer is not made for several threads


def job_of(
    served: Served, settings: Serving, request: ChatRequest | CompletionRequest, report: Callable[[Progress], None]
) -> Job:
    """Return the job that a request asks for.

    Raises:
        HTTPException: there is no such model, the prompt can't be read, or it is too long; with the reason.
    """
    require_name(served, request.model)
    chat = isinstance(request, ChatRequest)
    place, named = ("messages" if chat else "prompt"), ("max_tokens" if request.max_tokens else "max_completion_tokens")
    try:
        with _READING:
            ids = _chat(served.model, request) if isinstance(request, ChatRequest) else _text(served.model, request)
    except LabkitError as problem:
        raise refusal(400, str(problem), "invalid_prompt", place) from problem
    room = served.model.max_length - len(ids)
    if len(ids) > settings.max_prompt or room < 1:
        most = min(settings.max_prompt, served.model.max_length - 1)
        reason = f"The prompt has {len(ids)} tokens; it may have {most}."
        raise refusal(400, reason, "context_length_exceeded", place)
    count = request.max_tokens or (request.max_completion_tokens if isinstance(request, ChatRequest) else None)
    if count is not None and count > (most := min(settings.max_tokens, room)):
        reason = f"{named} is {count}; behind a prompt of {len(ids)} tokens it may be {most}."
        raise refusal(400, reason, "context_length_exceeded", named)
    count = count or min(settings.max_tokens if chat else USUAL, settings.max_tokens, room)
    temperature = 1.0 if request.temperature is None else request.temperature
    sampling = None if temperature < GREEDY else Sampling(temperature, top_p=request.top_p or 1.0)
    seed = secrets.randbelow(MOST) if request.seed is None else request.seed
    return Job(
        request.model,
        ids,
        count,
        time.monotonic() + settings.timeout,
        report,
        sampling,
        None if sampling is None else random_numbers([ids], count, seed)[0],
        request.stops,
        bool(request.stream),
    )


def require_name(served: Served, name: str) -> str:
    """Return a name that may be asked for; raise a 404 with the list of names for any other."""
    if name not in served.names:
        raise refusal(404, str(unknown("model", name, served.names)), "model_not_found", "model")
    return name


def _chat(model: Model, request: ChatRequest) -> list[int]:
    ids = chat_ids(model.tokenizer, asked([message.plain() for message in request.messages]), reply=True)
    return known_ids(model, [ids])[0]


def _text(model: Model, request: CompletionRequest) -> list[int]:
    prompt = request.prompt
    if isinstance(prompt, str):
        return prompt_ids(model, [prompt])[0]
    if isinstance(prompt[0], str):
        return prompt_ids(model, [prompt[0]])[0]
    return _known(model, [token for token in prompt if isinstance(token, int)])


def _known(model: Model, ids: Sequence[int]) -> list[int]:
    known = range(model.embeddings.num_embeddings)
    if wrong := [token for token in ids if token not in known]:
        raise LabkitError(f"There is no token {wrong[0]}.", f"Tokens go from 0 to {len(known) - 1}.")
    return list(ids)
