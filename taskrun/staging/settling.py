"""Which outputs are complete: closed, and unchanged for a while. (A file that was renamed into place is so from the start.) Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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

    def look(
        self,
        entries: Iterable[Entry],
        now: float,
        open_files: Collection[str] = frozenset(),
        old: Collection[str] = frozenset(),
        most: float = float("inf"),
    ) -> list[Entry]:
        """Return the entries that are ready now.

        `now`: seconds of any steady clock. `open_files`: names that somebody is known to be writing. `old`: names that nobody has touched
        for long, known otherwise; they have settled when they are first seen. `most`: seconds without a change that suffice now.
        """
        settle = min(self._settle, most)
        ready = []
        there = {}
        for entry in entries:
            before = self._seen.get(entry.name)
            if before is None or before.version != entry.version:
                before = _Seen(entry.version, now - settle if entry.name in old else now)
            there[entry.name] = before
            waits = entry.name in open_files or now - before.since < settle
            if not waits and self._shipped.get(entry.name) != entry.version:
                self._shipped[entry.name] = entry.version
                ready.append(entry)
        self._seen = there
        return ready

    def waiting(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries that no look has said to be ready as they are."""
        return [entry for entry in entries if self._shipped.get(entry.name) != entry.version]

    def failed(self, name: str) -> None:
        """It could not be shipped: the next look offers it again."""
        self._shipped.pop(name, None)
