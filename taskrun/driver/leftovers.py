"""Unfinished files of a driver that was killed or a host that was lost: nobody takes one for whole, and when all is delivered they go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from taskrun.driver.places import Places
from taskrun.errors import Refused
from taskrun.model import Staging
from taskrun.staging.locations import Location
from taskrun.staging.store import Cancelled, FolderStore, Listing, StoreError


def remove_leftovers(stagings: Iterable[Staging], places: Places, engines: Iterable[str], over: Callable[[], bool]) -> None:
    """To be called when nothing is under way. `engines`: places where work was broken off. What cannot be reached stays.

    `over`: nobody waits for it any more.
    """
    todo = {location for staging in stagings for location in _dests(staging, places, engines)}
    for location in todo:
        try:
            store = places.stores.of(location)
            if isinstance(store, FolderStore):
                for name in list(store.unfinished(location.path, Listing(over))):
                    store.remove(name)
        except (StoreError, Refused):
            continue
        except Cancelled:
            return


def _dests(staging: Staging, places: Places, engines: Iterable[str]) -> Iterator[Location]:
    """The folders below which a line has written."""
    text = staging.dest.partition("$")[0]
    for place in ("", *engines) if staging.way == "in" and staging.scope != "RUN" else ("",):
        try:
            location = places.on(place, text)
        except Refused:
            continue
        yield location.at(location.path.rpartition("/")[0] + "/" if "/" in location.path else "")
