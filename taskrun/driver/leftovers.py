"""Unfinished files of a driver that was killed or a host that was lost: nobody takes one for whole, and when all is delivered they go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from taskrun.driver.places import Places
from taskrun.errors import Refused
from taskrun.model import Staging
from taskrun.staging.locations import Location
from taskrun.staging.store import ASIDE, Cancelled, FolderStore, Listing, StoreError, Taken, is_unfinished


def remove_leftovers(stagings: Iterable[Staging], places: Places, engines: Iterable[str], over: Callable[[], bool]) -> None:
    """To be called when nothing is under way. `engines`: places where work was broken off. What cannot be reached stays.

    `over`: nobody waits for it any more.
    """
    todo = {location for staging in stagings for location in _dests(staging, places, engines)}
    for location in todo:
        try:
            store = places.stores.of(location)
            if isinstance(store, FolderStore):
                tidy(store, location.path, places.settings.tag, Listing(over))
        except (StoreError, Refused):
            continue
        except Cancelled:
            return


def tidy(store: FolderStore, folder: str, tag: str, listing: Listing) -> None:
    """Remove the unfinished files of a run that is dead, and give files that it has put aside their names back. Raises StoreError."""
    aside = f"{ASIDE}{tag}~"
    found = [
        each for each in store.walk(folder, listing) if is_unfinished(tag, each.name.rpartition("/")[2]) or f"/{aside}" in f"/{each.name}"
    ]
    for each in found:
        above, _, base = each.name.rpartition("/")
        if not each.is_folder and above.rpartition("/")[2] == aside:
            with contextlib.suppress(Taken):
                store.rename(each.name, f"{above.removesuffix(aside)}{base}")
        elif not each.is_folder and is_unfinished(tag, base):
            store.remove(each.name)
    for each in found:
        if each.is_folder:
            store.remove_folder(each.name)


def _dests(staging: Staging, places: Places, engines: Iterable[str]) -> Iterator[Location]:
    """The folders below which a line has written."""
    text = staging.dest.partition("$")[0]
    for place in ("", *engines) if staging.way == "in" and staging.scope != "RUN" else ("",):
        try:
            location = places.on(place, text)
        except Refused:
            continue
        yield location.at(location.path.rpartition("/")[0] + "/" if "/" in location.path else "")
