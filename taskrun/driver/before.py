"""PREFIX_before.jsonl: names and inodes that were in the working directories before the run. --clean removes no file that was there.

One section for each place: a line `{"place", "folder"}`, a line `[inode, name]` for each file, and for each folder with a `/` at the end of
its name, a line `{"end": count}`. A section without its end, of a driver that was killed in between, does not count.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from taskrun.errors import Handled
from taskrun.staging.store import Seen
from taskrun.status import opening, trust
from taskrun.status.durable import write_all

_LINE_MOST = 1 << 16
_WRITE = 1 << 16  # bytes at a time


class Known(NamedTuple):
    """Names and inodes of a place that were there before the run."""

    names: frozenset[str]  # of folders with a `/` at their end
    inodes: frozenset[int]


class Before:
    """The file of this run, or of the earliest run that it carries on and that has one. Threads may use it side by side."""

    def __init__(self, path: Path, earlier: Iterable[Path]) -> None:
        """`earlier`: such files of the runs that are carried on, the oldest first."""
        self._path = path
        self._earlier = [each for each in earlier if each != path]
        self._lock = threading.Lock()

    def write(self, place: str, folder: str, seen: Iterable[Seen]) -> None:
        """Record what is there, unless an earlier run did. `seen` may raise. Raises OSError."""
        with self._lock:
            if any(_has(path, place, folder) for path in self._files()):
                return
            fd = opening.own(self._path)
            try:
                write_all(fd, _line({"place": place, "folder": folder}))
                count, rows = 0, b""
                for each in seen:
                    count += 1
                    rows += _line([each.inode, each.name + "/" * each.is_folder])
                    if len(rows) > _WRITE:
                        write_all(fd, rows)
                        rows = b""
                write_all(fd, rows + _line({"end": count}))
                os.fsync(fd)
            finally:
                os.close(fd)

    def known(self, place: str, folder: str, names: Collection[str], inodes: Collection[int]) -> Known | None:
        """Return which of these were there, None if nobody has recorded it."""
        for path in self._files():
            with contextlib.suppress(OSError, Handled), trust.opened(path) as file:
                for at, section in _sections(file):
                    if at == (place, folder):
                        rows = [(inode, name) for inode, name in section if name in names or inode in inodes]
                        return Known(frozenset(name for _, name in rows), frozenset(inode for inode, _ in rows))
        return None

    def _files(self) -> list[Path]:
        return [path for path in (*self._earlier, self._path) if path.exists()]


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"  # surrogates of odd names survive as escapes


def _has(path: Path, place: str, folder: str) -> bool:
    with contextlib.suppress(OSError, Handled), trust.opened(path) as file:
        return any(at == (place, folder) for at, _ in _sections(file))
    return False


def _sections(file: IO[bytes]) -> Iterator[tuple[tuple[str, str], Iterator[tuple[int, str]]]]:
    """Yield each whole section: its place and folder, and its rows, which are to be read before the next one."""
    while head := file.readline(_LINE_MOST):
        value = _value(head)
        if not isinstance(value, dict) or not isinstance(value.get("folder"), str):
            continue
        start = file.tell()
        if not _ends(file):
            file.seek(start)
            continue
        file.seek(start)
        yield (str(value.get("place")), value["folder"]), _rows(file)


def _ends(file: IO[bytes]) -> bool:
    count = 0
    while line := file.readline(_LINE_MOST):
        value = _value(line)
        if isinstance(value, dict):
            return value.get("end") == count
        count += isinstance(value, list)
    return False


def _rows(file: IO[bytes]) -> Iterator[tuple[int, str]]:
    while line := file.readline(_LINE_MOST):
        value = _value(line)
        if not (isinstance(value, list) and len(value) == 2):
            return
        yield int(value[0]), str(value[1])


def _value(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
