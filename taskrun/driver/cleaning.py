"""--clean: what is safe elsewhere goes from the working directory. What may go is planned in staging/cleaning.py; here it is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from taskrun.driver.staging import Stager
from taskrun.errors import Refused
from taskrun.staging import locations
from taskrun.staging.cleaning import Mode, Plan, Present, plan
from taskrun.staging.store import ALGORITHMS, StoreError
from taskrun.staging.transfers import Delivery


def clean(mode: Mode, stager: Stager, folder: Path, prefix: Path, started: float, note: Callable[[str, str], None]) -> None:
    """At the end of a run."""
    removal = plan_of(mode, stager, folder, prefix, started)
    for each in removal.kept:
        note("warning", f"{each.path} is kept: {each.why}")
    removed = 0
    for file in removal.remove:
        try:
            (folder / file.path).unlink()
            removed += 1
        except OSError as error:
            note("warning", f"{file.path} could not be removed: {os.strerror(error.errno or 0)}")
    note("info", f"--clean {mode}: {removed} files removed")


def plan_of(mode: Mode, stager: Stager, folder: Path, prefix: Path, started: float) -> Plan:
    """What would be removed now."""
    here = locations.parse("./")
    store = stager.places.stores.of(here)

    def present() -> Iterator[Present]:
        for path in _files(folder):
            entry = store.stat(path)
            if entry is not None:
                yield Present(path, entry.version)

    def made(path: str) -> bool:
        try:
            found = (folder / path).lstat()
        except OSError:
            return False
        return found.st_mtime >= started and found.st_ctime >= started

    own = frozenset(
        path
        for path in _files(folder)
        if (folder / path).name.startswith(f"{prefix.name}_") or (folder / path).name.startswith(f"{prefix.name}.")
    )
    inputs = {relative: each for each in stager.inputs if (relative := _below(folder, each.dest))}
    outputs = {relative: each for each in stager.outputs if (relative := _below(folder, each.source))}
    return plan(mode, list(present()), inputs, outputs, made=made, own=own, safe=lambda delivery: is_safe(stager, delivery))


def is_safe(stager: Stager, delivery: Delivery) -> bool:
    """It is at its destination, as it was delivered."""
    try:
        place = locations.parse(delivery.dest)
        store = stager.places.stores.of(place)
        entry = store.stat(place.path)
        if entry is None or entry.size != delivery.size:
            return False
        if entry.certain and entry.version == delivery.dest_version:
            return True
        return any(store.digest(entry, algorithm) == delivery.sha256 for algorithm in ALGORITHMS[:1])
    except (StoreError, Refused):
        return False


def _files(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(Path(parent) / name, folder)


def _below(folder: Path, place: str) -> str:
    """A local path relative to the folder; '' for what is not in it."""
    found = locations.parse(place)
    if found.kind != "local":
        return ""
    path = os.path.normpath(folder / found.path)
    return os.path.relpath(path, folder) if path.startswith(f"{folder}/") else ""
