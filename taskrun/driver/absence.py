"""Notices that this process did not run for a while: it was stopped (SIGSTOP), or the machine slept."""

from __future__ import annotations

import time
from typing import NamedTuple

MOST = 2.0  # seconds that a loop may be late without more: a machine may be busy


class Missed(NamedTuple):
    """Time in which nothing could be seen."""

    seconds: float  # that time.monotonic() counts
    asleep: float  # and those that it does not: the machine slept


class Absence:
    """The time in which a loop did not run. Each loop that judges by time asks first."""

    def __init__(self) -> None:
        self._expected = time.monotonic()
        self._slept = slept()

    def waits(self, until: float) -> None:
        """The loop is about to wait for as long as this (monotonic seconds)."""
        self._expected = max(self._expected, until)

    def look(self, now: float) -> Missed | None:
        """Return the time missed since the last look, None if it is short."""
        seconds, self._expected = now - self._expected, now
        before, self._slept = self._slept, slept()
        asleep = self._slept - before
        if seconds <= MOST and asleep <= MOST:
            return None
        return Missed(max(0.0, seconds), max(0.0, asleep))


def slept() -> float:
    """Seconds that this machine has slept, from some moment on."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    while True:
        before = time.monotonic()
        found = time.clock_gettime(time.CLOCK_BOOTTIME) - before
        if time.monotonic() - before < MOST:  # else it was stopped between the two
            return found
