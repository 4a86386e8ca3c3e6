"""What the run has made for its STAGE-OUT RUN lines: looked for again and again while tasks run, delivered as it is complete.

Looking blocks (a network file system, a host far away): it is done in a thread, one look at a time.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path

from taskrun.driver.staging import Stager
from taskrun.model import Staging
from taskrun.staging.locations import Location
from taskrun.staging.mover import Staged
from taskrun.staging.settling import Settling
from taskrun.staging.store import Entry, StoreError


class Outputs:
    """`settle`: seconds without a change after which a file is complete."""

    def __init__(self, stager: Stager, settle: float) -> None:
        self.stager = stager
        self.settle = settle
        self.failed: dict[str, str] = {}  # what could not be delivered, and why
        self._settling: dict[tuple[int, str], Settling] = {}  # by line and engine, '' for the driver's folder
        self._found: deque[tuple[Staging, str, list[Entry]]] = deque()
        self._looker: threading.Thread | None = None
        self._look_at = 0.0

    def tick(self) -> None:
        """Once a second, from the driver's loop."""
        self._hand_on()
        now = time.monotonic()
        if self.stager.out_stagings and now >= self._look_at and (self._looker is None or not self._looker.is_alive()):
            self._look_at = now + max(1.0, self.settle / 2)
            todo = [(each, engine) for each in self.stager.out_stagings for engine in ("", *self.stager.places.members)]
            self._looker = threading.Thread(target=self._look, args=(todo,), name="outputs", daemon=True)
            self._looker.start()

    def last(self, engine: str = "", patience: float = 600.0) -> None:
        """Nobody writes there any more: everything that is left is delivered. Blocks while looking."""
        if self._looker is not None:
            self._looker.join(patience)
        self._hand_on()
        for staging in self.stager.out_stagings:
            try:
                rest = self._settled(staging, engine).rest(self._entries(staging, engine))
            except StoreError as error:
                self.failed[f"{staging.source} on {engine or 'this machine'}"] = str(error)
                continue
            self._found.append((staging, engine, rest))
        self._hand_on()

    def _settled(self, staging: Staging, engine: str) -> Settling:
        return self._settling.setdefault((staging.line, engine), Settling(self.settle))

    def _entries(self, staging: Staging, engine: str) -> list[Entry]:
        place = self.stager.places.on(engine, staging.source)
        return list(self.stager.places.stores.of(place).find(place.pattern))

    def _look(self, todo: list[tuple[Staging, str]]) -> None:
        for staging, engine in todo:
            try:
                entries = self._entries(staging, engine)
            except Exception:  # noqa: BLE001, S112 - a host that is away for a moment; the last look tells
                continue
            writing = frozenset() if engine else _being_written({entry.name for entry in entries}, self.stager.places.settings.folder)
            ready = self._settled(staging, engine).look(entries, time.monotonic(), writing)
            if ready:
                self._found.append((staging, engine, ready))

    def _hand_on(self) -> None:
        while self._found:
            staging, engine, entries = self._found.popleft()
            for entry in entries:
                source = self.stager.places.on(engine, staging.source).at(entry.name)
                self._deliver(staging, engine, source)

    def _deliver(self, staging: Staging, engine: str, source: Location) -> None:
        def done(end: Staged) -> None:
            if end.failures or not end.deliveries:
                self._settled(staging, engine).failed(source.path)
                self.failed[str(source)] = end.failures[0].why if end.failures else "it has gone"
            else:
                self.failed.pop(str(source), None)

        self.stager.deliver(source, staging, done)


def _being_written(names: set[str], folder: Path) -> frozenset[str]:
    """Which of these files a process of ours has open for writing, as far as /proc tells."""
    wanted = {os.path.realpath(folder / name): name for name in names}
    found: set[str] = set()
    if not wanted:
        return frozenset()
    for process in os.scandir("/proc"):
        if not process.name.isdigit():
            continue
        try:
            with os.scandir(f"{process.path}/fd") as descriptors:
                for descriptor in descriptors:
                    name = wanted.get(str(Path(descriptor.path).readlink()))
                    if name is not None and _writes(process.path, descriptor.name):
                        found.add(name)
        except OSError:
            continue  # it has ended, or is somebody else's
    return frozenset(found)


def _writes(process: str, descriptor: str) -> bool:
    with Path(process, "fdinfo", descriptor).open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("flags:"):
                return bool(int(line.split()[1], 8) & os.O_ACCMODE)
    return False
