"""Report each notebook's time and the memory that its kernel held: ``pytest --nbval -p tests.notebooks.peak``."""

import time
from collections import defaultdict

import pytest

from labkit.testing.peak import Watch


def pytest_sessionstart(session):
    session.config.peaks, session.config.seconds = defaultdict(int), defaultdict(float)
    session.config.watch = Watch().__enter__()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    config, began = item.config, time.perf_counter()
    config.watch.take()
    yield
    config.seconds[item.path.name] += time.perf_counter() - began
    config.peaks[item.path.name] = max(config.peaks[item.path.name], config.watch.take())


def pytest_terminal_summary(terminalreporter, config):
    config.watch.__exit__()
    terminalreporter.section("notebooks")
    terminalreporter.write_line(f"{'notebook':<36}{'seconds':>8}{'peak of the kernel':>22}")
    for name, seconds in config.seconds.items():
        terminalreporter.write_line(f"{name:<36}{seconds:>8.0f}{config.peaks[name] / 1e9:>19.2f} GB")
