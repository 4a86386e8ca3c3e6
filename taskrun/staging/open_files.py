"""Processes of this machine that have files open, as far as /proc shows them to this user (proc(5): fd, fdinfo, maps)."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

#: A mapping that a process may write to, which outlives the descriptor it was made with: `7f…-7f… rw-s offset device inode path`.
_MAPPED = re.compile(rb"^\S+ .w.s \S+ \S+ [1-9]\d* +(/.*)$", re.MULTILINE)


class Holder(NamedTuple):
    """A process that has a file open."""

    pid: int
    command: str
    writes: bool

    def __str__(self) -> str:
        return f"PID {self.pid} ({self.command})"


class _Open(NamedTuple):
    """One open file: the path that leads to it through /proc, and its holder."""

    through: str
    holder: Holder


class OpenFiles:
    """One look through /proc serves all who ask at the same time: with many short tasks, a look for each would cost more than they do."""

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._looked = -1.0  # when the last look began
        self._found: dict[str, list[_Open]] = {}

    def writers(self, paths: Iterable[Path]) -> dict[Path, Holder]:
        """Return those of the files that a process may still write to, with the process."""
        return {path: holder for path, holder in self._holders(paths) if holder.writes}

    def holders(self, paths: Iterable[Path]) -> dict[Path, Holder]:
        """Return those of the files that a process has open, to read or to write, with the process."""
        return dict(self._holders(paths))

    def _holders(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Holder]]:
        asked = time.monotonic()
        with self._looking:
            if self._looked < asked:
                self._looked = time.monotonic()
                self._found = _look()
            found = self._found
        for path in paths:
            holders = [each for each in found.get(os.path.realpath(path).rpartition("/")[2], ()) if _is(path, each.through)]
            if holders:
                yield path, max((each.holder for each in holders), key=lambda holder: holder.writes)


def _is(path: Path, through: str) -> bool:
    """Return whether what a process has open, or had a moment ago, is this file: a container may call it by another path."""
    with contextlib.suppress(OSError):
        return path.samefile(through)
    return False


def _look() -> dict[str, list[_Open]]:
    """Return the files that processes have open, by their names without folders. Files of other users' processes cannot be seen."""
    found: dict[str, list[_Open]] = {}
    own = os.getpid()
    for process in os.scandir("/proc"):
        if not process.name.isdigit() or int(process.name) == own:
            continue
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            for through, path, writes in (*_descriptors(process.path), *_mappings(process.path)):
                opened = _Open(through, Holder(int(process.name), _command(process.path), writes))
                found.setdefault(path.rpartition("/")[2], []).append(opened)
    return found


def _descriptors(process: str) -> Iterator[tuple[str, str, bool]]:
    for descriptor in os.listdir(f"{process}/fd"):
        through = f"{process}/fd/{descriptor}"
        with contextlib.suppress(OSError):  # closed meanwhile
            path = str(Path(through).readlink())
            if path.startswith("/") and not path.startswith(("/dev/", "/proc/", "/sys/")):
                yield through, path, _writes(process, descriptor)


def _mappings(process: str) -> Iterator[tuple[str, str, bool]]:
    """Shared memory that is written to a file. /proc/PID/map_files would lead to it, but only for root."""
    for path in {each[1] for each in _MAPPED.finditer(Path(process, "maps").read_bytes())}:
        text = os.fsdecode(path)
        if not text.startswith(("/dev/", "/memfd:", "/SYSV")):
            yield f"{process}/root{text}", text, True


def _writes(process: str, descriptor: str) -> bool:
    flags = re.search(rb"^flags:\s*([0-7]+)", Path(process, "fdinfo", descriptor).read_bytes(), re.MULTILINE)
    return flags is not None and bool(int(flags[1], 8) & os.O_ACCMODE)


def _command(process: str) -> str:
    with contextlib.suppress(OSError):
        return Path(process, "comm").read_bytes().decode("utf-8", "replace").strip()
    return "?"
