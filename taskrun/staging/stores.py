"""The registry: which store a location is in. A new kind of store is one more line here and one in locations.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskrun.errors import Refused
from taskrun.staging.guard import Guard
from taskrun.staging.local import LocalStore
from taskrun.staging.locations import Location
from taskrun.staging.rclone import RcloneStore
from taskrun.staging.s3 import Client, S3Store
from taskrun.staging.sftp import SftpStore
from taskrun.staging.store import Store


@dataclass(frozen=True)
class Settings:
    """What stores are opened with. `tag`: in the names of unfinished files, the same for a resumed run, [a-z0-9]."""

    folder: Path  # that relative local paths are below
    tag: str
    transfers: int = 4
    rclone_config: Path | None = None
    guard: Guard | None = None  # of what must not be replaced here
    rate: int = 0  # bytes a second of all transfers together, 0: as fast as they go


class Stores:
    """Each store is opened when it is first asked for. Hosts (sftp, engine) are made by the driver, which holds their connections."""

    def __init__(self, settings: Settings, hosts: Callable[[Location], Store] | None = None) -> None:
        self.settings = settings
        self.s3 = Client(settings.transfers * 7)
        self._hosts = hosts
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], Store] = {}

    @property
    def guard(self) -> Guard | None:
        return self.settings.guard

    def of(self, location: Location) -> Store:
        """The store of a location. Raises Refused when it cannot be used here at all."""
        key = (location.kind, location.where)
        with self._lock:
            if key not in self._open:
                self._open[key] = self._make(location)
            return self._open[key]

    def forget(self, location: Location) -> None:
        """Closes one store: of an engine that has left."""
        with self._lock:
            store = self._open.pop((location.kind, location.where), None)
        if store is not None:
            store.close()

    def stale(self) -> list[SftpStore]:
        """Those to be tidied."""
        with self._lock:
            return [store for store in self._open.values() if isinstance(store, SftpStore) and store.stale]

    def close(self) -> None:
        """Closes all of them."""
        with self._lock:
            stores, self._open = list(self._open.values()), {}
        for store in stores:
            store.close()
        self.s3.close()

    def _make(self, location: Location) -> Store:
        if location.kind in _OPEN:
            return _OPEN[location.kind](location.where, self)
        if self._hosts is None:
            raise Refused(f"{location}: no connection to {location.where} is to be had here")
        return self._hosts(location)


def _https(where: str) -> Store:
    from taskrun.staging.https import HttpsStore  # urllib and ssl take 40 ms, and few runs need them

    return HttpsStore(where)


_OPEN: dict[str, Callable[[str, Stores], Store]] = {
    "local": lambda _, stores: LocalStore(stores.settings.folder, stores.settings.tag, stores.settings.guard),
    "https": lambda where, _: _https(where),
    "s3": lambda where, stores: S3Store(where, stores.s3),
    "rclone": lambda where, stores: RcloneStore(
        where, stores.settings.tag, config=stores.settings.rclone_config, rate=stores.settings.rate
    ),
}
