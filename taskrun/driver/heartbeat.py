"""Signs of life for agents, from a thread of its own: a slow disk is not silence."""

from __future__ import annotations

import threading

from taskrun import threads
from taskrun.engines.link import Link


class Heartbeat:
    def __init__(self, seconds: float) -> None:
        """One every so many seconds."""
        self._seconds = seconds
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threads.start(self._run, "heartbeat")

    def begin(self, link: Link) -> None:
        with self._lock:
            self._links.add(link)

    def end(self, link: Link) -> None:
        with self._lock:
            self._links.discard(link)

    def close(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            with self._lock:
                links = list(self._links)
            for link in links:
                link.send({"k": "beat"})
