"""Which outputs are complete: closed, and unchanged for a while. (A file that was renamed into place is so from the start.) Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from taskrun.staging.store import Entry


class _Seen(NamedTuple):
    version: str
    since: float


class Settling:
    """Told again and again what is there, says which files are ready to be shipped, each content once.

    `settle`: seconds without a change.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._seen: dict[str, _Seen] = {}
        self._shipped: dict[str, str] = {}

    def look(self, entries: Iterable[Entry], now: float, open_files: frozenset[str] = frozenset()) -> list[Entry]:
        """The entries that are ready now. `now`: seconds of any steady clock. `open_files`: names that somebody is known to be writing."""
        ready = []
        there = {}
        for entry in entries:
            before = self._seen.get(entry.name)
            if before is None or before.version != entry.version:
                before = _Seen(entry.version, now)
            there[entry.name] = before
            waits = entry.name in open_files or now - before.since < self._settle
            if not waits and self._shipped.get(entry.name) != entry.version:
                self._shipped[entry.name] = entry.version
                ready.append(entry)
        self._seen = there
        return ready

    def rest(self, entries: Iterable[Entry]) -> list[Entry]:
        """At the end, when nobody writes any more: everything not shipped yet."""
        left = [entry for entry in entries if self._shipped.get(entry.name) != entry.version]
        self._shipped.update((entry.name, entry.version) for entry in left)
        return left

    def failed(self, name: str) -> None:
        """It could not be shipped: the next look offers it again."""
        self._shipped.pop(name, None)
