"""How busy each engine is, once a minute, for whoever looks at the run later: what its agent said last goes to the events file."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from taskrun.driver.member import Member
from taskrun.status.events import EventsWriter

EVERY = 60.0  # seconds, for each engine; shorter runs need none


class Sampling:
    def __init__(self, members: Callable[[], Collection[Member]], events: EventsWriter) -> None:
        self._members = members
        self._events = events
        self._due: dict[str, float] = {}  # engine -> when, monotonic

    def tick(self) -> None:
        """Now and then."""
        now = time.monotonic()
        for member in self._members():
            if not member.available or member.beat is None or self._due.setdefault(member.name, now + EVERY) > now:
                continue
            self._due[member.name] = now + EVERY
            beat = member.beat
            self._events.event("sample", time.time(), engine=member.name, load=beat.load, memory=beat.memory, running=beat.running)
