"""What every request passes before the app reads it: the size of its body, the time to send it, and the counters."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labkit.serving.metrics import Metrics
from labkit.serving.problems import refusal
from labkit.serving.settings import Serving


class Gate:
    """An ASGI app around another one.

    Args:
        app: the one inside.
        settings: the largest body, and how long sending it may take.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, settings: Serving, metrics: Metrics):
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, size, whole, status = time.monotonic(), 0, False, 499  # as nginx says that the client hung up

        async def limited() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                left = begun + self.settings.timeout - time.monotonic()
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except TimeoutError:
                raise refusal(408, "The request's body did not arrive in time.", "timeout") from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self.settings.max_body:
                limit = f"The body has more than {self.settings.max_body} bytes."
                raise refusal(413, limit, "request_too_large")
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, limited, noted)
        except Exception:
            status = 500
            raise
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.monotonic() - begun)
