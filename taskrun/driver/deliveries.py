"""What earlier runs have moved and verified, where outputs of theirs may still lie, and when they ran: read from their events files."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from taskrun.driver.places import Folder
from taskrun.engines.request import Reach
from taskrun.staging import manifest
from taskrun.staging.transfers import Delivery, delivery_from_json
from taskrun.status import names, trust

_KINDS = (b'"kind":"transfer"', b'"kind":"place"', b'"kind":"run"')


class Span(NamedTuple):
    """When a run made what it made, epoch seconds, and the prefix of its files."""

    since: float
    until: float
    prefix: str

    def to_json(self) -> dict[str, Any]:
        return {"what": "worked", **self._asdict()}


class Earlier(NamedTuple):
    """Of all runs that are carried on; the later one of a destination counts."""

    inputs: tuple[Delivery, ...] = ()
    outputs: tuple[Delivery, ...] = ()
    folders: tuple[Folder, ...] = ()  # of engines, not swept yet
    spans: tuple[Span, ...] = ()

    def repeat(self, record: Callable[..., None]) -> None:
        """Into the events of a run with files of its own, so that they tell it all to the next one."""
        for way, found in (("in", self.inputs), ("out", self.outputs)):
            for delivery in found:
                record("transfer", id=None, way=way, cause="carried", **delivery.to_json())
        for folder in self.folders:
            record("place", what="used", **folder._asdict())
        for span in self.spans:
            record("place", **span.to_json())


def earlier(statuses: Iterable[Path]) -> Earlier:
    """`statuses`: status files of earlier runs, the oldest first."""
    moved: dict[str, list[Delivery]] = {"in": [], "out": []}
    folders: dict[str, Folder] = {}
    spans: list[Span] = []
    for status in statuses:
        prefix = names.prefix_of(status)
        found: list[Span] = []
        for event in _events(names.with_suffix(prefix, names.EVENTS)):
            if event.get("kind") == "transfer" and event.get("cause") in ("ok", "carried"):
                delivery = delivery_from_json({name: event[name] for name in Delivery._fields if name in event})
                if delivery is not None and event.get("way") in moved:
                    moved[event["way"]].append(delivery)
            elif event.get("kind") == "place" and event.get("what") == "worked":
                spans += _span(event)
            elif event.get("kind") == "place":
                _place(event, folders)
            elif event.get("kind") == "run" and isinstance(event.get("t"), int | float):
                _ran(event, found, str(prefix))
        spans += found
    return Earlier(manifest.latest(moved["in"]), manifest.latest(moved["out"]), tuple(folders.values()), tuple(spans))


def _ran(event: dict[str, Any], spans: list[Span], prefix: str) -> None:
    """A start opens a span; what was killed has worked until now, for all that anybody knows."""
    if event.get("what") == "start":
        spans.append(Span(event["t"], time.time(), prefix))
    elif event.get("what") == "end" and spans:
        spans[-1] = spans[-1]._replace(until=event["t"])


def _span(event: dict[str, Any]) -> Iterator[Span]:
    since, until, prefix = (event.get(name) for name in Span._fields)
    if isinstance(since, int | float) and isinstance(until, int | float) and isinstance(prefix, str):
        yield Span(since, until, prefix)


def _place(event: dict[str, Any], folders: dict[str, Folder]) -> None:
    address = event.get("address")
    if event.get("what") == "swept":
        folders.pop(str(address), None)
    elif isinstance(address, str) and isinstance(event.get("path"), str) and isinstance(event.get("offset"), int | float):
        reach = event.get("reach")
        folders[address] = Folder(address, event["path"], event["offset"], cast("Reach", reach) if reach in get_args(Reach) else "ssh")


def _events(path: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError), trust.opened(path) as file:
        for line in file:
            if any(kind in line for kind in _KINDS):
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        yield event
