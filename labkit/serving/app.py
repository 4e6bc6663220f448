"""The endpoint itself: what it answers at which address."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from labkit.serving.answers import Answer
from labkit.serving.batch import Served
from labkit.serving.following import follow, stream
from labkit.serving.gate import Gate
from labkit.serving.jobs import Progress
from labkit.serving.metrics import Metrics
from labkit.serving.problems import add_handlers, refusal
from labkit.serving.reading import job_of, require_name
from labkit.serving.scheduler import Scheduler
from labkit.serving.schemas import ChatRequest, CompletionRequest
from labkit.serving.settings import LOOPBACK, Serving

FRESH = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # a proxy is to pass each piece on at once


def make_app(served: Served, settings: Serving) -> FastAPI:
    """Return the app that answers with ``served``; its scheduler runs as long as the app does."""
    scheduler = Scheduler(served, settings)
    metrics = Metrics(scheduler)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with scheduler:
            yield

    def keyed(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if settings.api_key is None:
            return
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.encode(), settings.api_key.encode()):
            raise refusal(401, "The API key is missing or wrong.", "invalid_api_key")

    app = FastAPI(title="labkit serve", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.scheduler = scheduler
    add_handlers(app)
    app.add_middleware(Gate, settings=settings, metrics=metrics)
    if settings.host in LOOPBACK:  # a web page whose name was rebound to this computer is turned away
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK])
    needs_key = [Depends(keyed)]

    @app.get("/health")
    def health() -> JSONResponse:
        alive = scheduler.alive
        return JSONResponse({"status": "ok" if alive else "the scheduler has stopped"}, 200 if alive else 503)

    @app.get("/metrics", dependencies=needs_key)
    def show_metrics() -> Response:
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", dependencies=needs_key)
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(name) for name in served.names]}

    @app.get("/v1/models/{name:path}", dependencies=needs_key)
    def model(name: str) -> dict[str, Any]:
        return _model(require_name(served, name))

    @app.post("/v1/chat/completions", dependencies=needs_key)
    async def chat(asked: ChatRequest, request: Request) -> Response:
        return await answer(asked, request)

    @app.post("/v1/completions", dependencies=needs_key)
    async def complete(asked: CompletionRequest, request: Request) -> Response:
        return await answer(asked, request)

    async def answer(asked: ChatRequest | CompletionRequest, request: Request) -> Response:
        loop, reports = asyncio.get_running_loop(), asyncio.Queue[Progress]()

        def report(progress: Progress) -> None:
            if progress.finish and progress.finish != "error":
                metrics.count(job, progress.tokens)
            loop.call_soon_threadsafe(reports.put_nowait, progress)

        job = await run_in_threadpool(job_of, served, settings, asked, report)
        progress = follow(scheduler, job, reports, request)
        first = await anext(progress)  # what fails before the first token gets a status of its own, in a stream too
        made = Answer(job.name, len(job.ids), isinstance(asked, ChatRequest))
        if asked.stream:
            events = stream(made, first, progress, asked.with_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers=FRESH)
        return JSONResponse(made.whole(first.text, first.finish or "", first.tokens))

    return app


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "labkit"}
