"""Starts a JupyterLab of its own, with nothing of the user's settings, and finds a Chromium to open it with."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from labkit.storage import cache

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Or else JupyterLab asks in every new place whether it may fetch news.
NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}


def chromium() -> str | None:
    """Return the path of a Chromium that starts: ``LABKIT_CHROMIUM`` or, if that isn't set, the first on the PATH."""
    chosen = os.environ.get("LABKIT_CHROMIUM")
    for name in [chosen] if chosen else BROWSERS:
        path = shutil.which(name)
        # Ubuntu has a "chromium-browser" that only says how to install one.
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


@contextmanager
def serving(notebooks: Path, scratch: Path):
    """Yield the address of a JupyterLab that serves a folder, and what it wrote to its log until it ended.

    Models come from where this user's labkit keeps them; guesses, runs and settings are the server's own.
    """
    home, settings = scratch / "home", scratch / "config/lab/user-settings/@jupyterlab/apputils-extension"
    home.mkdir()
    (home / "assets").symlink_to(cache.home().absolute() / "assets")
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(NO_NEWS))
    own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    own |= {"IPYTHONDIR": "ipython", "LABKIT_HOME": "home"}
    environment = {**os.environ, **{name: str(scratch / folder) for name, folder in own.items()}}
    environment.pop("LABKIT_UNATTENDED", None)
    token = secrets.token_hex()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    with (
        (scratch / "log.txt").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            yield f"{_address(server, scratch)}lab/tree/{{}}?reset&token={token}"
        finally:
            server.terminate()


def _address(server, scratch: Path) -> str:
    """Wait for the file in which the server says where it is."""
    for _ in range(600):
        assert server.poll() is None, (scratch / "log.txt").read_text()
        for file in (scratch / "runtime").glob("jpserver-*.json"):
            return json.loads(file.read_text())["url"]
        time.sleep(0.1)
    raise TimeoutError((scratch / "log.txt").read_text())
