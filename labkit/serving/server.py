"""Run the endpoint: until it is interrupted, or inside a block while other code asks it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn

from labkit.errors import LabkitError
from labkit.models.model import Model
from labkit.serving.app import make_app
from labkit.serving.batch import Alone, Served
from labkit.serving.settings import Serving

GRACE = 5  # seconds that clients get to take their last answers when the server is told to end


class _Server(uvicorn.Server):
    """A server that tells its scheduler before it waits for the answers: these are 503 then, and don't take long."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.state.scheduler.close()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def serve(served: Served | Model, settings: Serving | None = None, ready: Callable[[str], None] | None = None) -> None:
    """Answer requests until interrupted.

    Args:
        served: ``lk.Specialists``, whose base and adapters are asked for by name, or a causal model.
        settings: the address and the limits.
        ready: is called with the server's address as soon as it listens.

    Raises:
        LabkitError: the model is an encoder, or the port is taken.
    """
    server, listener = _prepare(served, settings or Serving())
    with listener, suppress(KeyboardInterrupt):  # uvicorn raises it again when everything has ended
        if ready:
            ready(_address(listener))
        server.run(sockets=[listener])


@contextmanager
def running(served: Served | Model, settings: Serving | None = None) -> Iterator[str]:
    """Answer requests in a thread inside the block, and yield the server's address, such as ``http://127.0.0.1:8000``.

    An OpenAI client takes it with ``/v1`` behind it. Arguments and errors are those of ``serve``; without settings, the
    port is a free one.
    """
    server, listener = _prepare(served, settings or Serving(port=0))
    thread = threading.Thread(target=server.run, args=([listener],), name="labkit-server", daemon=True)
    with listener:
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise LabkitError("The server did not start.", "See its messages above.")
                time.sleep(0.01)
            yield _address(listener)
        finally:
            server.should_exit = True
            thread.join()


def _prepare(served: Served | Model, settings: Serving) -> tuple[uvicorn.Server, socket.socket]:
    made: Served = Alone(served) if isinstance(served, Model) else served
    if made.model.kind != "causal":
        raise LabkitError(f"{made.model.name} is an encoder: it cannot write.", "Use a model such as smollm2-135m.")
    config = uvicorn.Config(
        make_app(made, settings), log_level="warning", timeout_graceful_shutdown=GRACE, server_header=False
    )
    return _Server(config), listen(settings)


def listen(settings: Serving) -> socket.socket:
    """Return a socket that listens at the address of the settings; raise a ``LabkitError`` where none can."""
    place = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).partition(" (")[0]  # without the address once more
        raise LabkitError(
            f"Nothing can listen at {place}: {reason}.",
            "Another program may have taken the port: choose another one, or 0 for a free one.",
        ) from problem


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
