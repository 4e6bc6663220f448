"""Watch how much memory the processes that this one started hold, such as the kernels of notebooks."""

from __future__ import annotations

import threading

import psutil

INTERVAL = 0.05  # seconds between two looks


class Watch(threading.Thread):
    """Looks at the resident memory of the children, and theirs, until it is stopped. Use it with ``with``."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._peak = 0
        self._over = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look again and again."""
        while not self._over.wait(INTERVAL):
            self._peak = max(self._peak, held_by_children())

    def take(self) -> int:
        """Return the most bytes that were resident since the last call."""
        peak, self._peak = self._peak, 0
        return peak


def held_by_children() -> int:
    """Return how many bytes are resident in the processes that this one started, directly or not."""
    held = 0
    for child in psutil.Process().children(recursive=True):
        try:
            held += child.memory_info().rss
        except psutil.Error:  # it has ended since, or isn't ours to look at
            continue
    return held
