"""Report each notebook's time and the memory that its kernel held: ``pytest --nbval -p tests.notebooks.peak``."""

import threading
import time
from collections import defaultdict

import psutil
import pytest

INTERVAL = 0.1  # seconds between two looks


class Watch(threading.Thread):
    """Looks at the resident memory of pytest's children, the kernels, until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.notebook = None
        self.peaks = defaultdict(int)
        self.seconds = defaultdict(float)
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(INTERVAL):
            if self.notebook:
                self.peaks[self.notebook] = max(self.peaks[self.notebook], held_by_children())

    def stop(self):
        self._over.set()
        self.join()


def held_by_children() -> int:
    """Return how many bytes are resident in the processes that this one started."""
    held = 0
    for child in psutil.Process().children(recursive=True):
        try:
            held += child.memory_info().rss
        except psutil.Error:  # it has ended since
            continue
    return held


def pytest_sessionstart(session):
    session.config.watch = Watch()
    session.config.watch.start()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    watch, began = item.config.watch, time.perf_counter()
    watch.notebook = item.path.name
    yield
    watch.seconds[watch.notebook] += time.perf_counter() - began


def pytest_terminal_summary(terminalreporter, config):
    watch = config.watch
    watch.stop()
    terminalreporter.section("notebooks")
    terminalreporter.write_line(f"{'notebook':<36}{'seconds':>8}{'peak of the kernel':>22}")
    for name, seconds in watch.seconds.items():
        terminalreporter.write_line(f"{name:<36}{seconds:>8.0f}{watch.peaks[name] / 1e9:>19.2f} GB")
