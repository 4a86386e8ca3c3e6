"""Little free space is said while there is time to do something about it: where this machine's data goes, and on other hosts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from taskrun.sizes import size_text

if TYPE_CHECKING:
    from taskrun.driver.member import Member

LITTLE = 1 << 28  # bytes: less than that free is said, or than a tenth of a small file system


class Space:
    """`note` says a sentence (level, text)."""

    def __init__(self, note: Callable[[str, str], None]) -> None:
        self._note = note
        self._little: set[str] = set()  # where it was said

    def look(self, folders: Iterable[Path], members: Iterable[Member]) -> None:
        """At folders of this machine, and at what engines have said of theirs with their last sign of life."""
        little = set()
        for where, free, size in (*_here(folders), *_there(members)):
            if size and free < min(LITTLE, size // 10):
                little.add(where)
                if where not in self._little:
                    self._note("warning", f"{where}: only {size_text(free)} are free; what does not fit there fails")
        self._little = little


def _here(folders: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    for folder in {folder.stat().st_dev: folder for folder in folders}.values():  # one of each file system
        found = os.statvfs(folder)
        yield str(folder), found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _there(members: Iterable[Member]) -> Iterator[tuple[str, int, int]]:
    for member in members:
        if not member.shared and member.beat is not None:
            yield f"{member.request.host}:{member.cwd}", member.beat.free, member.beat.room
