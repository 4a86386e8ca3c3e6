"""Sessions with a host that wait to be used again. Beginning one may cost a login or a job step."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

IDLE_SECONDS = 15.0  # after which a session that nobody has used is ended: behind it may be a process, here and there


class Pool:
    """`connect` begins one more. They are not made for several threads: each is lent to one caller at a time."""

    def __init__(self, connect: Callable[[], Any], is_closed: Callable[[Any], bool]) -> None:
        self._connect = connect
        self._is_closed = is_closed
        self._idle: list[tuple[Any, float]] = []  # the last one is the one that was used last
        self._lock = threading.Lock()

    def borrow(self) -> tuple[Any, bool]:
        """A session, and whether it has just begun. Raises what `connect` does."""
        while True:
            with self._lock:
                if not self._idle:
                    break
                session, _ = self._idle.pop()
            if not self._is_closed(session):
                return session, False
            _close(session)
        return self._connect(), True

    def give_back(self, session: Any, *, broken: bool) -> None:
        """A broken one is thrown away."""
        if broken or self._is_closed(session):
            _close(session)
            return
        with self._lock:
            self._idle.append((session, time.monotonic()))

    @property
    def stale(self) -> bool:
        """There is something to tidy."""
        with self._lock:
            return bool(self._idle) and self._idle[0][1] < time.monotonic() - IDLE_SECONDS

    def tidy(self) -> None:
        """Ends those that nobody has used for a while."""
        self._end(time.monotonic() - IDLE_SECONDS)

    def close(self) -> None:
        self._end(time.monotonic() + 1.0)

    def _end(self, before: float) -> None:
        with self._lock:
            old = [session for session, used in self._idle if used < before]
            self._idle = [each for each in self._idle if each[1] >= before]
        for session in old:
            _close(session)


def _close(session: Any) -> None:
    with contextlib.suppress(Exception):  # it may be gone already
        session.close()
