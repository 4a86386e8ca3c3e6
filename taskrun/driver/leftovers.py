"""Unfinished files of a driver that was killed or a host that was lost: nobody takes one for whole, and when all is delivered they go.

A file that a killed driver had put aside for its removal (removal.py) gets its name back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from taskrun.driver.places import Places
from taskrun.errors import Handled, Refused
from taskrun.model import Staging
from taskrun.staging.locations import Location
from taskrun.staging.store import ASIDE, Cancelled, FolderStore, Listing, Missing, StoreError, Taken, is_unfinished
from taskrun.status import lock, names, sidecar


def dead_tags(folder: Path) -> list[str]:
    """Return the tags of runs whose records lie in a directory and whose driver was killed: its lock is there and held by nobody."""
    found = []
    for path in folder.glob(f"*{names.LOCK}"):
        if not lock.holder(path):
            with contextlib.suppress(Handled, OSError):
                run = sidecar.load(names.with_suffix(path.with_name(path.name.removesuffix(names.LOCK)), names.SIDECAR))
                found += [str(run.extra[sidecar.DATA_TAG])] if run.extra.get(sidecar.DATA_TAG) else []
    return found


def remove_leftovers(
    stagings: Iterable[Staging], places: Places, engines: Iterable[str], tags: Collection[str], over: Callable[[], bool]
) -> None:
    """To be called when nothing is under way. `engines`: places where work was broken off. What cannot be reached stays.

    `over`: nobody waits for it any more.
    """
    todo = {location for staging in stagings for location in _dests(staging, places, engines)}
    for location in todo:
        try:
            store = places.stores.of(location)
            if isinstance(store, FolderStore):
                tidy(store, location.path, tags, Listing(over))
        except (StoreError, Refused):
            continue
        except Cancelled:
            return


def tidy(store: FolderStore, folder: str, tags: Collection[str], listing: Listing, *, unfinished: bool = True) -> None:
    """Remove unfinished files of dead runs, and give files that those had put aside their names back.

    `unfinished`: whether such files go, too. Raises StoreError, Cancelled.
    """
    asides = {f"{ASIDE}{tag}~" for tag in tags}

    def is_ours(name: str) -> bool:
        *_, above, base = ("", *name.split("/"))
        return above in asides or base in asides or (unfinished and any(is_unfinished(tag, base) for tag in tags))

    found = [each for each in store.walk(folder, listing) if is_ours(each.name)]
    for each in found:
        above, _, base = each.name.rpartition("/")
        parent, _, aside = above.rpartition("/")
        if each.is_folder:
            continue
        with contextlib.suppress(Taken, Missing):
            if aside in asides:
                store.rename(each.name, f"{parent}/{base}" if parent or above.startswith("/") else base)
            else:
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
