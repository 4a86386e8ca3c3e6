"""--checksum-file: beside what was delivered a SHA256SUMS says what it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from taskrun.driver.places import Places
from taskrun.errors import Handled, Refused
from taskrun.staging import checksum_file
from taskrun.staging.locations import Location, Target
from taskrun.staging.store import Raced, Store, StoreError
from taskrun.staging.transfers import Delivery
from taskrun.status import opening

_TRIES = 4  # another run may write the same file


def write(places: Places, deliveries: Iterable[Delivery], spool: Path, over: Callable[[], bool]) -> dict[str, str]:
    """Write one file for each directory that something was delivered to; lines of other files stay. Return what failed, with why. Blocks.

    `spool`: a private directory. `over`: nobody waits for it any more.
    """
    groups: dict[Location, dict[str, str]] = {}
    for each in deliveries:
        try:
            place = places.recorded(each.dest)
        except Refused:
            continue
        folder, slash, name = place.path.rpartition("/")
        if name != checksum_file.NAME:
            groups.setdefault(place.at(folder + slash), {})[name] = each.sha256
    failed = {}
    for where, sums in groups.items():
        if over():
            break
        try:
            _write(places.stores.of(where), where, sums, spool)
        except (StoreError, Handled, OSError) as error:
            failed[str(where.at(where.path + checksum_file.NAME))] = str(error)
    return failed


def _write(store: Store, folder: Location, sums: dict[str, str], spool: Path) -> None:
    target = Target(folder.path, checksum_file.NAME)
    for tried in range(1, _TRIES + 1):
        there = store.stat(target.path)
        before = b"".join(store.read(there)) if there is not None and there.size <= checksum_file.LARGEST else b""
        text = checksum_file.text_of(checksum_file.parse(before) | sums)
        if text == before:
            return
        path = spool / f"{os.urandom(8).hex()}~"
        with os.fdopen(opening.new(path, 0o600), "wb") as file:
            file.write(text)
        try:
            store.put(path, target, hashlib.sha256(text).hexdigest(), lambda _: None, over=there or "nothing")
        except Raced:
            if tried == _TRIES:
                raise
        else:
            return
        finally:
            path.unlink()
