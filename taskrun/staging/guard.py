"""Files that no transfer may replace: those of this run and of others that go on, and what a run obeys.

A store, or a host, chooses the names of what a glob or a tree brings. Were one of them the task file or the status file, the next `-r`
would run commands of whoever keeps that store.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from taskrun.errors import Handled
from taskrun.staging.store import Entry
from taskrun.status import names, record, sidecar

_LOOK = 1.0  # seconds between two looks at which runs go on in a folder

_SIDECAR = re.compile(rb'\s*\{\s*"v"\s*:')
_EVENT = re.compile(rb'\{"t":[-+.0-9e]+,"kind":"')
_STATUS = re.compile(rb"^(?:" + record.SHAPE + rb"|" + re.escape(record.HEADER[:-1]) + rb")", re.MULTILINE)

_Folder = tuple[int, int]  # device and inode


class _Live(NamedTuple):
    """Task files of the runs that go on in a folder, as they were at a time."""

    when: float
    task_files: list[Path]


class Guard:
    """Folders are compared by device and inode, so that no link leads past it; of names case does not count, as in some file systems.

    `files`: by path, with what each is. `prefixes`: of this run and of those that it carries on.
    """

    def __init__(self, files: Mapping[Path, str], prefixes: Iterable[Path]) -> None:
        self._files = {each: what for path, what in files.items() for each in (path, Path(os.path.realpath(path)))}
        self._prefixes = {each for prefix in prefixes for each in (prefix, Path(os.path.realpath(prefix)))}
        self._live: dict[_Folder, _Live] = {}

    def why_not(self, folder: int, name: str) -> str:
        """Return why `name` in a directory of this machine (a descriptor) is not to be written; '' if it may be."""
        at = _identity(os.fstat(folder))
        if any(names.is_of_run(prefix.name, name) and _folder_of(prefix) == at for prefix in self._prefixes):
            return "is the name of a file of this run"
        for run in names.runs_of(name):
            if _exists(folder, f"{run}{names.LOCK}") and _exists(folder, f"{run}{names.SIDECAR}"):
                return f"is the name of a file of {run}, a run that goes on or was killed"
        there = None
        with contextlib.suppress(OSError):
            there = _identity(os.stat(name, dir_fd=folder))
        live = dict.fromkeys(self._task_files(folder, at), "the task file of a run that goes on")
        for path, what in (*self._files.items(), *live.items()):
            if path.name.casefold() == name.casefold() and _folder_of(path) == at:
                return f"is {what}"
            with contextlib.suppress(OSError):
                if there is not None and _identity(path.stat()) == there:
                    return f"is {what}, by another name"
        return ""

    def why_not_there(self, name: str, there: Entry | None) -> str:
        """The same for a folder of a host, which may be one of this machine under another path. `there`: what is in the place."""
        base = name.rpartition("/")[2]
        if any(names.is_of_run(prefix.name, base) for prefix in self._prefixes):
            return "is the name of a file of this run"
        for path, what in self._files.items():
            with contextlib.suppress(OSError):
                found = path.stat()
                if there is not None and path.name == base and there.version == f"~{found.st_size}-{int(found.st_mtime)}":
                    return f"is {what}, it seems: it has its name, size and time"
        return ""

    def _task_files(self, folder: int, at: _Folder) -> list[Path]:
        known = self._live.get(at)
        if known is None or time.monotonic() - known.when > _LOOK:
            known = self._live[at] = _Live(time.monotonic(), _task_files_of_live_runs(folder))
        return known.task_files


def is_record(name: str, head: bytes) -> bool:
    """Return whether a later `-r` would obey a file of this name with these first bytes: many a program names its results so, too."""
    name = name.casefold()
    if name.endswith(names.SIDECAR):
        return _SIDECAR.match(head) is not None or b'"run_id"' in head
    if name.endswith(names.EVENTS):
        return _EVENT.match(head) is not None
    return _STATUS.search(head) is not None or (b"\n" not in head and record.is_beginning(head))


def _task_files_of_live_runs(folder: int) -> list[Path]:
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            run = name.removesuffix(names.LOCK)
            if run != name:
                with contextlib.suppress(Handled):  # of somebody else, perhaps: nothing of it is obeyed here
                    taken = sidecar.load(Path(f"/proc/self/fd/{folder}/{run}{names.SIDECAR}")).task_file
                    found += [Path(taken.path)] if taken is not None else []
    return found


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _folder_of(path: Path) -> _Folder | None:
    try:
        return _identity(path.parent.stat())
    except OSError:
        return None


def _identity(found: os.stat_result) -> _Folder:
    return found.st_dev, found.st_ino
