"""The events file: one JSON object a line, everything that the 15 columns of the status file have no place for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from pathlib import Path

from taskrun.errors import RecordsFailed
from taskrun.model import Result
from taskrun.status.linefile import SYNC_SECONDS, LineFile

#: Version of the file's form, in its first object.
VERSION = 1


def event_line(kind: str, t: float, **fields: object) -> bytes:
    """One event as a line. `t`: epoch seconds, the driver's clock, kept to the millisecond.

    Bytes and paths that are not UTF-8 survive (escaped surrogates); numbers that JSON has no form for become null.
    """
    event: dict[str, object] = {"t": round(t, 3), "kind": kind, **fields}
    try:
        text = _dumps(event)
    except (ValueError, TypeError):
        text = _dumps(_plain(event))
    return text.encode("ascii") + b"\n"


_dumps = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_quoted = lru_cache(maxsize=4096)(json.dumps)  # names of engines: few, and each comes with every attempt


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if isfinite(value) else None
        case bytes():
            return os.fsdecode(value)
        case os.PathLike():
            return os.fsdecode(value)
        case dict():
            return {key if isinstance(key, str) else os.fsdecode(key) if isinstance(key, bytes) else str(key): _plain(item)
                    for key, item in value.items()}  # fmt: skip
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return str(value)


def attempt_line(result: Result, engine: str, queued: float, node: str | None = None, blame: str = "") -> bytes:
    """The event of one ended attempt. `engine`: its name; `queued`: when its task was handed out, epoch seconds; `node`: where, if told.

    `blame`: the task may have caused the death of its engine or slot (`suspect`), or is charged with it.

    The form is event_line's, written by hand because there is one for every task; `t` is when the attempt ended.
    """
    kind, id_, n, cause, code, _, slot, start, end, _, utime, stime, maxrss, out_bytes, _, err_bytes, _, left_behind, tail = result
    if not isfinite(queued + start + end + utime + stime):
        return _odd_attempt_line(result, engine, queued, node, blame)
    return (
        f'{{"t":{end:.3f},"kind":"attempt","id":{id_},"n":{n},"engine":{_quoted(engine)},"slot":{slot},"cause":"{cause}","code":{code},'
        f'"queued":{queued:.3f},"start":{start:.3f},"end":{end:.3f},"utime":{utime:.3f},"stime":{stime:.3f},"maxrss":{maxrss},'
        f'"out_bytes":{out_bytes},"err_bytes":{err_bytes},"left_behind":{"true" if left_behind else "false"}'
        f"{'' if kind == 'task' else _PER_ENGINE[kind]}{'' if node is None else _NODE % _quoted(node)}"
        f"{_BLAME % blame if blame else ''}{_TAIL % json.dumps(os.fsdecode(tail)) if tail else ''}}}\n"
    ).encode("ascii")


_PER_ENGINE = {"start": ',"per_engine":"START"', "stop": ',"per_engine":"STOP"'}
_NODE = ',"node":%s'
_BLAME = ',"blame":"%s"'
_TAIL = ',"tail":%s'


def _odd_attempt_line(result: Result, engine: str, queued: float, node: str | None, blame: str) -> bytes:
    names = ("id", "n", "slot", "cause", "code", "start", "end", "utime", "stime", "maxrss", "out_bytes", "err_bytes", "left_behind")
    fields: dict[str, object] = {"engine": engine, "queued": queued, **{name: getattr(result, name) for name in names}}
    if result.kind != "task":
        fields["per_engine"] = result.kind.upper()
    if node is not None:
        fields["node"] = node
    if blame:
        fields["blame"] = blame
    if result.tail:
        fields["tail"] = result.tail
    return event_line("attempt", result.end, **fields)


class EventsWriter:
    """Collects events and appends them to PREFIX_events.jsonl, a batch at a time. `append`, `on_error` and what is raised: see LineFile."""

    def __init__(
        self,
        path: Path,
        *,
        append: bool = False,
        on_error: Callable[[RecordsFailed], None] | None = None,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self._file = LineFile(path, append=append, may_be_torn=_may_be_torn, on_error=on_error, sync_seconds=sync_seconds)
        self._batch: list[bytes] = []
        self._first = True

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def torn(self) -> bytes:
        """The rest of a line that a crashed run left at the end of the file, now cut off."""
        return self._file.torn

    def add(self, line: bytes) -> None:
        """Collects a line that was made before (by `attempt_line` or `event_line`)."""
        self._batch.append(line)

    def event(self, kind: str, t: float, **fields: object) -> None:
        """Collects one event. The first one, which is the `run`'s start, carries the version `v`."""
        if self._first:
            self._first = False
            fields = {"v": VERSION, **fields}
        self._batch.append(event_line(kind, t, **fields))

    def flush(self) -> None:
        """Writes what was collected. Raises RecordsFailed."""
        if self._batch:
            batch, self._batch = self._batch, []
            self._file.write(batch)

    def close(self) -> None:
        """Writes what is left and makes the file durable. Raises RecordsFailed."""
        try:
            self.flush()
        finally:
            self._file.close()


def _may_be_torn(rest: bytes) -> bool:
    return rest.rstrip(b"\0")[:1] in (b"{", b"")
