"""The files of FOREACH: taken once, sorted bytewise, kept with the run, so that a resume has the tasks of the first run.

The lists are a file, PREFIX_files.txt, and an unnamed temporary one until the run has its names: a million files cost no memory.
A list is the line `FOREACH glob`, then each path behind a TAB, then `END` and their number. One that has no such end was never used.
A name that a program would take for an option is kept as the path that it is given: `./-n.txt`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from heapq import merge
from pathlib import Path
from typing import IO, Literal, NamedTuple

from taskrun.driver.globs import Glob, Unreadable
from taskrun.errors import RecordsFailed, Refused
from taskrun.language import Diagnostic, Scan
from taskrun.language.diagnostics import in_order
from taskrun.language.items import Foreach, Item
from taskrun.language.raw_text import LINE_MAX
from taskrun.planning.expand import PLACE, bare_path, safe_path
from taskrun.status import opening, trust
from taskrun.status.durable import sync_folder, write_all
from taskrun.visible import visible

_CHUNK = 4 << 20  # bytes of names sorted in memory at once
_EACH = 60  # bytes that a name costs beyond its length
_BLOCK = 1 << 16
_LINES = 1000
_LONGEST = 4 << 20  # bytes of a line: a glob is part of one of the task file
_COLUMN = len("#TASKRUN FOREACH ") + 1  # of the glob in its line: single blanks, one sigil


class List(NamedTuple):
    """The files of one FOREACH: where they are in the temporary file."""

    glob: bytes
    start: int  # of the first path's line
    end: int
    number: int  # of files
    longest: int  # bytes of the longest path


class FileLists:
    """The lists of a run. `earlier`: those of the run that is carried on, which are used again."""

    def __init__(self, earlier: Path | None = None) -> None:
        self._notes: list[str] = []
        self.number = 0  # files of the lists that were taken
        self._earlier_path = earlier
        self._file: IO[bytes] | None = None
        self._size = 0
        self._earlier: dict[bytes, list[List]] = {}
        self._taken: dict[int, List] = {}  # by line
        self._kept = -1  # PREFIX_files.txt, open for more of them
        self._kept_path: Path | None = None
        if earlier is not None and os.path.lexists(earlier):
            self._load(earlier)

    def tell_nameless(self, scan: Scan) -> None:
        """Say which FOREACH has tasks that --match command cannot tell apart."""
        for item, template in scan.foreach:
            if PLACE not in template:
                self._notes.append(
                    f"line {item.line}: without {{}} its text does not name the file, so --match command runs all of it again"
                )

    def take_notes(self) -> list[str]:
        """What a person should be told that was not told yet."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._kept >= 0:
            os.close(self._kept)
            self._kept = -1

    # taking

    def take(self, item: Foreach, template: bytes) -> int:
        """How many files a FOREACH has; the first call, in the order of the task file, takes them. Raises Refused, RecordsFailed.

        `template`: its text with prefix and suffix.
        """
        if item.line in self._taken:
            return self._taken[item.line].number
        again = self._earlier.get(item.glob)
        if again:
            found = again.pop(0)
            self._compare(item, found)
        else:
            if self._earlier_path is not None and not self._loaded:
                self._notes.append(
                    f"line {item.line}: {self._earlier_path} is not there: the files of {_shown(item.glob)} are those of now"
                )
            begun = self._size
            found = self._take(item)
            self._keep(begun)
        places = template.count(PLACE)
        if len(template) + places * (5 * found.longest + 2) > 3 * LINE_MAX and places > 1:
            raise Refused(f"line {item.line}: with the files in their places the command is longer than {3 * LINE_MAX >> 20} MiB")
        self._taken[item.line] = found
        self.number += found.number
        return found.number

    def paths(self, item: Foreach) -> Iterator[bytes]:
        """Its files, taken before."""
        return self._paths(self._taken[item.line])

    def ends(self, item: Foreach) -> tuple[bytes, bytes]:
        """The first and the last of them; there must be one."""
        found = self._taken[item.line]
        assert self._file is not None
        first = next(self._paths(found))
        tail = os.pread(self._file.fileno(), found.longest + 2, max(found.start, found.end - found.longest - 2))
        return first, tail[:-1].rpartition(b"\n")[2][1:]

    def _take(self, item: Foreach) -> List:
        self._write(b"FOREACH " + item.glob + b"\n")
        start = self._size
        number = longest = 0
        block: list[bytes] = []
        size = 0
        unreadable: list[Unreadable] = []
        for name in _sorted(Glob(item.glob).matches(unreadable), item):
            path = safe_path(name, item.glob)
            number += 1
            longest = max(longest, len(path))
            block.append(b"\t%b\n" % path)
            size += len(path)
            if size > _BLOCK:
                self._write(b"".join(block))
                block, size = [], 0
        self._write(b"".join(block))
        end = self._size
        self._write(b"END %d\n" % number)
        if unreadable:
            more = f", and {len(unreadable) - 1} more folders" if len(unreadable) > 1 else ""
            self._notes.append(
                f"line {item.line}: {_shown(unreadable[0].path)} cannot be read: {unreadable[0].why}{more}; what is in there is left out"
            )
        return List(item.glob, start, end, number, longest)

    def _compare(self, item: Foreach, found: List) -> None:
        """Say so when other files match now: the run goes on with its own."""
        added = removed = 0
        try:
            now = _sorted(Glob(item.glob).matches([]), item)
            for added_here, removed_here in _differences(now, (bare_path(path, item.glob) for path in self._paths(found))):
                added += added_here
                removed += removed_here
        except Refused:
            return
        if added or removed:
            parts = [f"{added:,} more" if added else "", f"{removed:,} no longer" if removed else ""]
            told = " and ".join(part for part in parts if part)
            self._notes.append(
                f"line {item.line}: of {_shown(item.glob)}, {told} there than when the run began: it goes on with the files of then"
                + (" (with --match command: those of now)" if added else "")
            )

    # the files

    def save(self, path: Path) -> None:
        """Keep the lists with the run, and every list that is taken from now on. Raises RecordsFailed."""
        self._kept_path = path
        if not self._size or (path == self._earlier_path and not any(self._earlier_is_incomplete())):
            return
        try:
            fd, temporary = opening.beside(path)
            try:
                for block in self._blocks(0, self._size):
                    write_all(fd, block)
                os.fsync(fd)
                temporary.replace(path)
                sync_folder(path.parent)
            except BaseException:
                os.close(fd)
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        except OSError as error:
            raise RecordsFailed(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from None
        self._kept = fd

    def _earlier_is_incomplete(self) -> Iterator[bool]:
        """Whether a list was taken that the earlier file does not have."""
        return (found.start > self._loaded for found in self._taken.values())

    _loaded = 0  # bytes of the temporary file that came from the earlier run's

    def _keep(self, begun: int) -> None:
        if self._kept_path is None:
            return
        if self._kept < 0:
            self.save(self._kept_path)
            return
        try:
            for block in self._blocks(begun, self._size):
                write_all(self._kept, block)
            os.fsync(self._kept)
        except OSError as error:
            raise RecordsFailed(f"{self._kept_path} cannot be written: {os.strerror(error.errno or 0)}") from None

    def _load(self, path: Path) -> None:
        """Take over the whole lists of an earlier run; of one that is not whole no task ever ran."""
        try:
            with trust.opened(path) as file:
                while header := file.readline(_LONGEST):
                    if header.startswith(b"FOREACH "):
                        self._load_one(header, file)
        except OSError as error:
            raise Refused(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from None
        self._loaded = self._size

    def _load_one(self, header: bytes, file: IO[bytes]) -> None:
        begun = self._size
        crlf = header.endswith(b"\r\n")  # an editor, or git, has made it so
        header = header[:-2] + b"\n" if crlf else header
        self._write(header)
        start = self._size
        number = longest = 0
        block: list[bytes] = []
        line = b""
        for line in iter(lambda: file.readline(_LONGEST), b""):
            line = line[:-2] + b"\n" if crlf and line.endswith(b"\r\n") else line  # noqa: PLW2901
            if not line.startswith(b"\t") or b"\0" in line or not line.endswith(b"\n"):
                break
            number += 1
            longest = max(longest, len(line) - 2)
            block.append(line)
            if len(block) >= _LINES:
                self._write(b"".join(block))
                block = []
        self._write(b"".join(block))
        if line == b"END %d\n" % number:
            self._earlier.setdefault(header[8:-1], []).append(List(header[8:-1], start, self._size, number, longest))
            self._write(line)
        else:
            assert self._file is not None
            self._file.truncate(begun)
            self._file.seek(begun)
            self._size = begun

    def _write(self, data: bytes) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)
            write_all(self._file.fileno(), data)
        except OSError as error:
            raise Refused(f"the list of files cannot be kept in {tempfile.gettempdir()}: {os.strerror(error.errno or 0)}") from None
        self._size += len(data)

    def _blocks(self, at: int, end: int) -> Iterator[bytes]:
        while at < end:
            assert self._file is not None
            block = os.pread(self._file.fileno(), min(_BLOCK, end - at), at)
            at += len(block)
            yield block

    def _paths(self, found: List) -> Iterator[bytes]:
        rest = b""
        for block in self._blocks(found.start, found.end):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield line[1:]


def take_all(scan: Scan, lists: FileLists) -> Scan:
    """The files of every FOREACH of a scanned task file: the scan with their tasks, and what is wrong with the globs. Raises Refused."""
    if not scan.foreach:
        return scan
    problems = []
    before = lists.number
    for item, template in scan.foreach:
        if not lists.take(item, template) and (problem := scan.judge(nothing(item))) is not None:
            problems.append(problem)
    errors = sum(problem.severity == "error" for problem in problems)
    diagnostics = in_order(scan.diagnostics, problems)
    return scan._replace(
        tasks=scan.tasks + lists.number - before, diagnostics=diagnostics, errors=scan.errors + errors,
        warnings=scan.warnings + len(problems) - errors,
    )  # fmt: skip


def take_some(items: list[Item], lists: FileLists, judge: Callable[[Diagnostic], Diagnostic | None]) -> list[Diagnostic]:
    """The same for items of a stream, as they come: what is wrong with their globs. Raises Refused."""
    found = (judge(nothing(item)) for item in items if isinstance(item, Foreach) and not lists.take(item, b""))
    return [problem for problem in found if problem is not None]


def nothing(item: Foreach) -> Diagnostic:
    """What is said of a FOREACH without a file: an error when it names one file, a warning when it asks which there are."""
    glob = Glob(item.glob)
    hint = f"{glob.unexpanded} are not expanded here" if glob.unexpanded else f"it is looked for in {visible(str(Path.cwd()))}"
    if item.glob.startswith((b"/", b"~")) and not glob.unexpanded:
        hint = "folders match only a glob that ends in /"
    message = f"no file {_shown(item.glob)}" if glob.plain else f"no file matches {_shown(item.glob)}"
    severity: Literal["error", "warning"] = "error" if glob.plain else "warning"
    return Diagnostic.at(severity, item.line, _COLUMN, len(item.glob), message, hint, item.text, "" if glob.plain else "no-match")


def _sorted(paths: Iterator[bytes], item: Foreach) -> Iterator[bytes]:
    """The paths in bytewise order, each once, sorted outside of memory when there are many. Raises Refused."""
    chunk: list[bytes] = []
    size = 0
    with contextlib.ExitStack() as stack:
        sorted_ones: list[Iterator[bytes]] = []
        for path in paths:
            if b"\n" in path:
                raise Refused(
                    f"line {item.line}: the name of {_shown(path)} has a newline, which no line of a status file can hold: rename it"
                )
            chunk.append(path)
            size += len(path) + _EACH
            if size > _CHUNK:
                file = stack.enter_context(tempfile.TemporaryFile())
                chunk.sort()
                file.write(b"\n".join(chunk) + b"\n")
                file.seek(0)
                sorted_ones.append(line[:-1] for line in file)
                chunk, size = [], 0
        chunk.sort()
        before = None
        for path in merge(chunk, *sorted_ones) if sorted_ones else chunk:
            if path != before:
                before = path
                yield path


def _differences(now: Iterator[bytes], then: Iterator[bytes]) -> Iterator[tuple[bool, bool]]:
    """(it is new, it is gone) for each path that is in one of two sorted rows only."""
    one, other = next(now, None), next(then, None)
    while one is not None or other is not None:
        if one == other:
            one, other = next(now, None), next(then, None)
        elif other is None or (one is not None and one < other):
            yield True, False
            one = next(now, None)
        else:
            yield False, True
            other = next(then, None)


def _shown(path: bytes) -> str:
    return f"`{visible(path.decode('utf-8', 'surrogateescape'))}`"
