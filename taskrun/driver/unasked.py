"""The stores of a dry run: this machine's folders as they are, every other place as it was when the earlier runs last saw it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from taskrun.driver.places import Places
from taskrun.errors import Refused
from taskrun.staging.locations import Location
from taskrun.staging.store import Entry, Store
from taskrun.staging.stores import Stores
from taskrun.staging.transfers import Delivery


class Unasked(Stores):
    """Of `places`. `spared`: the places that a run would have asked about deliveries."""

    def __init__(self, places: Places, outputs: Iterable[Delivery]) -> None:
        super().__init__(places.settings)
        self.spared: set[str] = set()
        self._recorded: dict[Location, Delivery] = {}
        for each in outputs:
            try:
                self._recorded[places.recorded(each.dest)] = each
            except Refused:
                continue

    def of(self, location: Location) -> Store:
        """Raises Refused."""
        if location.kind == "local":
            return super().of(location)
        self.spared.add(str(location.at("")))
        found = self._recorded.get(location)
        return cast("Store", _Recorded(found))


class _Recorded:
    """One file, as its delivery tells of it."""

    def __init__(self, delivery: Delivery | None) -> None:
        self._delivery = delivery

    def stat(self, name: str) -> Entry | None:
        found = self._delivery
        return None if found is None else Entry(name, found.size, found.dest_version)

    def digest(self, _entry: Entry, algorithm: str) -> str | None:
        return self._delivery.sha256 if self._delivery is not None and algorithm == "sha256" else None

    def close(self) -> None:
        """Nothing is open."""
