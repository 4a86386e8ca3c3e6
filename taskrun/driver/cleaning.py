"""--clean: what is safe elsewhere goes from the working directories. What may go is planned here and in staging/cleaning.py."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from taskrun.driver import proofs
from taskrun.driver.before import Before, Known
from taskrun.driver.deliveries import Span
from taskrun.driver.leftovers import tidy
from taskrun.driver.places import Places
from taskrun.driver.proofs import Proof
from taskrun.driver.removal import Doomed, Outcome, Remover
from taskrun.errors import Refused
from taskrun.staging import checksum_file
from taskrun.staging.cleaning import Mode, Plan, Present, Removal, plan
from taskrun.staging.locations import UNFINISHED, Location, escape
from taskrun.staging.open_files import OpenFiles
from taskrun.staging.store import ALGORITHMS, ASIDE, Cancelled, Entry, FolderStore, Listing, Seen, Store, StoreError, aside_name
from taskrun.staging.transfers import Delivery
from taskrun.status import lock, names

_SURE = "s3"  # the kind of stores whose copy cannot be a file of this machine
_OUTSIDE = ("sftp", "rclone", "engine")  # kinds whose copies are asked for once more after the removal


class Scope(NamedTuple):
    """The runs whose files may go, and what is known of them."""

    mode: Mode
    spans: Sequence[Span]  # of this run and those it carries on
    taskfile: Path | None
    inputs: Sequence[Delivery]
    outputs: Sequence[Delivery]
    told: Container[Delivery] = ()  # only known from records of earlier runs: of these only files that were written in the spans may go
    before: Before | None = None  # None: nobody has recorded what was there


class Removing(NamedTuple):
    """The removals of --clean in one place. `folders`: those that the run made, the deepest first."""

    place: str  # '' for the driver's folder
    store: FolderStore
    root: str
    plan: Plan
    folders: tuple[str, ...] = ()


def plans(
    scope: Scope,
    places: Places,
    note: Callable[[str, str], None],
    over: Callable[[], bool] = lambda: False,
    lost_after: float = lock.LOST_AFTER,
) -> list[Removing]:
    """Return what would be removed now, place by place, without having asked for any copy.

    `over`: the person does not wait for it any more: nothing goes. `lost_after`: silence, in seconds, after which another run is over.
    """
    found = []
    for place in ("", *places.folders):
        where = places.on(place, "./")
        try:
            store = places.stores.of(where)
            assert isinstance(store, FolderStore)
            seen = list(store.walk("", Listing(over)))
            if any(each.name.endswith(f"{ASIDE}{places.settings.tag}~") for each in seen):  # of a driver that was killed
                tidy(store, "", [places.settings.tag], Listing(over), unfinished=False)
                seen = list(store.walk("", Listing(over)))
            if other := _live_run(seen, places.settings.folder, scope.spans, lost_after) if not place else "":
                note("warning", f"--clean: nothing was removed: the run {other} goes on in this directory, and may need its files")
                return []
            found.append(_removing(scope, places, place, store, where, seen, Listing(over)))
        except Cancelled:
            note("warning", "--clean was interrupted: nothing was removed")
            return []
        except (StoreError, Refused) as error:
            note("warning", f"--clean: {place or 'the working directory'} cannot be looked at: {error}")
    return found


def clean(scope: Scope, places: Places, removals: list[Removing], note: Callable[[str, str], None], over: Callable[[], bool]) -> bool:
    """Remove what the plans name and what proves to be safe elsewhere. Return False if a copy has gone with it."""
    ends: dict[tuple[str, str], list[Proof]] = {}  # where one content of one file has gone
    for delivery in scope.outputs:
        ends.setdefault((delivery.source, delivery.source_version), []).append(proofs.at_dest(delivery))
    doomed = [_doomed(removing, each, ends) for removing in removals for each in removing.plan.remove]
    remover = Remover(
        places.settings.tag,
        lambda proof, compare: proofs.why_not(places, proof, compare=compare),
        lambda files, aside: _held(places, files, aside=aside),
        over,
        places.settings.transfers,
    )
    delivered = [proofs.at_dest(each) for each in scope.outputs]
    outside = [proof for proof in delivered if (at := proofs.location(places, proof)) is not None and at.kind in _OUTSIDE]
    outcome: Outcome = remover.remove(doomed, _watched(doomed, delivered, others=_others(removals)), outside)
    kept = [(shown(removing.place, each.path), each.why) for removing in removals for each in removing.plan.kept]
    for name, why in (*kept, *outcome.kept):
        note("warning", f"{name}: {why}" if name == "--clean" else f"{name} is kept: {why}")
    for name in outcome.lost:
        note("error", f"--clean: {name} is not there any more: it was this directory under another name")
    gone = sum(removing.store.remove_folder(name) for removing in removals for name in removing.folders)
    folders = f", {gone} director{'y' if gone == 1 else 'ies'}" if gone else ""
    note("info", f"--clean {scope.mode}: {outcome.removed} file{'s'[: outcome.removed != 1]}{folders} removed")
    return not outcome.lost


def _doomed(removing: Removing, removal: Removal, ends: Mapping[tuple[str, str], list[Proof]]) -> Doomed:
    """A file with all the proofs that it can be spared."""
    delivery = removal.delivery
    found: list[Proof] = []
    if delivery is not None:
        found = ends[delivery.source, delivery.source_version] if removal.row == "output" else [proofs.at_source(delivery)]
    return Doomed(shown(removing.place, removal.path), removing.store, removal.path, tuple(found))


def _others(removals: list[Removing]) -> bool:
    return any(each.row == "other" for removing in removals for each in removing.plan.remove)


def _watched(doomed: list[Doomed], delivered: list[Proof], *, others: bool) -> list[Proof]:
    """Copies that might be one of the files under another name: all of them where files go that are known by nothing but their names."""
    if others:
        return delivered
    going = {each.path.rpartition("/")[2] for each in doomed}
    return [proof for proof in delivered if proof.place.rpartition("/")[2] in going]


def _held(places: Places, files: list[Doomed], *, aside: bool) -> Mapping[Doomed, str]:
    """Files of this machine that a process has open."""
    store: Store = places.stores.of(places.on("", "./"))
    folder, tag = places.settings.folder, places.settings.tag
    paths = {folder / (aside_name(tag, each.path) if aside else each.path): each for each in files if id(each.store) == id(store)}
    return {paths[path]: f"it is open in {holder}" for path, holder in OpenFiles().holders(paths).items()} if paths else {}


def _live_run(seen: Iterable[Seen], folder: Path, spans: Sequence[Span], lost_after: float) -> str:
    """Return the name of another run that goes on with its records here, '' if there is none."""
    own = {os.path.realpath(names.with_suffix(Path(span.prefix), names.LOCK)) for span in spans}
    for each in seen:
        if each.name.endswith(names.LOCK) and not each.is_folder and os.path.realpath(folder / each.name) not in own:
            path = folder / each.name
            prefix = path.with_name(path.name.removesuffix(names.LOCK))
            if names.with_suffix(prefix, names.SIDECAR).exists() and (found := lock.holder(path, lost_after)):
                return found
    return ""


def _removing(
    scope: Scope, places: Places, place: str, store: FolderStore, where: Location, seen: list[Seen], listing: Listing
) -> Removing:
    folder = places.folders.get(where.where)
    root = folder.path if folder is not None else str(places.settings.folder)
    entries = {
        name: entry for entry in store.find(where.pattern, listing) for name in [_below(root, entry.name)] if not _foreign(name, where)
    }
    offset = folder.offset if folder is not None else 0.0
    known = _known(scope, place, root, seen)
    inodes = {each.name: each.inode for each in seen if not each.is_folder}

    def within(when: float | None) -> bool:
        return when is not None and any(span.since <= when + offset <= span.until for span in scope.spans)

    def made(path: str) -> bool:
        there = known is None or path in known.names or (inodes.get(path) or -1) in known.inodes
        return not there and within(store.changed(path))

    def believed(found: dict[str, Delivery]) -> dict[str, Delivery]:
        return {path: each for path, each in found.items() if each not in scope.told or (path in entries and within(store.touched(path)))}

    arrived = believed(_by_path(places, root, where, ((each.dest, each) for each in scope.inputs)))
    shipped = believed(_by_path(places, root, where, ((each.source, each) for each in scope.outputs)))

    own = frozenset(path for path in entries if folder is None and _is_own(Path(root, path), scope.spans, scope.taskfile))
    if folder is None:
        sidecars = [path.removesuffix(names.SIDECAR) for path in entries if path.endswith(names.SIDECAR)]  # of whatever run
        own |= _destinations(places, entries, scope.outputs) | {f"{prefix}{suffix}" for prefix in sidecars for suffix in names.RECORDS}

    def version(path: str, entry: Entry) -> str:
        delivery = shipped.get(path) or arrived.get(path)
        return _version(store, entry, delivery, shipped=path in shipped) if delivery is not None else entry.version

    def unproven(delivery: Delivery) -> bool:
        with contextlib.suppress(Refused):
            return places.recorded(delivery.dest).kind != _SURE
        return True

    present = [Present(path, version(path, entry)) for path, entry in entries.items()]
    planned = plan(scope.mode, present, arrived, shipped, made=made, own=own, unproven=unproven)
    folders: list[str] = []
    if scope.mode == "all" and known is not None:
        folders = [each.name for each in seen if each.is_folder and f"{each.name}/" not in known.names and not _foreign(each.name, where)]
    return Removing(place, store, root, planned, tuple(sorted(folders, key=lambda name: -name.count("/"))))


def _known(scope: Scope, place: str, root: str, seen: list[Seen]) -> Known | None:
    """Return what of the place was there before the run; None where nothing says so: then nothing counts as made."""
    if scope.before is None or scope.mode not in ("all", "encrypted"):
        return None
    paths = {each.name + "/" * each.is_folder for each in seen}
    return scope.before.known(place, root, paths, {each.inode for each in seen if each.inode})


def _destinations(places: Places, paths: Iterable[str], outputs: Iterable[Delivery]) -> frozenset[str]:
    """Files of the driver's folder that outputs were delivered to: they stay, as outputs do at every destination."""
    folder = places.settings.folder
    found = set()
    for each in outputs:
        with contextlib.suppress(Refused):
            place = places.recorded(each.dest)
            if place.kind == "local":
                path = folder / place.path
                found |= {os.path.realpath(path), os.path.realpath(path.with_name(checksum_file.NAME))}
    return frozenset(path for path in paths if found and os.path.realpath(folder / path) in found)


def _version(store: FolderStore, entry: Entry, delivery: Delivery, *, shipped: bool) -> str:
    """Return the version that the delivery has recorded if the content is the same, else that of now."""
    recorded, sha256 = (delivery.source_version, delivery.source_sha256) if shipped else (delivery.dest_version, delivery.sha256)
    if entry.certain and entry.version == recorded:
        return recorded
    size = delivery.source_size if shipped else delivery.size
    algorithm, _, value = recorded.rpartition(":")
    if algorithm not in ALGORITHMS:
        algorithm, value = "sha256", sha256
    return recorded if entry.size == size and value and store.digest(entry, algorithm) == value else entry.version


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
    return not path or f"/{UNFINISHED}" in f"/{path}" or (where.kind == "engine" and path.startswith("."))


def _is_own(path: Path, spans: Sequence[Span], taskfile: Path | None) -> bool:
    """The task file; status, sidecar, events, manifest, lock, logs: of this run and those it carries on."""
    prefixes = (Path(span.prefix) for span in spans)
    return path == taskfile or any(
        path.parent == each.parent and path.name.startswith((f"{each.name}_", f"{each.name}.")) for each in prefixes
    )


def shown(place: str, path: str) -> str:
    return f"{place}:{path}" if place else path
