"""Calls from other threads for the loop of a selector."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable


class Mailbox:
    """What is posted after `close` is dropped."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._selector = selector
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._open = True
        selector.register(self._read_fd, selectors.EVENT_READ, self.run)

    def post(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._open:
                self._calls.append(call)
                with contextlib.suppress(BlockingIOError):
                    os.write(self._write_fd, b"x")

    def run(self, *_events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_fd, 4096)
        for _ in range(len(self._calls)):  # those that they post have their turn, too, but not before others
            self._calls.popleft()()

    def close(self) -> None:
        with self._lock:
            if self._open:
                self._open = False
                with contextlib.suppress(KeyError, ValueError, RuntimeError):
                    self._selector.unregister(self._read_fd)
                os.close(self._read_fd)
                os.close(self._write_fd)
