"""Sentences about hosts on their way to the person: what several hosts have in common within a moment is one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

QUIET = 0.7  # seconds without another host that says the same, after which it is said
WAIT_MOST = 3.0  # and at the latest
ALL_NAMED, NAMED = 4, 2  # so many hosts are named one by one; of more the first few


def several(hosts: Sequence[str]) -> str:
    """`host1, host2 and 91 others`, whichever was first."""
    hosts = sorted(hosts, key=lambda host: (len(host), host))  # host2 before host10
    if len(hosts) <= ALL_NAMED:
        return ", ".join(hosts)
    return f"{', '.join(hosts[:NAMED])} and {len(hosts) - NAMED} others"


class _Pending:
    def __init__(self, now: float) -> None:
        self.hosts: dict[str, None] = {}
        self.first = self.last = now


class Notes:
    """`say`: takes a line for the person."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._pending: dict[str, _Pending] = {}  # by text, the oldest first

    def add(self, host: str, text: str) -> None:
        """Keep a note for `step` to print."""
        now = time.monotonic()
        pending = self._pending.setdefault(text, _Pending(now))
        pending.hosts[host] = None
        pending.last = now

    def step(self) -> None:
        """Every second: say what has waited for long enough."""
        now = time.monotonic()
        for text, pending in list(self._pending.items()):
            if now - pending.last >= QUIET or now - pending.first >= WAIT_MOST:
                del self._pending[text]
                self._say(f"{several(list(pending.hosts))}: {text}")

    def flush(self) -> None:
        """Say all that is left."""
        pending, self._pending = self._pending, {}
        for text, each in pending.items():
            self._say(f"{several(list(each.hosts))}: {text}")
