"""--clean: what is safe elsewhere goes from the working directories. What may go is planned in staging/cleaning.py; here it is done."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from taskrun.driver.deliveries import Span
from taskrun.driver.places import Places
from taskrun.errors import Refused
from taskrun.staging.cleaning import Mode, Plan, Present, plan
from taskrun.staging.locations import Location, escape
from taskrun.staging.store import ALGORITHMS, Cancelled, Entry, FolderStore, Listing, StoreError
from taskrun.staging.transfers import Delivery
from taskrun.status import names


class Removing(NamedTuple):
    """What --clean does to one place."""

    place: str  # '' for the driver's folder
    store: FolderStore
    plan: Plan


def clean(mode: Mode, removals: list[Removing], note: Callable[[str, str], None]) -> None:
    """At the end of a run."""
    removed = 0
    for removing in removals:
        for each in removing.plan.kept:
            note("warning", f"{shown(removing.place, each.path)} is kept: {each.why}")
        for file in removing.plan.remove:
            try:
                removing.store.remove(file.path)
                removed += 1
            except StoreError as error:
                note("warning", f"{shown(removing.place, file.path)} could not be removed: {error}")
    note("info", f"--clean {mode}: {removed} files removed")


def plans(
    mode: Mode,
    places: Places,
    spans: Sequence[Span],
    taskfile: Path | None,
    inputs: list[Delivery],
    outputs: list[Delivery],
    note: Callable[[str, str], None],
    told: Container[Delivery] = (),
    over: Callable[[], bool] = lambda: False,
) -> list[Removing]:
    """Return what would be removed now, place by place. `spans`, `inputs`, `outputs`: of this run and those it carries on.

    `told`: deliveries that are only known from records of earlier runs: of these only files that were written in the spans may go.
    `over`: the person does not wait for it any more: nothing goes.
    """
    found = []
    for place in ("", *places.folders):
        where = places.on(place, "./")
        try:
            store = places.stores.of(where)
            assert isinstance(store, FolderStore)
            found.append(Removing(place, store, _plan(mode, places, store, where, spans, taskfile, inputs, outputs, told, Listing(over))))
        except Cancelled:
            note("warning", "--clean was interrupted: nothing was removed")
            return []
        except (StoreError, Refused) as error:
            note("warning", f"--clean: {place or 'the working directory'} cannot be looked at: {error}")
    return found


def _plan(
    mode: Mode,
    places: Places,
    store: FolderStore,
    where: Location,
    spans: Sequence[Span],
    taskfile: Path | None,
    inputs: list[Delivery],
    outputs: list[Delivery],
    told: Container[Delivery],
    listing: Listing,
) -> Plan:
    folder = places.folders.get(where.where)
    root = folder.path if folder is not None else str(places.settings.folder)
    entries = {
        name: entry for entry in store.find(where.pattern, listing) for name in [_below(root, entry.name)] if not _foreign(name, where)
    }
    offset = folder.offset if folder is not None else 0.0

    def within(when: float | None) -> bool:
        return when is not None and any(span.since <= when + offset <= span.until for span in spans)

    def made(path: str) -> bool:
        return within(store.changed(path))

    def believed(found: dict[str, Delivery]) -> dict[str, Delivery]:
        return {path: each for path, each in found.items() if each not in told or (path in entries and within(store.touched(path)))}

    arrived = believed(_by_path(places, root, where, ((each.dest, each) for each in inputs)))
    shipped = believed(_by_path(places, root, where, ((each.source, each) for each in outputs)))

    own = frozenset(path for path in entries if folder is None and _is_own(Path(root, path), spans, taskfile))
    if folder is None:
        sidecars = [path.removesuffix(names.SIDECAR) for path in entries if path.endswith(names.SIDECAR)]  # of whatever run
        own |= _destinations(places, entries, outputs) | {f"{prefix}{suffix}" for prefix in sidecars for suffix in names.RECORDS}
    ends: dict[tuple[str, str], dict[str, Delivery]] = {}  # where one content of one file has gone
    for each in outputs:
        ends.setdefault((each.source, each.source_version), {})[each.dest] = each

    def version(path: str, entry: Entry) -> str:
        recorded = shipped[path].source_version if path in shipped else arrived[path].dest_version if path in arrived else ""
        return _version(store, entry, recorded)

    def safe(delivery: Delivery) -> bool:
        return all(is_safe(places, each) for each in ends[delivery.source, delivery.source_version].values())

    present = [Present(path, version(path, entry)) for path, entry in entries.items()]
    return plan(mode, present, arrived, shipped, made=made, own=own, safe=safe)


def _destinations(places: Places, paths: Iterable[str], outputs: list[Delivery]) -> frozenset[str]:
    """Files of the driver's folder that outputs were delivered to: they stay, as outputs do at every destination."""
    folder = places.settings.folder
    found = set()
    for each in outputs:
        with contextlib.suppress(Refused):
            place = places.recorded(each.dest)
            if place.kind == "local":
                found.add(os.path.realpath(folder / place.path))
    return frozenset(path for path in paths if found and os.path.realpath(folder / path) in found)


