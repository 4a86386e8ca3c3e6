"""What earlier runs have moved and verified, and where outputs of theirs may still lie: read from their events files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.driver.places import Folder
from taskrun.staging import manifest
from taskrun.staging.transfers import Delivery, delivery_from_json
from taskrun.status import names


class Earlier(NamedTuple):
    """Of all runs that are carried on; the later one of a destination counts."""

    inputs: tuple[Delivery, ...] = ()
    outputs: tuple[Delivery, ...] = ()
    folders: tuple[Folder, ...] = ()  # of engines, not swept yet

    def repeat(self, record: Callable[..., None]) -> None:
        """Into the events of a run with files of its own, so that they tell it all to the next one."""
        for way, found in (("in", self.inputs), ("out", self.outputs)):
            for delivery in found:
                record("transfer", id=None, way=way, cause="carried", **delivery.to_json())
        for folder in self.folders:
            record("place", what="used", **folder._asdict())


def earlier(statuses: Iterable[Path]) -> Earlier:
    """`statuses`: status files of earlier runs, the oldest first."""
    moved: dict[str, list[Delivery]] = {"in": [], "out": []}
    folders: dict[str, Folder] = {}
    for status in statuses:
        for event in _events(names.with_suffix(names.prefix_of(status), names.EVENTS)):
            if event.get("kind") == "transfer" and event.get("cause") in ("ok", "carried"):
                delivery = delivery_from_json({name: event[name] for name in Delivery._fields if name in event})
                if delivery is not None and event.get("way") in moved:
                    moved[event["way"]].append(delivery)
            elif event.get("kind") == "place":
                _place(event, folders)
    return Earlier(manifest.latest(moved["in"]), manifest.latest(moved["out"]), tuple(folders.values()))


def _place(event: dict[str, Any], folders: dict[str, Folder]) -> None:
    address = event.get("address")
    if event.get("what") == "swept":
        folders.pop(str(address), None)
    elif isinstance(address, str) and isinstance(event.get("path"), str) and isinstance(event.get("offset"), int | float):
        folders[address] = Folder(address, event["path"], event["offset"])


def _events(path: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError), path.open("rb") as file:
        for line in file:
            if b'"kind":"transfer"' in line or b'"kind":"place"' in line:
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        yield event
