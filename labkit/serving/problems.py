"""Refusals in OpenAI's form: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as PlainHTTPException

RETRY = {"Retry-After": "2"}  # seconds
ONCE = {"x-should-retry": "false"}  # OpenAI's client would ask twice more, for just as long
CLOSING, TIMEOUT = "closing", "timeout"


def refusal(
    status: int, message: str, code: str, param: str | None = None, headers: dict[str, str] | None = None
) -> HTTPException:
    """Return the exception that answers a request with an error."""
    return HTTPException(status, body(status, message, code, param), headers)


def body(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Return the content of such an answer."""
    kind = "authentication_error" if status == 401 else "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def failed(problem: str, started: bool) -> HTTPException:
    """Return the exception for a job that ended with an error."""
    if problem == TIMEOUT:
        if started:
            return refusal(504, "The reply took too long. Ask for fewer tokens.", TIMEOUT, headers=ONCE)
        return refusal(503, "The request waited too long. Ask again later.", "overloaded", headers=RETRY)
    if problem == CLOSING:
        return refusal(503, "The server is closing.", "unavailable", headers=RETRY)
    return refusal(500, problem, "internal_error")


def add_handlers(app: FastAPI) -> None:
    """Have an app answer every error in this form."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, problem: RequestValidationError) -> JSONResponse:
        reasons = dict.fromkeys(_reason(error) for error in problem.errors())
        # Of what is no JSON, the place is a number of characters, and no parameter.
        places = ["" if e["type"] == "json_invalid" else ".".join(map(str, e["loc"][1:])) for e in problem.errors()]
        return JSONResponse(body(400, "; ".join(reasons), "invalid_request", places[0] or None), 400)

    @app.exception_handler(PlainHTTPException)
    async def refused(request: Request, problem: PlainHTTPException) -> JSONResponse:
        content: Any = problem.detail
        if not isinstance(content, dict):
            content = body(problem.status_code, f"{request.method} {request.url.path}: {content}")
        return JSONResponse(content, problem.status_code, problem.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, problem: Exception) -> JSONResponse:
        return JSONResponse(body(500, "The server failed; its log says why.", "internal_error"), 500)


def _reason(error: dict[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return f"The body is no JSON: {error['ctx']['error']}"
    if error["loc"] == ("body",) and error["type"] != "value_error":
        return "The body is no JSON object: send one with the header Content-Type: application/json."
    place = ".".join(str(part) for part in error["loc"][1:])
    said = error["msg"].removeprefix("Value error, ")
    return f"{place}: {said}" if place else said
