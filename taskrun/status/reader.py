"""Reads old status files, ours and disBatch's: where the record of each task is, in little memory.

What counts: the last whole line of a task. S lines count as the record they repeat. A Z line is the true report of a task that had been
given up (-100) before it came, so it counts as any later line does. Barriers (B, C) and PERENGINE (P) lines have no say: those are
executed again. A header is skipped. A last line without newline or with columns missing is torn and does not count. Lines may end in
CRLF where the first one does: an editor, or git, has made it so.
"""

from __future__ import annotations

import os
import re
import stat
from array import array
from collections.abc import Iterator
from heapq import merge
from pathlib import Path

from taskrun.errors import Refused
from taskrun.status import trust
from taskrun.status.record import HEADER, SHAPE, is_beginning

_CHUNK = 1 << 20
_BLOCK = 8192  # what one look at a record reads: tasks are asked for nearly in the order of the file
_LONGEST = 64 << 20  # no line of ours is longer than a frame of the link; a file with one is something else
_FEW = 5
_SOON = 1000  # lines without a single record among them, after which the rest need not be read

_LINES = re.compile(rb"(?:" + SHAPE + rb"|(" + re.escape(HEADER[:-1]) + rb"\r?)|[^\n]*)\n")


class StatusIndex:
    """The place of each task's record in one status file. Raises Refused when the file cannot be read or is no status file,
    Untrusted when somebody else may have written it.

    `torn`: the last line, if it does not count; `torn_line`: its number, from 1. `bad`: how many lines are no records; `bad_lines`: the
    numbers of the first few.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = b""
        self.torn_line = 0
        self.bad = 0
        self.bad_lines: list[int] = []
        self.lines = 0
        self._crlf = False  # the first line ends so; what a run has added since ends in LF
        self._offsets = Offsets()
        self._fd = _open(path)
        self._last_line = b""
        self._block = b""
        self._block_at = 0
        try:
            self._read()
        except OSError as error:
            self.close()
            raise Refused(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """How many tasks have a record."""
        return len(self._offsets)

    def __enter__(self) -> StatusIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; `line` must not be called any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def line(self, task_id: int) -> bytes | None:
        """The whole line of a task's record, which ends in LF; None if there is none. Raises Refused if the file was changed meanwhile."""
        at = self._offsets.get(task_id)
        if at < 0:
            return None
        start = at - self._block_at
        end = self._block.find(b"\n", start) if start >= 0 else -1
        line = self._fetch(at) if end < 0 else self._block[start : end + 1]
        if line.split(b"\t", 2)[1:2] != [b"%d" % task_id] and not _has_id(line, task_id):
            raise self.changed()
        return line[:-2] + b"\n" if self._crlf and line.endswith(b"\r\n") else line

    def has(self, task_id: int) -> bool:
        """Whether a task has a record."""
        return self._offsets.get(task_id) >= 0

    def ids(self, first: int = 0) -> Iterator[int]:
        """The tasks that have a record, in their order, from an id on."""
        return self._offsets.ids(first)

    def notes(self) -> list[str]:
        """What a person should be told about the file, one sentence each."""
        notes = []
        if self.torn_line:
            notes.append(f"{self.path}:{self.torn_line}: the last line is torn and does not count; its task runs again")
        if self.bad:
            where = ", ".join(map(str, self.bad_lines)) + (", …" if self.bad > len(self.bad_lines) else "")
            what = "1 line is no record and does not count" if self.bad == 1 else f"{self.bad} lines are no records and do not count"
            notes.append(f"{self.path}: {what} (line {where})")
        return notes

    def _fetch(self, at: int) -> bytes:
        size = _BLOCK
        while True:
            try:
                block = os.pread(self._fd, size, at)
            except OSError as error:
                raise Refused(f"{self.path} cannot be read: {os.strerror(error.errno or 0)}") from error
            end = block.find(b"\n")
            if end >= 0:
                self._block, self._block_at = block, at
                return block[: end + 1]
            if len(block) < size:
                raise self.changed()
            size *= 8

    def changed(self) -> Refused:
        """The error for a line that is not what it was when the file was indexed."""
        return Refused(f"{self.path} was changed while it was being read: nothing may write to it now")

    def _read(self) -> None:
        at = 0
        rest = b""
        while chunk := os.read(self._fd, _CHUNK):
            end = chunk.rfind(b"\n") + 1
            if not end:
                rest += chunk
                if len(rest) > _LONGEST:
                    raise self._foreign("it has a line of more than 64 MiB")
                continue
            whole = rest + chunk[:end]
            self._take(whole, at)
            at += len(whole)
            rest = chunk[end:]
            if self.bad == self.lines >= _SOON:
                raise self._foreign(f"none of its first {self.lines} lines is a record")
        self._judge(rest)

    def _take(self, whole: bytes, base: int) -> None:
        """Takes the whole lines that begin at offset `base` of the file."""
        put = self._offsets.put
        number = self.lines
        if not number:
            self._crlf = whole.endswith(b"\r", 0, whole.index(b"\n"))
        for match in _LINES.finditer(whole):
            number += 1
            kind, task_id, header = match.groups()
            if task_id is None:
                if header is None:
                    self.bad += 1
                    if self.bad <= _FEW:
                        self.bad_lines.append(number)
            elif kind is not None and kind != b"P":
                put(int(task_id), base + match.start())
        self.lines = number
        self._last_line = whole[whole.rfind(b"\n", 0, -1) + 1 :]

    def _judge(self, rest: bytes) -> None:
        """At the end: what the last line is, and whether this is a status file at all."""
        good = self.lines - self.bad
        if rest:
            self.torn, self.torn_line = rest, self.lines + 1
            if not good and not is_beginning(rest):
                raise self._foreign("no line of it is a record")
        elif self._last_line.strip() and self._last_line.count(b"\t") < _TABS and is_beginning(self._last_line[:-1]):
            self.torn, self.torn_line = self._last_line, self.lines
            self.bad -= 1
            self.bad_lines = [number for number in self.bad_lines if number != self.lines]
        if self.bad and not good:
            raise self._foreign("no line of it is a record")
        if self.bad > good:
            raise self._foreign(f"{self.bad} of its {self.lines} lines are no records, the first in line {self.bad_lines[0]}")

    def _foreign(self, why: str) -> Refused:
        return Refused(f"{self.path} is not a status file: {why}")


