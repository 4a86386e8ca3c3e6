"""Engines whose agents are still to be started, and when: not all in one go, so that the loop turns; and hosts that are tried again."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from taskrun import threads
from taskrun.driver.mailbox import Mailbox
from taskrun.driver.member import Member
from taskrun.errors import Refused

GO_FIRST = 0.1  # seconds of starting agents until the loop turns, while no engine works; one costs a child, a few milliseconds
GO = 1.0  # and later, when those that work compete with those that start, if they are on this machine
AHEAD = 8  # engines of a context that begin before the others: a hundred agents that start on one machine are all of them slow
AHEAD_SECONDS = 0.25


class Starting:
    """In the order in which they are due. To be looked at: (when, monotonic seconds; who)."""

    def __init__(self, mail: Mailbox, start: Callable[[Member], None], works: Callable[[], bool]) -> None:
        """`mail`: calls back in the loop; `works`: whether an engine does already."""
        self._mail = mail
        self._start = start
        self._works = works
        self._line: list[tuple[float, int, Member]] = []
        self._numbers = itertools.count()
        self._wake_at = math.inf

    def __iter__(self) -> Iterator[tuple[float, Member]]:
        return ((due, member) for due, _, member in sorted(self._line))

    def __bool__(self) -> bool:
        return bool(self._line)

    def add(self, member: Member, seconds: float = 0.0) -> None:
        """To be started in so many seconds."""
        heappush(self._line, (time.monotonic() + seconds, next(self._numbers), member))

    def add_all(self, members: list[Member]) -> None:
        """A new context's."""
        for number, member in enumerate(members):
            self.add(member, 0.0 if number < AHEAD or len(members) <= 2 * AHEAD else AHEAD_SECONDS)

    def drop(self, context: str) -> None:
        """Those of this context are not wanted any more."""
        self._line = [each for each in self._line if each[2].context != context]
        heapify(self._line)

    def close(self) -> None:
        self._line.clear()

    def step(self) -> None:
        """Start those that are due, as many as one go allows; it is called again for the others. Raises what starting raises."""
        now = time.monotonic()
        until = now + (GO if self._works() else GO_FIRST)
        while self._line and self._line[0][0] <= now < until:
            self._start(heappop(self._line)[2])
            now = time.monotonic()
        if self._line and self._line[0][0] < self._wake_at:
            self._wake_at = max(now, self._line[0][0])
            if self._wake_at == now:
                self._mail.post(self._wake)
            else:
                with contextlib.suppress(Refused):  # else somebody looks once a second
                    threads.start(self._wake_later, "next start", self._wake_at - now)

    def _wake_later(self, seconds: float) -> None:
        time.sleep(seconds)
        self._mail.post(self._wake)

    def _wake(self) -> None:
        self._wake_at = math.inf
        self.step()
