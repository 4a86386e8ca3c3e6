"""Edits of a task file between a run and its resume, as far as tasks without a record are concerned.

A run keeps digests of the lines that say something (tasks and directives; blank lines, comments and ALLOW are left out): one of a group of
consecutive lines, at most 1,024 groups. A digest covers all directives above its group, too, since they are part of what the tasks below
become. So a resume can tell whether a task that has not run is still on the line that it was on; of tasks with a record the record tells.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from hashlib import blake2b, sha256
from typing import NamedTuple

from taskrun.language.raw_text import directive
from taskrun.status.sidecar import DIGEST, Lines

GROUPS_MOST = 1024

_task = re.compile(rb"[ \t\r\f\v]*[^ \t\r\f\v#]").match
_allow = re.compile(rb"#TASKRUN (?i:ALLOW)(?![^ \t\r\f\v\n])").match  # changes nothing that runs
_may_be_quiet = re.compile(rb"\n[ \t\r\f\v]*(?=[#\n])").search


def group_of(lines: int) -> int:
    """Return the number of lines that share one digest in a file of so many."""
    return max(1, -(-lines // GROUPS_MOST))


class Digester:
    """Fed with a task file in pieces, from its first byte on. `close` gives the digests.

    `most`: lines that are digested, of those that say something; -1 for all of them. `numbers`: where each of all of them is, by
    line number, if that was asked for.
    """

    def __init__(self, group: int, most: int = -1, *, numbered: bool = False) -> None:
        self.numbers = array("Q")
        self._numbered = numbered
        self._group = group
        self._most = most
        self._count = 0
        self._line = 1  # the next one
        self._torn: list[bytes] = []
        self._pending: list[bytes] = []  # lines of a group that is not full
        self._above = b""  # the digest of all directives so far
        self._digests: list[str] = []

    def feed(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        if not end:
            self._torn.append(data)
            return
        block = b"".join((*self._torn, data[:end]))
        self._torn = [data[end:]] if end < len(data) else []
        self._take(block)

    def close(self) -> Lines:
        """The digests of all that was fed."""
        rest = b"".join(self._torn)
        self._torn = []
        if rest:
            self._take(rest + b"\n")
        if self._pending:
            self._digest(self._pending)
            self._pending = []
        return Lines(self._count, self._group, "".join(self._digests), self._above.hex())

    def _take(self, block: bytes) -> None:
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        lines = block[:-1].split(b"\n")
        first, self._line = self._line, self._line + len(lines)
        if _may_be_quiet(b"\n" + block):
            speaking = [number for number, line in enumerate(lines) if _task(line) or (directive(line) and not _allow(line))]
            lines = [lines[number] for number in speaking]
            if self._numbered:
                self.numbers.extend(first + number for number in speaking)
        elif self._numbered:
            self.numbers.extend(range(first, self._line))
        if self._most >= 0:
            del lines[self._most - self._count :]
        self._count += len(lines)
        if self._pending:
            lines = self._pending + lines
        whole = len(lines) - len(lines) % self._group
        for start in range(0, whole, self._group):
            self._digest(lines[start : start + self._group])
        self._pending = lines[whole:]

    def _digest(self, lines: list[bytes]) -> None:
        text = b"\n".join(lines)
        self._digests.append(blake2b(text, digest_size=DIGEST, key=self._above).hexdigest())
        if b"#" in text:
            for line in lines:
                if line.startswith(b"#"):  # no comment is here any more
                    self._above = blake2b(line, digest_size=16, key=self._above).digest()


class Appended:
    """Tell whether a text, fed in pieces, is an older one with lines after it. `size`: its bytes; `digest`: its SHA-256, hex."""

    def __init__(self, size: int, digest: str) -> None:
        self._left = max(0, size)
        self._wanted = digest
        self._digest = sha256()
        self._torn = False  # the older one ends within a line
        self._next = b""  # what comes after it, two bytes
        self._ends = 0  # of lines there
        self._last = b"\n"

    def feed(self, data: bytes) -> None:
        old, new = data[: self._left], data[self._left :]
        self._left -= len(old)
        self._digest.update(old)
        if old:
            self._torn = not old.endswith(b"\n")
        if new:
            self._next += new[: 2 - len(self._next)]
            self._ends += new.count(b"\n")
            self._last = new[-1:]

    def close(self) -> int | None:
        """Return the number of added lines, None if more than that was changed."""
        if self._left or self._digest.hexdigest() != self._wanted:
            return None
        if self._torn and self._next and not (self._next.startswith(b"\n") or self._next == b"\r\n"):
            return None
        return max(0, self._ends + (self._last != b"\n") - (self._torn and bool(self._next)))


class Unrun:
    """Tasks without a record, by the lines that they are on, from the first line on."""

    def __init__(self) -> None:
        self.lines = array("Q")
        self.tasks = array("Q")  # on each of them

    def add(self, line: int) -> None:
        if self.lines and self.lines[-1] == line:
            self.tasks[-1] += 1
        else:
            self.lines.append(line)
            self.tasks.append(1)

    @property
    def count(self) -> int:
        """Return the number of tasks."""
        return sum(self.tasks)


class Change(NamedTuple):
    """The first group of lines with a task that has not run and may be another than it was."""

    first: int  # line number
    last: int  # the same, if each line has its digest
    tasks: int  # in all such groups


def changed(before: Lines, now: Lines, numbers: array[int], unrun: Unrun) -> Change | None:
    """Return where unrun tasks may have changed, None if nowhere. Lines that were added at the end are no change.

    `now` and `numbers`: of the file as it is, digested as far as there were lines before, in the same groups.
    """
    group = before.group
    first = last = tasks = 0
    for line, count in zip(unrun.lines, unrun.tasks, strict=True):
        place = bisect_left(numbers, line)
        if place >= before.count:
            if now.directives == before.directives:
                break
            first, last = (first, last) if tasks else (line, line)
            tasks += count
            continue
        start = place // group
        at = slice(2 * DIGEST * start, 2 * DIGEST * (start + 1))
        if before.digests[at] == now.digests[at]:
            continue
        if not tasks:
            first = numbers[start * group]
            last = numbers[min(start * group + group, before.count, len(numbers)) - 1]
        tasks += count
    return Change(first, last, tasks) if tasks else None


def first_difference(before: Lines, now: Lines, numbers: array[int]) -> tuple[int, int]:
    """Return the first and the last line of the first group that is another than it was, (0, 0) if there is none.

    `now` and `numbers` as for `changed`.
    """
    for start in range(-(-before.count // before.group)):
        at = slice(2 * DIGEST * start, 2 * DIGEST * (start + 1))
        if before.digests[at] != now.digests[at]:
            there = numbers[start * before.group : min((start + 1) * before.group, before.count)]
            return (there[0], there[-1]) if there else ((numbers[-1] + 1 if numbers else 1),) * 2
    return 0, 0


WAYS_OUT = (
    "Undo the change; or --match command finds finished tasks by their text and runs what the file says now, --force-resume runs that, too."
)


def change_text(file: str, status: str, change: Change) -> str:
    """The refusal. `file`, `status`: names to be shown."""
    tasks = f"{change.tasks} task{' that has' if change.tasks == 1 else 's that have'} not run"
    if change.first == change.last:
        what = f"this line is not what it was, or a directive above it is not, when {status} was written, and {tasks} would run changed"
    else:
        what = f"lines {change.first} to {change.last}, or directives above them, are not what they were when {status} was written, and "
        what += f"{tasks} may run changed"
    return f"{file}:{change.first}:1: {what}: nothing was run\n{WAYS_OUT}"


def unknown_text(file: str, status: str, tasks: int) -> str:
    """The refusal where nothing is known of the lines as they were."""
    which = "1 task that has" if tasks == 1 else f"{tasks} tasks that have"
    return (
        f"{file}: the file was changed since {status} was written, which does not tell whether that concerns the {which} not run: "
        f"nothing was run\n{WAYS_OUT}"
    )


def added_text(file: str, lines: int) -> str:
    """Return the sentence about lines that were added and will run."""
    return f"{lines} line{' was' if lines == 1 else 's were'} added to {file} since the earlier run"
