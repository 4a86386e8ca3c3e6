"""Complete outputs: no process of this machine writes to them, and nothing has changed for --settle seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from taskrun.staging.open_files import Holder, OpenFiles
from taskrun.staging.settling import Settling
from taskrun.staging.store import Entry, FolderStore, Permanent

#: A file that nobody has touched for so long, in seconds, has settled. Less may be a clock of a file server that is behind.
OLD = 60.0
#: Seconds without a change that suffice when the tasks that write have ended, however long --settle is.
LAST_SETTLE = 5.0


class Patience(NamedTuple):
    """Seconds for which outputs are waited for: `settle` without a change, `writers` in all."""

    settle: float
    writers: float

    @property
    def last_settle(self) -> float:
        """Seconds after which a file that nobody touches any more has settled, when the tasks that write have ended."""
        return min(self.settle, LAST_SETTLE) + 0.5  # looks are a quarter of a second apart


class Look(NamedTuple):
    """The result of a look at outputs. `waiting`: those that are not complete, with why."""

    ready: list[Entry]
    waiting: dict[str, str]


class Completing:
    """The outputs of one line in one place."""

    def __init__(self, patience: Patience, open_files: OpenFiles, folder: Path | None, own: Callable[[str], bool]) -> None:
        """`folder`: the driver's, where they lie; None for a host, whose processes cannot be seen.

        `own`: whether a name is of the run's own files, such as logs of its engines, which grow as long as it goes on.
        """
        self.settling = Settling(patience.settle)
        self.patience = patience
        self._open_files = open_files
        self._folder = folder
        self._own = own

    def look(self, entries: list[Entry], store: FolderStore, *, last: bool) -> Look:
        """Look at files that were just found. `last`: the tasks that write them have ended. Raises StoreError."""
        writers = self._writers(entries)
        unseen = self.settling.waiting(entries) if self.patience.settle else []
        old = {entry.name for entry in unseen if self._is_own(entry.name) or self._is_old(entry, store)}
        most = LAST_SETTLE if last else float("inf")
        ready = self.settling.look(entries, time.monotonic(), writers, old, most)
        return Look(ready, {entry.name: self._why(entry, writers) for entry in self.settling.waiting(entries)})

    def _writers(self, entries: Iterable[Entry]) -> dict[str, Holder]:
        if self._folder is None:
            return {}
        paths = {self._folder / entry.name: entry.name for entry in entries if not self._is_own(entry.name)}
        return {paths[path]: holder for path, holder in self._open_files.writers(paths).items()} if paths else {}

    def _is_own(self, name: str) -> bool:
        return self._folder is not None and self._own(name)

    def _is_old(self, entry: Entry, store: FolderStore) -> bool:
        if self._folder is None:
            return False
        touched = store.touched(entry.name)
        return touched is not None and time.time() - touched >= self.patience.settle + OLD

    def _why(self, entry: Entry, writers: dict[str, Holder]) -> str:
        if (holder := writers.get(entry.name)) is not None:
            return f"still written by {holder}"
        return f"it has changed within the last {min(self.patience.settle, LAST_SETTLE):g} s"


class Waiter:
    """Asked again and again whether all outputs of an attempt are complete (`Request.unready`)."""

    def __init__(self, completing: Completing, store: Callable[[], FolderStore], writers: float) -> None:
        """`writers`: seconds to wait at most."""
        self._completing = completing
        self._store = store
        self._end = time.monotonic() + max(writers, completing.patience.last_settle)

    def __call__(self, entries: list[Entry]) -> str:
        """Return why a file is not complete, '' if all are. Raises Permanent when that has been waited for long enough."""
        waiting = self._completing.look(entries, self._store(), last=True).waiting
        why = next((f"{name}: {why}" for name, why in waiting.items()), "")
        if why and time.monotonic() >= self._end:
            raise Permanent(why)
        return why
