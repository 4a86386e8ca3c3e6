"""The rate of all transfers together (--bwlimit)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_SLICE = 0.2  # seconds between two looks whether anybody still waits for the transfer


class Pace:
    """So many bytes a second at most, on the average of each second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._at = time.monotonic()  # when what has gone so far should have gone

    def keep(self, size: int, over: Callable[[], bool]) -> None:
        """Wait until `size` bytes that have just gone should have. `over`: nobody waits for the transfer any more."""
        with self._lock:
            end = self._at = max(self._at, time.monotonic()) + size / self._rate
        while (left := end - time.monotonic()) > 0 and not over():
            time.sleep(min(_SLICE, left))
