"""A job's reports as its client gets them, until the reply is whole, its time is up, or the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from fastapi import HTTPException, Request

from labkit.serving.answers import DONE, Answer, event
from labkit.serving.jobs import Job, Progress
from labkit.serving.problems import RETRY, TIMEOUT, failed, refusal
from labkit.serving.scheduler import QueueFullError, Scheduler

POLL = 0.25  # seconds after which a request without news looks at the clock, and whether its client is still there


async def follow(
    scheduler: Scheduler, job: Job, reports: asyncio.Queue[Progress], request: Request
) -> AsyncGenerator[Progress, None]:
    """Submit a job and yield its reports, the last one with ``finish``. However this ends, the job's slot is free then.

    Raises:
        HTTPException: the queue is full, the job failed or took too long, or the client is gone.
    """
    try:
        scheduler.submit(job)
        while True:
            try:
                progress = await asyncio.wait_for(reports.get(), POLL)
            except TimeoutError:
                if job.late:
                    raise failed(TIMEOUT, job.started) from None
                if await request.is_disconnected():
                    raise refusal(499, "The client hung up.", "hung_up") from None
                continue
            if progress.finish == "error":
                raise failed(progress.problem, job.started)
            yield progress
            if progress.finish:
                return
    except QueueFullError as problem:
        raise refusal(503, problem.cause, "overloaded", headers=RETRY) from problem
    finally:
        scheduler.cancel(job)


async def stream(
    answer: Answer, first: Progress, rest: AsyncGenerator[Progress, None], with_usage: bool
) -> AsyncIterator[str]:
    """Yield an answer as server-sent events; an error that comes late is one of them."""
    async with aclosing(rest):
        try:
            if opening := answer.first():
                yield event(opening)
            progress = first
            while True:
                if progress.text:
                    yield event(answer.piece(progress.text, None))
                if progress.finish:
                    break
                progress = await anext(rest)
        except HTTPException as problem:
            yield event(cast(dict[str, Any], problem.detail))  # as ``refusal`` makes it
            return
        yield event(answer.piece("", progress.finish))
        if with_usage:
            yield event(answer.counts(progress.tokens))
        yield DONE
