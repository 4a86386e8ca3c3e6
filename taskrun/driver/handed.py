"""Which secrets of stores --stage-on-engine hands to hosts: said as the run begins, before anything is sent to one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from taskrun.driver.places import Places
from taskrun.errors import Refused
from taskrun.model import Staging
from taskrun.staging.errands import Reachable, Unable
from taskrun.staging.store import StoreError


class Handed:
    """`hosts`: how many may move files beside this machine. `note`: says a sentence (level, text)."""

    def __init__(self, places: Places, hosts: int, note: Callable[[str, str], None]) -> None:
        self._places = places
        self._hosts = hosts if places.on_engine else 0
        self._note = note
        self._seen: set[tuple[str, str]] = set()

    def look(self, stagings: Iterable[Staging]) -> None:
        """Say once of each store of these lines what hosts get to know of it."""
        if not self._hosts:
            return
        for staging in stagings:
            if staging.encryption is not None if staging.way == "out" else staging.scope == "RUN":
                continue  # the driver moves it
            location = self._places.of(staging.source if staging.way == "in" else staging.dest)
            key = (location.kind, location.where if location.kind == "rclone" else "")
            if location.kind not in ("s3", "rclone") or key in self._seen:
                continue
            self._seen.add(key)
            if location.kind == "s3":
                self._note("info", "--stage-on-engine: for s3:// hosts get presigned URLs, each for one object and operation, and no keys")
                continue
            try:
                store = self._places.stores.of(location)
                if isinstance(store, Reachable):
                    store.remote()
            except (Unable, Refused):
                continue
            except StoreError:
                pass  # it may be found out later, and then they go
            hosts = f"{self._hosts} host{'s'[: self._hosts != 1]}"
            self._note(
                "warning",
                f"--stage-on-engine: the settings of rclone remote `{location.where}`, keys included, go to {hosts} (not to those that "
                "share this folder)",
            )
