"""The command ``labkit serve``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from labkit.errors import LabkitError
from labkit.models.load import load_model, locate
from labkit.runs.places import place
from labkit.serving.server import listen, serve
from labkit.serving.settings import LIMITS, Serving
from labkit.serving.vllm import vllm_command
from labkit.specialists import Specialists

KEY = "LABKIT_API_KEY"  # in the environment: other users of this computer see what a command line says
INTERRUPTED = 130  # as shells have it


def serve_from(options: argparse.Namespace) -> int:
    """Load what the options of the command line name, and answer requests until interrupted; return the exit status."""
    given = {name: value for name in LIMITS if (value := getattr(options, name)) is not None}
    settings = Serving(options.host, options.port, os.environ.get(KEY) or None, **given)
    adapters = adapters_from(options.adapter)
    listen(settings).close()  # a port that is taken is named before a large model is loaded
    try:
        base = load_model(options.model)
        served = Specialists(base, adapters) if adapters else base
    except KeyboardInterrupt:
        print("Interrupted while the model was loaded.", file=sys.stderr)
        return INTERRUPTED
    names = served.names if isinstance(served, Specialists) else (base.name,)

    def say(address: str) -> None:
        key = "asks for the API key" if settings.api_key else "asks for no API key"
        print(f"{', '.join(names)} at {address}/v1, which {key}. Ctrl+C ends it.")
        if isinstance(served, Specialists):
            folders = {name: place(folder, "runs") for name, folder in adapters.items()}
            print(f"The same on a GPU, for many users: {vllm_command(served, locate(options.model), folders)}")
        sys.stdout.flush()

    serve(served, settings, ready=say)
    return 0


def adapters_from(given: Sequence[str]) -> dict[str, str]:
    """Return the folders or saved runs of arguments NAME=FOLDER by their names."""
    found: dict[str, str] = {}
    for each in given:
        name, _, folder = each.partition("=")
        if not (name and folder) or name in found:
            why = "gives a name twice" if name in found else "is not NAME=FOLDER"
            raise LabkitError(f"--adapter {each} {why}.", "Write --adapter hospital=runs/triage, for example.")
        found[name] = folder
    return found