def _version(store: FolderStore, entry: Entry, recorded: str) -> str:
    """In the words of a delivery: where times say little it has recorded a checksum."""
    algorithm = recorded.rpartition(":")[0]
    return f"{algorithm}:{store.digest(entry, algorithm)}" if not entry.certain and algorithm in ALGORITHMS else entry.version


def _by_path(places: Places, root: str, where: Location, found: Iterator[tuple[str, Delivery]]) -> dict[str, Delivery]:
    """Deliveries by the path, relative to the folder, of their end that lies in it."""
    paths = {}
    for text, delivery in found:
        try:
            location = places.recorded(text)
        except Refused:
            continue
        if (location.kind, location.where) == (where.kind, where.where) and (path := _below(root, location.path)):
            paths[path] = delivery
    return paths


def _below(root: str, name: str) -> str:
    """A name relative to a folder; '' for one that is not in it."""
    if name.startswith("/"):
        if not name.startswith(f"{root.rstrip('/')}/"):
            return ""
        name = name[len(root.rstrip("/")) + 1 :]
    name = "/".join(part for part in name.split("/") if part not in ("", "."))
    return name if name and escape(name) is None else ""


def _foreign(path: str, where: Location) -> bool:
    """Hidden files of a host's folder, which may be somebody's home: ours are not among them."""
    return not path or (where.kind == "engine" and path.startswith("."))


def _is_own(path: Path, spans: Sequence[Span], taskfile: Path | None) -> bool:
    """The task file; status, sidecar, events, manifest, lock, logs: of this run and those it carries on."""
    prefixes = (Path(span.prefix) for span in spans)
    return path == taskfile or any(
        path.parent == each.parent and path.name.startswith((f"{each.name}_", f"{each.name}.")) for each in prefixes
    )


def is_safe(places: Places, delivery: Delivery) -> bool:
    """It is at its destination, as it was delivered."""
    try:
        place = places.recorded(delivery.dest)
        store = places.stores.of(place)
        entry = store.stat(place.path)
        if entry is None or entry.size != delivery.size:
            return False
        return (entry.certain and entry.version == delivery.dest_version) or _same(store.digest, entry, delivery)
    except (StoreError, Refused):
        return False


def _same(digest: Callable[[Entry, str], str | None], entry: Entry, delivery: Delivery) -> bool:
    """By a checksum that the store knows: sha256, or the one that it told when the file had arrived."""
    algorithm, _, value = delivery.dest_version.rpartition(":")
    known = {"sha256": delivery.sha256} | ({algorithm: value} if algorithm in ALGORITHMS else {})
    return any(digest(entry, name) == value for name, value in known.items())


def shown(place: str, path: str) -> str:
    return f"{place}:{path}" if place else path