_TABS = 14


def _has_id(line: bytes, task_id: int) -> bool:
    column = line.split(b"\t", 2)[1:2]
    return bool(column) and column[0].isdigit() and int(column[0]) == task_id  # a number with leading zeros


def _open(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise Refused(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}: a status file is needed here")
    try:
        trust.check(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Offsets:
    """A map from task id to file offset, 8 bytes a task: ids count from 0 nearly without gaps.

    An id far beyond what the number of tasks explains goes to a dict, so that one stray number does not cost memory.
    """

    def __init__(self) -> None:
        self._dense = array("q")  # offset + 1, 0 for none
        self._sparse: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, task_id: int, offset: int) -> None:
        """Later ones win."""
        try:
            if not self._dense[task_id]:
                self._count += 0 if self._sparse and self._sparse.pop(task_id, None) is not None else 1
        except IndexError:
            if task_id > 65536 + 4 * self._count:
                self._count += task_id not in self._sparse
                self._sparse[task_id] = offset
                return
            self._dense.frombytes(bytes(8 * (task_id + 1 + (task_id >> 2) - len(self._dense))))
            self.put(task_id, offset)
            return
        self._dense[task_id] = offset + 1

    def ids(self, first: int = 0) -> Iterator[int]:
        """All ids from `first` on, in order."""
        dense = (id_ for id_, offset in enumerate(self._dense[first:], first) if offset)
        return merge(dense, sorted(id_ for id_ in self._sparse if id_ >= first))

    def get(self, task_id: int) -> int:
        """The offset, -1 for none."""
        if 0 <= task_id < len(self._dense):
            offset = self._dense[task_id] - 1
            if offset >= 0:
                return offset
        return self._sparse.get(task_id, -1) if self._sparse else -1
