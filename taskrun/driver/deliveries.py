"""Deliveries of earlier runs, the places where outputs of theirs may still lie, and their times: read from their events files.

An events file is believed within the limits of the run's sidecar (lineage.py): its times, its hosts, its working directories.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, cast, get_args

from taskrun.driver.lineage import Limits, limits
from taskrun.driver.places import Folder, is_place
from taskrun.engines.request import Reach
from taskrun.staging import manifest
from taskrun.staging.transfers import Delivery, delivery_from_json
from taskrun.status import names, trust

_KINDS = (b'"kind":"transfer"', b'"kind":"place"', b'"kind":"run"')
_LINE_MOST = 1 << 20  # bytes of one event; longer ones are none of ours
_OFFSET_MOST = 3600.0  # seconds that a host's clock may differ by, for the times of its files to be believed


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


def earlier(statuses: Iterable[Path], known: Mapping[str, Limits] | None = None) -> Earlier:
    """`statuses`: status files of earlier runs, the oldest first. `known`: their limits, where the sidecars were read before."""
    statuses = list(statuses)
    known = limits(statuses) if known is None else known
    moved: dict[str, list[Delivery]] = {"in": [], "out": []}
    folders: dict[str, Folder] = {}
    spans: list[Span] = []
    for status in statuses:
        prefix = str(names.prefix_of(status))
        spans.append(Span(1.0, 0.0, prefix))  # its files are a run's own, whatever its times are
        found: list[Span] = []
        for event in _events(names.with_suffix(names.prefix_of(status), names.EVENTS)):
            what, way = event.get("what"), event.get("way")
            if event["kind"] == "transfer":
                told = {name: event[name] for name in Delivery._fields if name in event}
                delivery = delivery_from_json(told) if event.get("cause") in ("ok", "carried") else None
                if delivery is not None and way in ("in", "out"):
                    moved[way].append(delivery)
            elif event["kind"] == "run":
                _ran(what, event.get("t"), found, prefix, known)
            elif what == "worked":
                spans += _span(event)
            elif what == "swept":
                folders.pop(str(event.get("address")), None)
            elif (folder := _folder(event)) is not None and any(each.allow(folder.address, folder.path) for each in known.values()):
                folders[folder.address] = folder
        spans += found
    kept = tuple(dict.fromkeys(_within(span, known) for span in spans))
    return Earlier(manifest.latest(moved["in"]), manifest.latest(moved["out"]), tuple(folders.values()), kept)


def _ran(what: object, when: object, spans: list[Span], prefix: str, known: Mapping[str, Limits]) -> None:
    """A start opens a span; what was killed has worked until another run took over, for all that anybody knows."""
    if not _is_time(when):
        return
    if what == "start":
        spans.append(Span(when, known[prefix].ended if prefix in known else 0.0, prefix))
    elif what == "end" and spans:
        spans[-1] = spans[-1]._replace(until=when)


def _within(span: Span, known: Mapping[str, Limits]) -> Span:
    """Return the part of a span that the run's sidecar agrees with: an empty one where there is no sidecar."""
    limit = known.get(span.prefix)
    since, until = (max(span.since, limit.began), min(span.until, limit.ended)) if limit is not None else (1.0, 0.0)
    return Span(since, until, span.prefix) if since <= until else Span(1.0, 0.0, span.prefix)


def _span(event: dict[str, Any]) -> Iterator[Span]:
    since, until, prefix = (event.get(name) for name in Span._fields)
    if _is_time(since) and _is_time(until) and _is_path(prefix):
        yield Span(since, until, prefix)


def _folder(event: dict[str, Any]) -> Folder | None:
    """The folder that a `place` is about, None where it can be none."""
    address, path, offset, reach = (event.get(name) for name in Folder._fields)
    reach = "ssh" if reach is None else reach
    if not (isinstance(address, str) and reach in get_args(Reach) and is_place(address, attached=reach == "relay")):
        return None
    if not (_is_path(path) and path.startswith("/") and os.path.normpath(path) == path and _is_time(offset)):
        return None
    return Folder(address, path, offset if abs(offset) <= _OFFSET_MOST else 0.0, cast("Reach", reach))


def _is_time(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and abs(value) < 1e12 and math.isfinite(value)


def _is_path(value: Any) -> TypeGuard[str]:
    """Return whether the value could be a path of the system."""
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a kind that counts here. Their other fields may be anything."""
    with contextlib.suppress(OSError), trust.opened(path) as file:
        whole = True
        while line := file.readline(_LINE_MOST):
            begins, whole = whole, line.endswith(b"\n")
            if begins and any(kind in line for kind in _KINDS):
                with contextlib.suppress(ValueError, RecursionError):
                    event = json.loads(line)
                    if isinstance(event, dict) and event.get("kind") in ("transfer", "place", "run"):
                        yield event
